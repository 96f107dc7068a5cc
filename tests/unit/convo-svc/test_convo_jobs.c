/* test_convo_jobs.c - what crosses to the workers: every field comes back, every bound holds in both directions.
 *
 * The tables of fields are walked, so that a new field is tested by standing there. */
#include "convo_fixture.h"
#include "wide_schema.h"

#define MSG_MAX_BYTES 512

static const proto_schema_t *const schemas[] = {
    &answer_row_schema,  &answer_step_schema, &restart_job_schema, &head_job_schema,
    &history_job_schema, &prompt_job_schema,  &list_job_schema,    &list_head_job_schema,
};

typedef struct {
    svc_buf_t out;        /* encoded */
    proto_arena_t *arena; /* of decoding */
    char *bytes;          /* longer than any bound */
    size_t n;             /* of them */
    union {
        char room[MSG_MAX_BYTES]; /* any of the structs */
        uint64_t align;
    } in, got;
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));

    self->n = PROTO_PIECE_MAX_BYTES + 1;
    self->bytes = svc_alloc(self->n);
    memset(self->bytes, 'x', self->n);
    self->arena = proto_arena_new();
    svc_buf_init(&self->out, PROTO_MESSAGE_MAX_BYTES);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_buf_fini(&self->out);
    proto_arena_destroy(&self->arena);
    free(self->bytes);
    free(self);
    return 0;
}

static void
put(test_t *self, const proto_field_t *field, uint64_t value)
{
    wide_put(self->in.room, field, value, self->bytes);
}

/* The largest value that a field may have. */
static uint64_t
largest(const proto_field_t *field)
{
    switch (field->type) {
    case PROTO_BOOL: return 1;
    case PROTO_ENUM: return ANSWER_INTERRUPTED;
    default: return field->max;
    }
}

static void
fill(test_t *self, const proto_schema_t *schema)
{
    assert_true(schema->size <= MSG_MAX_BYTES);
    memset(&self->in, 0, sizeof(self->in));
    for (size_t i = 0; i < schema->n_fields; i++)
        put(self, &schema->fields[i], largest(&schema->fields[i]));
}

static svc_rc
encode(test_t *self, const proto_schema_t *schema)
{
    svc_buf_clear(&self->out);
    return proto_encode(schema, &self->in, &self->out);
}

static svc_rc
decode(test_t *self, const proto_schema_t *schema)
{
    return proto_decode(schema, svc_buf_str(&self->out), self->arena, &self->got);
}

static void
assert_same(const test_t *self, const proto_field_t *field)
{
    const void *a = self->in.room + field->where, *b = self->got.room + field->where;

    switch (field->type) {
    case PROTO_BOOL: assert_int_equal(*(const bool *)a, *(const bool *)b); break;
    case PROTO_U64: assert_int_equal(*(const uint64_t *)a, *(const uint64_t *)b); break;
    case PROTO_ENUM: assert_int_equal(*(const int *)a, *(const int *)b); break;
    default: assert_true(svc_str_eq(*(const svc_str *)a, *(const svc_str *)b)); break;
    }
}

/* --- fields ----------------------------------------------------------------------------------- */

static void
every_field_comes_back_at_its_largest(void **state)
{
    test_t *self = *state;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++) {
        fill(self, schemas[s]);
        assert_int_equal(encode(self, schemas[s]), RC_OK);
        assert_int_equal(decode(self, schemas[s]), RC_OK);
        for (size_t i = 0; i < schemas[s]->n_fields; i++)
            assert_same(self, &schemas[s]->fields[i]);
    }
}

