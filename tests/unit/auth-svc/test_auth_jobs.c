/* test_auth_jobs.c - what the worker threads of auth-svc make of their jobs: hashes, verdicts, batches, faults.
 *
 * The pools are the real ones, with a store in memory behind the seam; a gate in it holds a worker
 * where a test wants it. bcrypt runs at its least cost. */
#include "tests/unit/svc/bus_fixture.h"

#include "auth-svc/auth_jobs.h"
#include "auth-svc/password.h"

#include <stdatomic.h>
#include <time.h>

#define USERS_MAX  512
#define DONE_MAX   512
#define TOLD_BYTES 1024

/* A store in memory. Its users are written by one thread, the writer or the test before the pools begin. */
typedef struct {
    char names[USERS_MAX][32]; /* a user's id is its place, from 1 */
    char hashes[USERS_MAX][USER_HASH_MAX_BYTES + 1];
    const char *key;                  /* of the request that added them all; NULL: none */
    size_t n;                         /* users */
    atomic_int connects, disconnects; /* connections */
    atomic_int finds, adds, largest;  /* calls; users in the largest add */
    atomic_int connects_to_fail;      /* the n-th connect from now on; 0: none */
    atomic_bool is_broken;            /* find and add fail */
    atomic_bool is_closed;            /* the gate: find and add wait */
    atomic_int waiting;               /* workers at the gate */
} store_t;

/* How a job ended. */
typedef struct {
    bool is_done;
    svc_rc rc;
    char bytes[TOLD_BYTES]; /* the result */
    size_t n;               /* bytes of it */
} told_t;

typedef struct {
    fixture_t fixture; /* first */
    store_t store;
    auth_shared_t shared;
    svc_pool_t *pool; /* under test */
    told_t told[DONE_MAX];
    size_t done;   /* jobs that ended */
    size_t wanted; /* to wait for */
    int waiting;   /* workers at the gate to wait for */
    proto_arena_t *arena;
} bench_t;

/* --- the store ----------------------------------------------------------------------------------- */

static void
pass_gate(store_t *store)
{
    const struct timespec ms = {.tv_nsec = 1000000};

    atomic_fetch_add(&store->waiting, 1);
    for (int i = 0; i < FIXTURE_PATIENCE_MS && atomic_load(&store->is_closed); i++)
        nanosleep(&ms, NULL);
    atomic_fetch_sub(&store->waiting, 1);
}

static void *
store_connect(void *arg, bool writes, char **error)
{
    store_t *store = arg;

    (void)writes;
    if (atomic_fetch_sub(&store->connects_to_fail, 1) == 1) {
        *error = strdup("no such disk");
        return NULL;
    }
    atomic_fetch_add(&store->connects, 1);
    return store;
}

static void
store_disconnect(void *connection)
{
    if (connection != NULL)
        atomic_fetch_add(&((store_t *)connection)->disconnects, 1);
}

static size_t
index_of(const store_t *store, svc_str username)
{
    for (size_t i = 0; i < store->n; i++)
        if (svc_str_eq(svc_str_c(store->names[i]), username))
            return i;
    return store->n;
}

static svc_rc
store_find(void *connection, svc_str username, user_row_t *out)
{
    store_t *store = connection;

    atomic_fetch_add(&store->finds, 1);
    pass_gate(store);
    if (atomic_load(&store->is_broken))
        return RC_INTERNAL;
    const size_t i = index_of(store, username);
    if (i == store->n)
        return RC_NOT_FOUND;
    out->id = i + 1;
    out->n_key = store->key == NULL ? 0 : strlen(store->key);
    if (out->n_key > 0)
        memcpy(out->key, store->key, out->n_key);
    memcpy(out->hash, store->hashes[i], sizeof(out->hash));
    return RC_OK;
}

static void
insert(store_t *store, svc_str username, svc_str hash)
{
    SVC_ASSERT(store->n < USERS_MAX && username.n < sizeof(store->names[0]));
    memcpy(store->names[store->n], username.p, username.n);
    memcpy(store->hashes[store->n], hash.p, hash.n);
    store->n++;
}

