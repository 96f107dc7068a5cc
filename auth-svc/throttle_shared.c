/* throttle_shared.c - one script for Redis, a thread that runs it, and patience for its verdict.
 *
 *   llmb:guess:<16 hex digits of the keyed hash>   a hash: failures, pause, first, last, till
 *
 * The script is atomic and takes Redis' clock, so replicas need not agree on theirs. A right password
 * that forgives failures leaves a record of none: a missing one means that Redis has forgotten,
 * and then the caller's own knowledge counts. Numbers that cannot be ours (of a clock that
 * was set back, or somebody else's) count as a missing record. */
#include "throttle_shared.h"

#include "svc/svc_redis_pool.h"
#include "svc/svc_table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define QUEUE_MAX         1024
#define NUMBERS           6 /* of the reply */
#define MESSAGE_MAX_BYTES 256

/* KEYS: the pair. ARGV: limit, window and longest pause in ms, right (1), then what the caller knows: failures,
 * pause in s, age of the first and of the latest failure and rest of the pause in ms. */
static const char script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
    "local a = {}\n"
    "for i = 1, 9 do a[i] = tonumber(ARGV[i]) end\n"
    "local limit, window, longest, right = a[1], a[2], a[3], a[4] == 1\n"
    "local names = {'failures', 'pause', 'first', 'last', 'till'}\n"
    "local r, bad = redis.call('HMGET', KEYS[1], unpack(names)), false\n"
    "for i = 1, 5 do\n"
    "  r[i] = tonumber(r[i])\n"
    "  if not r[i] or r[i] < 0 or r[i] > 4e12 or r[i] ~= math.floor(r[i]) then bad = true end\n"
    "end\n"
    "if bad or r[1] > 4e9 or r[2] * 1000 > longest or r[3] > now or r[4] > now or r[5] > now + longest then\n"
    "  r = {a[5], a[6], now - a[7], now - a[8], now + a[9]}\n"
    "end\n"
    "local failures, pause, first, last, till = unpack(r)\n"
    "local function reply(throttled)\n"
    "  return {throttled, failures, pause, now - first, now - last, math.max(till - now, 0)}\n"
    "end\n"
    "if till > now then return reply(1) end\n"
    "local since = failures >= limit and last or first\n"
    "if now >= since + window then failures, pause = 0, 0 end\n"
    "if right and failures == 0 then return reply(0) end\n"
    "if right then\n"
    "  failures, pause, till = 0, 0, 0\n"
    "else\n"
    "  if failures == 0 then first = now end\n"
    "  failures, last = failures + 1, now\n"
    "  if failures >= limit then\n"
    "    pause = math.min(math.max(pause * 2, 1), longest / 1000)\n"
    "    till = now + pause * 1000\n"
    "  end\n"
    "end\n"
    "redis.call('HSET', KEYS[1], 'failures', failures, 'pause', pause, 'first', first,"
    " 'last', last, 'till', till)\n"
    "redis.call('PEXPIRE', KEYS[1], math.max(window, pause * 1000))\n"
    "return reply(0)\n";

/* What crosses to the thread, and back. */
typedef struct {
    uint64_t key; /* of the pair */
    uint64_t
        verdict; /* back: throttle_shared_verdict; there: 1, the password was right */
    uint64_t numbers[5];       /* failures, pause, ages of first and latest, rest */
    uint64_t limit, window_ms; /* there: what counts at present */
} message_t;

// clang-format off
#define NUMBER(name, i) {name, PROTO_U64, false, 0, UINT64_MAX, offsetof(message_t, numbers) + (i) * sizeof(uint64_t), NULL}
static const proto_field_t message_fields[] = {
    /* key      type       must   min max         where sub */
    {"key",     PROTO_U64, false, 0,  UINT64_MAX, offsetof(message_t, key), NULL},
    {"verdict", PROTO_U64, false, 0,  THROTTLE_SHARED_VERDICTS - 1, offsetof(message_t, verdict), NULL},
    {"limit",   PROTO_U64, false, 0,  UINT64_MAX, offsetof(message_t, limit), NULL},
    {"window",  PROTO_U64, false, 0,  UINT64_MAX, offsetof(message_t, window_ms), NULL},
    NUMBER("failures", 0), NUMBER("pause", 1), NUMBER("first", 2), NUMBER("last", 3), NUMBER("rest", 4),
};
// clang-format on

