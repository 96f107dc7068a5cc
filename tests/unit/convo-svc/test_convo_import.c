/* test_convo_import.c - a conversation of the original in our store: as if it had been held here, once, or not at all.
 *
 * With a real redis-server; without one only what ends a run before it is asked. What is printed is looked at by the
 * story. */
#include "convo_fixture.h"
#include "tests/unit/svc/redis_fixture.h"

#include "convo-svc/convo_import.h"

#include "svc/svc_db_lock.h"

#include <fcntl.h>
#include <sqlite3.h>

static fixture_t fixture;
static redis_t redis;
static folder_t folder;
static svc_config_t config;

static void
write_map(const char *text)
{
    char path[128];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/map", folder.path);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int
setup(void **state)
{
    char path[128];
    sqlite3 *db = NULL;

    (void)state;
    fixture_open(&fixture, "convo-svc");
    redis_init(&redis);
    if (redis_is_installed())
        redis_start(&redis, &fixture);
    folder_open(&folder);
    config = (svc_config_t){.sqlite_path = folder.db,
                            .convo_seal_key = (char *)"",
                            .convo_system_prompt = (char *)"Be kind."};
    (void)snprintf(path, sizeof(path), "%s/original.db", folder.path);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db,
                     "CREATE TABLE conversations (id TEXT, title TEXT, user_id INTEGER,"
                     " create_time); INSERT INTO conversations VALUES"
                     " ('5', 'five', 1, '2024-11-17 13:55:29'), ('6', 'six', 2, 1000);",
                     NULL, NULL, NULL),
        SQLITE_OK);
    (void)sqlite3_close(db);
    write_map("1 7\n2 8\n");
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    folder_close(&folder);
    redis_stop(&redis);
    fixture_close(&fixture);
    return 0;
}

static bool
run(const char *more, char **error)
{
    svc_ctx_t ctx = {.service = "convo-svc", .instance = 9, .config = &config};
    char original[128], where[64], map[128];
    char *args[] = {original, where, map, (char *)more};

    (void)snprintf(original, sizeof(original), "%s/original.db", folder.path);
    (void)snprintf(where, sizeof(where), "127.0.0.1:%d/2", redis.port);
    (void)snprintf(map, sizeof(map), "%s/map", folder.path);
    *error = NULL;
    return convo_import(&ctx, args, more == NULL ? 3 : 4, error);
}

static void
assert_run(const char *more)
{
    char *error = NULL;

    if (!run(more, &error))
        fail_msg("%s", error);
}

static void
assert_refused(const char *more, const char *words)
{
    char *error = NULL;

    assert_false(run(more, &error));
    if (error == NULL || strstr(error, words) == NULL || strchr(error, '\n') != NULL)
        fail_msg("%s", error == NULL ? "nothing said" : error);
    free(error);
}

typedef struct {
    conversation_row_t row;
    char title[32], key[64];
} found_t;

static svc_rc
note(void *arg, const conversation_row_t *row)
{
    found_t *found = arg;
    svc_buf_t key;
    seal_t seal;
    char *error = NULL;

    found->row = *row;
    (void)snprintf(found->title, sizeof(found->title), "%.*s", (int)row->title.n,
                   row->title.p);
    svc_buf_init(&key, SEAL_MAX_BYTES);
    assert_int_equal(seal_load(&seal, &config, &error), RC_OK);
    assert_int_equal(seal_open(&seal, row->sealed_key, &key), RC_OK);
    (void)snprintf(found->key, sizeof(found->key), "%.*s", (int)key.n,
                   key.n == 0 ? "" : key.p);
    svc_buf_fini(&key);
    return RC_OK;
}

static svc_rc
check_ended(void *arg, const answer_row_t *row)
{
    assert_int_equal(row->state, *(const int *)arg);
    assert_int_equal(row->owner, 9);
    return RC_OK;
}

static svc_rc
get(uint64_t id, found_t *found)
{
    convo_store_t *store = folder_store(&folder, false);
    svc_rc rc = store->api->conversation_get(store, id, note, found);
    int complete = ANSWER_COMPLETE;

    for (uint64_t i = 2; rc == RC_OK && i <= found->row.last_message; i += 2)
        assert_int_equal(store->api->answer_at(store, id, i, check_ended, &complete),
                         RC_OK);
    convo_store_destroy(&store);
    return rc;
}

#define BODY(title)                                                              \
    "{\"title\":\"" title "\",\"model\":\"m\",\"api_key\":\"sk\",\"messages\":[" \
    "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}]}"

/* Puts a body under a key: redisCommand() would take what stands between blanks apart. */
static void
put(const char *key, const char *body)
{
    redisContext *context = redis_connect(&redis);

    assert_non_null(context);
    freeReplyObject(redisCommand(context, "SET %s %s", key, body));
    redisFree(context);
}

