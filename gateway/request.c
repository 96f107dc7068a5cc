/* request.c - the life of one HTTP request, from its headers to its log line.
 *
 * libmicrohttpd 0.9.75 calls request_on_http once when the headers are there, then for
 * each piece of the body, then once more without one. A connection that was suspended
 * in the first call gets that call again when it is resumed; one suspended in the last
 * call gets the last one again. A response can be queued in the first or the last call
 * only, so an early refusal waits while the body is read and dropped (closing on a
 * client that still writes would destroy the refusal); only a body that is far too
 * large, or that the client holds back (Expect), is refused in the first call. */
#include "request_private.h"
#include "sse_stream.h"
#include "svc/svc_secret.h"
#include "svc/svc_text.h"
#include "svc/svc_time.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define DROP_MAX_BYTES      (8u << 20) /* of a refused body that are read for politeness */
#define FORWARDED_MAX_BYTES 4096       /* all lines of X-Forwarded-For together */
#define OP_TEXT_BYTES       96         /* of a method and a route in the log */

/* --- what it says ------------------------------------------------------------------------- */

reactor_t *
request_reactor(const request_t *self)
{
    return self->reactor;
}

uint64_t
request_user(const request_t *self)
{
    return self->user;
}

uint64_t
request_id(const request_t *self)
{
    return self->id;
}

svc_str
request_body(const request_t *self)
{
    return svc_buf_str(&self->body);
}

svc_str
request_header(const request_t *self, const char *name)
{
    return svc_str_c(MHD_lookup_connection_value(self->mhd, MHD_HEADER_KIND, name));
}

typedef struct {
    const char *name; /* of a header */
    int n;            /* how often it was seen */
} header_count_t;

static enum MHD_Result
count_header(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    header_count_t *count = arg;

    (void)kind;
    (void)value;
    if (strcasecmp(key, count->name) == 0)
        count->n++;
    return MHD_YES;
}

bool
request_repeats_header(const request_t *self, const char *name)
{
    header_count_t count = {name, 0};

    MHD_get_connection_values(self->mhd, MHD_HEADER_KIND, count_header, &count);
    return count.n > 1;
}

svc_str
request_query(const request_t *self, const char *name)
{
    return svc_str_c(MHD_lookup_connection_value(self->mhd, MHD_GET_ARGUMENT_KIND, name));
}

text_language
request_language(const request_t *self)
{
    return self->language;
}

svc_str
request_trace(const request_t *self)
{
    return (svc_str){(const char *)self->trace, PROTO_TRACE_BYTES};
}

static enum MHD_Result
add_forwarded(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    svc_buf_t *joined = cls;

    (void)kind;
    if (strcasecmp(key, "X-Forwarded-For") != 0 || value == NULL)
        return MHD_YES;
    bool fits = (joined->n == 0 || svc_buf_add_str(joined, SVC_LIT(",")) == RC_OK) &&
                svc_buf_add_str(joined, svc_str_c(value)) == RC_OK;
    if (!fits)
        svc_buf_clear(
            joined); /* nobody sends that much in earnest: the proxy itself is the client then */
    return fits ? MHD_YES : MHD_NO;
}

void
request_client(const request_t *self, char out[CLIENT_ADDR_TEXT_BYTES])
{
    client_addr_t client = *conn_addr(self->conn);

    if (client_trust_has(self->reactor->trust, &client)) {
        svc_buf_t joined;
        svc_buf_init(&joined, FORWARDED_MAX_BYTES);
        MHD_get_connection_values(self->mhd, MHD_HEADER_KIND, add_forwarded, &joined);
        client = client_addr_behind(self->reactor->trust, &client, svc_buf_str(&joined));
        svc_buf_fini(&joined);
    }
    client_addr_text(&client, out);
}

void
request_keep(request_t *self, void *data, void (*drop)(void *data))
{
    self->data = data;
    self->drop = drop;
}

void *
request_data(const request_t *self)
{
    return self->data;
}

void
request_waits(request_t *self)
{
    http_times_wait(&self->times);
}

uint64_t
request_began_us(const request_t *self)
{
    return self->times.began_us;
}

/* --- answering ---------------------------------------------------------------------------- */

response_context_t
request_context(const request_t *self)
{
    return (response_context_t){
        .config = self->reactor->ctx.config,
        .origin = MHD_lookup_connection_value(self->mhd, MHD_HEADER_KIND, "Origin"),
        .request_id = self->id_text,
        .language = self->language,
        .is_chunked = self->is_http11,
        .closes = self->reactor->draining || self->close_now,
    };
}

