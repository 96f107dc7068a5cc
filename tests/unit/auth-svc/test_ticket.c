/* test_ticket.c - tickets of ours, of others, changed ones, and what is none.
 *
 * Tokens and tickets of the same secret are tried at one another's door. */
#include "auth-svc/ticket.h"
#include "auth-svc/token.h"

#include "proto/proto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW 1800000000u

static const char secret[] = "a secret of thirty-two bytes or more";
static const ticket_t ticket = {7, PROTO_ID_MAX, NOW + 60, NOW + 3600};

static ticket_signer_t *signer;

static int
make_signer(void **state)
{
    (void)state;
    signer = ticket_signer_new(secret, strlen(secret));
    return 0;
}

static int
free_signer(void **state)
{
    (void)state;
    ticket_signer_destroy(&signer);
    ticket_signer_destroy(&signer);
    return signer != NULL;
}

static svc_rc
check(svc_str text)
{
    ticket_t out;

    return ticket_check(signer, text, NOW, &out);
}

static void
a_ticket_tells_what_it_is_for_until_its_token_expires(void **state)
{
    char text[TICKET_TEXT_BYTES + 1];
    ticket_t out;

    (void)state;
    ticket_make(signer, &ticket, text);
    assert_int_equal(strlen(text), TICKET_TEXT_BYTES);
    assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789-_"),
                     TICKET_TEXT_BYTES);
    assert_int_equal(ticket_check(signer, svc_str_c(text), NOW, &out), RC_OK);
    assert_int_equal(out.user, ticket.user);
    assert_int_equal(out.conversation, ticket.conversation);
    assert_int_equal(out.open_until_s, ticket.open_until_s);
    assert_int_equal(out.expires_s, ticket.expires_s);
    assert_int_equal(ticket_check(signer, svc_str_c(text), NOW + 3599, &out), RC_OK);
    assert_int_equal(ticket_check(signer, svc_str_c(text), NOW + 3600, &out),
                     RC_UNAUTHORIZED);
}

static void
another_process_with_the_same_secret_takes_it_and_one_with_another_does_not(void **state)
{
    ticket_signer_t *same = ticket_signer_new(secret, strlen(secret));
    ticket_signer_t *other = ticket_signer_new(secret, strlen(secret) - 1);
    char text[TICKET_TEXT_BYTES + 1];
    ticket_t out;

    (void)state;
    ticket_make(signer, &ticket, text);
    assert_int_equal(ticket_check(same, svc_str_c(text), NOW, &out), RC_OK);
    assert_int_equal(ticket_check(other, svc_str_c(text), NOW, &out), RC_UNAUTHORIZED);
    ticket_signer_destroy(&same);
    ticket_signer_destroy(&other);
}

static void
each_changed_letter_makes_it_worthless(void **state)
{
    char text[TICKET_TEXT_BYTES + 1];

    (void)state;
    ticket_make(signer, &ticket, text);
    for (size_t i = 0; i < TICKET_TEXT_BYTES; i++) {
        const char kept = text[i];

        for (int c = 0; c < 256; c++) {
            text[i] = (char)c;
            if (text[i] != kept)
                assert_int_equal(check((svc_str){text, TICKET_TEXT_BYTES}),
                                 RC_UNAUTHORIZED);
        }
        text[i] = kept;
    }
    assert_int_equal(check(svc_str_c(text)), RC_OK);
}

static void
what_is_shorter_longer_or_empty_is_none(void **state)
{
    char text[PROTO_TICKET_MAX_BYTES] = "";

    (void)state;
    ticket_make(signer, &ticket, text);
    for (size_t n = 0; n < TICKET_TEXT_BYTES; n++)
        assert_int_equal(check((svc_str){text, n}), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){text, TICKET_TEXT_BYTES}), RC_OK);
    for (size_t n = TICKET_TEXT_BYTES + 1; n <= sizeof(text); n++)
        assert_int_equal(check((svc_str){text, n}), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){NULL, 0}), RC_UNAUTHORIZED);
}

static void
numbers_out_of_bounds_are_refused_though_signed(void **state)
{
    static const ticket_t wrong[] = {{0, 1, NOW, NOW + 1},
                                     {1, 0, NOW, NOW + 1},
                                     {PROTO_ID_MAX + 1, 1, NOW, NOW + 1},
                                     {1, UINT64_MAX, NOW, NOW + 1},
                                     {1, 1, PROTO_ID_MAX + 1, NOW + 1},
                                     {1, 1, NOW, PROTO_ID_MAX + 1},
                                     {1, 1, NOW, 0}};
    char text[TICKET_TEXT_BYTES + 1];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        ticket_make(signer, &wrong[i], text);
        assert_int_equal(check(svc_str_c(text)), RC_UNAUTHORIZED);
    }
}

static void
a_token_is_no_ticket_and_a_ticket_no_token(void **state)
{
    token_signer_t *tokens = token_signer_new(secret, strlen(secret), 3600);
    char text[3 * TICKET_TEXT_BYTES + 3];
    uint64_t user, expires_s;
    char *token = NULL;

    (void)state;
    assert_int_equal(token_make(tokens, 7, NOW, &token, &expires_s), RC_OK);
    assert_int_equal(check(svc_str_c(token)), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){token, TICKET_TEXT_BYTES}), RC_UNAUTHORIZED);
    ticket_make(signer, &ticket, text);
    assert_int_equal(token_check(tokens, svc_str_c(text), NOW, &user, &expires_s),
                     RC_UNAUTHORIZED);
    /* dressed as a token: its three parts are tickets */
    text[TICKET_TEXT_BYTES] = '.';
    ticket_make(signer, &ticket, text + TICKET_TEXT_BYTES + 1);
    text[2 * TICKET_TEXT_BYTES + 1] = '.';
    ticket_make(signer, &ticket, text + 2 * TICKET_TEXT_BYTES + 2);
    assert_int_equal(token_check(tokens, svc_str_c(text), NOW, &user, &expires_s),
                     RC_UNAUTHORIZED);
    free(token);
    token_signer_destroy(&tokens);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_signer, free_signer)
    const struct CMUnitTest tests[] = {
        TEST(a_ticket_tells_what_it_is_for_until_its_token_expires),
        TEST(another_process_with_the_same_secret_takes_it_and_one_with_another_does_not),
        TEST(each_changed_letter_makes_it_worthless),
        TEST(what_is_shorter_longer_or_empty_is_none),
        TEST(numbers_out_of_bounds_are_refused_though_signed),
        TEST(a_token_is_no_ticket_and_a_ticket_no_token),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