static svc_rc
store_add(void *connection, new_user_t *users, size_t n)
{
    store_t *store = connection;

    atomic_fetch_add(&store->adds, 1);
    pass_gate(store);
    if ((int)n > atomic_load(&store->largest))
        atomic_store(&store->largest, (int)n);
    for (size_t i = 0; i < n; i++) {
        users[i].rc = atomic_load(&store->is_broken)                  ? RC_INTERNAL
                      : index_of(store, users[i].username) < store->n ? RC_USERNAME_TAKEN
                                                                      : RC_OK;
        if (users[i].rc != RC_OK)
            continue;
        insert(store, users[i].username, users[i].hash);
        users[i].id = store->n;
    }
    return atomic_load(&store->is_broken) ? RC_INTERNAL : RC_OK;
}

static const user_store_driver_t driver = {.connect = store_connect,
                                           .disconnect = store_disconnect,
                                           .find = store_find,
                                           .add = store_add};

/* --- the bench ----------------------------------------------------------------------------------- */

static bench_t *
open_bench(void)
{
    bench_t *bench = svc_alloc(sizeof(*bench));

    fixture_open(&bench->fixture, "auth-svc");
    bench->arena = proto_arena_new();
    bench->shared = (auth_shared_t){.driver = &driver,
                                    .store = &bench->store,
                                    .metrics = bench->fixture.ctx.metrics,
                                    .cost = 4};
    return bench;
}

static void
open_pool(bench_t *bench, svc_pool_config_t config)
{
    char *error = NULL;

    bench->pool = svc_pool_new(&bench->fixture.ctx, &config, &bench->shared, &error);
    if (bench->pool == NULL)
        fail_msg("%s", error);
}

/* Ends the threads: what they opened is closed. */
static void
close_bench(bench_t *bench)
{
    atomic_store(&bench->store.is_closed, false);
    svc_pool_destroy(&bench->pool);
    assert_int_equal(atomic_load(&bench->store.connects),
                     atomic_load(&bench->store.disconnects));
    proto_arena_destroy(&bench->arena);
    fixture_close(&bench->fixture);
    free(bench);
}

static void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    bench_t *bench = arg;
    told_t *told = &bench->told[tag];

    assert_false(told->is_done);
    assert_true(result.n <= sizeof(told->bytes));
    *told = (told_t){.is_done = true, .rc = rc, .n = result.n};
    if (result.n > 0)
        memcpy(told->bytes, result.p, result.n);
    bench->done++;
}

static bool
has_done(void *arg)
{
    const bench_t *bench = arg;

    return bench->done >= bench->wanted;
}

static bool
is_waiting(void *arg)
{
    const bench_t *bench = arg;

    return atomic_load(&bench->store.waiting) >= bench->waiting;
}

static void
await_done(bench_t *bench, size_t n)
{
    bench->wanted = n;
    fixture_run_until(&bench->fixture, has_done, bench);
    assert_int_equal(bench->done, n);
}

/* Waits until so many workers stand at the gate. */
static void
await_waiting(bench_t *bench, int n)
{
    bench->waiting = n;
    fixture_run_until(&bench->fixture, is_waiting, bench);
}

static svc_rc
submit(bench_t *bench, auth_job kind, const proto_schema_t *schema, const void *msg,
       uint64_t tag)
{
    svc_buf_t payload;

    svc_buf_init(&payload, 10000);
    assert_int_equal(proto_encode(schema, msg, &payload), RC_OK);
    const svc_rc rc = svc_pool_submit(bench->pool, kind, svc_buf_str(&payload), on_done,
                                      bench, tag);
    svc_buf_fini(&payload);
    return rc;
}

static svc_rc
submit_check(bench_t *bench, auth_job kind, const char *username, const char *password,
             uint64_t tag)
{
    const auth_check_t check = {.username = svc_str_c(username),
                                .password = svc_str_c(password),
                                .attempt = 1000 + tag,
                                .expires_ms = svc_unix_ms() + 60000};

    return submit(bench, kind, &auth_check_schema, &check, tag);
}

static svc_rc
submit_user(bench_t *bench, const char *username, uint64_t tag)
{
    const auth_user_t user = {.username = svc_str_c(username), .hash = SVC_LIT("#")};

    return submit(bench, AUTH_JOB_ADD, &auth_user_schema, &user, tag);
}

