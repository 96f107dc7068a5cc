/* proto_codec.c - reads and writes every body from its table of fields.
 *
 * One walk over the fields for each direction; both judge a value by the same function, so what
 * we send we could read. Decoding fills a copy on the stack and hands it out only when all of it
 * is right. Items of lists are the only thing that needs memory: it comes from the arena, is
 * asked for only after the declared count has met its bound, and is bounded by that.
 * Encoding packs with msgpack-c straight into the buffer and takes everything back on an error. */
#include "cursor.h"
#include "proto.h"
#include "utf8.h"

#include <msgpack.h>
#include <stdalign.h>
#include <stdlib.h>

#define STRUCT_MAX_BYTES 512 /* largest message struct; status_rep_t has 136 */
#define FIELDS_MAX       64  /* bits of the set of keys already seen */

/* --- arena: blocks in a chain, all of them freed when the next decode begins --------------- */

typedef struct block {
    struct block *next;                /* older one, NULL at the end */
    alignas(max_align_t) char bytes[]; /* zeroed at first */
} block_t;

struct proto_arena {
    block_t *blocks; /* newest first, owned */
};

proto_arena_t *
proto_arena_new(void)
{
    return svc_alloc(sizeof(proto_arena_t));
}

static void
arena_empty(proto_arena_t *self)
{
    while (self->blocks != NULL) {
        block_t *next = self->blocks->next;

        free(self->blocks);
        self->blocks = next;
    }
}

void
proto_arena_destroy(proto_arena_t **self_p)
{
    if (*self_p == NULL)
        return;
    arena_empty(*self_p);
    free(*self_p);
    *self_p = NULL;
}

/* Zeroed memory that lives until the next decode; NULL when there is none. */
static void *
arena_take(proto_arena_t *self, size_t n)
{
    block_t *block = svc_try_alloc(sizeof(block_t) + n);

    if (block == NULL)
        return NULL;
    block->next = self->blocks;
    self->blocks = block;
    return block->bytes;
}

/* --- what both directions agree on ---------------------------------------------------------- */

/* Judges a value by its field: bounds, UTF-8, a name that exists. */
static svc_rc
check_value(const proto_field_t *field, const void *value)
{
    const svc_str *text = value;
    uint64_t n;

    switch (field->type) {
    case PROTO_BOOL: return RC_OK;
    case PROTO_U64:
        n = *(const uint64_t *)value;
        return n < field->min || n > field->max ? RC_INVALID : RC_OK;
    case PROTO_ENUM: {
        const char *const *names = field->sub;
        int which = *(const int *)value;

        for (int i = 0; names[i] != NULL; i++)
            if (i == which)
                return RC_OK;
        return RC_INVALID;
    }
    case PROTO_LIST:
        n = ((const proto_list_t *)value)->n;
        return n < field->min ? RC_INVALID : n > field->max ? RC_TOO_BIG : RC_OK;
    case PROTO_STR:
    case PROTO_BIN:
        if (text->n > field->max)
            return RC_TOO_BIG;
        if (text->n < field->min)
            return RC_INVALID;
        if (field->type == PROTO_STR && svc_utf8_valid(text->p, text->n) != text->n)
            return RC_INVALID;
        return RC_OK;
    }
    return RC_INVALID;
}

/* True for the value that an absent field has. */
static bool
is_zero(proto_type type, const void *value)
{
    switch (type) {
    case PROTO_BOOL: return !*(const bool *)value;
    case PROTO_U64: return *(const uint64_t *)value == 0;
    case PROTO_ENUM: return *(const int *)value == 0;
    case PROTO_LIST: return ((const proto_list_t *)value)->n == 0;
    case PROTO_STR:
    case PROTO_BIN: return ((const svc_str *)value)->n == 0;
    }
    return false;
}

/* An optional field may always be zero, whatever its minimum. */
static svc_rc
check_field(const proto_field_t *field, const void *value)
{
    if (!field->required && is_zero(field->type, value))
        return RC_OK;
    return check_value(field, value);
}

/* --- decoding --------------------------------------------------------------------------- */

static svc_rc decode_map(const proto_schema_t *schema, proto_cursor_t *cursor,
                         proto_arena_t *arena, unsigned depth, void *out);

