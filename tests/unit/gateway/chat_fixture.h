/* chat_fixture.h - a question over HTTP, and an answer that goes on as the test says.
 *
 * convo-svc and llm-svc are the fakes of gateway_fixture.h: show() publishes text, tell() journals it
 * and says the state. The answer's text is plain letters, so that events can be compared as they are. */
#ifndef TESTS_UNIT_GATEWAY_CHAT_FIXTURE_H
#define TESTS_UNIT_GATEWAY_CHAT_FIXTURE_H

#include "gateway_fixture.h"

#define CHAT     "/api/chat/5"
#define QUESTION "{\"message\":\"Why?\"}"
#define CHINESE  "Accept-Language: zh\r\n"

/* --- how the answer goes on --------------------------------------------------------------- */

/* llm-svc shows text up to `n`. */
static inline void
show(world_t *world, uint64_t n)
{
    fakes_t *fakes = &world->fakes;

    while (fakes->released < n) {
        uint64_t from = fakes->released;
        size_t piece = n - from < 50000 ? (size_t)(n - from) : 50000;
        fakes->released += piece;
        fake_publish(fakes, FAKE_FENCE, from, piece, PROTO_TOKEN_TEXT);
    }
}

/* convo-svc says that the answer is in `state`, with `n` bytes stored. */
static inline void
tell(world_t *world, answer_state state, uint64_t n)
{
    world->fakes.status.state = (int)state;
    world->fakes.journaled = n;
    fake_tell(&world->fakes);
}

static inline void
end_well(world_t *world)
{
    world->fakes.status.finish = SVC_LIT("stop");
    tell(world, ANSWER_COMPLETE, world->fakes.released);
}

/* Asks with a client of its own and waits until convo-svc has the question. */
static inline void
open_chat(client_t *client, world_t *world, const char *headers)
{
    unsigned asked = world->fakes.scripts[FAKE_ASK].n;

    client_open(client, world, 0);
    client_ask(client, "POST", CHAT, headers, QUESTION);
    fakes_await(&world->fakes, FAKE_ASK, asked + 1);
}

/* Reads to the end of the connection and takes the answer apart. */
static inline answer_t
rest_of(client_t *client)
{
    client_await(client, NULL);
    answer_t answer = answer_of(client);
    client_close(client);
    return answer;
}

/* Compares the texts of all events of a kind, joined, with the first `n` bytes of the answer. */
static inline void
assert_texts(const answer_t *answer, const char *event, const char *truth, size_t n)
{
    const char *at = answer->body.p;
    char mark[64];
    size_t seen = 0;

    snprintf(mark, sizeof mark, "{\"event\":\"%s\",\"data\":\"", event);
    while ((at = strstr(at, mark)) != NULL) {
        at += strlen(mark);
        size_t piece = strcspn(at, "\"");
        assert_in_range(piece, 0, n - seen);
        assert_memory_equal(at, truth + seen, piece);
        seen += piece;
        at += piece;
    }
    assert_int_equal(seen, n);
}

#endif
