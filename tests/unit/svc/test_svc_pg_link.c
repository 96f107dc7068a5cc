/* test_svc_pg_link.c - the connection: made, lost at every moment, and the truth about a COMMIT that nobody answered.
 *
 * (The breaks happen in pg_proxy.h, between the two.) */
#include "pg_proxy.h"
#include "svc/svc_config.h"
#include "svc/svc_pg_private.h"

enum { ST_PUT, ST_HAS, ST_COUNT };

typedef struct {
    pg_fixture_t db;
    pg_proxy_t proxy;
    char url[PG_URL_BYTES]; /* through the proxy */
    atomic_bool stop;
    atomic_uint_least64_t away_ms;
    svc_pg_t *pg; /* through the proxy */
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));
    static const svc_pg_step_t steps[] = {
        {"CREATE TABLE thing (id bigint PRIMARY KEY)", 1}};
    char *error = NULL;

    *state = self;
    if (!pg_fixture_is_there())
        return 0;
    pg_fixture_open(&self->db);
    proxy_open(&self->proxy, &self->db, self->url);
    self->pg = pg_fixture_connection(&self->db, self->url, ST_COUNT, &self->stop,
                                     &self->away_ms);
    assert_true(svc_pg_migrate(self->pg, "test", steps, 1, &error));
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_pg_destroy(&self->pg);
    if (pg_fixture_is_there()) {
        proxy_close(&self->proxy);
        pg_fixture_close(&self->db);
    }
    free(self);
    return 0;
}

static svc_rc
put(svc_pg_t *pg, uint64_t id)
{
    svc_pg_arg_t arg = PG_U64(id);
    svc_pg_rows_t rows;
    svc_rc rc = svc_pg_query(pg, ST_PUT, "INSERT INTO thing VALUES ($1)", &arg, 1, &rows);

    svc_pg_free(&rows);
    return rc;
}

static svc_rc
write_one(svc_pg_t *pg, uint64_t id)
{
    svc_rc rc = svc_pg_begin(pg, true);

    if (rc == RC_OK)
        rc = put(pg, id);
    if (rc == RC_OK)
        return svc_pg_commit(pg);
    svc_pg_rollback(pg);
    return rc;
}

static bool
is_there(test_t *self, uint64_t id)
{
    char sql[100];

    snprintf(sql, sizeof(sql), "SELECT count(*) FROM thing WHERE id = %llu",
             (unsigned long long)id);
    return pg_fixture_number(&self->db, sql) == 1;
}

/* Writes until it works; gives how often it was refused. */
static int
write_in_the_end(test_t *self, uint64_t id)
{
    uint64_t end = svc_mono_ms() + 20000;
    int refused = 0;

    while (write_one(self->pg, id) != RC_OK) {
        assert_true(svc_mono_ms() < end);
        refused++;
    }
    return refused;
}

/* --- connecting ---------------------------------------------------------------------------------- */

static void
a_url_that_is_none_is_refused_without_printing_it(void **state)
{
    svc_pg_config_t config = {.url = "postgresql://user:geheim@[host/db", .name = "test"};
    char *error = NULL;

    (void)state;
    assert_null(svc_pg_new(&config, &error));
    assert_non_null(strstr(error, "storage.postgresql.url"));
    assert_null(strstr(error, "geheim"));
    free(error);
}

static void
a_server_that_is_not_there_is_told_in_one_line(void **state)
{
    svc_pg_config_t config = {.url = "postgresql://user:geheim@127.0.0.1:1/db",
                              .name = "test"};
    char *error = NULL;
    svc_pg_t *pg = svc_pg_new(&config, &error);

    (void)state;
    assert_non_null(pg);
    assert_null(pg->conn);
    assert_false(svc_pg_connect(pg, 300, &error));
    assert_non_null(strstr(error, "cannot connect to PostgreSQL"));
    assert_null(strchr(error, '\n'));
    assert_null(strstr(error, "geheim"));
    free(error);
    assert_int_equal(svc_pg_begin(pg, true), RC_UNAVAILABLE);
    assert_int_equal(put(pg, 1), RC_UNAVAILABLE);
    svc_pg_destroy(&pg);
    svc_pg_destroy(&pg);
}