static svc_rc
decode_enum(const proto_field_t *field, proto_cursor_t *cursor, int *out)
{
    const char *const *names = field->sub;
    svc_str name;

    if (!proto_cursor_str(cursor, &name))
        return RC_INVALID;
    for (int i = 0; names[i] != NULL; i++)
        if (svc_str_eq(name, svc_str_c(names[i]))) {
            *out = i;
            return RC_OK;
        }
    return RC_INVALID;
}

static svc_rc
decode_list(const proto_field_t *field, proto_cursor_t *cursor, proto_arena_t *arena,
            unsigned depth, proto_list_t *out)
{
    const proto_schema_t *item = field->sub;
    svc_rc rc = RC_OK;
    size_t n;

    if (depth == 0 || !proto_cursor_array(cursor, &n))
        return RC_INVALID;
    if (n > field->max)
        return RC_TOO_BIG;
    if (n == 0)
        return RC_OK;
    out->items = arena_take(arena, n * item->size);
    if (out->items == NULL)
        return RC_TOO_BIG;
    for (; out->n < n && rc == RC_OK; out->n++)
        rc = decode_map(item, cursor, arena, depth - 1,
                        (char *)out->items + out->n * item->size);
    return rc;
}

static svc_rc
decode_value(const proto_field_t *field, proto_cursor_t *cursor, proto_arena_t *arena,
             unsigned depth, void *out)
{
    bool read = false;
    svc_rc rc;

    switch (field->type) {
    case PROTO_BOOL: read = proto_cursor_bool(cursor, out); break;
    case PROTO_U64: read = proto_cursor_u64(cursor, out); break;
    case PROTO_STR: read = proto_cursor_str(cursor, out); break;
    case PROTO_BIN: read = proto_cursor_bin(cursor, out); break;
    case PROTO_ENUM: return decode_enum(field, cursor, out);
    case PROTO_LIST:
        rc = decode_list(field, cursor, arena, depth, out);
        return rc == RC_OK ? check_field(field, out) : rc;
    }
    return read ? check_field(field, out) : RC_INVALID;
}

/* The row of a key, n_fields when there is none. `guess` is the row after the one found before: writers go in
 * table order, so it mostly hits. */
static size_t
find_field(const proto_schema_t *schema, svc_str key, size_t guess)
{
    if (guess < schema->n_fields && svc_str_eq(key, svc_str_c(schema->fields[guess].key)))
        return guess;
    for (size_t i = 0; i < schema->n_fields; i++)
        if (svc_str_eq(key, svc_str_c(schema->fields[i].key)))
            return i;
    return schema->n_fields;
}

/* Decodes one map into `out`, which is zeroed. `depth`: levels allowed, this one included. */
static svc_rc
decode_map(const proto_schema_t *schema, proto_cursor_t *cursor, proto_arena_t *arena,
           unsigned depth, void *out)
{
    uint64_t seen = 0; /* bit i: the key of row i was there */
    size_t n, row = SIZE_MAX;

    if (depth == 0 || !proto_cursor_map(cursor, &n))
        return RC_INVALID;
    while (n-- > 0) {
        const proto_field_t *field;
        svc_str key;
        svc_rc rc;

        if (!proto_cursor_str(cursor, &key))
            return RC_INVALID;
        row = find_field(schema, key, row + 1);
        if (row == schema->n_fields) {
            if (!proto_cursor_skip(cursor, depth - 1))
                return RC_INVALID;
            continue;
        }
        if ((seen >> row & 1) != 0)
            return RC_INVALID;
        seen |= (uint64_t)1 << row;
        field = &schema->fields[row];
        rc = decode_value(field, cursor, arena, depth - 1, (char *)out + field->where);
        if (rc != RC_OK)
            return rc;
    }
    for (size_t i = 0; i < schema->n_fields; i++)
        if (schema->fields[i].required && (seen >> i & 1) == 0)
            return RC_INVALID;
    return RC_OK;
}

