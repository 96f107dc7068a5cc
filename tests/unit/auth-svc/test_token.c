/* test_token.c - tokens of ours, of others and of forgers.
 *
 * Forged ones are signed by libjwt itself, with and without the right secret. */
#include "auth-svc/token.h"

#include "proto/proto.h"

#include <jwt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOW 1800000000u

static const char secret[] = "a secret of thirty-two bytes or more";

static token_signer_t *signer;

static int
make_signer(void **state)
{
    (void)state;
    signer = token_signer_new(secret, strlen(secret), 3600);
    return 0;
}

static int
free_signer(void **state)
{
    (void)state;
    token_signer_destroy(&signer);
    token_signer_destroy(&signer);
    return signer != NULL;
}

static svc_rc
check(svc_str token, uint64_t *user)
{
    uint64_t expires_s;

    return token_check(signer, token, NOW, user, &expires_s);
}

/* Signs claims (JSON) as somebody who has `key` would. */
static char *
forge(jwt_alg_t alg, const char *key, const char *claims)
{
    jwt_t *jwt = NULL;
    char *token;

    assert_int_equal(jwt_new(&jwt), 0);
    assert_int_equal(jwt_add_grants_json(jwt, claims), 0);
    assert_int_equal(jwt_set_alg(jwt, alg, (const unsigned char *)key,
                                 key == NULL ? 0 : (int)strlen(key)),
                     0);
    token = jwt_encode_str(jwt);
    jwt_free(jwt);
    assert_non_null(token);
    return token;
}

static void
assert_forged(jwt_alg_t alg, const char *key, const char *claims, svc_rc wanted)
{
    char *token = forge(alg, key, claims);
    uint64_t user = 0;

    if (check(svc_str_c(token), &user) != wanted)
        fail_msg("%s", claims);
    free(token);
}

static void
a_fresh_token_tells_its_user_until_it_expires(void **state)
{
    char *token = NULL;
    uint64_t expires_s = 0, user = 0, seen_s = 0;

    (void)state;
    assert_int_equal(token_make(signer, PROTO_ID_MAX, NOW, &token, &expires_s), RC_OK);
    assert_int_equal(expires_s, NOW + 3600);
    assert_true(strlen(token) < PROTO_TOKEN_MAX_BYTES);
    assert_int_equal(token_check(signer, svc_str_c(token), NOW, &user, &seen_s), RC_OK);
    assert_true(user == PROTO_ID_MAX);
    assert_int_equal(seen_s, expires_s);
    assert_int_equal(token_check(signer, svc_str_c(token), expires_s - 1, &user, &seen_s),
                     RC_OK);
    assert_int_equal(token_check(signer, svc_str_c(token), expires_s, &user, &seen_s),
                     RC_UNAUTHORIZED);
    free(token);
}

static void
a_token_has_the_claims_of_the_contract(void **state)
{
    char *token = NULL;
    uint64_t expires_s = 0;
    jwt_t *jwt = NULL;

    (void)state;
    assert_int_equal(token_make(signer, 7, NOW, &token, &expires_s), RC_OK);
    assert_int_equal(
        jwt_decode(&jwt, token, (const unsigned char *)secret, (int)strlen(secret)), 0);
    assert_int_equal(jwt_get_alg(jwt), JWT_ALG_HS256);
    assert_int_equal(jwt_get_grant_int(jwt, "user_id"), 7);
    assert_int_equal(jwt_get_grant_int(jwt, "iat"), NOW);
    assert_int_equal(jwt_get_grant_int(jwt, "exp"), NOW + 3600);
    assert_int_equal(strlen(jwt_get_grant(jwt, "jti")), 32);
    jwt_free(jwt);
    free(token);
}

static void
two_tokens_of_one_second_differ(void **state)
{
    char *a = NULL, *b = NULL;
    uint64_t expires_s;

    (void)state;
    assert_int_equal(token_make(signer, 7, NOW, &a, &expires_s), RC_OK);
    assert_int_equal(token_make(signer, 7, NOW, &b, &expires_s), RC_OK);
    assert_string_not_equal(a, b);
    free(a);
    free(b);
}

