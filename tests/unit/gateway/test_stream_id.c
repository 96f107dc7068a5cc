/* test_stream_id.c - ids of events: what is one, what it says, and all that is none.
 *
 * Every id that a stream writes is read back here; the rest are the ways in which a client
 * may get one wrong: cut, capital, signed, padded, too large. */
#include "gateway/stream_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define HEX "000102030405060708090a0b0c0d0eff"

static void
reads_what_a_stream_writes(void **state)
{
    static const struct {
        const char *text;
        uint64_t offset;
        stream_id_mark mark;
    } rows[] = {
        {HEX ":0", 0, STREAM_ID_TEXT},
        {HEX ":7", 7, STREAM_ID_TEXT},
        {HEX ":16777216", 16777216, STREAM_ID_TEXT},
        {HEX ":0:d", 0, STREAM_ID_DONE},
        {HEX ":120:d", 120, STREAM_ID_DONE},
        {HEX ":120:e", 120, STREAM_ID_END},
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        stream_id_t id;
        assert_true(stream_id_read(svc_str_c(rows[i].text), &id));
        assert_int_equal(id.offset, rows[i].offset);
        assert_int_equal(id.mark, rows[i].mark);
        for (size_t k = 0; k < PROTO_STREAM_BYTES; k++)
            assert_int_equal(id.stream[k], k == 15 ? 255 : k);
    }
}

static void
refuses_what_no_stream_writes(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        "0",
        "0:0",
        HEX,
        HEX ":",
        HEX "0:0",
        HEX " :0",
        HEX ":-1",
        HEX ":+1",
        HEX ": 1",
        HEX ":1 ",
        HEX ":01",
        HEX ":00",
        HEX ":0x1",
        HEX ":1.5",
        HEX ":16777217",
        HEX ":99999999999999999999999999999999999999",
        HEX ":1:",
        HEX ":1:D",
        HEX ":1:x",
        HEX ":1:d ",
        HEX ":1:dd",
        HEX ":1:d:e",
        HEX ":1d",
        HEX "::d",
        "00010203040506070809-a0b0c0d0eff:1",
        "000102030405060708090A0b0c0d0eff:1",
        "g00102030405060708090a0b0c0d0eff:1",
        "00102030405060708090a0b0c0d0eff:12",
        "null",
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        stream_id_t id = {.offset = 5};
        if (stream_id_read(svc_str_c(rows[i]), &id))
            fail_msg("\"%s\" is an id", rows[i]);
        assert_int_equal(id.offset, 5);
    }
    stream_id_t id;
    assert_false(stream_id_read((svc_str){HEX ":1\0", sizeof HEX + 2}, &id));
    assert_false(stream_id_read((svc_str){NULL, 0}, &id));
}

static void
every_mark_has_its_suffix(void **state)
{
    (void)state;
    assert_string_equal(stream_id_suffix(STREAM_ID_TEXT), "");
    assert_string_equal(stream_id_suffix(STREAM_ID_DONE), ":d");
    assert_string_equal(stream_id_suffix(STREAM_ID_END), ":e");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_a_stream_writes),
        cmocka_unit_test(refuses_what_no_stream_writes),
        cmocka_unit_test(every_mark_has_its_suffix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
