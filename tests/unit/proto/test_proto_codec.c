/* test_proto_codec.c - every message there and back, and everything that must be refused.
 *
 * Messages are made from their schemas (messages.h), so each test runs over all of them. What
 * only a broken or hostile peer sends is written as bytes by hand. */
#include "messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define MSG_BYTES 512

typedef struct {
    pad_t pad;            /* what filled messages point to */
    proto_arena_t *arena; /* of decoded ones */
    svc_buf_t buf;        /* encoded bytes */
    char *in;             /* a struct to encode */
    char *out;            /* a struct that was decoded */
} world_t;

static int
set_up(void **state)
{
    world_t *w = svc_alloc(sizeof(*w));

    w->pad = pad_new();
    w->arena = proto_arena_new();
    svc_buf_init(&w->buf, 2 * (size_t)PROTO_MESSAGE_MAX_BYTES);
    w->in = svc_alloc(MSG_BYTES);
    w->out = svc_alloc(MSG_BYTES);
    *state = w;
    return 0;
}

static int
tear_down(void **state)
{
    world_t *w = *state;

    svc_alloc_fail_after(0);
    pad_free(&w->pad);
    proto_arena_destroy(&w->arena);
    proto_arena_destroy(&w->arena);
    svc_buf_fini(&w->buf);
    free(w->in);
    free(w->out);
    free(w);
    return 0;
}

static svc_rc
decode(world_t *w, const proto_schema_t *schema, svc_str bytes)
{
    return proto_decode(schema, bytes, w->arena, w->out);
}

/* Encodes w->in into w->buf, alone. */
static svc_rc
encode(world_t *w, const proto_schema_t *schema)
{
    svc_buf_clear(&w->buf);
    return proto_encode(schema, w->in, &w->buf);
}

static void
assert_round_trip(world_t *w, const proto_schema_t *schema)
{
    if (encode(w, schema) != RC_OK)
        fail_msg("%s cannot be encoded", schema->name);
    if (decode(w, schema, svc_buf_str(&w->buf)) != RC_OK)
        fail_msg("%s cannot be decoded", schema->name);
    if (!same_message(schema, w->in, w->out))
        fail_msg("%s comes back different", schema->name);
}

static void
every_message_comes_back_as_it_was(void **state)
{
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++) {
        assert_true(all_schemas[i]->size <= MSG_BYTES);
        fill_message(&w->pad, all_schemas[i], true, w->in);
        assert_round_trip(w, all_schemas[i]);
        fill_message(&w->pad, all_schemas[i], false, w->in);
        assert_round_trip(w, all_schemas[i]);
    }
}

static void
an_optional_field_that_is_zero_is_not_written(void **state)
{
    world_t *w = *state;
    list_req_t req = {.user = 1};

    memcpy(w->in, &req, sizeof(req));
    assert_int_equal(encode(w, &list_req_schema), RC_OK);
    assert_true(svc_str_eq(svc_buf_str(&w->buf), SVC_LIT("\x81\xA4user\x01")));
}

/* Runs one field of one message through a value at or past its bound. */
static void
check_bound(world_t *w, const proto_schema_t *schema, const proto_field_t *field,
            uint64_t n, svc_rc expected)
{
    svc_rc rc;

    fill_message(&w->pad, schema, false, w->in);
    set_field(&w->pad, field, n, w->in);
    if (expected == RC_OK) {
        assert_round_trip(w, schema);
        return;
    }
    rc = encode(w, schema);
    if (rc != expected)
        fail_msg("%s.%s at %ju encodes to %s", schema->name, field->key, (uintmax_t)n,
                 svc_rc_info(rc)->wire);
    assert_int_equal(w->buf.n, 0);
}

static void
every_bound_is_enforced_when_encoding(void **state)
{
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++)
        for (size_t k = 0; k < all_schemas[i]->n_fields; k++) {
            const proto_schema_t *schema = all_schemas[i];
            const proto_field_t *field = &schema->fields[k];
            const svc_rc over = field->type == PROTO_U64 ? RC_INVALID : RC_TOO_BIG;

            if (field->type == PROTO_BOOL || field->type == PROTO_ENUM)
                continue;
            check_bound(w, schema, field, field->min, RC_OK);
            check_bound(w, schema, field, field->max, RC_OK);
            if (field->max != UINT64_MAX)
                check_bound(w, schema, field, field->max + 1, over);
            if (field->min > 1)
                check_bound(w, schema, field, field->min - 1, RC_INVALID);
            if (field->min > 0)
                check_bound(w, schema, field, 0, field->required ? RC_INVALID : RC_OK);
        }
}