/* Tries to connect, for `wait_ms` at most, and gives what was said: the log's lines, then the error's. */
static void
connect_and_listen(const char *url, uint32_t wait_ms, char *said, size_t max)
{
    FILE *file = tmpfile();
    svc_log_t *log = svc_log_new(fileno(file), "test", SVC_LOG_TEXT, SVC_LOG_INFO);
    const svc_pg_config_t config = {.url = url, .name = "test", .log = log};
    char *error = NULL;
    svc_pg_t *pg = svc_pg_new(&config, &error);
    size_t n;

    assert_non_null(pg);
    assert_false(svc_pg_connect(pg, wait_ms, &error));
    assert_null(strchr(error, '\n'));
    rewind(file);
    n = fread(said, 1, max - 1, file);
    snprintf(said + n, max - n, "%s\n", error);
    free(error);
    svc_pg_destroy(&pg);
    svc_log_destroy(&log);
    (void)fclose(file);
}

/* How often `word` stands in `text`. */
static int
count(const char *text, const char *word)
{
    int n = 0;

    while ((text = strstr(text, word)) != NULL) {
        text++;
        n++;
    }
    return n;
}

/* A server that refuses everybody, each with the next of some reasons. */
typedef struct {
    const char *const
        *reasons; /* five characters of code, then a sentence; NULL: the end */
    int listener, port;
    pthread_t thread;
} refuser_t;

static void *
refuse(void *arg)
{
    refuser_t *self = arg;

    for (const char *const *reason = self->reasons; *reason != NULL; reason++) {
        unsigned char out[300] = "E", start[1000];
        int client = accept(self->listener, NULL, NULL);
        int n = snprintf((char *)out + 5, sizeof(out) - 5, "SFATAL%cVFATAL%cC%.5s%cM%s%c",
                         0, 0, *reason, 0, *reason + 5, 0) +
                1; /* and the NUL that ends the fields */

        assert_true(client >= 0 && recv(client, start, sizeof(start), 0) > 0);
        out[3] = (unsigned char)((n + 4) >> 8);
        out[4] = (unsigned char)(n + 4);
        assert_int_equal(send(client, out, (size_t)n + 5, MSG_NOSIGNAL), n + 5);
        (void)shutdown(client, SHUT_WR);
        while (recv(client, start, sizeof(start), 0) > 0)
            ;
        (void)close(client);
    }
    return NULL;
}

static void
refuser_open(refuser_t *self, const char *const *reasons, char url[PG_URL_BYTES])
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(at);

    self->reasons = reasons;
    self->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(self->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(self->listener, 16), 0);
    assert_int_equal(getsockname(self->listener, (struct sockaddr *)&at, &n), 0);
    snprintf(url, PG_URL_BYTES, "postgresql://u:geheim@127.0.0.1:%d/db?sslmode=disable",
             ntohs(at.sin_port));
    assert_int_equal(pthread_create(&self->thread, NULL, refuse, self), 0);
}

static void
refuser_close(refuser_t *self)
{
    assert_int_equal(pthread_join(self->thread, NULL), 0);
    (void)close(self->listener);
}

static void
what_is_waited_for_is_told_at_once_and_when_it_changes(void **state)
{
    static const char *const reasons[] = {"57P03the database system is starting up",
                                          "57P03the database system is starting up",
                                          "57P03the database system is starting up",
                                          "28000role \"u\" does not exist",
                                          "28000role \"u\" does not exist",
                                          "28P01password authentication failed",
                                          NULL};
    char url[PG_URL_BYTES], said[4000];
    refuser_t server;

    (void)state;
    refuser_open(&server, reasons, url);
    connect_and_listen(url, 60000, said, sizeof(said));
    refuser_close(&server);
    assert_int_equal(count(said, "waiting for PostgreSQL: "), 2);
    assert_int_equal(count(said, "57P03: the database system is starting up\n"), 1);
    assert_int_equal(count(said, "28000: role"), 1);
    assert_int_equal(count(said, "cannot connect to PostgreSQL: "), 1);
    assert_int_equal(count(said, "28P01: password authentication failed\n"), 1);
    assert_int_equal(count(said, "\n"), 3);
    assert_null(strstr(said, "geheim"));
}

static void
what_no_waiting_cures_is_not_waited_for(void **state)
{
    static const char *const reasons[][2] = {
        {"28P01password authentication failed", NULL},
        {"3D000database \"db\" does not exist", NULL}};
    char url[PG_URL_BYTES], said[4000];
    refuser_t server;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(reasons); i++) {
        refuser_open(&server, reasons[i], url);
        connect_and_listen(url, 60000, said, sizeof(said));
        refuser_close(&server);
        assert_int_equal(count(said, "\n"), 1);
        assert_non_null(strstr(said, reasons[i][0] + 5));
    }
}

