/* convo.c - the service built, drained and taken apart.
 *
 * Order matters: the lock before the database, the writer (which makes and migrates it) before the
 * readers, the unfinished answers before the first request, and llm-svc last, so that nobody is
 * told of an answer that is not in the table yet. */
#include "convo.h"

#include "convo_reader.h"
#include "convo_writer.h"

#include "svc/svc_db_lock.h"
#include "svc/svc_pg.h"

#include <stdlib.h>

#define DRAIN_LOOK_MS 20
#define NEED_LOOK_MS  1000 /* whether database and llm-svc are there */
#define LISTS_SHARE   4 /* one part of the cache is for lists, the others for histories */

/* A key that each replica makes for itself would leave what the others have sealed to nobody. */
bool
convo_check_config(const svc_config_t *config, char **error)
{
    if (config->storage_driver == SVC_STORAGE_SQLITE)
        return true;
    if (config->convo_seal_key[0] != '\0')
        return svc_pg_check_url(config->storage_postgresql_url, error);
    *error = svc_str_dup(SVC_LIT("convo.seal_key must be configured with storage.driver: "
                                 "postgresql, the same for every convo-svc"));
    return false;
}

/* --- parts ------------------------------------------------------------------------------------ */

/* SQLite serves one process, PostgreSQL any number. */
static bool
lock_database(convo_t *self, char **error)
{
    if (self->ctx->config->storage_driver == SVC_STORAGE_SQLITE)
        self->lock_fd = svc_db_lock_take(self->db_path, self->ctx->service, error);
    return self->ctx->config->storage_driver != SVC_STORAGE_SQLITE || self->lock_fd >= 0;
}

static size_t
reader_threads(const svc_config_t *config)
{
    size_t n = config->sqlite_max_open_conns > 1 ? config->sqlite_max_open_conns - 1 : 1;

    if (config->storage_driver == SVC_STORAGE_POSTGRESQL) /* the lookups have one, too */
        return config->storage_postgresql_pool > 1 ? config->storage_postgresql_pool - 1
                                                   : 1;
    if (config->sqlite_max_idle_conns > 0 && n > config->sqlite_max_idle_conns)
        n = config->sqlite_max_idle_conns;
    return n > CONVO_READERS_MAX ? CONVO_READERS_MAX : n;
}

static convo_place_t
place_of(convo_t *self)
{
    return (convo_place_t){
        .driver = self->ctx->config->storage_driver,
        .path = self->db_path,
        .url = self->ctx->config->storage_postgresql_url,
        .stop = &self->stop,
        .away_ms = &self->away_ms,
    };
}

static bool
start_workers(convo_t *self, char **error)
{
    const svc_config_t *config = self->ctx->config;
    svc_pool_config_t writer = {
        .name = "writer",
        .threads = 1,
        .max_queued = CONVO_WRITES_MAX,
        .max_batch = CONVO_WRITER_BATCH,
        .open = convo_writer_open,
        .work = convo_writer_work,
        .rest = convo_writer_rest,
        .close = convo_writer_close,
    };
    svc_pool_config_t reader = {
        .name = "reader",
        .threads = reader_threads(config),
        .max_queued = CONVO_READS_MAX,
        .max_batch = 1,
        .open = convo_reader_open,
        .work = convo_reader_work,
        .close = convo_reader_close,
    };

    self->workers = (convo_workers_t){
        .place = place_of(self),
        .log = self->ctx->log,
        .metrics = self->ctx->metrics,
        .seal = &self->seal,
        .system_prompt = svc_str_c(config->convo_system_prompt),
        .instance = self->ctx->instance,
        .conn_lifetime_ms = config->storage_driver == SVC_STORAGE_SQLITE
                                ? (uint64_t)config->sqlite_conn_max_lifetime * 1000
                                : 0,
        .fault = self->ctx->fault,
        .plain_paths = config->test_plain_paths,
    };
    self->writer = svc_pool_new(self->ctx, &writer, &self->workers, error);
    if (self->writer != NULL)
        self->reader = svc_pool_new(self->ctx, &reader, &self->workers, error);
    reader.name = "lookup";
    reader.threads = 1;
    reader.max_batch = CONVO_LOOKUP_BATCH;
    if (self->reader != NULL)
        self->lookup = svc_pool_new(self->ctx, &reader, &self->workers, error);
    return self->lookup != NULL;
}

static bool
open_cache(convo_t *self, char **error)
{
    const svc_config_t *config = self->ctx->config;
    uint64_t max_bytes = (uint64_t)config->convo_cache_mb << 20;

    self->lists = convo_cache_memory_new(max_bytes / LISTS_SHARE, self->ctx->metrics,
                                         convo_on_list_cache, self);
    if (config->redis_address[0] != '\0')
        self->cache = convo_cache_redis_new(self->ctx, convo_on_cache, self, error);
    else
        self->cache = convo_cache_memory_new(max_bytes - max_bytes / LISTS_SHARE,
                                             self->ctx->metrics, convo_on_cache, self);
    return self->cache != NULL;
}

static svc_rc
take_up(void *arg, const answer_row_t *row)
{
    (void)answers_add(arg, row, false);
    return RC_OK;
}

/* Takes up the answers that an earlier start left unfinished: the writer has made them ours when it opened the database. With
 * PostgreSQL they may be others': then the lease decides. */