/* A twin of `schema` whose field k has no bounds and no names to check: a peer with other rules. */
static proto_schema_t
lax_twin(const proto_schema_t *schema, size_t k, proto_field_t *fields)
{
    proto_schema_t twin = *schema;

    memcpy(fields, schema->fields, schema->n_fields * sizeof(*fields));
    fields[k].min = 0;
    fields[k].max = UINT64_MAX;
    twin.fields = fields;
    return twin;
}

static void
every_bound_is_enforced_when_decoding(void **state)
{
    world_t *w = *state;
    proto_field_t fields[64];

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++)
        for (size_t k = 0; k < all_schemas[i]->n_fields; k++) {
            const proto_schema_t *schema = all_schemas[i];
            const proto_field_t *field = &schema->fields[k];
            proto_schema_t twin = lax_twin(schema, k, fields);

            if (field->type == PROTO_BOOL || field->type == PROTO_ENUM)
                continue;
            fill_message(&w->pad, schema, false, w->in);
            if (field->max != UINT64_MAX) {
                set_field(&w->pad, field, field->max + 1, w->in);
                assert_int_equal(encode(w, &twin), RC_OK);
                assert_int_equal(decode(w, schema, svc_buf_str(&w->buf)),
                                 field->type == PROTO_U64 ? RC_INVALID : RC_TOO_BIG);
            }
            if (field->min > 0) {
                set_field(&w->pad, field, field->min - 1, w->in);
                if (field->required || field->min > 1) {
                    assert_int_equal(encode(w, &twin), RC_OK);
                    assert_int_equal(decode(w, schema, svc_buf_str(&w->buf)), RC_INVALID);
                }
            }
        }
}

static void
a_missing_required_field_is_refused(void **state)
{
    world_t *w = *state;
    proto_field_t fields[64];

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++)
        for (size_t k = 0; k < all_schemas[i]->n_fields; k++) {
            proto_schema_t twin = lax_twin(all_schemas[i], k, fields);

            if (!fields[k].required)
                continue;
            fill_message(&w->pad, all_schemas[i], true, w->in);
            set_field(&w->pad, &fields[k], 0, w->in);
            fields[k].required = false;
            assert_int_equal(encode(w, &twin), RC_OK);
            memset(w->out, 0x55, MSG_BYTES);
            assert_int_equal(decode(w, all_schemas[i], svc_buf_str(&w->buf)), RC_INVALID);
            assert_int_equal(w->out[0], 0x55);
        }
}

static void
a_message_cut_anywhere_is_refused(void **state)
{
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++) {
        fill_message(&w->pad, all_schemas[i], true, w->in);
        assert_int_equal(encode(w, all_schemas[i]), RC_OK);
        for (size_t n = 0; n < w->buf.n; n++) {
            char *exact = svc_alloc(
                n); /* so that the sanitizer sees a read past the cut */

            if (n > 0)
                memcpy(exact, w->buf.p, n);
            if (decode(w, all_schemas[i], (svc_str){exact, n}) != RC_INVALID)
                fail_msg("%s cut to %zu bytes passes", all_schemas[i]->name, n);
            free(exact);
        }
    }
}

static void
bytes_after_a_message_are_refused(void **state)
{
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++) {
        fill_message(&w->pad, all_schemas[i], true, w->in);
        assert_int_equal(encode(w, all_schemas[i]), RC_OK);
        assert_int_equal(svc_buf_add(&w->buf, "\xC0", 1), RC_OK);
        assert_int_equal(decode(w, all_schemas[i], svc_buf_str(&w->buf)), RC_INVALID);
    }
}

#define REFUSED(w, schema, bytes) \
    assert_int_equal(decode((w), &(schema), SVC_LIT(bytes)), RC_INVALID)
#define TAKEN(w, schema, bytes) \
    assert_int_equal(decode((w), &(schema), SVC_LIT(bytes)), RC_OK)

static void
a_duplicate_key_is_refused(void **state)
{
    world_t *w = *state;

    REFUSED(w, list_req_schema, "\x82\xA4user\x01\xA4user\x01");
    REFUSED(w, list_req_schema,
            "\x83\xA4user\x01\xA6"
            "cursor\x00\xA6"
            "cursor\x01");
    TAKEN(w, list_req_schema, "\x83\xA4user\x01\xA3new\x01\xA3new\x02");
}

