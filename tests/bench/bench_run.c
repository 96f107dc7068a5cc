/* bench_run.c - the phases of a load: single calls, requests in parallel, chats in parallel.
 *
 * Everything is driven by the connections' ends: an end begins the next request on the same
 * connection, until all are done. What has not ended when the time is over has failed. */
#include "bench_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TURN_MS      20   /* how often the clock is looked at */
#define FAILURES_MAX 1000 /* requests or chats */

static size_t
write_request(load_t *self, char *out, size_t cap, const char *method, const char *path,
              const char *body)
{
    int n = snprintf(
        out, cap,
        "%s %s HTTP/1.1\r\nHost: bench\r\n%s%s%sContent-Type: application/json\r\n"
        "Content-Length: %zu\r\n\r\n%s",
        method, path, self->token[0] ? "Authorization: Bearer " : "", self->token,
        self->token[0] ? "\r\n" : "", strlen(body), body);

    if (n < 0 || (size_t)n >= cap)
        abort();
    return (size_t)n;
}

void
load_fault(load_t *self, bool is_wrong, const char *text)
{
    if (is_wrong)
        self->wrong++;
    else
        self->failed++;
    if (self->faults_n < LOAD_FAULTS_SHOWN)
        snprintf(self->faults[self->faults_n++], sizeof(self->faults[0]), "%s", text);
}

static bool
keep_body(slot_t *slot, const char *bytes, size_t n)
{
    if (slot->body_n + n + 1 > slot->body_cap) {
        size_t cap = (slot->body_n + n + 1) * 2;
        char *body = realloc(slot->body, cap);

        if (!body)
            return false;
        slot->body = body;
        slot->body_cap = cap;
    }
    memcpy(slot->body + slot->body_n, bytes, n);
    slot->body_n += n;
    slot->body[slot->body_n] = '\0';
    return true;
}

/* The model of a slot's chat, with its letter. */
static const char *
name_of(const load_t *self, const slot_t *slot, char *out, size_t cap)
{
    snprintf(out, cap, "%s:%c", self->model, (char)('a' + slot->job % BENCH_LETTERS));
    return out;
}

/* Begins to check what a slot is about to get; `latency` is for paced tokens. */
static void
begin_check(const load_t *self, slot_t *slot, bench_hist_t *latency)
{
    char name[80];
    bench_model_t model;

    name_of(self, slot, name, sizeof(name));
    if (!bench_model_parse(name, strlen(name), &model))
        abort();
    bench_chat_begin(&slot->chat, self->kind, &model,
                     model.mode == BENCH_PACED ? latency : NULL);
}

/* --- the other viewers of an answer ----------------------------------------------------------- */

/* Slots of the viewers besides the one who asks in slot i: they stand behind all that ask. */
static slot_t *
watcher(const load_t *self, const slot_t *asker, uint32_t k)
{
    uint32_t i = (uint32_t)(asker - self->slots);

    return &self->slots[self->parallel + i * (self->viewers - 1) + k];
}

/* The slot whose answer this one reads; itself when it asks. */
static slot_t *
asker_of(load_t *self, slot_t *slot)
{
    uint32_t i = (uint32_t)(slot - self->slots);

    return i < self->parallel ? slot
                              : &self->slots[(i - self->parallel) / (self->viewers - 1)];
}

/* True while somebody still reads the answer that this slot has asked for. */
static bool
is_read(const load_t *self, const slot_t *asker)
{
    bool busy = asker->busy;

    for (uint32_t k = 0; k + 1 < self->viewers; k++)
        busy |= watcher(self, asker, k)->busy;
    return busy;
}

/* The answer has begun: the others open its stream. */
static void
begin_watches(load_t *self, const slot_t *asker)
{
    for (uint32_t k = 0; self->kind == CHAT_GATEWAY && k + 1 < self->viewers; k++) {
        slot_t *slot = watcher(self, asker, k);
        char request[LOAD_REQUEST_BYTES];
        char path[96];

        slot->watches = true;
        slot->busy = true;
        slot->job = asker->job;
        slot->body_n = 0;
        begin_check(self, slot, NULL);
        snprintf(path, sizeof(path), "/api/chat/%" PRIu64 "/stream",
                 self->ids[asker->job]);
        size_t n = write_request(self, request, sizeof(request), "GET", path, "");
        bench_http_send(self->http,
                        bench_http_conn(self->http, (uint32_t)(slot - self->slots)),
                        request, n);
    }
}

