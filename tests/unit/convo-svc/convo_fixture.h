/* convo_fixture.h - a folder of its own for each test, a store in it, and rows to put there.
 *
 * The folder is removed afterwards. Loop, context and counters come from the fixture of the bus. */
#ifndef TESTS_UNIT_CONVO_SVC_CONVO_FIXTURE_H
#define TESTS_UNIT_CONVO_SVC_CONVO_FIXTURE_H

#include "tests/unit/svc/bus_fixture.h"

#include "convo-svc/convo_jobs.h"

#include <ftw.h>
#include <unistd.h>

#define USER     7
#define STRANGER 8

typedef struct {
    char path[64]; /* of the folder */
    char db[96];   /* of the database in it */
    seal_t seal;   /* of the tests */
    convo_workers_t workers;
} folder_t;

static inline int
folder_remove_one(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    (void)info;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline void
folder_open(folder_t *self)
{
    static const uint8_t key[SVC_SECRET_BYTES] = "a key of 32 bytes, for tests ...";

    memset(self, 0, sizeof(*self));
    snprintf(self->path, sizeof(self->path), "/tmp/llmb-test-convo-XXXXXX");
    assert_non_null(mkdtemp(self->path));
    snprintf(self->db, sizeof(self->db), "%s/convo.db", self->path);
    seal_init(&self->seal, key);
    self->workers = (convo_workers_t){
        .place = {.path = self->db},
        .seal = &self->seal,
        .system_prompt = SVC_LIT("Be kind."),
        .instance = 77,
    };
}

static inline void
folder_close(folder_t *self)
{
    assert_int_equal(nftw(self->path, folder_remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static inline convo_store_t *
folder_store(const folder_t *self, bool write)
{
    char *error = NULL;
    convo_store_t *store = convo_store_sqlite_open(
        self->db, write ? STORE_WRITE : STORE_READ, NULL, &error);

    if (store == NULL)
        print_error("%s\n", error == NULL ? "?" : error);
    assert_non_null(store);
    return store;
}

/* A stream id made of a number. */
static inline svc_str
stream_of(char room[PROTO_STREAM_BYTES], unsigned n)
{
    memset(room, 0, PROTO_STREAM_BYTES);
    memcpy(room, &n, sizeof(n));
    return (svc_str){room, PROTO_STREAM_BYTES};
}

static inline void
store_begin(convo_store_t *store)
{
    assert_int_equal(store->api->begin(store, true), RC_OK);
}

static inline void
store_commit(convo_store_t *store)
{
    assert_int_equal(store->api->commit(store), RC_OK);
}

/* Adds a conversation of USER. */
static inline void
store_add_conversation(convo_store_t *store, uint64_t id, const char *title)
{
    conversation_row_t row = {.id = id,
                              .user = USER,
                              .title = svc_str_c(title),
                              .model = SVC_LIT("echo"),
                              .created_s = 1000,
                              .version = 1};

    store_begin(store);
    assert_int_equal(store->api->conversation_add(store, &row), RC_OK);
    store_commit(store);
}

/* Asks; gives the message_id of the answer. */
static inline uint64_t
store_ask(convo_store_t *store, uint64_t conversation, unsigned stream, const char *text)
{
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, stream),
                        .conversation = conversation,
                        .term = 1,
                        .fence = 100 + stream,
                        .attempt = 1,
                        .owner = 77,
                        .asked_ms = 5000,
                        .question_bytes = strlen(text),
                        .body_hash = SVC_LIT("hash")};
    uint64_t message = 0;

    store_begin(store);
    assert_int_equal(store->api->question_add(store, &row, svc_str_c(text), 2, &message),
                     RC_OK);
    store_commit(store);
    return message;
}

/* A step of an answer asked by store_ask, from `state` and `length` on. */
static inline svc_rc
store_step_answer(convo_store_t *store, unsigned stream, int state, uint64_t length,
                  const char *text, int next)
{
    char room[PROTO_STREAM_BYTES];
    answer_step_t step = {.stream = stream_of(room, stream),
                          .term = 1,
                          .fence = 100 + stream,
                          .state = state,
                          .length = length,
                          .bytes = svc_str_c(text),
                          .next_state = next,
                          .finish = SVC_LIT("stop")};
    svc_rc rc;

    store_begin(store);
    rc = store->api->answer_step(store, &step, 3);
    if (rc == RC_OK)
        store_commit(store);
    else
        store->api->rollback(store);
    return rc;
}

/* A whole turn. */
static inline void
store_turn(convo_store_t *store, uint64_t conversation, unsigned stream,
           const char *question, const char *answer)
{
    (void)store_ask(store, conversation, stream, question);
    assert_int_equal(
        store_step_answer(store, stream, ANSWER_WAITING, 0, answer, ANSWER_COMPLETE),
        RC_OK);
}

static inline bool
fixture_gather(void *arg, svc_str bytes)
{
    assert_int_equal(svc_buf_add_str(arg, bytes), RC_OK);
    return true;
}

#endif
