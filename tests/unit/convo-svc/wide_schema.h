/* wide_schema.h - schemas without bounds, for sending what ours refuse to encode.
 *
 * A copy of a schema whose fields take any length and number, and may be left out, so that a test
 * can play a sender that does not keep to the bounds; and the values that fields may just have. */
#ifndef TESTS_UNIT_CONVO_SVC_WIDE_SCHEMA_H
#define TESTS_UNIT_CONVO_SVC_WIDE_SCHEMA_H

#include "proto/proto.h"

#define WIDE_FIELDS_MAX 32

typedef struct {
    proto_schema_t schema; /* first: what is encoded with */
    proto_field_t fields[WIDE_FIELDS_MAX];
} wide_schema_t;

/* Fills `self`, which must not be moved afterwards. `without`: key of a field that is left out; NULL: none. */
static inline const proto_schema_t *
wide_schema(wide_schema_t *self, const proto_schema_t *of, const char *without)
{
    size_t n = 0;

    SVC_ASSERT(of->n_fields <= WIDE_FIELDS_MAX);
    for (size_t i = 0; i < of->n_fields; i++) {
        if (without != NULL && strcmp(of->fields[i].key, without) == 0)
            continue;
        self->fields[n] = of->fields[i];
        if (of->fields[i].type != PROTO_ENUM) {
            self->fields[n].min = 0;
            self->fields[n].max = UINT64_MAX;
        }
        n++;
    }
    self->schema = (proto_schema_t){of->name, self->fields, n, of->size};
    return &self->schema;
}

/* Puts `value` (a length, a number, a truth, a state) into a field of a struct; texts are made of `bytes`. */
static inline void
wide_put(void *msg, const proto_field_t *field, uint64_t value, char *bytes)
{
    char *at = (char *)msg + field->where;

    switch (field->type) {
    case PROTO_BOOL: *(bool *)at = value != 0; break;
    case PROTO_U64: *(uint64_t *)at = value; break;
    case PROTO_STR:
    case PROTO_BIN: *(svc_str *)at = (svc_str){bytes, (size_t)value}; break;
    case PROTO_ENUM: *(int *)at = (int)value; break;
    case PROTO_LIST: SVC_ASSERT(false); break;
    }
}

/* Has the field a bound that a value can be past? */
static inline bool
wide_is_bounded(const proto_field_t *field)
{
    return field->type != PROTO_BOOL && field->type != PROTO_ENUM &&
           field->max != UINT64_MAX;
}

#endif
