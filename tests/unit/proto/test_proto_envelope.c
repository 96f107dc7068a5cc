/* test_proto_envelope.c - the envelope and the token frame, there and back and broken.
 *
 * Both are read for every message on the bus, before anything is known about its sender, so each
 * cut, each wrong element and each lie about counts is tried. */
#include "proto/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SIXTEEN SVC_LIT("0123456789abcdef")

static const proto_envelope_t request = {.version = PROTO_VERSION,
                                         .kind = PROTO_REQUEST,
                                         .id = UINT64_MAX,
                                         .op = SVC_LIT(OP_CONVO_ASK),
                                         .trace = SIXTEEN,
                                         .expires_ms = 1731851729000};
static const proto_token_t token = {.version = PROTO_VERSION,
                                    .stream = SIXTEEN,
                                    .fence = UINT64_MAX,
                                    .offset = 70000,
                                    .kind = PROTO_TOKEN_TEXT,
                                    .bytes = SVC_LIT("中文 text")};

static void
a_request_comes_back_as_it_was(void **state)
{
    proto_envelope_t out;
    svc_str body;
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, PROTO_ENVELOPE_MAX_BYTES);
    assert_int_equal(proto_envelope_encode(&request, &buf), RC_OK);
    assert_int_equal(proto_envelope_decode(svc_buf_str(&buf), &out, &body), RC_OK);
    assert_int_equal(out.version, PROTO_VERSION);
    assert_int_equal(out.kind, PROTO_REQUEST);
    assert_true(out.id == UINT64_MAX);
    assert_true(svc_str_eq(out.op, SVC_LIT("convo.ask")));
    assert_true(svc_str_eq(out.trace, SIXTEEN));
    assert_int_equal(out.expires_ms, 1731851729000);
    svc_buf_fini(&buf);
}

static void
a_request_that_may_move_says_until_when_it_is_good_here(void **state)
{
    proto_envelope_t in = request, out;
    svc_str body;
    svc_buf_t buf;

    (void)state;
    in.moved_ms = 1731851720000;
    svc_buf_init(&buf, PROTO_ENVELOPE_MAX_BYTES);
    assert_int_equal(proto_envelope_encode(&in, &buf), RC_OK);
    assert_int_equal((unsigned char)buf.p[0], 0x97);
    assert_int_equal(proto_envelope_decode(svc_buf_str(&buf), &out, &body), RC_OK);
    assert_int_equal(out.expires_ms, in.expires_ms);
    assert_int_equal(out.moved_ms, in.moved_ms);
    assert_int_equal(body.n, 0);
    svc_buf_clear(&buf);
    assert_int_equal(proto_envelope_encode(&request, &buf), RC_OK);
    assert_int_equal((unsigned char)buf.p[0], 0x96);
    assert_int_equal(proto_envelope_decode(svc_buf_str(&buf), &out, &body), RC_OK);
    assert_int_equal(out.moved_ms, 0);
    svc_buf_fini(&buf);
}

static void
a_reply_has_three_elements_and_comes_back(void **state)
{
    static const proto_kind kinds[] = {PROTO_PARTIAL, PROTO_FINAL, PROTO_ERROR};
    proto_envelope_t out;
    svc_str body;
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, PROTO_ENVELOPE_MAX_BYTES);
    for (size_t i = 0; i < SVC_COUNT(kinds); i++) {
        proto_envelope_t in = {.version = PROTO_VERSION, .kind = kinds[i], .id = 9};

        svc_buf_clear(&buf);
        assert_int_equal(proto_envelope_encode(&in, &buf), RC_OK);
        assert_int_equal(buf.n, 4);
        assert_int_equal(proto_envelope_decode(svc_buf_str(&buf), &out, &body), RC_OK);
        assert_int_equal(out.kind, kinds[i]);
        assert_int_equal(out.id, 9);
        assert_int_equal(out.op.n, 0);
    }
    svc_buf_fini(&buf);
}

static svc_rc
decode_envelope(svc_str bytes)
{
    proto_envelope_t out = {.version = 77};
    svc_str body = {NULL, 77};
    svc_rc rc = proto_envelope_decode(bytes, &out, &body);

    assert_true((rc == RC_OK) == (out.version != 77));
    assert_true((rc == RC_OK) == (body.n != 77));
    return rc;
}