bool
load_on_body(bench_conn_t *conn, const char *bytes, size_t n)
{
    slot_t *slot = conn->user;
    load_t *self = slot->load;

    if (self->phase != PHASE_CHATS || conn->status != 200)
        return keep_body(slot, bytes, n);
    bool good = bench_chat_feed(&slot->chat, bytes, n);
    if (!slot->counted && !slot->watches && slot->chat.first_us != 0) {
        slot->counted = true;
        self->open++;
        begin_watches(self, slot);
    }
    return good;
}

/* --- one call ------------------------------------------------------------------------------- */
int
load_call(load_t *self, const char *method, const char *path, const char *body)
{
    char request[LOAD_REQUEST_BYTES];
    size_t n = write_request(self, request, sizeof(request), method, path, body);
    slot_t *slot = &self->slots[0];
    bench_conn_t *conn = bench_http_conn(self->http, 0);
    uint64_t deadline = bench_now_us() + 30000000u;

    self->phase = PHASE_CALL;
    self->fault = NULL;
    slot->body_n = 0;
    slot->busy = true;
    bench_http_send(self->http, conn, request, n);
    while (slot->busy && bench_now_us() < deadline)
        bench_http_turn(self->http, TURN_MS);
    if (slot->busy) {
        slot->busy = false;
        bench_http_drop(self->http, conn);
        return 0;
    }
    return self->fault ? 0 : conn->status;
}

/* --- requests ------------------------------------------------------------------------------- */
static void
begin_request(load_t *self, bench_conn_t *conn)
{
    slot_t *slot = conn->user;

    slot->job = self->begun++;
    slot->body_n = 0;
    slot->busy = true;
    bench_http_send(self->http, conn, self->request, self->request_n);
}

static void
end_request(load_t *self, bench_conn_t *conn, const char *fault)
{
    slot_t *slot = conn->user;
    const char *id;

    bench_hist_add(&self->first, bench_now_us() - conn->begun_us);
    if (fault) {
        load_fault(self, false, fault);
    } else if (conn->status != self->expected_status) {
        char text[160];

        snprintf(text, sizeof(text), "HTTP %d: %.120s", conn->status,
                 slot->body_n > 0 ? slot->body : "");
        load_fault(self, false, text);
    } else if (self->expected &&
               (slot->body_n != self->expected_n ||
                memcmp(slot->body, self->expected, self->expected_n) != 0)) {
        load_fault(self, true, "an answer differs from the first one");
    } else if (self->ids && (id = strstr(slot->body, "\"conversation_id\":"))) {
        self->ids[slot->job] = strtoull(id + 18, NULL, 10);
    }
}

void
load_requests(load_t *self, const char *method, const char *path, const char *body,
              int status, uint32_t limit, uint32_t ms)
{
    uint64_t now = bench_now_us();
    uint64_t until = ms > 0 ? now + ms * 1000ull : UINT64_MAX;

    self->phase = PHASE_REQUESTS;
    self->request_n = write_request(self, self->request, sizeof(self->request), method,
                                    path, body);
    self->expected_status = status;
    self->limit = limit;
    self->begun = self->done = self->failed = self->wrong = 0;
    memset(&self->first, 0, sizeof(self->first));
    self->from_us = now;
    for (uint32_t i = 0; i < self->width && self->begun < self->limit; i++)
        begin_request(self, bench_http_conn(self->http, i));
    while (self->done < self->begun) {
        bench_http_turn(self->http, TURN_MS);
        now = bench_now_us();
        if (now > until) {
            self->limit = self->begun; /* those that are under way may end */
            until = UINT64_MAX;
        }
        if (now > self->from_us + self->timeout_s * 1000000ull) {
            load_fault(self, false, "not answered in time");
            break;
        }
    }
    self->to_us = bench_now_us();
}

/* --- chats ---------------------------------------------------------------------------------- */
static void
begin_chat(load_t *self, bench_conn_t *conn)
{
    slot_t *slot = conn->user;
    char request[LOAD_REQUEST_BYTES];
    char path[96];
    char body[256];

    slot->job = self->begun++;
    slot->body_n = 0;
    slot->busy = true;
    slot->counted = false;
    begin_check(self, slot, &self->added);
    if (self->kind == CHAT_GATEWAY) {
        snprintf(path, sizeof(path), "/api/chat/%" PRIu64, self->ids[slot->job]);
        snprintf(body, sizeof(body), "{\"message\":\"question %u\"}", slot->job);
    } else {
        char model_name[80];

        snprintf(path, sizeof(path), "/v1/chat/completions");
        snprintf(body, sizeof(body),
                 "{\"model\":\"%s\",\"stream\":true,\"messages\":[{\"role\":\"user\","
                 "\"content\":\"question %u\"}]}",
                 name_of(self, slot, model_name, sizeof(model_name)), slot->job);
    }
    size_t n = write_request(self, request, sizeof(request), "POST", path, body);
    bench_http_send(self->http, conn, request, n);
}