/* The verdict on a check; its attempt must have come back. */
static uint64_t
user_of_verdict(bench_t *bench, uint64_t tag, svc_rc rc)
{
    const told_t *told = &bench->told[tag];
    auth_verdict_t verdict;

    assert_int_equal(told->rc, rc);
    assert_int_equal(proto_decode(&auth_verdict_schema, (svc_str){told->bytes, told->n},
                                  bench->arena, &verdict),
                     RC_OK);
    assert_int_equal(verdict.attempt, 1000 + tag);
    return verdict.user;
}

static uint64_t
user_of_add(bench_t *bench, uint64_t tag)
{
    const told_t *told = &bench->told[tag];
    register_rep_t rep;

    assert_int_equal(told->rc, RC_OK);
    assert_int_equal(proto_decode(&register_rep_schema, (svc_str){told->bytes, told->n},
                                  bench->arena, &rep),
                     RC_OK);
    return rep.user;
}

/* A user who is there from the start. */
static void
have_user(bench_t *bench, const char *username, const char *password)
{
    char hash[PASSWORD_HASH_BYTES + 1];
    password_t *hasher = password_new(4);

    assert_int_equal(password_hash(hasher, svc_str_c(password), hash), RC_OK);
    insert(&bench->store, svc_str_c(username), svc_str_c(hash));
    password_destroy(&hasher);
}

/* --- checks -------------------------------------------------------------------------------------- */

static void
a_check_tells_whose_password_it_is(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    have_user(bench, "ann", "secret-a");
    have_user(bench, "bob", "secret-b");
    open_pool(bench, auth_bcrypt_pool(2, 10));
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "bob", "secret-b", 0), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "bob", "secret-a", 1), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "eve", "secret-a", 2), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "secret-a", 3), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "", "", 4), RC_OK);
    await_done(bench, 5);
    assert_int_equal(user_of_verdict(bench, 0, RC_OK), 2);
    assert_int_equal(user_of_verdict(bench, 1, RC_OK), 0);
    assert_int_equal(user_of_verdict(bench, 2, RC_OK), 0);
    assert_int_equal(user_of_verdict(bench, 3, RC_OK), 1);
    assert_int_equal(user_of_verdict(bench, 4, RC_OK), 0);
    close_bench(bench);
}

static void
a_check_without_a_database_is_no_verdict_but_names_its_attempt(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    have_user(bench, "ann", "secret-a");
    open_pool(bench, auth_bcrypt_pool(1, 10));
    atomic_store(&bench->store.is_broken, true);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "secret-a", 0), RC_OK);
    await_done(bench, 1);
    assert_int_equal(user_of_verdict(bench, 0, RC_INTERNAL), 0);
    close_bench(bench);
}

static void
what_nobody_waits_for_any_more_is_not_done(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    auth_check_t check = {.username = SVC_LIT("ann"),
                          .password = SVC_LIT("secret-a"),
                          .attempt = 1000,
                          .expires_ms = svc_unix_ms()};
    have_user(bench, "ann", "secret-a");
    open_pool(bench, auth_bcrypt_pool(1, 10));
    assert_int_equal(submit(bench, AUTH_JOB_CHECK, &auth_check_schema, &check, 0), RC_OK);
    assert_int_equal(submit(bench, AUTH_JOB_HASH, &auth_check_schema, &check, 1), RC_OK);
    check.expires_ms = 0; /* absent on the wire */
    check.attempt = 1002;
    assert_int_equal(submit(bench, AUTH_JOB_CHECK, &auth_check_schema, &check, 2), RC_OK);
    await_done(bench, 3);
    assert_int_equal(user_of_verdict(bench, 0, RC_TIMEOUT), 0);
    assert_int_equal(bench->told[1].rc, RC_TIMEOUT);
    assert_int_equal(bench->told[1].n, 0);
    assert_int_equal(user_of_verdict(bench, 2, RC_TIMEOUT), 0);
    assert_int_equal(atomic_load(&bench->store.finds), 0);
    close_bench(bench);
}

