/* bus_call.c - one request on the bus from the command line: for operators and story tests.
 *
 *     bus_call ENDPOINT OP ['{"key":value,...}'] [--timeout-ms N] [--keys DIR [--as SERVICE] [--to SERVICE]]
 *
 * --keys: the bus has keys, and DIR those of "tool" (or of --as) and the public ones. The operation says which service is
 * called; svc.… are answered by all, so --to names it.
 * Says hello as the service "tool", sends the request and prints each reply as one JSON line:
 *     {"kind":"partial|final|error","body":{...}}
 * Texts and numbers are JSON's own, enumerations their names, lists arrays of objects; fields of
 * raw bytes are "hex:" and hex digits (what is UTF-8 may be given and is printed as plain text).
 * Exit code: 0 FINAL, 1 ERROR or no answer in time, 2 it could not be asked. Operations and
 * fields come from the tables of proto/. With id 0 (llm.ack) nothing is ever answered: exit 0. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/utf8.h"
#include "svc/svc_curve.h"
#include "svc/svc_msg.h"
#include "svc/svc_secret.h"
#include "svc/svc_text.h"
#include "svc/svc_time.h"
#include "tests/support/operations.h"

#define DEFAULT_TIMEOUT_MS 10000
#define HELLO_ID           1
#define CALL_ID            2

/* How to call. */
typedef struct {
    uint64_t timeout_ms;
    const char *keys; /* directory; NULL: the bus is plain */
    const char *as;   /* who calls */
    const char *to;   /* who is called; NULL: the operation says it */
} manner_t;

typedef struct {
    void *socket;         /* DEALER */
    uint64_t deadline_ms; /* monotonic */
    proto_arena_t *arena; /* of the reply in hand */
} caller_t;

static void
fail(const char *what, const char *detail)
{
    fprintf(stderr, "bus_call: %s%s\n", what, detail);
    exit(2);
}

/* --- JSON to struct: the memory lives as long as the process ------------------------------------------ */

static void from_json(const proto_schema_t *schema, json_object *json, void *out);

static svc_str
str_from_json(const proto_field_t *field, json_object *value)
{
    const svc_str text = {json_object_get_string(value),
                          (size_t)json_object_get_string_len(value)};
    if (field->type != PROTO_BIN || text.n < 4 || memcmp(text.p, "hex:", 4) != 0)
        return text;
    const size_t n = (text.n - 4) / 2;
    char *bytes = svc_alloc(n + 1);
    if (!svc_unhex((svc_str){text.p + 4, text.n - 4}, bytes, n))
        fail("not hex digits: ", text.p);
    json_object_set_string_len(value, bytes,
                               (int)n); /* which owns it, as all other texts */
    free(bytes);
    return (svc_str){json_object_get_string(value), n};
}

static int
enum_from_json(const proto_field_t *field, json_object *value)
{
    const char *const *names = field->sub;
    for (int i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], json_object_get_string(value)) == 0)
            return i;
    fail("no such name: ", json_object_get_string(value));
    return -1;
}

static proto_list_t
list_from_json(const proto_field_t *field, json_object *value)
{
    const proto_schema_t *schema = field->sub;
    if (!json_object_is_type(value, json_type_array))
        fail("not a list: ", field->key);
    const size_t n = json_object_array_length(value);
    char *items = svc_alloc(n * schema->size + 1);
    for (size_t i = 0; i < n; i++)
        from_json(schema, json_object_array_get_idx(value, i), items + i * schema->size);
    return (proto_list_t){items, n};
}

static void
field_from_json(const proto_field_t *field, json_object *value, void *at)
{
    switch (field->type) {
    case PROTO_BOOL: *(bool *)at = json_object_get_boolean(value); break;
    case PROTO_U64: *(uint64_t *)at = json_object_get_uint64(value); break;
    case PROTO_STR:
    case PROTO_BIN: *(svc_str *)at = str_from_json(field, value); break;
    case PROTO_ENUM: *(int *)at = enum_from_json(field, value); break;
    case PROTO_LIST: *(proto_list_t *)at = list_from_json(field, value); break;
    }
}

static void
from_json(const proto_schema_t *schema, json_object *json, void *out)
{
    if (!json_object_is_type(json, json_type_object))
        fail("not an object: ", schema->name);
    json_object_object_foreach(json, key, value)
    {
        size_t i = 0;
        while (i < schema->n_fields && strcmp(schema->fields[i].key, key) != 0)
            i++;
        if (i == schema->n_fields)
            fail("no such key: ", key);
        field_from_json(&schema->fields[i], value, (char *)out + schema->fields[i].where);
    }
}

/* --- struct to JSON ----------------------------------------------------------------------------------- */

static json_object *to_json(const proto_schema_t *schema, const void *in);

