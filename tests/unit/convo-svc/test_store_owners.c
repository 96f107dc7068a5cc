/* test_store_owners.c - who owns unfinished answers, which are a user's, and what comes again by its key.
 *
 * (Retries stand here, too: they give an answer's place to another one.) */
#include "store_fixture.h"

#define KEY_A SVC_LIT("key of thirty-two bytes, first ..")
#define KEY_B SVC_LIT("key b")

/* --- keys ------------------------------------------------------------------------------------- */

static svc_rc
add_with_key(test_t *self, uint64_t id, uint64_t user, svc_str key)
{
    conversation_row_t row = {.id = id,
                              .user = user,
                              .model = SVC_LIT("echo"),
                              .version = 1,
                              .key = key,
                              .body_hash = SVC_LIT("h\0sh")};
    svc_rc rc;

    store_begin(self->store);
    assert_int_equal(self->store->api->save(self->store), RC_OK);
    rc = self->store->api->conversation_add(self->store, &row);
    assert_int_equal(rc == RC_OK ? self->store->api->keep(self->store)
                                 : self->store->api->undo(self->store),
                     RC_OK);
    store_commit(self->store);
    return rc;
}

static svc_rc
check_key(void *arg, const conversation_row_t *row)
{
    uint64_t *id = arg;

    assert_true(svc_str_eq(row->key, KEY_A));
    assert_true(svc_str_eq(row->body_hash, SVC_LIT("h\0sh")));
    *id = row->id;
    return RC_OK;
}

static void
a_conversation_is_found_by_its_users_key(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    uint64_t id = 0;

    assert_int_equal(add_with_key(self, 1, USER, KEY_A), RC_OK);
    assert_int_equal(add_with_key(self, 2, STRANGER, KEY_A), RC_OK);
    assert_int_equal(add_with_key(self, 3, USER, KEY_B), RC_OK);
    assert_int_equal(api->conversation_of_key(self->store, USER, KEY_A, check_key, &id),
                     RC_OK);
    assert_int_equal(id, 1);
    assert_int_equal(
        api->conversation_of_key(self->store, STRANGER, KEY_A, check_key, &id), RC_OK);
    assert_int_equal(id, 2);
    assert_int_equal(
        api->conversation_of_key(self->store, STRANGER, KEY_B, check_key, &id),
        RC_NOT_FOUND);
    assert_int_equal(api->conversation_get(self->store, 1, check_key, &id), RC_OK);
}

static void
a_key_is_taken_once_and_none_as_often_as_you_like(void **state)
{
    test_t *self = *state;
    svc_str none = {NULL, 0};
    uint64_t id;

    assert_int_equal(add_with_key(self, 1, USER, KEY_A), RC_OK);
    assert_int_equal(add_with_key(self, 2, USER, KEY_A), RC_CONFLICT);
    assert_int_equal(add_with_key(self, 1, USER, KEY_B), RC_CONFLICT);
    assert_int_equal(add_with_key(self, 3, USER, none), RC_OK);
    assert_int_equal(add_with_key(self, 4, USER, none), RC_OK);
    assert_int_equal(count_rows(self, "conversation"), 3);
    assert_int_equal(
        self->store->api->conversation_of_key(self->store, USER, KEY_B, check_key, &id),
        RC_NOT_FOUND);
    assert_int_equal(
        self->store->api->conversation_of_key(self->store, USER, none, check_key, &id),
        RC_NOT_FOUND);
}

/* Asks with a key, in a transaction of its own. */
static svc_rc
ask_with_key(test_t *self, uint64_t conversation, unsigned stream, svc_str key)
{
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, stream),
                        .conversation = conversation,
                        .term = 1,
                        .fence = 100 + stream,
                        .attempt = 1,
                        .owner = 77,
                        .question_bytes = 1,
                        .body_hash = SVC_LIT("h"),
                        .key = key,
                        .stop_alone = key.n > 0};
    uint64_t message;
    svc_rc rc;

    store_begin(self->store);
    assert_int_equal(self->store->api->save(self->store), RC_OK);
    rc = self->store->api->question_add(self->store, &row, SVC_LIT("q"), 2, &message);
    assert_int_equal(rc == RC_OK ? self->store->api->keep(self->store)
                                 : self->store->api->undo(self->store),
                     RC_OK);
    store_commit(self->store);
    return rc;
}

static svc_rc
check_answer_key(void *arg, const answer_row_t *row)
{
    assert_true(svc_str_eq(row->key, KEY_A));
    assert_true(row->stop_alone);
    return copy_answer(arg, row);
}