static const proto_schema_t message_schema = {
    "throttle", message_fields, SVC_COUNT(message_fields), sizeof(message_t)};

static void
write_state(message_t *out, const throttle_state_t *state)
{
    const uint64_t numbers[] = {state->failures, state->pause_s, state->first_age_ms,
                                state->last_age_ms, state->rest_ms};

    memcpy(out->numbers, numbers, sizeof(numbers));
}

static throttle_state_t
read_state(const message_t *message)
{
    return (throttle_state_t){.failures = (uint32_t)message->numbers[0],
                              .pause_s = (uint32_t)message->numbers[1],
                              .first_age_ms = message->numbers[2],
                              .last_age_ms = message->numbers[3],
                              .rest_ms = message->numbers[4]};
}

/* --- the thread ------------------------------------------------------------------------------- */

static redisReply *
run_script(svc_redis_t *redis, const message_t *message)
{
    const uint64_t argv_numbers[] = {
        message->limit,      message->window_ms,  THROTTLE_PAUSE_MAX_S * 1000u,
        message->verdict,    message->numbers[0], message->numbers[1],
        message->numbers[2], message->numbers[3], message->numbers[4]};
    const char *argv[4 + SVC_COUNT(argv_numbers)] = {"EVAL", script, "1"};
    size_t lengths[SVC_COUNT(argv)];
    char texts[SVC_COUNT(argv_numbers)][24], key[40];

    (void)snprintf(key, sizeof(key), "llmb:guess:%016" PRIx64, message->key);
    argv[3] = key;
    for (size_t i = 0; i < SVC_COUNT(argv_numbers); i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%" PRIu64, argv_numbers[i]);
        argv[4 + i] = texts[i];
    }
    for (size_t i = 0; i < SVC_COUNT(argv); i++)
        lengths[i] = strlen(argv[i]);
    return svc_redis_run(redis, (int)SVC_COUNT(argv), argv, lengths);
}

/* Reads the script's six numbers; false: they are none, or none of ours. */
static bool
read_reply(const redisReply *reply, message_t *out)
{
    static const uint64_t most[NUMBERS] = {1,
                                           UINT32_MAX,
                                           THROTTLE_PAUSE_MAX_S,
                                           UINT32_MAX * 1000ull,
                                           UINT32_MAX * 1000ull,
                                           THROTTLE_PAUSE_MAX_S * 1000ull};
    uint64_t numbers[NUMBERS];

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != NUMBERS)
        return false;
    for (size_t i = 0; i < NUMBERS; i++) {
        if (reply->element[i]->type != REDIS_REPLY_INTEGER ||
            reply->element[i]->integer < 0 ||
            (uint64_t)reply->element[i]->integer > most[i])
            return false;
        numbers[i] = (uint64_t)reply->element[i]->integer;
    }
    out->verdict = numbers[0] == 1 ? THROTTLE_SHARED_THROTTLED : THROTTLE_SHARED_COUNTED;
    memcpy(out->numbers, numbers + 1, sizeof(out->numbers));
    return true;
}

static void
run(svc_ctx_t *ctx, svc_redis_t *redis, svc_job_t *job, const void *told)
{
    message_t message = *(const message_t *)told;
    redisReply *reply = run_script(redis, &message);
    svc_rc rc = RC_UNAVAILABLE;
    svc_buf_t out;

    (void)ctx;
    svc_buf_init(&out, MESSAGE_MAX_BYTES);
    if (reply != NULL && read_reply(reply, &message))
        rc = proto_encode(&message_schema, &message, &out);
    else if (reply != NULL)
        svc_redis_distrust(redis, "a throttle script's reply makes no sense");
    svc_job_done(job, rc, svc_buf_str(&out));
    svc_buf_fini(&out);
    if (reply != NULL)
        freeReplyObject(reply);
}

/* --- the front thread --------------------------------------------------------------------------- */

struct throttle_shared {
    svc_ctx_t *ctx;           /* borrowed */
    throttle_shared_fn *fn;   /* receives verdicts */
    void *arg;                /* for fn */
    uint32_t patience_ms;     /* with a verdict */
    uint32_t limit, window_s; /* as of throttle_set */
    svc_redis_pool_t *redis;  /* owned */
    proto_arena_t *arena;     /* owned */
    svc_table_t waiting;      /* owns waiting_t, by number */
    uint64_t count;           /* attempts told so far */
};