static svc_rc
decode_token(svc_str bytes)
{
    proto_token_t out = {.version = 77};
    svc_rc rc = proto_token_decode(bytes, &out);

    assert_true((rc == RC_OK) == (out.version != 77));
    return rc;
}

static void
envelopes_and_tokens_cut_anywhere_are_refused(void **state)
{
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 1024);
    for (int is_token = 0; is_token < 2; is_token++) {
        svc_buf_clear(&buf);
        assert_int_equal(is_token ? proto_token_encode(&token, &buf)
                                  : proto_envelope_encode(&request, &buf),
                         RC_OK);
        for (size_t n = 0; n < buf.n; n++) {
            char *exact = svc_alloc(n);

            memcpy(exact, buf.p, n);
            assert_int_equal(is_token ? decode_token((svc_str){exact, n})
                                      : decode_envelope((svc_str){exact, n}),
                             RC_INVALID);
            free(exact);
        }
        assert_int_equal(svc_buf_add(&buf, "\x01", 1), RC_OK);
        assert_int_equal(is_token ? decode_token(svc_buf_str(&buf))
                                  : decode_envelope(svc_buf_str(&buf)),
                         is_token ? RC_INVALID : RC_OK); /* a body follows an envelope */
    }
    svc_buf_fini(&buf);
}

static void
elements_appended_by_a_newer_writer_are_skipped(void **state)
{
    svc_buf_t buf;

    (void)state;
    assert_int_equal(decode_envelope(SVC_LIT("\x95\x01\x02\x07\xA3new\x81\x01\xC0")),
                     RC_OK);
    svc_buf_init(&buf, 1024);
    assert_int_equal(proto_envelope_encode(&request, &buf), RC_OK);
    buf.p[0] = (char)0x97;
    assert_int_equal(svc_buf_add(&buf, "\xC3", 1), RC_OK);
    assert_int_equal(decode_envelope(svc_buf_str(&buf)), RC_OK);
    svc_buf_clear(&buf);
    assert_int_equal(proto_token_encode(&token, &buf), RC_OK);
    buf.p[0] = (char)0x97;
    assert_int_equal(svc_buf_add(&buf, "\xC3", 1), RC_OK);
    assert_int_equal(decode_token(svc_buf_str(&buf)), RC_OK);
    svc_buf_fini(&buf);
}

static void
an_unknown_kind_is_read_so_that_it_can_be_skipped(void **state)
{
    proto_envelope_t out;
    svc_str body;

    (void)state;
    assert_int_equal(proto_envelope_decode(SVC_LIT("\x93\x01\x63\x07"), &out, &body),
                     RC_OK);
    assert_int_equal(out.kind, 99);
    assert_int_equal(out.id, 7);
}

static void
what_is_no_envelope_is_refused(void **state)
{
    char big[PROTO_ENVELOPE_MAX_BYTES + 1];

    (void)state;
    assert_int_equal(decode_envelope((svc_str){NULL, 0}), RC_INVALID);
    assert_int_equal(decode_envelope(SVC_LIT("\x92\x01\x02")), RC_INVALID);
    assert_int_equal(decode_envelope(SVC_LIT("\x93\x02\x02\x01")),
                     RC_INVALID); /* version 2 */
    assert_int_equal(decode_envelope(SVC_LIT("\x93\x01\x00\x01")),
                     RC_INVALID); /* no op */
    assert_int_equal(decode_envelope(SVC_LIT("\x93\xA1x\x02\x01")), RC_INVALID);
    assert_int_equal(decode_envelope(SVC_LIT("\x83\x01\x02\x01")), RC_INVALID);
    assert_int_equal(decode_envelope(SVC_LIT("\xDD\x10\x00\x00\x00\x01\x02\x01")),
                     RC_INVALID);
    memset(big, 1, sizeof(big));
    memcpy(big, "\xDC\x00\xFE", 3);
    assert_int_equal(decode_envelope((svc_str){big, sizeof(big)}), RC_INVALID);
    memcpy(big, "\xDC\x00\xFD", 3);
    assert_int_equal(decode_envelope((svc_str){big, sizeof(big) - 1}), RC_OK);
}