static bool
recover(convo_t *self, char **error)
{
    convo_store_t *store;
    svc_rc rc;

    self->answers = answers_new(self->ctx);
    answers_set_away(self->answers, &self->away_ms);
    if (self->ctx->config->storage_driver != SVC_STORAGE_SQLITE)
        return true;
    store = convo_store_open(&self->workers.place, STORE_READ, self->ctx->log, error);
    if (store == NULL)
        return false;
    rc = store->api->answer_unfinished(store, take_up, self->answers);
    convo_store_destroy(&store);
    if (rc != RC_OK)
        *error = svc_str_dup(SVC_LIT("cannot read the unfinished answers"));
    else if (answers_count(self->answers) > 0)
        svc_log_info(self->ctx->log, "%zu unfinished answers are taken up",
                     answers_count(self->answers));
    return rc == RC_OK;
}

static bool
take_lease(convo_t *self, char **error)
{
    if (self->ctx->config->storage_driver == SVC_STORAGE_SQLITE)
        return true;
    self->lease = convo_lease_new(self->ctx, self->answers, &self->workers,
                                  &convo_lease_usual_times, error);
    return self->lease != NULL;
}

bool
convo_holds_answers(const convo_t *self)
{
    return self->lease == NULL || convo_lease_holds(self->lease);
}

static bool
admits(const void *arg)
{
    return convo_holds_answers(arg);
}

/* --- what it needs ---------------------------------------------------------------------------- */

/* The lease is renewed each second: who holds it has a database that answers. */
static void
look_at_needs(void *arg, short events)
{
    convo_t *self = arg;

    (void)events;
    svc_need_set(&self->database, convo_holds_answers(self));
    svc_need_set(&self->any_llm, svc_peers_is_up(self->llm));
}

static void
add_needs(convo_t *self)
{
    svc_health_add_need(self->ctx->health, &self->database, "postgresql", false, 0);
    svc_health_add_need(self->ctx->health, &self->any_llm, "llm-svc", true, 1);
    self->need_timer = svc_loop_every(self->ctx->loop, NEED_LOOK_MS, look_at_needs, self);
}

static void
remove_needs(convo_t *self)
{
    if (self->need_timer == 0)
        return;
    svc_loop_cancel(self->ctx->loop, self->need_timer);
    svc_health_remove_need(self->ctx->health, &self->database);
    svc_health_remove_need(self->ctx->health, &self->any_llm);
}

/* --- life ------------------------------------------------------------------------------------- */

convo_t *
convo_new(svc_ctx_t *ctx, char **error)
{
    convo_t *self = svc_alloc(sizeof(*self));
    const svc_config_t *config = ctx->config;

    self->ctx = ctx;
    self->arena = proto_arena_new();
    self->held_ms = CONVO_HELD_MS;
    self->db_path = svc_str_dup(svc_str_c(config->sqlite_path));
    self->lock_fd = -1;
    if (!convo_check_config(config, error) || !lock_database(self, error) ||
        seal_load(&self->seal, config, error) != RC_OK || !start_workers(self, error) ||
        !open_cache(self, error) || !recover(self, error))
        goto fail;
    if (svc_server_new(ctx, config->bus_convo.bind, convo_ops, self, &self->server,
                       error) != RC_OK)
        goto fail;
    self->llm = svc_peers_new(ctx, "llm-svc", config->bus_llm.connect, answers_on_llm,
                              self->answers, error);
    if (self->llm == NULL)
        goto fail;
    answers_set(self->answers, self->server, self->writer, self->reader, self->llm);
    if (!take_lease(self, error))
        goto fail;
    answers_set_admission(self->answers, admits, self);
    answers_begin_all(self->answers);
    add_needs(self);
    return self;
fail:
    convo_destroy(&self);
    return NULL;
}

/* Has everything been taken over that somebody takes? Nothing is awaited that does not come. */
static bool
is_handed_over(convo_t *self)
{
    size_t n = answers_count(self->answers);
    uint64_t now = svc_loop_now_ms(self->ctx->loop);

    if (self->handover_ms == 0 || n < self->handover_n)
        self->handover_ms = now + CONVO_HANDOVER_MS;
    self->handover_n = n;
    return n == 0 || now >= self->handover_ms;
}

static void
look_whether_done(void *arg, short events)
{
    convo_t *self = arg;
    bool is_done = self->lease != NULL ? is_handed_over(self)
                                       : answers_busy(self->answers) == 0;

    (void)events;
    if (is_done && self->n_asking == 0 && self->n_held == 0 &&
        svc_pool_load(self->writer) == 0)
        svc_loop_stop(self->ctx->loop);
}

void
convo_announce(convo_t *self)
{
    svc_server_set_draining(self->server);
}

void
convo_drain(convo_t *self)
{
    self->is_draining = true;
    svc_server_set_draining(self->server);
    if (self->lease != NULL)
        convo_lease_drop(self->lease);
    self->drain_timer = svc_loop_every(self->ctx->loop, DRAIN_LOOK_MS, look_whether_done,
                                       self);
}

void
convo_destroy(convo_t **self_p)
{
    convo_t *self = *self_p;

    if (self == NULL)
        return;
    atomic_store(&self->stop, true);
    svc_loop_cancel(self->ctx->loop, self->drain_timer);
    remove_needs(self);
    convo_drop_held(self);
    convo_lease_destroy(&self->lease);
    answers_destroy(&self->answers);
    svc_peers_destroy(&self->llm);
    svc_server_destroy(&self->server);
    convo_cache_destroy(&self->cache);
    convo_cache_destroy(&self->lists);
    svc_pool_destroy(&self->lookup);
    svc_pool_destroy(&self->reader);
    svc_pool_destroy(&self->writer);
    convo_drop_lookups(self);
    svc_db_lock_release(&self->lock_fd);
    proto_arena_destroy(&self->arena);
    explicit_bzero(&self->seal, sizeof(self->seal));
    free(self->db_path);
    free(self);
    *self_p = NULL;
}