static void
what_may_be_left_out_comes_back_as_zero(void **state)
{
    test_t *self = *state;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++) {
        fill(self, schemas[s]);
        for (size_t i = 0; i < schemas[s]->n_fields; i++)
            if (!schemas[s]->fields[i].required)
                put(self, &schemas[s]->fields[i], 0);
        assert_int_equal(encode(self, schemas[s]), RC_OK);
        memset(&self->got, 0xff, sizeof(self->got));
        assert_int_equal(decode(self, schemas[s]), RC_OK);
        for (size_t i = 0; i < schemas[s]->n_fields; i++)
            assert_same(self, &schemas[s]->fields[i]);
    }
}

static void
every_state_and_every_prefix_of_a_fence_comes_back(void **state)
{
    test_t *self = *state;
    answer_row_t *row = (answer_row_t *)self->in.room;
    const answer_row_t *got = (const answer_row_t *)self->got.room;

    for (int s = ANSWER_WAITING; s <= ANSWER_INTERRUPTED; s++) {
        fill(self, &answer_row_schema);
        row->state = s;
        row->fence = UINT64_MAX >> s;
        assert_int_equal(encode(self, &answer_row_schema), RC_OK);
        assert_int_equal(decode(self, &answer_row_schema), RC_OK);
        assert_int_equal(got->state, s);
        assert_int_equal(got->fence, row->fence);
    }
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void
one_past_each_bound_is_neither_written_nor_read(void **state)
{
    test_t *self = *state;
    wide_schema_t wide;
    size_t tried = 0;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++)
        for (size_t i = 0; i < schemas[s]->n_fields; i++) {
            const proto_field_t *field = &schemas[s]->fields[i];

            if (!wide_is_bounded(field))
                continue;
            fill(self, schemas[s]);
            put(self, field, field->max + 1);
            assert_int_not_equal(encode(self, schemas[s]), RC_OK);
            assert_int_equal(self->out.n, 0);
            assert_int_equal(encode(self, wide_schema(&wide, schemas[s], NULL)), RC_OK);
            assert_int_not_equal(decode(self, schemas[s]), RC_OK);
            tried++;
        }
    assert_true(tried > 20);
}

static void
the_bounds_are_those_that_the_workers_rely_on(void **state)
{
    static const struct {
        const proto_schema_t *schema;
        const char *key;
        uint64_t max;
    } bounds[] = {
        {&answer_row_schema, "length", PROTO_ANSWER_MAX_BYTES},
        {&answer_row_schema, "body_hash", 32},
        {&answer_row_schema, "text", PROTO_ERROR_TEXT_MAX_BYTES},
        {&answer_step_schema, "stream", PROTO_STREAM_BYTES},
        {&answer_step_schema, "bytes", PROTO_PIECE_MAX_BYTES},
        {&answer_step_schema, "finish", PROTO_WORD_MAX_BYTES},
        {&history_job_schema, "json", PROTO_JSON_PAGE_MAX_BYTES},
    };

    (void)state;
    for (size_t b = 0; b < SVC_COUNT(bounds); b++) {
        uint64_t max = 0;

        for (size_t i = 0; i < bounds[b].schema->n_fields; i++)
            if (strcmp(bounds[b].schema->fields[i].key, bounds[b].key) == 0)
                max = bounds[b].schema->fields[i].max;
        assert_int_equal(max, bounds[b].max);
    }
}

static void
a_stream_that_is_too_short_is_neither_written_nor_read(void **state)
{
    test_t *self = *state;
    wide_schema_t wide;
    size_t tried = 0;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++) {
        const proto_field_t *field = &schemas[s]->fields[0];

        if (strcmp(field->key, "stream") != 0)
            continue;
        for (uint64_t n = 0; n < PROTO_STREAM_BYTES; n += 5) {
            fill(self, schemas[s]);
            put(self, field, n);
            assert_int_not_equal(encode(self, schemas[s]), RC_OK);
            assert_int_equal(encode(self, wide_schema(&wide, schemas[s], NULL)), RC_OK);
            assert_int_not_equal(decode(self, schemas[s]), RC_OK);
        }
        tried++;
    }
    assert_int_equal(tried, 4);
}