static void
unknown_keys_of_any_type_are_skipped(void **state)
{
    static const char *const name = "\x82\xA1z";
    static const svc_str values[] = {
        SVC_LIT("\xC0"),
        SVC_LIT("\xC2"),
        SVC_LIT("\xC3"),
        SVC_LIT("\x7F"),
        SVC_LIT("\xE0"),
        SVC_LIT("\xCC\xFF"),
        SVC_LIT("\xCD\xFF\xFF"),
        SVC_LIT("\xCE\xFF\xFF\xFF\xFF"),
        SVC_LIT("\xCF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        SVC_LIT("\xD0\xFF"),
        SVC_LIT("\xD1\xFF\xFF"),
        SVC_LIT("\xD2\xFF\xFF\xFF\xFF"),
        SVC_LIT("\xD3\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"),
        SVC_LIT("\xCA\x00\x00\x00\x00"),
        SVC_LIT("\xCB\x00\x00\x00\x00\x00\x00\x00\x00"),
        SVC_LIT("\xA1x"),
        SVC_LIT("\xD9\x01x"),
        SVC_LIT("\xDA\x00\x01x"),
        SVC_LIT("\xDB\x00\x00\x00\x01x"),
        SVC_LIT("\xC4\x01x"),
        SVC_LIT("\xC5\x00\x01x"),
        SVC_LIT("\xC6\x00\x00\x00\x01x"),
        SVC_LIT("\xC7\x01\x05x"),
        SVC_LIT("\xC8\x00\x01\x05x"),
        SVC_LIT("\xC9\x00\x00\x00\x01\x05x"),
        SVC_LIT("\xD4\x05x"),
        SVC_LIT("\xD5\x05xx"),
        SVC_LIT("\xD6\x05xxxx"),
        SVC_LIT("\xD7\x05xxxxxxxx"),
        SVC_LIT("\xD8\x05xxxxxxxxxxxxxxxx"),
        SVC_LIT("\x92\x01\x81\xA1k\xC0"),
        SVC_LIT("\xDC\x00\x01\x01"),
        SVC_LIT("\xDD\x00\x00\x00\x01\x01"),
        SVC_LIT("\xDE\x00\x01\x01\x02"),
        SVC_LIT("\xDF\x00\x00\x00\x01\x01\x02"),
    };
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(values); i++) {
        svc_buf_clear(&w->buf);
        assert_int_equal(svc_buf_add_str(&w->buf, svc_str_c(name)), RC_OK);
        assert_int_equal(svc_buf_add_str(&w->buf, values[i]), RC_OK);
        assert_int_equal(svc_buf_add_str(&w->buf, SVC_LIT("\xA4user\x07")), RC_OK);
        assert_int_equal(decode(w, &list_req_schema, svc_buf_str(&w->buf)), RC_OK);
        assert_int_equal(((list_req_t *)(void *)w->out)->user, 7);
        while (w->buf.n-- > 3) /* and every cut of it is refused */
            assert_int_equal(decode(w, &list_req_schema, svc_buf_str(&w->buf)),
                             RC_INVALID);
    }
}

static void
the_byte_that_msgpack_never_assigned_is_refused(void **state)
{
    REFUSED(*state, empty_schema, "\x81\xA1z\xC1");
    REFUSED(*state, empty_schema, "\xC1");
}

static void
a_wrong_type_is_refused(void **state)
{
    world_t *w = *state;

    REFUSED(w, list_req_schema,
            "\x81\xA4user\xA1"
            "1");
    REFUSED(w, list_req_schema, "\x81\xA4user\xC0");
    REFUSED(w, list_req_schema, "\x81\xA4user\xCA\x00\x00\x00\x00");
    REFUSED(w, list_req_schema, "\x81\xA4user\xFF");
    REFUSED(w, list_req_schema, "\x81\xA4user\xD0\xFF");
    REFUSED(w, list_req_schema, "\x81\xC4\x04user\x01");
    REFUSED(w, list_req_schema, "\x81\x01\x01");
    REFUSED(w, list_req_schema, "\x91\x01");
    REFUSED(w, list_req_schema, "\xC0");
    REFUSED(w, error_rep_schema,
            "\x81\xA4"
            "code\xC4\x01x");
    REFUSED(w, verify_req_schema, "\x81\xA5token\xA1x");
    REFUSED(w, ping_rep_schema,
            "\x82\xA8instance\x01\xA8"
            "draining\x01");
    REFUSED(w, models_rep_schema, "\x81\xA8patterns\x80");
    REFUSED(w, models_rep_schema, "\x81\xA8patterns\x91\x01");
    REFUSED(w, prompt_message_schema, "\x82\xA4role\x01\xA4text\xA0");
}