static void
what_waits_at_the_end_is_not_done(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    have_user(bench, "ann", "secret-a");
    open_pool(bench, auth_bcrypt_pool(1, 10));
    atomic_store(&bench->store.is_closed, true);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "secret-a", 0), RC_OK);
    await_waiting(bench, 1);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "secret-a", 1), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_HASH, "eve", "secret-e", 2), RC_OK);
    atomic_store(&bench->shared.stopping, true);
    atomic_store(&bench->store.is_closed, false);
    await_done(bench, 3);
    assert_int_equal(user_of_verdict(bench, 0, RC_OK), 1); /* it had begun */
    assert_int_equal(user_of_verdict(bench, 1, RC_TIMEOUT), 0);
    assert_int_equal(bench->told[2].rc, RC_TIMEOUT);
    assert_int_equal(atomic_load(&bench->store.finds), 1);
    close_bench(bench);
}

/* --- hashes -------------------------------------------------------------------------------------- */

static void
a_hash_is_what_the_writer_wants_to_be_given(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    auth_user_t user;
    char hash[PASSWORD_HASH_BYTES + 1] = "";
    password_t *hasher = password_new(4);
    open_pool(bench, auth_bcrypt_pool(1, 10));
    assert_int_equal(submit_check(bench, AUTH_JOB_HASH, "ann", "secret-a", 0), RC_OK);
    await_done(bench, 1);
    assert_int_equal(bench->told[0].rc, RC_OK);
    assert_int_equal(proto_decode(&auth_user_schema,
                                  (svc_str){bench->told[0].bytes, bench->told[0].n},
                                  bench->arena, &user),
                     RC_OK);
    assert_true(svc_str_eq(user.username, SVC_LIT("ann")));
    assert_int_equal(user.hash.n, PASSWORD_HASH_BYTES);
    memcpy(hash, user.hash.p, user.hash.n);
    assert_true(password_matches(hasher, SVC_LIT("secret-a"), hash));
    assert_false(password_matches(hasher, SVC_LIT("secret-b"), hash));
    password_destroy(&hasher);
    close_bench(bench);
}

static void
a_request_that_comes_again_goes_on_with_the_hash_that_is_stored(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    auth_check_t check = {.username = SVC_LIT("ann"),
                          .password = SVC_LIT("secret-a"),
                          .key = SVC_LIT("first"),
                          .expires_ms = svc_unix_ms() + 60000};
    auth_user_t user;
    have_user(bench, "ann", "secret-a");
    bench->store.key = "first";
    open_pool(bench, auth_bcrypt_pool(1, 10));
    assert_int_equal(submit(bench, AUTH_JOB_HASH, &auth_check_schema, &check, 0), RC_OK);
    check.key = SVC_LIT("firs");
    assert_int_equal(submit(bench, AUTH_JOB_HASH, &auth_check_schema, &check, 1), RC_OK);
    check.key = SVC_LIT("");
    assert_int_equal(submit(bench, AUTH_JOB_HASH, &auth_check_schema, &check, 2), RC_OK);
    await_done(bench, 3);
    assert_int_equal(bench->told[0].rc, RC_OK);
    assert_int_equal(proto_decode(&auth_user_schema,
                                  (svc_str){bench->told[0].bytes, bench->told[0].n},
                                  bench->arena, &user),
                     RC_OK);
    assert_true(svc_str_eq(user.hash, svc_str_c(bench->store.hashes[0])));
    assert_true(svc_str_eq(user.key, SVC_LIT("first")));
    assert_int_equal(bench->told[1].rc, RC_USERNAME_TAKEN);
    assert_int_equal(bench->told[2].rc, RC_USERNAME_TAKEN);
    close_bench(bench);
}

static void
a_name_that_is_taken_and_a_password_that_cannot_be_are_told_before_hashing(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    char long_password[PASSWORD_MAX_BYTES + 2] = "";
    auth_check_t check = {.username = SVC_LIT("eve"),
                          .password = SVC_LIT("a\0b45678"),
                          .expires_ms = svc_unix_ms() + 60000};
    have_user(bench, "ann", "secret-a");
    open_pool(bench, auth_bcrypt_pool(1, 10));
    memset(long_password, 'x', PASSWORD_MAX_BYTES + 1);
    assert_int_equal(submit_check(bench, AUTH_JOB_HASH, "ann", "secret-a", 0), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_HASH, "eve", long_password, 1), RC_OK);
    assert_int_equal(submit(bench, AUTH_JOB_HASH, &auth_check_schema, &check, 2), RC_OK);
    await_done(bench, 3);
    assert_int_equal(bench->told[0].rc, RC_USERNAME_TAKEN);
    assert_int_equal(bench->told[1].rc, RC_INVALID_PASSWORD);
    assert_int_equal(bench->told[2].rc, RC_INVALID_PASSWORD);
    atomic_store(&bench->store.is_broken, true);
    assert_int_equal(submit_check(bench, AUTH_JOB_HASH, "eve", "secret-e", 3), RC_OK);
    await_done(bench, 4);
    assert_int_equal(bench->told[3].rc, RC_INTERNAL);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(bench->told[i].n, 0);
    close_bench(bench);
}