static json_object *
str_to_json(svc_str s)
{
    if (s.n == 0)
        return json_object_new_string("");
    if (svc_utf8_valid(s.p, s.n) == s.n)
        return json_object_new_string_len(s.p, (int)s.n);
    char *text = svc_alloc(2 * s.n + 5);
    memcpy(text, "hex:", 4);
    svc_hex(s.p, s.n, text + 4);
    json_object *json = json_object_new_string(text);
    free(text);
    return json;
}

static json_object *
list_to_json(const proto_field_t *field, const proto_list_t *list)
{
    const proto_schema_t *schema = field->sub;
    json_object *json = json_object_new_array();
    for (size_t i = 0; i < list->n; i++)
        json_object_array_add(json,
                              to_json(schema, (char *)list->items + i * schema->size));
    return json;
}

static json_object *
field_to_json(const proto_field_t *field, const void *at)
{
    switch (field->type) {
    case PROTO_BOOL: return json_object_new_boolean(*(const bool *)at);
    case PROTO_U64: return json_object_new_uint64(*(const uint64_t *)at);
    case PROTO_STR:
    case PROTO_BIN: return str_to_json(*(const svc_str *)at);
    case PROTO_ENUM:
        return json_object_new_string(
            ((const char *const *)field->sub)[*(const int *)at]);
    case PROTO_LIST: return list_to_json(field, at);
    }
    return NULL;
}

static json_object *
to_json(const proto_schema_t *schema, const void *in)
{
    json_object *json = json_object_new_object();
    for (size_t i = 0; i < schema->n_fields; i++) {
        const proto_field_t *field = &schema->fields[i];
        json_object_object_add(json, field->key,
                               field_to_json(field, (const char *)in + field->where));
    }
    return json;
}

static void
print_reply(const caller_t *self, const proto_schema_t *schema, proto_kind kind,
            svc_str body)
{
    static const char *const kinds[] = {"request", "partial", "final", "error"};
    const proto_schema_t *of = kind == PROTO_ERROR ? &error_rep_schema : schema;
    void *rep = svc_alloc(of->size);
    if (proto_decode(of, body, self->arena, rep) != RC_OK)
        fail("the reply cannot be decoded as ", of->name);
    json_object *json = json_object_new_object();
    json_object_object_add(json, "kind", json_object_new_string(kinds[kind]));
    json_object_object_add(json, "body", to_json(of, rep));
    puts(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN |
                                                  JSON_C_TO_STRING_NOSLASHESCAPE));
    fflush(stdout);
    json_object_put(json);
    free(rep);
}

/* --- the wire ----------------------------------------------------------------------------------------- */

static void
send_request(const caller_t *self, uint64_t id, const operation_t *row, const void *req)
{
    uint8_t trace[PROTO_TRACE_BYTES];
    const uint64_t now = svc_mono_ms();
    const uint64_t left = self->deadline_ms > now ? self->deadline_ms - now : 1;
    svc_random(trace, sizeof(trace));
    const proto_envelope_t envelope = {
        .version = PROTO_VERSION,
        .kind = PROTO_REQUEST,
        .id = id,
        .op = svc_str_c(row->op),
        .trace = {(const char *)trace, sizeof(trace)},
        .expires_ms = svc_unix_ms() + left,
    };
    svc_buf_t message;
    svc_buf_init(&message, PROTO_MESSAGE_MAX_BYTES);
    if (proto_envelope_encode(&envelope, &message) != RC_OK ||
        proto_encode(row->req, req, &message) != RC_OK)
        fail("the request is out of its bounds: ", row->op);
    if (!svc_msg_send_bytes(self->socket, svc_buf_str(&message), 0))
        fail("nobody answers there: ", zmq_strerror(errno));
    svc_buf_fini(&message);
}

/* Prints the replies to `id` if `is_printed`; gives the kind of the last one, PROTO_ERROR when none comes in time. */
static proto_kind
await_end(const caller_t *self, uint64_t id, const proto_schema_t *schema,
          bool is_printed)
{
    uint64_t kind = PROTO_REQUEST;
    while (kind != PROTO_FINAL && kind != PROTO_ERROR) {
        const uint64_t now = svc_mono_ms();
        zmq_pollitem_t item = {.socket = self->socket, .events = ZMQ_POLLIN};
        if (now >= self->deadline_ms ||
            zmq_poll(&item, 1, (long)(self->deadline_ms - now)) <= 0) {
            fprintf(stderr, "bus_call: no answer in time\n");
            return PROTO_ERROR;
        }
        zmq_msg_t message;
        proto_envelope_t envelope;
        svc_str body;
        zmq_msg_init(&message);
        if (!svc_msg_recv(self->socket, &message, 0) ||
            proto_envelope_decode(svc_msg_str(&message), &envelope, &body) != RC_OK)
            fail("the reply is not one", "");
        if (envelope.id == id) {
            kind = envelope.kind;
            if (is_printed || kind == PROTO_ERROR)
                print_reply(self, schema, (proto_kind)kind, body);
        }
        zmq_msg_close(&message);
    }
    return (proto_kind)kind;
}