static void
a_state_that_does_not_exist_is_never_written(void **state)
{
    test_t *self = *state;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++)
        for (size_t i = 0; i < schemas[s]->n_fields; i++) {
            if (schemas[s]->fields[i].type != PROTO_ENUM)
                continue;
            fill(self, schemas[s]);
            put(self, &schemas[s]->fields[i], ANSWER_INTERRUPTED + 1);
            assert_int_not_equal(encode(self, schemas[s]), RC_OK);
            put(self, &schemas[s]->fields[i], UINT64_MAX);
            assert_int_not_equal(encode(self, schemas[s]), RC_OK);
        }
}

static void
what_must_be_there_is_missed(void **state)
{
    test_t *self = *state;
    wide_schema_t wide;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++)
        for (size_t i = 0; i < schemas[s]->n_fields; i++) {
            const proto_field_t *field = &schemas[s]->fields[i];

            fill(self, schemas[s]);
            assert_int_equal(encode(self, wide_schema(&wide, schemas[s], field->key)),
                             RC_OK);
            assert_int_equal(decode(self, schemas[s]),
                             field->required ? RC_INVALID : RC_OK);
        }
}

static void
no_job_is_read_as_another_one(void **state)
{
    test_t *self = *state;

    /* A stream and its fence are in three of them: what asks for a prompt is read from those, too. */
    for (size_t a = 0; a < SVC_COUNT(schemas); a++)
        for (size_t b = 0; b < SVC_COUNT(schemas); b++) {
            if (a == b || schemas[b] == &prompt_job_schema)
                continue;
            fill(self, schemas[a]);
            assert_int_equal(encode(self, schemas[a]), RC_OK);
            assert_int_equal(decode(self, schemas[b]), RC_INVALID);
        }
}

static void
a_job_that_is_cut_anywhere_is_refused(void **state)
{
    test_t *self = *state;

    for (size_t s = 0; s < SVC_COUNT(schemas); s++) {
        memset(&self->in, 0, sizeof(self->in));
        for (size_t i = 0; i < schemas[s]->n_fields; i++)
            put(self, &schemas[s]->fields[i], schemas[s]->fields[i].min);
        assert_int_equal(encode(self, schemas[s]), RC_OK);
        for (size_t n = self->out.n; n-- > 0;) {
            assert_int_not_equal(proto_decode(schemas[s], (svc_str){self->out.p, n},
                                              self->arena, &self->got),
                                 RC_OK);
        }
        assert_int_equal(decode(self, schemas[s]), RC_OK);
    }
}

/* --- fences ----------------------------------------------------------------------------------- */

static void
a_fence_tells_its_attempt_and_is_never_given_twice(void **state)
{
    uint64_t last = 0;

    (void)state;
    for (uint64_t attempt = 1; attempt <= CONVO_ATTEMPTS_MAX; attempt++)
        for (int i = 0; i < 100; i++) {
            uint64_t fence = convo_fence(attempt);

            assert_int_equal(fence >> 48, attempt);
            assert_true(fence <= PROTO_ID_MAX);
            assert_int_not_equal(fence, last);
            last = fence;
        }
    assert_true(convo_fence(UINT64_MAX) <= PROTO_ID_MAX);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_field_comes_back_at_its_largest),
        TEST(what_may_be_left_out_comes_back_as_zero),
        TEST(every_state_and_every_prefix_of_a_fence_comes_back),
        TEST(one_past_each_bound_is_neither_written_nor_read),
        TEST(the_bounds_are_those_that_the_workers_rely_on),
        TEST(a_stream_that_is_too_short_is_neither_written_nor_read),
        TEST(a_state_that_does_not_exist_is_never_written),
        TEST(what_must_be_there_is_missed),
        TEST(no_job_is_read_as_another_one),
        TEST(a_job_that_is_cut_anywhere_is_refused),
        TEST(a_fence_tells_its_attempt_and_is_never_given_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