static void
a_server_that_is_not_there_is_waited_for_aloud(void **state)
{
    char said[4000];

    (void)state;
    /* Again, if this machine has taken all that time for the first try. */
    for (int i = 0; i < 20; i++) {
        connect_and_listen("postgresql://user:geheim@127.0.0.1:1/db", 700, said,
                           sizeof(said));
        if (count(said, "waiting") > 0)
            break;
    }
    assert_int_equal(count(said, "waiting for PostgreSQL: "), 1);
    assert_int_equal(count(said, "Connection refused"), 2);
    assert_int_equal(count(said, "\n"), 2);
    assert_null(strstr(said, "geheim"));
}

static void
a_wrong_password_is_told_and_a_missing_one_and_a_database_that_is_not_there(void **state)
{
    test_t *self = *state;
    char url[PG_URL_BYTES], said[4000];

    if (self->pg == NULL)
        skip();
    snprintf(url, sizeof(url), "postgresql://llmb:geheim@127.0.0.1:%d/postgres",
             self->db.port);
    connect_and_listen(url, 60000, said, sizeof(said));
    assert_non_null(strstr(said, "password"));
    assert_null(strstr(said, "geheim"));
    assert_null(strstr(said, "waiting"));
    snprintf(url, sizeof(url), "postgresql://llmb@127.0.0.1:%d/postgres", self->db.port);
    connect_and_listen(url, 60000, said, sizeof(said));
    assert_non_null(strstr(said, "password"));
    assert_null(strstr(said, "waiting"));
    pg_fixture_url_by(&self->db, self->db.port, url);
    memcpy(strstr(url, "?options") - 1, "X", 1); /* the last letter of its name */
    connect_and_listen(url, 60000, said, sizeof(said));
    assert_non_null(strstr(said, "does not exist"));
    assert_null(strstr(said, "waiting"));
}

static void
waits_for_a_server_that_is_starting(void **state)
{
    test_t *self = *state;
    char *error = NULL;

    if (self->pg == NULL)
        skip();
    svc_pg_destroy(&self->pg);
    self->pg = pg_fixture_connection(&self->db, self->url, ST_COUNT, &self->stop, NULL);
    atomic_store(&self->proxy.mode, PROXY_REFUSE);
    assert_false(svc_pg_connect(self->pg, 500, &error));
    free(error);
    error = NULL;
    atomic_store(&self->proxy.mode, PROXY_PASS);
    assert_true(svc_pg_connect(self->pg, 20000, &error));
    assert_null(error);
    assert_int_equal(write_one(self->pg, 1), RC_OK);
}

/* --- lost ------------------------------------------------------------------------------------------ */

/* Ends the server's side, and waits until ours could see it. */
static void
disconnect(test_t *self)
{
    struct pollfd fd = {.fd = PQsocket(self->pg->conn), .events = POLLRDHUP};

    pg_fixture_disconnect_all(&self->db);
    assert_int_equal(poll(&fd, 1, 20000), 1);
}

static void
a_connection_that_was_closed_while_idle_costs_nobody_anything(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(write_one(self->pg, i), RC_OK);
        disconnect(self);
        assert_int_equal(put(self->pg, 10 + i), RC_OK);
        disconnect(self);
    }
    assert_int_equal(pg_fixture_number(&self->db, "SELECT count(*) FROM thing"), 6);
}

static void
a_transaction_is_lost_with_its_connection_and_the_next_one_works(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, true), RC_OK);
    assert_int_equal(put(self->pg, 1), RC_OK);
    pg_fixture_disconnect_all(&self->db);
    assert_int_equal(put(self->pg, 2), RC_UNAVAILABLE);
    assert_int_equal(put(self->pg, 3), RC_UNAVAILABLE); /* not on a new connection */
    assert_int_equal(svc_pg_save(self->pg), RC_UNAVAILABLE);
    assert_int_equal(svc_pg_commit(self->pg), RC_UNAVAILABLE);
    assert_int_equal(write_in_the_end(self, 4), 0);
    assert_false(is_there(self, 1));
    assert_false(is_there(self, 2));
    assert_true(is_there(self, 4));
}

static void
a_read_fails_once_and_the_next_one_works(void **state)
{
    test_t *self = *state;
    svc_pg_rows_t rows;

    if (self->pg == NULL)
        skip();
    assert_int_equal(svc_pg_begin(self->pg, false), RC_OK);
    assert_int_equal(
        svc_pg_query(self->pg, ST_HAS, "SELECT id FROM thing", NULL, 0, &rows), RC_OK);
    svc_pg_free(&rows);
    pg_fixture_disconnect_all(&self->db);
    assert_int_equal(
        svc_pg_query(self->pg, ST_HAS, "SELECT id FROM thing", NULL, 0, &rows),
        RC_UNAVAILABLE);
    svc_pg_free(&rows);
    svc_pg_rollback(self->pg);
    assert_int_equal(
        svc_pg_query(self->pg, ST_HAS, "SELECT id FROM thing", NULL, 0, &rows), RC_OK);
    svc_pg_free(&rows);
}