static const operation_t *
find_row(const char *op)
{
    for (size_t i = 0; i < SVC_COUNT(all_operations); i++)
        if (strcmp(all_operations[i].op, op) == 0)
            return &all_operations[i];
    fail("no such operation: ", op);
    return NULL;
}

/* Ends the connection only after what was sent has had its time to leave: nothing else tells. */
static void
flush_and_close(caller_t *self, void *zmq)
{
    const int linger = 1000;
    zmq_setsockopt(self->socket, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_close(self->socket);
    zmq_ctx_term(zmq);
    proto_arena_destroy(&self->arena);
}

/* The service that has an operation. */
static const char *
service_of(const char *op)
{
    static const struct {
        const char *prefix, *service;
    } rows[] = {{"auth.", "auth-svc"}, {"convo.", "convo-svc"}, {"llm.", "llm-svc"}};
    for (size_t i = 0; i < SVC_COUNT(rows); i++)
        if (strncmp(op, rows[i].prefix, strlen(rows[i].prefix)) == 0)
            return rows[i].service;
    fail("--to SERVICE is needed: every service answers ", op);
    return NULL;
}

static svc_curve_t *
lock(void *zmq, void *socket, const manner_t *manner, const char *op)
{
    const char *to = manner->to != NULL || manner->keys == NULL ? manner->to
                                                                : service_of(op);
    char *error = NULL;
    svc_keys_t *keys;
    svc_curve_t *curve;
    if (manner->keys == NULL)
        return NULL;
    keys = svc_keys_read(manner->keys, manner->as, &error);
    if (keys == NULL)
        fail(error, "");
    if (svc_keys_of(keys, to) == NULL)
        fail("there is no service ", to);
    curve = svc_curve_new(zmq, &keys, NULL);
    svc_curve_call(curve, socket, to, 0);
    return curve;
}

static int
run(const char *endpoint, const operation_t *row, const void *req, const manner_t *manner)
{
    const hello_t hello = {.service = svc_str_c(manner->as),
                           .instance = svc_random_u64(),
                           .version = SVC_LIT("bus_call")};
    void *zmq = zmq_ctx_new();
    caller_t self = {
        .socket = svc_msg_socket(zmq, ZMQ_DEALER, 0),
        .deadline_ms = svc_mono_ms() + manner->timeout_ms,
        .arena = proto_arena_new(),
    };
    svc_curve_t *curve = lock(zmq, self.socket, manner, row->op);
    if (zmq_connect(self.socket, endpoint) != 0)
        fail("not an endpoint: ", endpoint);
    send_request(&self, HELLO_ID, find_row(OP_SVC_HELLO), &hello);
    proto_kind kind = await_end(&self, HELLO_ID, &hello_schema, false);
    if (kind == PROTO_FINAL) {
        send_request(&self, row->rep == NULL ? 0 : CALL_ID, row, req);
        if (row->rep != NULL)
            kind = await_end(&self, CALL_ID, row->rep, true);
    }
    flush_and_close(&self, zmq);
    svc_curve_destroy(&curve);
    return kind == PROTO_FINAL ? 0 : 1;
}

int
main(int argc, char **argv)
{
    const char *words[3] = {NULL, NULL, "{}"};
    size_t n = 0;
    manner_t manner = {.timeout_ms = DEFAULT_TIMEOUT_MS, .as = "tool"};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--timeout-ms") == 0 && i + 1 < argc)
            manner.timeout_ms = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--keys") == 0 && i + 1 < argc)
            manner.keys = argv[++i];
        else if (strcmp(argv[i], "--as") == 0 && i + 1 < argc)
            manner.as = argv[++i];
        else if (strcmp(argv[i], "--to") == 0 && i + 1 < argc)
            manner.to = argv[++i];
        else if (n < SVC_COUNT(words))
            words[n++] = argv[i];
        else
            fail("too many arguments: ", argv[i]);
    }
    if (n < 2)
        fail("usage: bus_call ENDPOINT OP ['{\"key\":value,...}'] [--timeout-ms N] "
             "[--keys DIR [--as SERVICE] [--to SERVICE]]",
             "");
    const operation_t *row = find_row(words[1]);
    json_object *json = json_tokener_parse(words[2]);
    void *req = svc_alloc(row->req->size);
    from_json(row->req, json, req);
    const int code = run(words[0], row, req, &manner);
    json_object_put(json);
    free(req);
    return code;
}