static void
conversations_come_once_with_everything(void **state)
{
    found_t found;

    (void)state;
    if (!redis_is_installed())
        skip();
    put("conversation:5", BODY("five"));
    assert_run("dry-run");
    assert_int_not_equal(access(folder.db, F_OK), 0);
    assert_run(NULL);
    assert_int_equal(get(5, &found), RC_OK);
    assert_int_equal(get(6, &found), RC_NOT_FOUND);
    put("conversation:6", BODY("six of Redis"));
    assert_run(NULL);
    assert_int_equal(get(6, &found), RC_OK);
    assert_string_equal(found.title, "six of Redis");
    assert_int_equal(found.row.user, 8);
    assert_int_equal(found.row.created_s, 1000);
    assert_int_equal(get(5, &found), RC_OK);
    assert_string_equal(found.title, "five");
    assert_string_equal(found.key, "sk");
    assert_int_equal(found.row.user, 7);
    assert_int_equal(found.row.created_s, 1731851729);
    assert_int_equal(found.row.last_message, 2);
    assert_int_equal(found.row.turns, 1);
    assert_int_equal(found.row.turn_bytes, 2);
    put("conversation:5", BODY("changed"));
    assert_run("dry-run");
    assert_run(NULL);
    assert_int_equal(get(5, &found), RC_OK);
    assert_string_equal(found.title, "five");
}

/* How many there are of all answers. */
static int
count_pieces(void)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    int n;

    assert_int_equal(sqlite3_open(folder.db, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM chunk", -1, &q, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(q), SQLITE_ROW);
    n = sqlite3_column_int(q, 0);
    (void)sqlite3_finalize(q);
    (void)sqlite3_close(db);
    return n;
}

static svc_rc
take_answer(void *arg, const answer_row_t *row)
{
    *(answer_row_t *)arg = *row; /* the views are not looked at */
    return RC_OK;
}

static void
a_question_without_answer_is_interrupted_and_a_long_answer_comes_in_pieces(void **state)
{
    static char body[200100];
    const convo_store_api_t *api;
    convo_store_t *store;
    answer_row_t answer;
    size_t n;

    (void)state;
    if (!redis_is_installed())
        skip();
    n = (size_t)snprintf(body, sizeof(body),
                         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                         "\"q\"},{\"role\":\"assistant\",\"content\":\"");
    memset(body + n, 'x', 199999);
    (void)snprintf(body + 199900, sizeof(body) - 199900,
                   "\"},{\"role\":\"user\",\"content\":\"r\"}]}");
    put("conversation:5", body);
    assert_run(NULL);
    store = folder_store(&folder, false);
    api = store->api;
    assert_int_equal(api->answer_at(store, 5, 2, take_answer, &answer), RC_OK);
    assert_int_equal(answer.state, ANSWER_COMPLETE);
    assert_int_equal(answer.length, 199900 - n);
    assert_int_equal(api->answer_at(store, 5, 4, take_answer, &answer), RC_OK);
    assert_int_equal(answer.state, ANSWER_INTERRUPTED);
    assert_int_equal(answer.length, 0);
    convo_store_destroy(&store);
    assert_int_equal(count_pieces(), 4);
}

/* Runs it and gives what it has printed, until the next time. */
static const char *
report_of_run(void)
{
    static char said[4096];
    char path[128];
    char *error = NULL;
    int ours = dup(STDOUT_FILENO), fd;
    ssize_t n;
    bool good;

    (void)snprintf(path, sizeof(path), "%s/said", folder.path);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(fflush(stdout), 0);
    assert_true(ours >= 0 && fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0);
    good = run(NULL, &error);
    assert_int_equal(fflush(stdout), 0);
    assert_true(dup2(ours, STDOUT_FILENO) >= 0);
    close(ours);
    n = pread(fd, said, sizeof(said) - 1, 0);
    close(fd);
    assert_true(n >= 0);
    said[n] = '\0';
    if (!good)
        fail_msg("%s", error);
    return said;
}

/* Nor is anything told of it. */
static void
what_is_somebody_elses_stays_so(void **state)
{
    const char *said;
    found_t found;

    (void)state;
    if (!redis_is_installed())
        skip();
    put("conversation:5", BODY("five"));
    assert_run(NULL);
    write_map("1 99\n");
    said = report_of_run();
    assert_non_null(strstr(said, "conversation 5: not brought over: its id is taken here "
                                 "by a conversation of somebody else\n"));
    assert_non_null(strstr(said, " 0 were here already, 2 could not be\n"));
    assert_int_equal(get(5, &found), RC_OK);
    assert_int_equal(found.row.user, 7);
}

static void
what_ends_a_run_is_one_line(void **state)
{
    char *error = NULL;
    int lock;

    (void)state;
    assert_refused("wet-run", "\"dry-run\" was expected");
    config.storage_driver = SVC_STORAGE_POSTGRESQL;
    assert_refused(NULL, "convo.seal_key must be configured");
    config.storage_driver = SVC_STORAGE_SQLITE;
    lock = svc_db_lock_take(folder.db, "convo-svc", &error);
    assert_true(lock >= 0);
    assert_refused(NULL, "is in use: stop convo-svc first, then import");
    svc_db_lock_release(&lock);
    write_map("no map");
    assert_refused(NULL, "is no map of users");
    write_map("1 1\n");
    redis_stop(&redis);
    assert_refused(NULL, "the original's Redis: ");
    if (!redis_is_installed())
        return;
    redis_start(&redis, &fixture);
    assert_run(NULL);
    config.convo_seal_key =
        (char *)"5ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea15ea1";
    assert_refused(NULL, "another seal key");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conversations_come_once_with_everything, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(
            a_question_without_answer_is_interrupted_and_a_long_answer_comes_in_pieces,
            setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_somebody_elses_stays_so, setup, teardown),
        cmocka_unit_test_setup_teardown(what_ends_a_run_is_one_line, setup, teardown),
    };

    redis_say_if_missing();
    assert_int_equal(setenv(CONVO_IMPORT_PASSWORD_ENV, "sesame", 1), 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