static void
a_server_that_is_away_refuses_and_is_found_again(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    assert_int_equal(write_one(self->pg, 1), RC_OK);
    atomic_store(&self->proxy.mode, PROXY_REFUSE);
    for (int i = 0; i < 1000; i++) /* nobody waits: the next try comes a moment later */
        assert_int_equal(write_one(self->pg, 2), RC_UNAVAILABLE);
    atomic_store(&self->proxy.mode, PROXY_PASS);
    (void)write_in_the_end(self, 2);
    assert_true(is_there(self, 2));
}

static void
a_network_that_swallows_everything_costs_a_statements_time(void **state)
{
    test_t *self = *state;
    svc_pg_config_t config = {.url = self->url,
                              .name = self->db.schema,
                              .slots = ST_COUNT,
                              .stop = &self->stop,
                              .statement_ms = 300};
    char *error = NULL;

    if (self->pg == NULL)
        skip();
    svc_pg_destroy(&self->pg);
    self->pg = svc_pg_new(&config, &error);
    (void)write_in_the_end(self, 1); /* 300 ms may be too short for a busy machine */
    atomic_store(&self->proxy.mode, PROXY_FREEZE);
    assert_int_equal(write_one(self->pg, 2), RC_UNAVAILABLE);
    assert_null(self->pg->conn);
    atomic_store(&self->proxy.mode, PROXY_PASS);
    (void)write_in_the_end(self, 3);
    assert_false(is_there(self, 2));
}

/* --- the outcome of a commit ------------------------------------------------------------------------ */

static void
a_commit_that_did_not_arrive_is_refused(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    for (uint64_t i = 0; i < 10; i++) {
        atomic_store(&self->proxy.mode, PROXY_CUT_BEFORE);
        assert_int_equal(write_one(self->pg, i), RC_UNAVAILABLE);
        assert_int_equal(atomic_load(&self->proxy.cuts), i + 1);
        assert_false(is_there(self, i));
    }
    assert_false(atomic_load(&self->away_ms));
}

static void
a_commit_whose_answer_was_lost_is_found_to_have_taken_place(void **state)
{
    test_t *self = *state;

    if (self->pg == NULL)
        skip();
    for (uint64_t i = 0; i < 10; i++) {
        atomic_store(&self->proxy.mode, PROXY_CUT_AFTER);
        assert_int_equal(write_one(self->pg, i), RC_OK);
        assert_int_equal(atomic_load(&self->proxy.cuts), i + 1);
        assert_true(is_there(self, i));
    }
}

static void
a_commit_cut_at_the_same_moment_is_told_as_it_was(void **state)
{
    test_t *self = *state;
    int done = 0;

    if (self->pg == NULL)
        skip();
    for (uint64_t i = 0; i < 50; i++) {
        svc_rc rc;

        atomic_store(&self->proxy.mode, PROXY_CUT_WITH);
        rc = write_one(self->pg, i);
        assert_true(rc == RC_OK || rc == RC_UNAVAILABLE);
        assert_int_equal(is_there(self, i), rc == RC_OK);
        done += rc == RC_OK ? 1 : 0;
    }
    print_message("%d of 50 had taken place\n", done);
}

typedef struct {
    test_t *test;
    svc_rc rc;
} writer_t;

static void *
write_in_a_thread(void *arg)
{
    writer_t *self = arg;

    self->rc = write_one(self->test->pg, 1);
    return NULL;
}

static void
waits_for_the_server_to_tell_and_says_that_it_is_away_meanwhile(void **state)
{
    test_t *self = *state;
    writer_t writer = {self, RC_INTERNAL};
    const uint64_t began = svc_mono_ms(), end = began + 20000;
    uint64_t since;
    pthread_t thread;

    if (self->pg == NULL)
        skip();
    atomic_store(&self->proxy.mode, PROXY_CUT_AFTER_REFUSE);
    assert_int_equal(pthread_create(&thread, NULL, write_in_a_thread, &writer), 0);
    while (!atomic_load(&self->away_ms) || atomic_load(&self->proxy.mode) != PROXY_REFUSE)
        assert_true(svc_mono_ms() < end);
    /* Some tries to connect fail meanwhile: nobody must take that for its return, or for the beginning. */
    since = atomic_load(&self->away_ms);
    assert_true(since >= began && since <= svc_mono_ms());
    for (uint64_t enough = svc_mono_ms() + 700; svc_mono_ms() < enough;)
        assert_int_equal(atomic_load(&self->away_ms), since);
    atomic_store(&self->proxy.mode, PROXY_PASS);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(writer.rc, RC_OK);
    assert_false(atomic_load(&self->away_ms));
    assert_true(is_there(self, 1));
}