void
request_answer_with(request_t *self, int status, struct MHD_Response *response)
{
    if (self->response != NULL || self->status != 0) {
        if (response != NULL)
            MHD_destroy_response(response);
        return;
    }
    self->response = response;
    self->status = status;
    self->cut = response == NULL;
    http_metrics_answer(&self->reactor->http_metrics, self->route, &self->times);
    request_wake(self);
}

void
request_answer(request_t *self, int status, svc_str json)
{
    response_context_t context = request_context(self);

    request_answer_with(self, status, response_json(&context, json));
}

void
request_answer_nothing(request_t *self)
{
    response_context_t context = request_context(self);

    request_answer_with(self, MHD_HTTP_NO_CONTENT, response_nothing(&context));
}

void
request_answer_header(request_t *self, const char *name, const char *value)
{
    if (self->response != NULL)
        response_header(self->response, name, value);
}

void
request_answer_text(request_t *self, int status, text_id text)
{
    char json[256];
    int n = snprintf(json, sizeof json, "{\"message\":\"%s\"}",
                     text_of(self->language, text));

    request_answer(self, status, (svc_str){json, (size_t)n});
}

/* True for an EventSource (or who says that it is one) that had better come again. */
static bool
may_reconnect(const request_t *self, svc_rc rc)
{
    return self->route != NULL && self->route->takes_ticket && svc_rc_info(rc)->retry &&
           sse_framing_of(request_header(self, "Accept"), SSE_FRAMING_LINES) ==
               SSE_FRAMING_EVENTS;
}

void
request_refuse(request_t *self, svc_rc rc, svc_str told, uint64_t retry_after_s)
{
    if (rc == RC_STALE)
        rc =
            RC_UNAVAILABLE; /* another convo-svc has it by now: a word of the bus, whoever asks again finds that one */
    response_context_t context = request_context(self);
    bool is_conversation = rc == RC_NOT_FOUND && self->route != NULL &&
                           self->route->takes_id;

    if (is_conversation)
        request_refuse_input(self, rc, TEXT_NO_CONVERSATION, NULL);
    else if (may_reconnect(self, rc))
        request_answer_with(self, MHD_HTTP_OK,
                            response_error_event(&context, rc, told, retry_after_s));
    else
        request_answer_with(self, svc_rc_info(rc)->http,
                            response_error(&context, rc, told, retry_after_s));
}

void
request_refuse_input(request_t *self, svc_rc rc, text_id text, const char *arg)
{
    response_context_t context = request_context(self);

    request_answer_with(self, svc_rc_info(rc)->http,
                        response_input_error(&context, rc, text, arg));
}

/* --- asking ------------------------------------------------------------------------------- */

/* A call went wrong: that is the answer, or the end of an answer that has begun. */
static void
fail_call(request_t *self, svc_rc rc, svc_str told, uint64_t retry_after_s)
{
    if (self->status != 0)
        request_cut(self);
    else
        request_refuse(self, rc, told, retry_after_s);
}

static void
on_call_reply(void *arg, proto_kind kind, svc_rc rc, const void *rep,
              const error_rep_t *error)
{
    request_t *self = arg;
    uint64_t call = self->call;

    http_times_go_on(&self->times);
    self->call = 0;
    if (kind == PROTO_PARTIAL) /* nobody waits for what comes after it */
        svc_peers_forget(self->called, call);
    if (kind != PROTO_ERROR)
        self->on_reply(self, rep);
    else if (self->on_error == NULL || !self->on_error(self, rc))
        fail_call(self, rc, error->text, error->retry_after_s);
}

void
request_call(request_t *self, const request_call_t *call)
{
    uint64_t now = svc_loop_now_ms(self->reactor->ctx.loop);
    uint64_t timeout_ms = 1000ull * self->reactor->ctx.config->gateway_request_timeout_s;

    if (self->status == 0) /* pages of a stream have a time each */
        timeout_ms = self->deadline_ms > now ? self->deadline_ms - now : 1;
    svc_peer_request_t request = {
        .op = call->op,
        .req_schema = call->req_schema,
        .req = call->req,
        .rep_schema = call->rep_schema,
        .trace = request_trace(self),
        .timeout_ms = timeout_ms,
        .instance = call->instance,
        .on_reply = on_call_reply,
        .arg = self,
    };
    self->called = self->reactor->peers[call->peer];
    self->on_reply = call->on_reply;
    self->on_error = call->on_error;
    svc_rc rc = svc_peers_call(self->called, &request, &self->call);
    http_times_wait(&self->times);
    if (rc != RC_OK) {
        http_times_go_on(&self->times);
        self->call = 0;
        if (call->on_error == NULL || !call->on_error(self, rc))
            fail_call(self, rc, (svc_str){NULL, 0}, 0);
    }
}