static void
an_answer_is_found_by_its_conversations_key(void **state)
{
    test_t *self = *state;
    const convo_store_api_t *api = self->store->api;
    answer_row_t answer;

    store_add_conversation(self->store, 1, "t");
    store_add_conversation(self->store, 2, "t");
    assert_int_equal(ask_with_key(self, 1, 1, KEY_A), RC_OK);
    assert_int_equal(ask_with_key(self, 2, 2, KEY_A), RC_OK);
    assert_int_equal(api->answer_of_key(self->store, 2, KEY_A, check_answer_key, &answer),
                     RC_OK);
    assert_int_equal(answer.conversation, 2);
    assert_int_equal(api->answer_of_key(self->store, 2, KEY_B, check_answer_key, &answer),
                     RC_NOT_FOUND);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(ask_with_key(self, 1, 3, KEY_A), RC_CONFLICT);
    assert_int_equal(count_rows(self, "message"), 2);
    assert_int_equal(ask_with_key(self, 1, 3, (svc_str){NULL, 0}), RC_OK);
    assert_int_equal(get_answer(self->store, 3, &answer), RC_OK);
    assert_false(answer.stop_alone);
}

/* --- retries ---------------------------------------------------------------------------------- */

static svc_rc
replace(test_t *self, uint64_t message, unsigned stream, svc_str key)
{
    char room[PROTO_STREAM_BYTES];
    answer_row_t row = {.stream = stream_of(room, stream),
                        .conversation = 1,
                        .message = message,
                        .term = 1,
                        .fence = 100 + stream,
                        .attempt = 1,
                        .owner = 78,
                        .asked_ms = 9000,
                        .question_bytes = 8,
                        .body_hash = SVC_LIT("h"),
                        .key = key};
    svc_rc rc;

    store_begin(self->store);
    rc = self->store->api->answer_replace(self->store, &row, 4711);
    if (rc == RC_OK)
        store_commit(self->store);
    else
        self->store->api->rollback(self->store);
    return rc;
}

static void
a_retry_takes_the_place_of_the_last_answer(void **state)
{
    test_t *self = *state;
    char room[PROTO_STREAM_BYTES];
    conversation_row_t row;
    answer_row_t answer;
    svc_buf_t buf;

    store_add_conversation(self->store, 1, "t");
    store_turn(self->store, 1, 1, "first", "one");
    store_turn(self->store, 1, 2, "question", "two");
    assert_int_equal(replace(self, 4, 3, KEY_A), RC_OK);
    assert_int_equal(get_answer(self->store, 2, &answer), RC_NOT_FOUND);
    assert_int_equal(get_answer(self->store, 3, &answer), RC_OK);
    assert_int_equal(answer.message, 4);
    assert_int_equal(answer.state, ANSWER_WAITING);
    assert_int_equal(answer.length, 0);
    assert_int_equal(answer.owner, 78);
    assert_int_equal(answer.asked_ms, 9000);
    assert_int_equal(answer.question_bytes, 8);
    assert_int_equal(answer.usage.total, 0);
    assert_text(self->store, 3, "");
    assert_text(self->store, 1, "one");
    row = get_conversation(self->store, 1);
    assert_int_equal(row.version, 4711);
    assert_int_equal(row.last_message, 4);
    assert_int_equal(row.turns, 1);
    assert_int_equal(row.turn_bytes, 8);
    assert_true(row.answering);
    svc_buf_init(&buf, 100);
    assert_int_equal(self->store->api->answer_text(self->store, stream_of(room, 2), 0,
                                                   fixture_gather, &buf),
                     RC_OK);
    assert_int_equal(buf.n, 0);
    svc_buf_fini(&buf);
    assert_int_equal(
        store_step_answer(self->store, 3, ANSWER_WAITING, 0, "three", ANSWER_COMPLETE),
        RC_OK);
    assert_text(self->store, 3, "three");
    assert_int_equal(get_conversation(self->store, 1).turns, 2);
    assert_int_equal(get_conversation(self->store, 1).turn_bytes, 21);
    assert_int_equal(
        self->store->api->answer_of_key(self->store, 1, KEY_A, copy_answer, &answer),
        RC_OK);
}