static void
numbers_are_read_in_every_encoding_that_holds_them(void **state)
{
    static const svc_str ones[] = {
        SVC_LIT("\x01"),
        SVC_LIT("\xCC\x01"),
        SVC_LIT("\xCD\x00\x01"),
        SVC_LIT("\xCE\x00\x00\x00\x01"),
        SVC_LIT("\xCF\x00\x00\x00\x00\x00\x00\x00\x01"),
        SVC_LIT("\xD0\x01"),
        SVC_LIT("\xD1\x00\x01"),
        SVC_LIT("\xD2\x00\x00\x00\x01"),
        SVC_LIT("\xD3\x00\x00\x00\x00\x00\x00\x00\x01"),
    };
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(ones); i++) {
        svc_buf_clear(&w->buf);
        assert_int_equal(svc_buf_add_str(&w->buf, SVC_LIT("\x81\xA4user")), RC_OK);
        assert_int_equal(svc_buf_add_str(&w->buf, ones[i]), RC_OK);
        assert_int_equal(decode(w, &list_req_schema, svc_buf_str(&w->buf)), RC_OK);
        assert_int_equal(((list_req_t *)(void *)w->out)->user, 1);
    }
}

static void
a_name_that_does_not_exist_is_refused(void **state)
{
    world_t *w = *state;
    prompt_message_t msg = {.role = 3};

    REFUSED(w, prompt_message_schema, "\x82\xA4role\xA5tutor\xA4text\xA0");
    REFUSED(w, prompt_message_schema, "\x82\xA4role\xA0\xA4text\xA0");
    TAKEN(w, prompt_message_schema, "\x82\xA4role\xA4user\xA4text\xA0");
    memcpy(w->in, &msg, sizeof(msg));
    assert_int_equal(encode(w, &prompt_message_schema), RC_INVALID);
    msg.role = -1;
    memcpy(w->in, &msg, sizeof(msg));
    assert_int_equal(encode(w, &prompt_message_schema), RC_INVALID);
}

static void
text_that_is_not_utf8_is_refused_and_bytes_are_not(void **state)
{
    world_t *w = *state;
    error_rep_t rep = {.code = SVC_LIT("\xFF")};

    REFUSED(w, error_rep_schema,
            "\x81\xA4"
            "code\xA1\xFF");
    TAKEN(w, verify_req_schema, "\x81\xA5token\xC4\x01\xFF");
    memcpy(w->in, &rep, sizeof(rep));
    assert_int_equal(encode(w, &error_rep_schema), RC_INVALID);
}

static void
declared_counts_are_not_believed(void **state)
{
    world_t *w = *state;

    REFUSED(w, models_rep_schema, "\x81\xA8patterns\xDD\x10\x00\x00\x00");
    REFUSED(w, models_rep_schema, "\x81\xA8patterns\xDD\xFF\xFF\xFF\xFF");
    REFUSED(w, empty_schema, "\xDD\x10\x00\x00\x00");
    REFUSED(w, empty_schema, "\xDF\xFF\xFF\xFF\xFF");
    REFUSED(w, empty_schema, "\x81\xA1z\xDD\x10\x00\x00\x00");
    REFUSED(w, empty_schema, "\x81\xA1z\xDF\x10\x00\x00\x00");
    REFUSED(w, empty_schema, "\x81\xA1z\xDB\xFF\xFF\xFF\xFF");
    REFUSED(w, empty_schema, "\x81\xA1z\xC6\xFF\xFF\xFF\xFF");
    REFUSED(w, empty_schema, "\x81\xA1z\xC9\xFF\xFF\xFF\xFF");
    REFUSED(w, empty_schema, "\x81\xDB\xFF\xFF\xFF\xFF");
}

static void
nesting_deeper_than_eight_is_refused(void **state)
{
    world_t *w = *state;
    char deep[100000];

    TAKEN(w, empty_schema, "\x81\xA1z\x91\x91\x91\x91\x91\x91\x91\x01");
    REFUSED(w, empty_schema, "\x81\xA1z\x91\x91\x91\x91\x91\x91\x91\x91\x01");
    REFUSED(w, empty_schema, "\x81\xA1z\x91\x91\x91\x91\x91\x91\x91\x90");
    memset(deep, 0x91, sizeof(deep));
    memcpy(deep, "\x81\xA1z", 3);
    deep[sizeof(deep) - 1] = 1;
    assert_int_equal(decode(w, &empty_schema, (svc_str){deep, sizeof(deep)}), RC_INVALID);
}