/* --- headers ------------------------------------------------------------------------------ */

/* Reads ":id". An integer that no conversation can have becomes 0. */
static void
read_id(request_t *self, svc_str text)
{
    bool is_negative = text.n > 1 && text.p[0] == '-';
    uint64_t id = 0;

    for (size_t i = is_negative ? 1 : 0; i < text.n; i++) {
        if (!isdigit((unsigned char)text.p[i])) {
            self->id_is_bad = true;
            return;
        }
        if (id <= PROTO_ID_MAX)
            id = id * 10 + (uint64_t)(text.p[i] - '0');
    }
    self->id = is_negative || id > PROTO_ID_MAX ? 0 : id;
}

static void
refuse_body(request_t *self)
{
    char limit[24];

    snprintf(limit, sizeof limit, "%" PRIu64, self->body_max);
    request_refuse_input(self, RC_TOO_BIG, TEXT_BODY_TOO_BIG, limit);
}

/* Refuses a body by its Content-Length. */
static void
check_length(request_t *self)
{
    svc_str length = request_header(self, "Content-Length");
    uint64_t max = self->body_max;

    if (length.n == 0 || strtoull(length.p, NULL, 10) <= max)
        return;
    if (strtoull(length.p, NULL, 10) > max + DROP_MAX_BYTES ||
        request_header(self, "Expect").n > 0)
        self->close_now = true;
    refuse_body(self);
}

typedef struct {
    int lengths; /* how often the body's length is said; 2: or not as we know it */
    int hosts;   /* Host headers */
    int tokens;  /* Authorization headers */
} head_count_t;

static enum MHD_Result
count_head(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    head_count_t *count = arg;
    size_t n = strlen(key);

    (void)kind;
    /* The gate has not seen what came in one packet with the request before; this may be a length to others. */
    if (n > 0 && (key[n - 1] == ' ' || key[n - 1] == '\t'))
        count->lengths = 2;
    if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0)
        count->lengths++;
    else if (strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0)
        count->lengths += value != NULL && strcasecmp(value, "chunked") == 0 ? 1 : 2;
    else if (strcasecmp(key, MHD_HTTP_HEADER_HOST) == 0)
        count->hosts++;
    else if (strcasecmp(key, MHD_HTTP_HEADER_AUTHORIZATION) == 0)
        count->tokens++;
    return MHD_YES;
}

/* Refuses what a proxy before us may understand in another way than we do. Of a request that says its
 * length twice somebody's next request would begin in the middle; of one with two tokens we might serve
 * another user than the proxy has checked. */
static void
check_head(request_t *self, const char *version)
{
    head_count_t count = {0};
    int hosts_min = strcmp(version, MHD_HTTP_VERSION_1_0) == 0 ? 0 : 1;

    MHD_get_connection_values(self->mhd, MHD_HEADER_KIND, count_head, &count);
    if (count.lengths > 1) {
        self->close_now = true;
        request_refuse_input(self, RC_INVALID, TEXT_BAD_FRAMING, NULL);
    } else if (count.hosts < hosts_min || count.hosts > 1) {
        request_refuse_input(self, RC_INVALID, TEXT_NO_HOST, NULL);
    } else if (count.tokens > 1) {
        request_refuse_input(self, RC_INVALID, TEXT_TWO_TOKENS, NULL);
    }
}

static void
refuse_route(request_t *self, const route_match_t *match)
{
    response_context_t context = request_context(self);

    if (!match->path_known) {
        request_refuse_input(self, RC_NOT_FOUND, TEXT_NO_PATH, NULL);
        return;
    }
    struct MHD_Response *response = response_error(&context, RC_METHOD,
                                                   (svc_str){NULL, 0}, 0);
    if (response != NULL)
        response_header(response, "Allow", match->allow);
    request_answer_with(self, svc_rc_info(RC_METHOD)->http, response);
}