static void
a_retry_of_what_left_no_text_counts_nothing(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    (void)store_ask(self->store, 1, 1, "question");
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "", ANSWER_INTERRUPTED),
        RC_OK);
    assert_int_equal(get_conversation(self->store, 1).turns, 0);
    assert_int_equal(replace(self, 2, 2, KEY_A), RC_OK);
    assert_int_equal(get_conversation(self->store, 1).turns, 0);
    assert_int_equal(get_conversation(self->store, 1).turn_bytes, 0);
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(get_conversation(self->store, 1).turn_bytes, 9);
}

static void
only_the_last_answer_can_be_retried_and_only_at_its_end(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    assert_int_equal(replace(self, 0, 9, KEY_A), RC_STALE);
    assert_int_equal(replace(self, 2, 9, KEY_A), RC_STALE);
    store_turn(self->store, 1, 1, "question", "one");
    (void)store_ask(self->store, 1, 2, "question");
    assert_int_equal(replace(self, 2, 9, KEY_A), RC_STALE);
    assert_int_equal(replace(self, 4, 9, KEY_A), RC_STALE);
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_WAITING, 0, "", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(replace(self, 4, 9, KEY_A), RC_STALE);
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_STREAMING, 0, "two", ANSWER_STOPPED),
        RC_OK);
    assert_int_equal(replace(self, 2, 9, KEY_A), RC_STALE);
    assert_int_equal(replace(self, 4, 9, KEY_A), RC_OK);
}

static void
a_retry_with_a_stream_that_exists_changes_nothing(void **state)
{
    test_t *self = *state;

    store_add_conversation(self->store, 1, "t");
    store_turn(self->store, 1, 1, "question", "one");
    store_turn(self->store, 1, 2, "question", "two");
    assert_int_equal(replace(self, 4, 1, KEY_A), RC_CONFLICT);
    assert_text(self->store, 1, "one");
    assert_text(self->store, 2, "two");
    assert_int_equal(get_conversation(self->store, 1).turns, 2);
    assert_int_equal(replace(self, 4, 2, KEY_A), RC_OK); /* its own may come again */
    assert_text(self->store, 2, "");
}

/* --- a user's and an owner's ------------------------------------------------------------------ */

typedef struct {
    uint64_t conversation[16], term[16], owner[16];
    size_t n, max;
} answers_seen_t;

static svc_rc
see_answer(void *arg, const answer_row_t *row)
{
    answers_seen_t *seen = arg;

    if (seen->n == seen->max)
        return RC_LATER;
    seen->conversation[seen->n] = row->conversation;
    seen->term[seen->n] = row->term;
    seen->owner[seen->n++] = row->owner;
    return RC_OK;
}

/* Conversation `id` of a user, with an answer that is asked by `owner` at `ms`. */
static void
add_asked(test_t *self, uint64_t id, uint64_t user, uint64_t owner, uint64_t ms)
{
    char room[PROTO_STREAM_BYTES];
    conversation_row_t conversation = {
        .id = id, .user = user, .model = SVC_LIT("echo"), .version = 1};
    answer_row_t row = {.stream = stream_of(room, (unsigned)id),
                        .conversation = id,
                        .term = 1,
                        .fence = 100 + id,
                        .attempt = 1,
                        .owner = owner,
                        .asked_ms = ms,
                        .body_hash = SVC_LIT("h")};
    uint64_t message;

    store_begin(self->store);
    assert_int_equal(self->store->api->conversation_add(self->store, &conversation),
                     RC_OK);
    assert_int_equal(
        self->store->api->question_add(self->store, &row, SVC_LIT("q"), 2, &message),
        RC_OK);
    store_commit(self->store);
}