svc_rc
proto_decode(const proto_schema_t *schema, svc_str bytes, proto_arena_t *arena, void *out)
{
    alignas(max_align_t) char msg[STRUCT_MAX_BYTES];
    proto_cursor_t cursor;
    svc_rc rc;

    SVC_ASSERT(schema->size <= sizeof(msg) && schema->n_fields <= FIELDS_MAX);
    arena_empty(arena);
    if (bytes.n > PROTO_MESSAGE_MAX_BYTES)
        return RC_TOO_BIG;
    memset(msg, 0, schema->size);
    cursor = proto_cursor(bytes);
    rc = decode_map(schema, &cursor, arena, PROTO_DEPTH_MAX, msg);
    if (rc == RC_OK && !proto_cursor_is_at_end(&cursor))
        rc = RC_INVALID;
    if (rc == RC_OK)
        memcpy(out, msg, schema->size);
    return rc;
}

/* --- encoding --------------------------------------------------------------------------- */

/* msgpack-c's way out: everything it packs comes through here. */
static int
write_buf(void *buf, const char *bytes, size_t n)
{
    return svc_buf_add(buf, bytes, n) == RC_OK ? 0 : -1;
}

static svc_rc encode_map(const proto_schema_t *schema, const void *msg,
                         msgpack_packer *pk);

static svc_rc
encode_list(const proto_field_t *field, const proto_list_t *list, msgpack_packer *pk)
{
    const proto_schema_t *item = field->sub;
    svc_rc rc = RC_OK;

    if (msgpack_pack_array(pk, list->n) != 0)
        return RC_TOO_BIG;
    for (size_t i = 0; i < list->n && rc == RC_OK; i++)
        rc = encode_map(item, (const char *)list->items + i * item->size, pk);
    return rc;
}

static svc_rc
encode_value(const proto_field_t *field, const void *value, msgpack_packer *pk)
{
    const svc_str *text = value;
    svc_str name;
    int bad = -1;

    switch (field->type) {
    case PROTO_BOOL:
        bad = *(const bool *)value ? msgpack_pack_true(pk) : msgpack_pack_false(pk);
        break;
    case PROTO_U64: bad = msgpack_pack_uint64(pk, *(const uint64_t *)value); break;
    case PROTO_STR: bad = msgpack_pack_str_with_body(pk, text->p, text->n); break;
    case PROTO_BIN: bad = msgpack_pack_bin_with_body(pk, text->p, text->n); break;
    case PROTO_ENUM:
        name = svc_str_c(((const char *const *)field->sub)[*(const int *)value]);
        bad = msgpack_pack_str_with_body(pk, name.p, name.n);
        break;
    case PROTO_LIST: return encode_list(field, value, pk);
    }
    return bad == 0 ? RC_OK : RC_TOO_BIG;
}

/* True when the field goes on the wire. */
static bool
is_written(const proto_field_t *field, const void *msg)
{
    return field->required || !is_zero(field->type, (const char *)msg + field->where);
}

static svc_rc
encode_map(const proto_schema_t *schema, const void *msg, msgpack_packer *pk)
{
    size_t n = 0;

    for (size_t i = 0; i < schema->n_fields; i++)
        n += is_written(&schema->fields[i], msg);
    if (msgpack_pack_map(pk, n) != 0)
        return RC_TOO_BIG;
    for (size_t i = 0; i < schema->n_fields; i++) {
        const proto_field_t *field = &schema->fields[i];
        const void *value = (const char *)msg + field->where;
        svc_rc rc;

        if (!is_written(field, msg))
            continue;
        rc = check_field(field, value);
        if (rc != RC_OK)
            return rc;
        if (msgpack_pack_str_with_body(pk, field->key, strlen(field->key)) != 0)
            return RC_TOO_BIG;
        rc = encode_value(field, value, pk);
        if (rc != RC_OK)
            return rc;
    }
    return RC_OK;
}

svc_rc
proto_encode(const proto_schema_t *schema, const void *msg, svc_buf_t *out)
{
    const size_t before = out->n;
    msgpack_packer pk;
    svc_rc rc;

    msgpack_packer_init(&pk, out, write_buf);
    rc = encode_map(schema, msg, &pk);
    if (rc == RC_OK && out->n - before > PROTO_MESSAGE_MAX_BYTES)
        rc = RC_TOO_BIG;
    if (rc != RC_OK)
        out->n = before;
    return rc;
}