/* Decides, from the headers alone, what can be decided. */
static void
admit(request_t *self, const char *method, const char *url, const char *version)
{
    route_match_t match;
    response_context_t context = request_context(self);

    routes_match(method, svc_str_c(url), &match);
    self->route = match.route;
    check_head(self, version);
    if (match.path_known && strcmp(method, "OPTIONS") == 0) {
        request_answer_with(self, MHD_HTTP_NO_CONTENT,
                            response_options(&context, match.allow));
        return;
    }
    check_length(self);
    if (match.route == NULL) {
        refuse_route(self, &match);
        return;
    }
    if (match.route->takes_id)
        read_id(self, match.id);
    if (match.route->needs_user && self->status == 0)
        request_check_user(self);
}

/* By which ids it is found in the logs: the client's trace if it has one, and what the client calls it. */
static void
name_request(request_t *self)
{
    svc_str parent = request_header(self, "traceparent");
    svc_str id = request_header(self, "X-Request-Id");

    if (parent.n == 0 || request_repeats_header(self, "traceparent") ||
        !svc_trace_read(parent, self->trace))
        svc_ids_next(&self->reactor->traces, self->trace);
    self->has_own_id = svc_trace_is_request_id(id);
    if (self->has_own_id)
        memcpy(self->id_text, id.p, id.n);
    else
        svc_hex((const char *)self->trace, sizeof self->trace, self->id_text);
}

static request_t *
begin(reactor_t *reactor, struct MHD_Connection *mhd, const char *method,
      const char *version)
{
    request_t *self = svc_alloc(sizeof *self);
    const svc_config_t *config = reactor->ctx.config;

    self->reactor = reactor;
    self->mhd = mhd;
    self->conn =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    for (size_t i = 0; i + 1 < sizeof self->method && method[i] != '\0'; i++)
        self->method[i] = isupper((unsigned char)method[i]) ? method[i] : '?';
    self->is_http11 = strcmp(version, MHD_HTTP_VERSION_1_1) == 0;
    self->times.began_us = svc_mono_us();
    self->timeout_s = config->server_idle_timeout_s;
    if (conn_is_prepared(self->conn)) /* a stream went before */
        MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, self->timeout_s);
    self->deadline_ms = svc_loop_now_ms(reactor->ctx.loop) +
                        1000ull * config->gateway_request_timeout_s;
    name_request(self);
    self->body_max = config->server_max_body_bytes;
    svc_buf_init(&self->body, (size_t)self->body_max);
    self->language = text_language_of(request_header(self, "Accept-Language"));
    self->next = reactor->requests;
    if (self->next != NULL)
        self->next->prev = self;
    reactor->requests = self;
    reactor->n_requests++;
    svc_metrics_add(reactor->ctx.metrics, SVC_M_HTTP_REQUESTS, 1);
    return self;
}

/* --- the calls of libmicrohttpd ----------------------------------------------------------- */

static enum MHD_Result
queue_answer(request_t *self)
{
    struct MHD_Response *response = self->response;

    if (response == NULL)
        return MHD_NO;
    conn_enter(self->conn, CONN_BUSY);
    self->response = NULL;
    self->at = AT_ANSWER;
    enum MHD_Result queued = MHD_queue_response(self->mhd, (unsigned)self->status,
                                                response);
    MHD_destroy_response(response);
    return queued;
}

/* The headers are judged, or are about to be: goes on, waits, or refuses at once. */
static enum MHD_Result
after_headers(request_t *self)
{
    if (self->call != 0) {
        if (self->reactor->stopping)
            return MHD_NO;
        conn_enter(self->conn, CONN_BUSY);
        request_suspend(self);
        return MHD_YES;
    }
    if (self->status != 0 && (self->close_now || request_header(self, "Expect").n > 0))
        return queue_answer(self);
    self->at = AT_BODY;
    if (self->route != NULL && self->route->takes_body)
        http_times_wait(&self->times);
    conn_enter(self->conn, CONN_BODY);
    return MHD_YES;
}

static void
free_body(request_t *self)
{
    self->reactor->body_bytes -= self->body.n;
    svc_buf_fini(&self->body);
}