/* --- the writer ---------------------------------------------------------------------------------- */

static void
users_that_wait_are_added_in_one_transaction_of_a_bounded_size(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    char name[32];
    open_pool(bench, auth_writer_pool(300));
    atomic_store(&bench->store.is_closed, true);
    assert_int_equal(submit_user(bench, "first", 0), RC_OK);
    await_waiting(bench, 1);
    for (uint64_t i = 1; i <= 200; i++) {
        (void)snprintf(name, sizeof(name), "user-%d", (int)i);
        assert_int_equal(submit_user(bench, name, i), RC_OK);
    }
    atomic_store(&bench->store.is_closed, false);
    await_done(bench, 201);
    for (uint64_t i = 0; i <= 200; i++)
        assert_int_equal(user_of_add(bench, i), i + 1); /* in the order of coming */
    assert_int_equal(atomic_load(&bench->store.largest), AUTH_WRITER_BATCH);
    assert_int_equal(atomic_load(&bench->store.adds), 3);
    assert_int_equal(fixture_count(&bench->fixture, SVC_M_COMMITS), 3);
    assert_int_equal(fixture_count(&bench->fixture, SVC_M_COMMITTED_JOBS), 201);
    close_bench(bench);
}

static void
each_user_of_a_batch_has_an_outcome_of_its_own(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    open_pool(bench, auth_writer_pool(10));
    atomic_store(&bench->store.is_closed, true);
    assert_int_equal(submit_user(bench, "first", 0), RC_OK);
    await_waiting(bench, 1);
    assert_int_equal(submit_user(bench, "ann", 1), RC_OK);
    assert_int_equal(submit_user(bench, "ann", 2), RC_OK);
    assert_int_equal(
        svc_pool_submit(bench->pool, AUTH_JOB_ADD, SVC_LIT("junk"), on_done, bench, 3),
        RC_OK);
    assert_int_equal(submit_user(bench, "first", 4), RC_OK);
    assert_int_equal(submit_user(bench, "bob", 5), RC_OK);
    atomic_store(&bench->store.is_closed, false);
    await_done(bench, 6);
    assert_int_equal(user_of_add(bench, 1), 2);
    assert_int_equal(bench->told[2].rc, RC_USERNAME_TAKEN);
    assert_int_equal(bench->told[3].rc, RC_INTERNAL);
    assert_int_equal(bench->told[4].rc, RC_USERNAME_TAKEN);
    assert_int_equal(user_of_add(bench, 5), 3);
    assert_int_equal(atomic_load(&bench->store.adds), 2);
    close_bench(bench);
}

static void
a_transaction_that_fails_adds_nobody_and_is_not_counted(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    open_pool(bench, auth_writer_pool(10));
    atomic_store(&bench->store.is_broken, true);
    assert_int_equal(submit_user(bench, "ann", 0), RC_OK);
    await_done(bench, 1);
    assert_int_equal(bench->told[0].rc, RC_INTERNAL);
    assert_int_equal(bench->told[0].n, 0);
    assert_int_equal(fixture_count(&bench->fixture, SVC_M_COMMITS), 0);
    atomic_store(&bench->store.is_broken, false);
    assert_int_equal(submit_user(bench, "ann", 1), RC_OK);
    await_done(bench, 2);
    assert_int_equal(user_of_add(bench, 1), 1);
    close_bench(bench);
}

/* --- payloads, queues, threads ------------------------------------------------------------------- */