/* An attempt whose verdict is waited for. */
typedef struct {
    svc_table_node_t node;      /* first: cast from table nodes */
    throttle_shared_t *owner;   /* borrowed */
    throttle_attempt_t attempt; /* as told */
    uint64_t timer;             /* ends the patience */
} waiting_t;

/* Hands out a verdict; from then on a late one finds nobody. */
static void
tell(waiting_t *waiting, throttle_shared_verdict verdict, const throttle_state_t *state)
{
    throttle_shared_t *self = waiting->owner;
    const throttle_attempt_t attempt = waiting->attempt;

    (void)svc_table_remove(&self->waiting, waiting->node.key);
    svc_loop_cancel(self->ctx->loop, waiting->timer);
    free(waiting);
    self->fn(self->arg, &attempt, verdict, state);
}

static void
on_impatient(void *arg, short events)
{
    waiting_t *waiting = arg;

    (void)events;
    waiting->timer = 0;
    tell(waiting, THROTTLE_SHARED_NONE, &(throttle_state_t){0});
}

static void
on_done(void *arg, uint64_t tag, svc_rc rc, svc_str result)
{
    throttle_shared_t *self = arg;
    waiting_t *waiting = (waiting_t *)svc_table_get(&self->waiting, tag);
    message_t message = {.key = 0};
    throttle_state_t state;

    if (waiting == NULL)
        return;
    if (rc == RC_OK)
        rc = proto_decode(&message_schema, result, self->arena, &message);
    state = read_state(&message);
    tell(waiting,
         rc == RC_OK ? (throttle_shared_verdict)message.verdict : THROTTLE_SHARED_NONE,
         &state);
}

void
throttle_shared_end(throttle_shared_t *self, const throttle_attempt_t *attempt,
                    const throttle_state_t *known)
{
    message_t message = {.key = attempt->key,
                         .verdict = attempt->user != 0,
                         .limit = self->limit,
                         .window_ms = (uint64_t)self->window_s * 1000};
    waiting_t *waiting = svc_alloc(sizeof(*waiting));
    svc_rc rc;

    waiting->owner = self;
    waiting->attempt = *attempt;
    svc_table_add(&self->waiting, &waiting->node, ++self->count);
    write_state(&message, known);
    rc = svc_redis_pool_submit(self->redis, 0, &message, on_done, self, self->count);
    if (rc == RC_OK)
        waiting->timer = svc_loop_after(self->ctx->loop, self->patience_ms, on_impatient,
                                        waiting);
    else
        tell(waiting, THROTTLE_SHARED_NONE, &(throttle_state_t){0});
}

/* --- life --------------------------------------------------------------------------------------- */

throttle_shared_t *
throttle_shared_new(svc_ctx_t *ctx, uint32_t patience_ms, throttle_shared_fn *fn,
                    void *arg, char **error)
{
    const svc_redis_pool_config_t config = {
        .schema = &message_schema,
        .message_max_bytes = MESSAGE_MAX_BYTES,
        .timeout_ms = patience_ms,
        .max_queued = QUEUE_MAX,
        .run = run,
    };
    throttle_shared_t *self = svc_alloc(sizeof(*self));

    self->ctx = ctx;
    self->patience_ms = patience_ms;
    throttle_shared_set(self, ctx->config->auth_guess_limit,
                        ctx->config->auth_guess_window_s);
    self->fn = fn;
    self->arg = arg;
    self->arena = proto_arena_new();
    self->redis = svc_redis_pool_new(ctx, &config, error);
    if (self->redis == NULL)
        throttle_shared_destroy(&self);
    return self;
}

void
throttle_shared_set(throttle_shared_t *self, uint32_t limit, uint32_t window_s)
{
    self->limit = limit;
    self->window_s = window_s;
}

void
throttle_shared_destroy(throttle_shared_t **self_p)
{
    throttle_shared_t *self;
    waiting_t *waiting;
    size_t from = 0;

    if (self_p == NULL || *self_p == NULL)
        return;
    self = *self_p;
    svc_redis_pool_destroy(&self->redis);
    while ((waiting = (waiting_t *)svc_table_any(&self->waiting, &from)) != NULL) {
        (void)svc_table_remove(&self->waiting, waiting->node.key);
        svc_loop_cancel(self->ctx->loop, waiting->timer);
        free(waiting);
    }
    svc_table_fini(&self->waiting);
    proto_arena_destroy(&self->arena);
    free(self);
    *self_p = NULL;
}