static enum MHD_Result
take_body(request_t *self, svc_str piece)
{
    uint64_t max = self->body_max;

    self->body_seen += piece.n;
    if (self->body_seen > max + DROP_MAX_BYTES)
        return MHD_NO;
    if (self->body_seen > max)
        refuse_body(self);
    if (self->status != 0 || self->route == NULL || !self->route->takes_body)
        return MHD_YES;
    if (self->reactor->body_bytes + piece.n > REACTOR_BODIES_MAX_BYTES ||
        svc_buf_add_str(&self->body, piece) != RC_OK)
        request_refuse(self, RC_BUSY, (svc_str){NULL, 0}, 0);
    else
        self->reactor->body_bytes += piece.n;
    return MHD_YES;
}

/* Everything is here: calls the handler. */
static void
run_handler(request_t *self)
{
    self->at = AT_HANDLER;
    http_times_go_on(&self->times);
    self->deadline_ms = svc_loop_now_ms(self->reactor->ctx.loop) +
                        1000ull * self->reactor->ctx.config->gateway_request_timeout_s;
    conn_enter(self->conn, CONN_BUSY);
    if (self->status != 0)
        return;
    if (self->id_is_bad)
        request_refuse_input(self, RC_INVALID, TEXT_BAD_ID, NULL);
    else
        self->route->handler(self);
    free_body(self); /* the answer may take minutes */
}

static enum MHD_Result
last_call(request_t *self)
{
    if (self->at == AT_BODY)
        run_handler(self);
    if (self->status != 0)
        return queue_answer(self);
    if (self->reactor->stopping) {
        request_refuse(self, RC_UNAVAILABLE, (svc_str){NULL, 0}, 0);
        return queue_answer(self);
    }
    request_suspend(self);
    return MHD_YES;
}

enum MHD_Result
request_on_http(void *cls, struct MHD_Connection *mhd, const char *url,
                const char *method, const char *version, const char *upload,
                size_t *upload_n, void **request_p)
{
    request_t *self = *request_p;

    if (self == NULL) {
        self = begin(cls, mhd, method, version);
        *request_p = self;
        admit(self, method, url, version);
        return after_headers(self);
    }
    request_ask_first(self, false);
    if (self->gone || self->at == AT_ANSWER)
        return MHD_NO;
    if (self->at == AT_HEADERS)
        return after_headers(self);
    if (*upload_n > 0) {
        svc_str piece = {upload, *upload_n};
        *upload_n = 0;
        return take_body(self, piece);
    }
    return last_call(self);
}

static void
log_request(const request_t *self)
{
    char op[OP_TEXT_BYTES];
    char client[CLIENT_ADDR_TEXT_BYTES];
    const int code = self->status != 0 ? self->status : 499;
    const char status[] = {(char)('0' + code / 100), (char)('0' + code / 10 % 10),
                           (char)('0' + code % 10), '\0'};

    if (!svc_log_writes(self->reactor->ctx.log, SVC_LOG_INFO))
        return; /* before a line is put together for nobody */
    /* printf was half of what a line costs */
    char *end = stpcpy(stpcpy(op, self->method), " ");
    end[0] = '\0';
    strncat(end, self->route != NULL ? self->route->path : "(no route)",
            sizeof op - (size_t)(end - op) - 1);
    request_client(self, client);
    svc_log_request(
        self->reactor->ctx.log,
        &(svc_log_request_t){
            .trace = request_trace(self),
            .op = op,
            .status = status,
            .us = svc_mono_us() - self->times.began_us,
            .peer = client,
            .request_id = {self->id_text, self->has_own_id ? strlen(self->id_text) : 0},
        });
}

void
request_on_completed(void *cls, struct MHD_Connection *mhd, void **request_p,
                     enum MHD_RequestTerminationCode why)
{
    reactor_t *reactor = cls;
    request_t *self = *request_p;

    (void)mhd;
    (void)why;
    if (self == NULL)
        return;
    *request_p = NULL;
    if (self->drop != NULL)
        self->drop(self->data);
    if (self->call != 0)
        svc_peers_forget(self->called, self->call);
    conn_unwatch(self->conn);
    log_request(self);
    http_metrics_end(&reactor->http_metrics, self->route, self->status);
    conn_enter(self->conn, CONN_IDLE);
    *(self->prev != NULL ? &self->prev->next : &reactor->requests) = self->next;
    if (self->next != NULL)
        self->next->prev = self->prev;
    reactor->n_requests--;
    SVC_ASSERT(!self->woken); /* only suspended ones are, and those do not end */
    free_body(self);
    stream_body_fini(&self->stream);
    if (self->response != NULL)
        MHD_destroy_response(self->response);
    free(self);
}