static void
only_hs256_with_our_secret_counts(void **state)
{
    const char *claims = "{\"user_id\":7,\"exp\":1800000100}";

    (void)state;
    assert_forged(JWT_ALG_HS256, secret, claims, RC_OK);
    assert_forged(JWT_ALG_HS384, secret, claims, RC_UNAUTHORIZED);
    assert_forged(JWT_ALG_HS512, secret, claims, RC_UNAUTHORIZED);
    assert_forged(JWT_ALG_HS256, "another secret of thirty-two bytes", claims,
                  RC_UNAUTHORIZED);
    assert_forged(JWT_ALG_NONE, NULL, claims, RC_UNAUTHORIZED);
}

static void
claims_must_be_there_and_sensible(void **state)
{
    static const char *const bad[] = {
        "{\"user_id\":7}",
        "{\"exp\":1800000100}",
        "{}",
        "{\"user_id\":0,\"exp\":1800000100}",
        "{\"user_id\":-7,\"exp\":1800000100}",
        "{\"user_id\":9007199254740992,\"exp\":1800000100}",
        "{\"user_id\":\"7\",\"exp\":1800000100}",
        "{\"user_id\":7.5,\"exp\":1800000100}",
        "{\"user_id\":true,\"exp\":1800000100}",
        "{\"user_id\":[7],\"exp\":1800000100}",
        "{\"user_id\":7,\"exp\":1800000000}",
        "{\"user_id\":7,\"exp\":-1}",
        "{\"user_id\":7,\"exp\":0}",
        "{\"user_id\":7,\"exp\":\"1800000100\"}",
        "{\"user_id\":7,\"exp\":null}",
        "{\"user_id\":7,\"exp\":1800000100,\"nbf\":1800000001}",
        "{\"user_id\":7,\"exp\":1800000100,\"nbf\":\"x\"}",
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_forged(JWT_ALG_HS256, secret, bad[i], RC_UNAUTHORIZED);
    assert_forged(JWT_ALG_HS256, secret,
                  "{\"user_id\":1,\"exp\":1800000001,\"nbf\":1800000000,\"x\":{}}",
                  RC_OK);
    assert_forged(JWT_ALG_HS256, secret, "{\"user_id\":1,\"exp\":9223372036854775807}",
                  RC_OK);
}

static void
a_changed_token_is_refused_wherever_it_was_changed(void **state)
{
    char *token = NULL;
    uint64_t expires_s, user;
    size_t n;

    (void)state;
    assert_int_equal(token_make(signer, 7, NOW, &token, &expires_s), RC_OK);
    n = strlen(token);
    for (size_t i = 0; i < n - 1; i++) { /* the last letter has bits that mean nothing */
        char was = token[i];

        token[i] = was == 'A' ? 'B' : 'A';
        assert_int_equal(check((svc_str){token, n}, &user), RC_UNAUTHORIZED);
        token[i] = was;
    }
    for (size_t i = 0; i < n - 1; i++)
        assert_int_equal(check((svc_str){token, i}, &user), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){token, n}, &user), RC_OK);
    free(token);
}

static void
what_is_no_token_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "a..c",
        ".b.c",
        "a.b.",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
        "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjo3fQ.",
        "a b.c.d",
        "a+/=.b.c",
        "eyJhbGciOiJIUzI1NiJ9.e30.AAAA",
        "W10.W10.AAAA",
        "e30.e30.AAAA",
    };
    char big[PROTO_TOKEN_MAX_BYTES + 2];
    uint64_t user;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_int_equal(check(svc_str_c(bad[i]), &user), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){NULL, 0}, &user), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){"a\0b.c.d", 7}, &user), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){"\xff.\xff.\xff", 5}, &user), RC_UNAUTHORIZED);
    memset(big, 'a', sizeof(big));
    big[5] = big[10] = '.';
    assert_int_equal(check((svc_str){big, sizeof(big)}, &user), RC_UNAUTHORIZED);
    assert_int_equal(check((svc_str){big, PROTO_TOKEN_MAX_BYTES}, &user),
                     RC_UNAUTHORIZED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_token_tells_its_user_until_it_expires),
        cmocka_unit_test(a_token_has_the_claims_of_the_contract),
        cmocka_unit_test(two_tokens_of_one_second_differ),
        cmocka_unit_test(only_hs256_with_our_secret_counts),
        cmocka_unit_test(claims_must_be_there_and_sensible),
        cmocka_unit_test(a_changed_token_is_refused_wherever_it_was_changed),
        cmocka_unit_test(what_is_no_token_is_refused),
    };

    return cmocka_run_group_tests(tests, make_signer, free_signer);
}