static void
op_and_trace_out_of_bounds_are_refused_both_ways(void **state)
{
    proto_envelope_t e = request;
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 1024);
    e.op = SVC_LIT("123456789012345678901234567890123");
    assert_int_equal(proto_envelope_encode(&e, &buf), RC_INVALID);
    e.op = (svc_str){NULL, 0};
    assert_int_equal(proto_envelope_encode(&e, &buf), RC_INVALID);
    e.op = SVC_LIT("\xFF");
    assert_int_equal(proto_envelope_encode(&e, &buf), RC_INVALID);
    e.op = SVC_LIT("12345678901234567890123456789012");
    assert_int_equal(proto_envelope_encode(&e, &buf), RC_OK);
    e.trace.n--;
    assert_int_equal(proto_envelope_encode(&e, &buf), RC_INVALID);
    buf.p[4 + 8] = (char)0xA0; /* now the op is empty and its bytes are in the way */
    assert_int_equal(decode_envelope(svc_buf_str(&buf)), RC_INVALID);
    svc_buf_fini(&buf);
}

static void
a_token_comes_back_as_it_was(void **state)
{
    proto_token_t out;
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 1024);
    assert_int_equal(proto_token_encode(&token, &buf), RC_OK);
    assert_int_equal(proto_token_decode(svc_buf_str(&buf), &out), RC_OK);
    assert_true(svc_str_eq(out.stream, SIXTEEN));
    assert_true(out.fence == UINT64_MAX);
    assert_int_equal(out.offset, 70000);
    assert_int_equal(out.kind, PROTO_TOKEN_TEXT);
    assert_true(svc_str_eq(out.bytes, token.bytes));
    svc_buf_fini(&buf);
}

static void
a_token_out_of_bounds_is_refused_both_ways(void **state)
{
    char *letters = svc_alloc(PROTO_PIECE_MAX_BYTES + 1);
    proto_token_t t = token;
    svc_buf_t buf;

    (void)state;
    svc_buf_init(&buf, 4u << 20);
    t.bytes = (svc_str){letters, PROTO_PIECE_MAX_BYTES + 1};
    assert_int_equal(proto_token_encode(&t, &buf), RC_TOO_BIG);
    t.bytes.n--;
    assert_int_equal(proto_token_encode(&t, &buf), RC_OK);
    assert_int_equal(decode_token(svc_buf_str(&buf)), RC_OK);
    t.stream.n--;
    assert_int_equal(proto_token_encode(&t, &buf), RC_INVALID);
    buf.p[1] = 2; /* another version */
    assert_int_equal(decode_token(svc_buf_str(&buf)), RC_INVALID);
    svc_buf_fini(&buf);
    free(letters);
}

static void
what_does_not_fit_leaves_the_buffer_as_it_was(void **state)
{
    svc_buf_t buf;

    (void)state;
    for (size_t max = 4; max < 40; max++) {
        svc_buf_init(&buf, max);
        assert_int_equal(svc_buf_add(&buf, "keep", 4), RC_OK);
        assert_int_equal(proto_envelope_encode(&request, &buf), RC_TOO_BIG);
        assert_int_equal(proto_token_encode(&token, &buf), RC_TOO_BIG);
        assert_int_equal(buf.n, 4);
        svc_buf_fini(&buf);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_comes_back_as_it_was),
        cmocka_unit_test(a_request_that_may_move_says_until_when_it_is_good_here),
        cmocka_unit_test(a_reply_has_three_elements_and_comes_back),
        cmocka_unit_test(envelopes_and_tokens_cut_anywhere_are_refused),
        cmocka_unit_test(elements_appended_by_a_newer_writer_are_skipped),
        cmocka_unit_test(an_unknown_kind_is_read_so_that_it_can_be_skipped),
        cmocka_unit_test(what_is_no_envelope_is_refused),
        cmocka_unit_test(op_and_trace_out_of_bounds_are_refused_both_ways),
        cmocka_unit_test(a_token_comes_back_as_it_was),
        cmocka_unit_test(a_token_out_of_bounds_is_refused_both_ways),
        cmocka_unit_test(what_does_not_fit_leaves_the_buffer_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