static void
a_stop_ends_the_wait_and_acknowledges_nothing(void **state)
{
    test_t *self = *state;
    writer_t writer = {self, RC_INTERNAL};
    uint64_t end = svc_mono_ms() + 20000;
    pthread_t thread;

    if (self->pg == NULL)
        skip();
    atomic_store(&self->proxy.mode, PROXY_CUT_AFTER_REFUSE);
    assert_int_equal(pthread_create(&thread, NULL, write_in_a_thread, &writer), 0);
    while (!atomic_load(&self->away_ms))
        assert_true(svc_mono_ms() < end);
    atomic_store(&self->stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(writer.rc, RC_UNAVAILABLE);
}

static void
the_mark_of_a_transaction_that_the_server_still_holds_is_waited_for(void **state)
{
    test_t *self = *state;
    writer_t writer = {self, RC_INTERNAL};
    pthread_t thread;
    int cuts;

    if (self->pg == NULL)
        skip();
    /* The commit is held up by somebody who has the same id in hand: only when that one is gone the insert goes on. */
    assert_int_equal(write_one(self->pg, 99), RC_OK);
    pg_fixture_does(&self->db,
                    "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$BEGIN PERFORM pg_sleep(0.7); RETURN NULL; END$$;"
                    "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON thing"
                    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
                    " EXECUTE FUNCTION slow()");
    cuts = atomic_load(&self->proxy.cuts);
    atomic_store(&self->proxy.mode, PROXY_CUT_WITH);
    assert_int_equal(pthread_create(&thread, NULL, write_in_a_thread, &writer), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&self->proxy.cuts), cuts + 1);
    assert_int_equal(is_there(self, 1), writer.rc == RC_OK);
}

/* What a client's machine leaves behind when it dies in the middle of a batch ends with its connection. */
static void
the_server_looks_after_its_end_of_the_connection(void **state)
{
    test_t *self = *state;
    static const struct {
        const char *name, *wanted;
    } rows[] = {{"tcp_keepalives_idle", "5"},
                {"tcp_keepalives_interval", "2"},
                {"tcp_keepalives_count", "3"},
                {"tcp_user_timeout", "10000"}};
    char *error = NULL;

    if (!pg_fixture_is_there())
        skip();
    assert_true(svc_pg_connect(self->pg, 20000, &error));
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        svc_pg_arg_t arg = PG_TEXT(svc_str_c(rows[i].name));
        svc_pg_rows_t got;

        /* What the kernel has, as the server asks it. */
        assert_int_equal(svc_pg_query(self->pg, ST_HAS,
                                      "SELECT setting FROM pg_settings WHERE name = $1",
                                      &arg, 1, &got),
                         RC_OK);
        assert_int_equal(got.n, 1);
        assert_true(svc_str_eq(svc_pg_str(&got, 0, 0), svc_str_c(rows[i].wanted)));
        svc_pg_free(&got);
    }
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_url_that_is_none_is_refused_without_printing_it),
        cmocka_unit_test(a_server_that_is_not_there_is_told_in_one_line),
        cmocka_unit_test(what_is_waited_for_is_told_at_once_and_when_it_changes),
        cmocka_unit_test(what_no_waiting_cures_is_not_waited_for),
        cmocka_unit_test(a_server_that_is_not_there_is_waited_for_aloud),
        TEST(the_server_looks_after_its_end_of_the_connection),
        TEST(a_wrong_password_is_told_and_a_missing_one_and_a_database_that_is_not_there),
        TEST(waits_for_a_server_that_is_starting),
        TEST(a_connection_that_was_closed_while_idle_costs_nobody_anything),
        TEST(a_transaction_is_lost_with_its_connection_and_the_next_one_works),
        TEST(a_read_fails_once_and_the_next_one_works),
        TEST(a_server_that_is_away_refuses_and_is_found_again),
        TEST(a_network_that_swallows_everything_costs_a_statements_time),
        TEST(a_commit_that_did_not_arrive_is_refused),
        TEST(a_commit_whose_answer_was_lost_is_found_to_have_taken_place),
        TEST(a_commit_cut_at_the_same_moment_is_told_as_it_was),
        TEST(waits_for_the_server_to_tell_and_says_that_it_is_away_meanwhile),
        TEST(a_stop_ends_the_wait_and_acknowledges_nothing),
        TEST(the_mark_of_a_transaction_that_the_server_still_holds_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