static void
payloads_that_cannot_be_read_are_answered(void **state)
{
    static const svc_str junk[] = {SVC_LIT(""), SVC_LIT("\x80"), SVC_LIT("junk"),
                                   SVC_LIT("\x82\xA8username\xA1x\xA8password\x01")};
    (void)state;
    bench_t *bench = open_bench();
    open_pool(bench, auth_bcrypt_pool(1, 20));
    for (uint64_t i = 0; i < SVC_COUNT(junk); i++) {
        assert_int_equal(
            svc_pool_submit(bench->pool, AUTH_JOB_CHECK, junk[i], on_done, bench, 2 * i),
            RC_OK);
        assert_int_equal(svc_pool_submit(bench->pool, AUTH_JOB_HASH, junk[i], on_done,
                                         bench, 2 * i + 1),
                         RC_OK);
    }
    await_done(bench, 2 * SVC_COUNT(junk));
    for (uint64_t i = 0; i < 2 * SVC_COUNT(junk); i++)
        assert_int_equal(bench->told[i].rc, RC_INVALID);
    assert_int_equal(atomic_load(&bench->store.finds), 0);
    close_bench(bench);
}

static void
a_full_queue_refuses_and_has_room_again(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    open_pool(bench, auth_bcrypt_pool(2, 3));
    atomic_store(&bench->store.is_closed, true);
    for (uint64_t i = 0; i < 2; i++)
        assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "x", i), RC_OK);
    await_waiting(bench, 2); /* both threads are busy */
    for (uint64_t i = 2; i < 5; i++)
        assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "x", i), RC_OK);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "x", 5), RC_BUSY);
    assert_int_equal(submit_check(bench, AUTH_JOB_HASH, "ann", "x", 5), RC_BUSY);
    assert_int_equal(svc_pool_load(bench->pool), 5);
    atomic_store(&bench->store.is_closed, false);
    await_done(bench, 5);
    assert_int_equal(svc_pool_load(bench->pool), 0);
    assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "x", 5), RC_OK);
    await_done(bench, 6);
    close_bench(bench);
}

static void
threads_end_though_jobs_wait_and_nobody_hears_of_them(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    open_pool(bench, auth_bcrypt_pool(3, 20));
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(submit_check(bench, AUTH_JOB_CHECK, "ann", "x", i), RC_OK);
    atomic_store(&bench->shared.stopping, true);
    svc_pool_destroy(&bench->pool);
    assert_int_equal(bench->done, 0);
    assert_int_equal(atomic_load(&bench->store.connects), 3);
    assert_int_equal(atomic_load(&bench->store.disconnects), 3);
    close_bench(bench);
}

static void
a_thread_without_a_connection_keeps_the_pool_from_starting(void **state)
{
    (void)state;
    bench_t *bench = open_bench();
    svc_pool_config_t configs[] = {auth_bcrypt_pool(3, 10), auth_writer_pool(10)};
    for (size_t i = 0; i < SVC_COUNT(configs); i++) {
        char *error = NULL;
        atomic_store(&bench->store.connects_to_fail, i == 0 ? 2 : 1);
        assert_null(
            svc_pool_new(&bench->fixture.ctx, &configs[i], &bench->shared, &error));
        assert_non_null(strstr(error, "no such disk"));
        free(error);
        assert_int_equal(atomic_load(&bench->store.connects),
                         atomic_load(&bench->store.disconnects));
    }
    close_bench(bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_check_tells_whose_password_it_is),
        cmocka_unit_test(a_check_without_a_database_is_no_verdict_but_names_its_attempt),
        cmocka_unit_test(what_nobody_waits_for_any_more_is_not_done),
        cmocka_unit_test(what_waits_at_the_end_is_not_done),
        cmocka_unit_test(a_hash_is_what_the_writer_wants_to_be_given),
        cmocka_unit_test(a_request_that_comes_again_goes_on_with_the_hash_that_is_stored),
        cmocka_unit_test(
            a_name_that_is_taken_and_a_password_that_cannot_be_are_told_before_hashing),
        cmocka_unit_test(users_that_wait_are_added_in_one_transaction_of_a_bounded_size),
        cmocka_unit_test(each_user_of_a_batch_has_an_outcome_of_its_own),
        cmocka_unit_test(a_transaction_that_fails_adds_nobody_and_is_not_counted),
        cmocka_unit_test(payloads_that_cannot_be_read_are_answered),
        cmocka_unit_test(a_full_queue_refuses_and_has_room_again),
        cmocka_unit_test(threads_end_though_jobs_wait_and_nobody_hears_of_them),
        cmocka_unit_test(a_thread_without_a_connection_keeps_the_pool_from_starting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