static void
tells_a_users_unfinished_answers_newest_first(void **state)
{
    test_t *self = *state;
    answers_seen_t seen = {.max = 16};

    add_asked(self, 1, USER, 77, 100);
    add_asked(self, 2, USER, 78, 300);
    add_asked(self, 3, STRANGER, 77, 150);
    add_asked(self, 4, USER, 77, 200);
    assert_int_equal(
        self->store->api->answer_active(self->store, USER, see_answer, &seen), RC_OK);
    assert_int_equal(seen.n, 3);
    assert_int_equal(seen.conversation[0], 2);
    assert_int_equal(seen.conversation[1], 4);
    assert_int_equal(seen.conversation[2], 1);
    assert_int_equal(
        store_step_answer(self->store, 2, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    seen = (answers_seen_t){.max = 1};
    assert_int_equal(
        self->store->api->answer_active(self->store, USER, see_answer, &seen), RC_LATER);
    assert_int_equal(seen.conversation[0], 4);
    seen = (answers_seen_t){.max = 1};
    assert_int_equal(self->store->api->answer_active(self->store, 999, see_answer, &seen),
                     RC_OK);
    assert_int_equal(seen.n, 0);
}

static void
tells_an_owners_unfinished_answers(void **state)
{
    test_t *self = *state;
    answers_seen_t seen = {.max = 16};

    add_asked(self, 1, USER, 77, 100);
    add_asked(self, 2, USER, 78, 300);
    add_asked(self, 3, STRANGER, 77, 150);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_STREAMING),
        RC_OK);
    assert_int_equal(self->store->api->answer_owned(self->store, 77, see_answer, &seen),
                     RC_OK);
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.conversation[0], 1);
    assert_int_equal(seen.conversation[1], 3);
    assert_int_equal(
        store_step_answer(self->store, 3, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    seen = (answers_seen_t){.max = 16};
    assert_int_equal(self->store->api->answer_owned(self->store, 77, see_answer, &seen),
                     RC_OK);
    assert_int_equal(seen.n, 1);
}

/* Takes over as 99; gives how many. */
static size_t
take_over(test_t *self, size_t max, answers_seen_t *seen)
{
    *seen = (answers_seen_t){.max = 16};
    store_begin(self->store);
    assert_int_equal(
        self->store->api->answer_take_over(self->store, 99, max, see_answer, seen),
        RC_OK);
    store_commit(self->store);
    return seen->n;
}

static void
takes_over_what_nobody_alive_owns_with_the_next_term(void **state)
{
    test_t *self = *state;
    answers_seen_t seen;
    answer_row_t answer;

    add_asked(self, 1, USER, 77, 100);
    add_asked(self, 2, USER, 78, 200);
    add_asked(self, 3, USER, 99, 300);
    add_asked(self, 4, USER, 77, 400);
    assert_int_equal(
        store_step_answer(self->store, 4, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
    assert_int_equal(take_over(self, 1, &seen), 1);
    assert_int_equal(seen.conversation[0], 1);
    assert_int_equal(seen.term[0], 2);
    assert_int_equal(seen.owner[0], 99);
    assert_int_equal(take_over(self, 16, &seen), 1);
    assert_int_equal(seen.conversation[0], 2);
    assert_int_equal(take_over(self, 16, &seen), 0);
    assert_int_equal(get_answer(self->store, 1, &answer), RC_OK);
    assert_int_equal(answer.owner, 99);
    assert_int_equal(answer.term, 2);
    assert_int_equal(get_answer(self->store, 3, &answer), RC_OK);
    assert_int_equal(answer.term, 1);
    /* The old owner is too late, whatever it does. */
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_STALE);
}

static void
a_take_over_that_is_not_committed_has_not_happened(void **state)
{
    test_t *self = *state;
    answers_seen_t seen = {.max = 16};

    add_asked(self, 1, USER, 77, 100);
    store_begin(self->store);
    assert_int_equal(
        self->store->api->answer_take_over(self->store, 99, 16, see_answer, &seen),
        RC_OK);
    self->store->api->rollback(self->store);
    assert_int_equal(
        store_step_answer(self->store, 1, ANSWER_WAITING, 0, "a", ANSWER_COMPLETE),
        RC_OK);
}

static void
a_store_of_one_process_needs_no_lease(void **state)
{
    test_t *self = *state;
    bool lapsed = true;

    assert_int_equal(self->store->api->lease_renew(self->store, 77, 3000, &lapsed),
                     RC_OK);
    assert_false(lapsed);
    assert_int_equal(self->store->api->lease_drop(self->store, 77), RC_OK);
}

int
main(void)
{
    struct CMUnitTest tests[] = {
        BOTH(a_conversation_is_found_by_its_users_key),
        BOTH(a_key_is_taken_once_and_none_as_often_as_you_like),
        BOTH(an_answer_is_found_by_its_conversations_key),
        BOTH(a_retry_takes_the_place_of_the_last_answer),
        BOTH(a_retry_of_what_left_no_text_counts_nothing),
        BOTH(only_the_last_answer_can_be_retried_and_only_at_its_end),
        BOTH(a_retry_with_a_stream_that_exists_changes_nothing),
        BOTH(tells_a_users_unfinished_answers_newest_first),
        BOTH(tells_an_owners_unfinished_answers),
        BOTH(takes_over_what_nobody_alive_owns_with_the_next_term),
        BOTH(a_take_over_that_is_not_committed_has_not_happened),
        SQLITE(a_store_of_one_process_needs_no_lease),
    };

    return run_stores("tests", tests, SVC_COUNT(tests));
}