static void
end_chat(load_t *self, bench_conn_t *conn, const char *fault)
{
    slot_t *slot = conn->user;
    bench_chat_t *chat = &slot->chat;
    char text[200];

    if (slot->counted)
        self->open--;
    if (slot->watches) {
        self->watched += chat->text.next;
    } else {
        self->tokens += chat->text.next;
        self->events += chat->events;
        if (chat->first_us != 0)
            bench_hist_add(&self->first, chat->first_us - conn->begun_us);
    }
    if (conn->status != 200 && !fault) {
        snprintf(text, sizeof(text), "HTTP %d: %.120s", conn->status,
                 slot->body_n > 0 ? slot->body : "");
        load_fault(self, false, text);
    } else if (chat->fault[0] || (!fault && !bench_chat_end(chat))) {
        snprintf(text, sizeof(text), "chat %u: %s", slot->job, chat->fault);
        load_fault(self, chat->is_wrong, text);
    } else if (fault) {
        snprintf(text, sizeof(text), "chat %u, token %u: %s", slot->job, chat->text.next,
                 fault);
        load_fault(self,
                   strcmp(fault, "connection lost") != 0 &&
                       strcmp(fault, "connecting failed") != 0 &&
                       strcmp(fault, "sending failed") != 0 &&
                       strcmp(fault, "connection refused") != 0,
                   text);
    } else {
        self->hashes[slot->job] = chat->text.hash;
    }
}

void
load_on_end(bench_conn_t *conn, const char *fault)
{
    slot_t *slot = conn->user;
    load_t *self = slot->load;

    slot->busy = false;
    if (self->phase == PHASE_CALL) {
        self->fault = fault;
        return;
    }
    if (self->phase == PHASE_REQUESTS)
        end_request(self, conn, fault);
    else
        end_chat(self, conn, fault);
    slot = asker_of(self, slot);
    if (is_read(self, slot))
        return;
    self->done++;
    conn = bench_http_conn(self->http, (uint32_t)(slot - self->slots));
    if (self->failed > FAILURES_MAX) /* nobody is there: no use in trying on */
        self->limit = self->begun;
    if (self->begun >= self->limit)
        return;
    if (self->phase == PHASE_REQUESTS)
        begin_request(self, conn);
    else
        begin_chat(self, conn);
}

/* How many of the first `parallel` chats should have begun by now. */
static uint32_t
ramped(const load_t *self, uint64_t now)
{
    uint32_t all = self->parallel < self->limit ? self->parallel : self->limit;
    uint64_t ms = (now - self->from_us) / 1000;

    return ms >= self->ramp_ms ? all : (uint32_t)(all * ms / self->ramp_ms);
}

void
load_chats(load_t *self)
{
    uint64_t deadline;
    uint32_t first = 0;
    uint32_t all = self->parallel < self->count ? self->parallel : self->count;

    self->phase = PHASE_CHATS;
    self->limit = self->count;
    self->begun = self->done = self->failed = self->wrong = 0;
    memset(&self->first, 0, sizeof(self->first));
    self->from_us = bench_now_us();
    deadline = self->from_us + self->timeout_s * 1000000ull;
    while (self->done < self->limit) {
        uint64_t now = bench_now_us();

        for (uint32_t to = ramped(self, now); first < to && self->begun < self->limit;
             first++)
            begin_chat(self, bench_http_conn(self->http, first));
        bench_http_turn(self->http, first < all ? 1 : TURN_MS);
        if (!self->told_open && self->open == all) {
            self->told_open = true;
            printf("{\"open\":%u}\n", self->open);
            fflush(stdout);
        }
        if (now > deadline) {
            char text[80];

            snprintf(text, sizeof(text), "%u chats did not end in time",
                     self->limit - self->done);
            load_fault(self, false, text);
            self->failed += self->limit - self->done - 1;
            break;
        }
    }
    self->to_us = bench_now_us();
}
