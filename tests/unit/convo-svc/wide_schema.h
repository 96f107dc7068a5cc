/* wide_schema.h - schemas without bounds, for sending what ours refuse to encode.
 *
 * A copy of a schema whose fields take any length and number, and may all be left out, so that a
 * test can play a sender that does not keep to the bounds. */
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

#endif