static void
a_list_needs_memory_and_says_when_there_is_none(void **state)
{
    world_t *w = *state;

    fill_message(&w->pad, &generate_req_schema, true, w->in);
    assert_int_equal(encode(w, &generate_req_schema), RC_OK);
    svc_alloc_fail_after(1);
    assert_int_equal(decode(w, &generate_req_schema, svc_buf_str(&w->buf)), RC_TOO_BIG);
    assert_int_equal(decode(w, &generate_req_schema, svc_buf_str(&w->buf)), RC_OK);
}

static void
what_cannot_be_encoded_leaves_the_buffer_as_it_was(void **state)
{
    world_t *w = *state;
    svc_buf_t small;

    for (size_t i = 0; i < SVC_COUNT(all_schemas); i++) {
        fill_message(&w->pad, all_schemas[i], true, w->in);
        assert_int_equal(encode(w, all_schemas[i]), RC_OK);
        for (size_t max = 4; max < 4 + w->buf.n; max++) {
            svc_buf_init(&small, max);
            assert_int_equal(svc_buf_add(&small, "keep", 4), RC_OK);
            assert_int_equal(proto_encode(all_schemas[i], w->in, &small), RC_TOO_BIG);
            assert_true(svc_str_eq(svc_buf_str(&small), SVC_LIT("keep")));
            svc_buf_fini(&small);
        }
        svc_buf_init(&small, 1 << 20);
        svc_alloc_fail_after(1);
        assert_int_equal(proto_encode(all_schemas[i], w->in, &small), RC_TOO_BIG);
        assert_int_equal(small.n, 0);
        svc_buf_fini(&small);
    }
}

static void
a_message_over_the_limit_of_the_bus_is_too_big(void **state)
{
    world_t *w = *state;
    prompt_message_t texts[4] = {{0}};
    generate_req_t req;

    fill_message(&w->pad, &generate_req_schema, true, w->in);
    memcpy(&req, w->in, sizeof(req));
    for (size_t i = 0; i < SVC_COUNT(texts); i++)
        texts[i].text = (svc_str){w->pad.letters, PROTO_ANSWER_MAX_BYTES};
    req.messages = (proto_list_t){texts, SVC_COUNT(texts)};
    svc_buf_clear(&w->buf);
    assert_int_equal(proto_encode(&generate_req_schema, &req, &w->buf), RC_TOO_BIG);
    assert_int_equal(w->buf.n, 0);
    assert_int_equal(
        decode(w, &empty_schema, (svc_str){NULL, PROTO_MESSAGE_MAX_BYTES + 1}),
        RC_TOO_BIG);
}

static void
views_point_into_the_frame(void **state)
{
    world_t *w = *state;
    const error_rep_t *rep = (void *)w->out;
    svc_str frame = SVC_LIT("\x81\xA4"
                            "code\xA2ok");

    assert_int_equal(decode(w, &error_rep_schema, frame), RC_OK);
    assert_ptr_equal(rep->code.p, frame.p + 7);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_comes_back_as_it_was),
        cmocka_unit_test(an_optional_field_that_is_zero_is_not_written),
        cmocka_unit_test(every_bound_is_enforced_when_encoding),
        cmocka_unit_test(every_bound_is_enforced_when_decoding),
        cmocka_unit_test(a_missing_required_field_is_refused),
        cmocka_unit_test(a_message_cut_anywhere_is_refused),
        cmocka_unit_test(bytes_after_a_message_are_refused),
        cmocka_unit_test(a_duplicate_key_is_refused),
        cmocka_unit_test(unknown_keys_of_any_type_are_skipped),
        cmocka_unit_test(the_byte_that_msgpack_never_assigned_is_refused),
        cmocka_unit_test(a_wrong_type_is_refused),
        cmocka_unit_test(numbers_are_read_in_every_encoding_that_holds_them),
        cmocka_unit_test(a_name_that_does_not_exist_is_refused),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_and_bytes_are_not),
        cmocka_unit_test(declared_counts_are_not_believed),
        cmocka_unit_test(nesting_deeper_than_eight_is_refused),
        cmocka_unit_test(a_list_needs_memory_and_says_when_there_is_none),
        cmocka_unit_test(what_cannot_be_encoded_leaves_the_buffer_as_it_was),
        cmocka_unit_test(a_message_over_the_limit_of_the_bus_is_too_big),
        cmocka_unit_test(views_point_into_the_frame),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
