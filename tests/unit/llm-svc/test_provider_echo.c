/* test_provider_echo.c - the question comes back exactly, in pieces, and can be cancelled.
 *
 * The loop and its timers are real: what is compared is the text, never the time. */
#include "tests/unit/svc/bus_fixture.h"

#include "llm-svc/provider_echo.h"
#include "provider_sink.h"

typedef struct {
    fixture_t fixture; /* loop */
    caught_t caught;   /* what came */
} bench_t;

static void
open_bench(bench_t *b)
{
    memset(b, 0, sizeof(*b));
    fixture_open(&b->fixture, "llm-svc");
    caught_init(&b->caught, provider_echo_new(b->fixture.ctx.loop, 1));
}

static void
close_bench(bench_t *b)
{
    b->caught.provider->destroy(&b->caught.provider);
    assert_null(b->caught.provider);
    svc_buf_fini(&b->caught.text);
    fixture_close(&b->fixture);
}

static void
check_echo(svc_str question, svc_str answer, int least_pieces)
{
    bench_t b;

    open_bench(&b);
    assert_int_equal(caught_ask(&b.caught, question, ""), RC_OK);
    assert_int_equal(b.caught.pieces, 0);
    fixture_run_until(&b.fixture, caught_has_ended, &b.caught);
    assert_int_equal(b.caught.error, RC_OK);
    assert_string_equal(b.caught.finish, "stop");
    assert_true(svc_str_eq(svc_buf_str(&b.caught.text), answer));
    assert_true(b.caught.pieces >= least_pieces);
    assert_int_equal(b.caught.usage.completion, b.caught.pieces);
    close_bench(&b);
}

static void
gives_the_question_back_word_by_word(void **state)
{
    (void)state;
    svc_str tricky = SVC_LIT(
        "  Hello,\n\tworld  of \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80!  ");

    check_echo(SVC_LIT("one"), SVC_LIT("one"), 1);
    check_echo(SVC_LIT("one two three"), SVC_LIT("one two three"), 3);
    check_echo(tricky, tricky, 5);
    check_echo(SVC_LIT(" \n "), SVC_LIT(" \n "), 1);
    check_echo((svc_str){"a\0b", 3},
               SVC_LIT("a\xEF\xBF\xBD"
                       "b"),
               1);
}

static void
cuts_text_without_spaces_between_characters(void **state)
{
    (void)state;
    svc_str text = SVC_LIT(
        "\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xBD\xA0\xE5\xA5\xBD"
        "\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xBD\xA0\xE5\xA5\xBD\xE4\xBD\xA0\xE5\xA5\xBD");

    check_echo(text, text, 3);
}

static void
takes_larger_pieces_of_a_long_question(void **state)
{
    (void)state;
    bench_t b;
    size_t n = 300000;
    char *text = malloc(n);

    for (size_t i = 0; i < n; i++)
        text[i] = i % 3 == 2 ? ' ' : 'x';
    open_bench(&b);
    assert_int_equal(caught_ask(&b.caught, (svc_str){text, n}, ""), RC_OK);
    fixture_run_until(&b.fixture, caught_has_ended, &b.caught);
    assert_true(svc_str_eq(svc_buf_str(&b.caught.text), (svc_str){text, n}));
    assert_true(b.caught.pieces <= PROVIDER_ECHO_STEPS_MAX + 1);
    close_bench(&b);
    free(text);
}

static void
stops_when_it_is_cancelled(void **state)
{
    (void)state;
    bench_t b;

    open_bench(&b);
    b.caught.cancel_at = 5;
    assert_int_equal(caught_ask(&b.caught, SVC_LIT("one two three four"), ""), RC_OK);
    assert_false(fixture_runs_until(&b.fixture, caught_has_ended, &b.caught, 200));
    assert_text(b.caught, "one two ");
    assert_int_equal(caught_ask(&b.caught, SVC_LIT("left alone"), ""), RC_OK);
    close_bench(&b); /* with a job that still runs */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_question_back_word_by_word),
        cmocka_unit_test(cuts_text_without_spaces_between_characters),
        cmocka_unit_test(takes_larger_pieces_of_a_long_question),
        cmocka_unit_test(stops_when_it_is_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
