/* test_client_addr.c - whom a request comes from, with and without proxies that may be believed.
 *
 * A client can write anything into X-Forwarded-For; only what trusted proxies
 * have appended counts. */
#include "gateway/client_addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static client_addr_t
addr(const char *text)
{
    client_addr_t out;

    if (!client_addr_parse(svc_str_c(text), &out))
        fail_msg("%s is no address", text);
    return out;
}

static client_trust_t *
trust(size_t n, char **cidrs)
{
    svc_strings_t list = {cidrs, n};
    char *error = NULL;
    client_trust_t *self = client_trust_new(&list, &error);

    if (self == NULL)
        fail_msg("%s", error);
    return self;
}

static void
addresses_are_read_and_written(void **state)
{
    static const char *const rows[][2] = {
        {"1.2.3.4", "1.2.3.4"},
        {"0.10.99.100", "0.10.99.100"},
        {"255.250.205.9", "255.250.205.9"},
        {" 1.2.3.4\t", "1.2.3.4"},
        {"1.2.3.4:8080", "1.2.3.4"},
        {"::1", "::1"},
        {"[2001:db8::7]:443", "2001:db8::7"},
        {"[::1]", "::1"},
        {"::ffff:10.0.0.1", "10.0.0.1"},
        {"2001:DB8::1", "2001:db8::1"},
    };
    static const char *const bad[] = {"",     " ",   "unknown",   "1.2.3", "1.2.3.4.5",
                                      "[::1", "::g", "256.1.1.1", ":80"};
    char text[CLIENT_ADDR_TEXT_BYTES];
    client_addr_t out;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        out = addr(rows[i][0]);
        client_addr_text(&out, text);
        assert_string_equal(text, rows[i][1]);
    }
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_false(client_addr_parse(svc_str_c(bad[i]), &out));
    assert_false(client_addr_parse((svc_str){"1.2.3.4\0x", 9}, &out));
}

static void
socket_addresses_of_both_families_are_understood(void **state)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    char text[CLIENT_ADDR_TEXT_BYTES];

    (void)state;
    inet_pton(AF_INET, "9.8.7.6", &v4.sin_addr);
    client_addr_t out = client_addr_of((struct sockaddr *)&v4);
    client_addr_text(&out, text);
    assert_string_equal(text, "9.8.7.6");
    inet_pton(AF_INET6, "::ffff:9.8.7.6", &v6.sin6_addr);
    client_addr_t mapped = client_addr_of((struct sockaddr *)&v6);
    assert_memory_equal(&mapped, &out, sizeof out);
}

static void
loopback_is_known(void **state)
{
    (void)state;
    client_addr_t yes[] = {addr("127.0.0.1"), addr("127.9.9.9"), addr("::1"),
                           addr("::ffff:127.0.0.1")};
    client_addr_t no[] = {addr("128.0.0.1"), addr("::2"), addr("::")};
    for (size_t i = 0; i < SVC_COUNT(yes); i++)
        assert_true(client_addr_is_loopback(&yes[i]));
    for (size_t i = 0; i < SVC_COUNT(no); i++)
        assert_false(client_addr_is_loopback(&no[i]));
}

static void
networks_match_by_prefix(void **state)
{
    char *cidrs[] = {(char *)"10.0.0.0/8", (char *)"192.168.1.128/25",
                     (char *)"2001:db8::/33", (char *)"7.7.7.7"};
    client_trust_t *self = trust(4, cidrs);

    (void)state;
    client_addr_t in[] = {addr("10.255.0.1"), addr("192.168.1.129"),
                          addr("2001:db8:7fff::1"), addr("7.7.7.7"),
                          addr("::ffff:10.1.1.1")};
    client_addr_t out[] = {addr("11.0.0.1"), addr("192.168.1.127"),
                           addr("2001:db8:8000::1"), addr("7.7.7.8"), addr("::10.1.1.1")};
    for (size_t i = 0; i < SVC_COUNT(in); i++)
        assert_true(client_trust_has(self, &in[i]));
    for (size_t i = 0; i < SVC_COUNT(out); i++)
        assert_false(client_trust_has(self, &out[i]));
    client_trust_destroy(&self);
}

static void
a_network_that_is_none_is_refused_by_name(void **state)
{
    static const char *const bad[] = {"10.0.0.0/33", "::/129",      "ten",
                                      "10.0.0.0/",   "10.0.0.0/-1", "10.0.0.0/8x"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        char *cidrs[] = {(char *)(uintptr_t)bad[i]};
        svc_strings_t list = {cidrs, 1};
        char *error = NULL;
        assert_null(client_trust_new(&list, &error));
        assert_non_null(strstr(error, bad[i]));
        free(error);
    }
}

static void
assert_client(const client_trust_t *self, const char *peer, const char *forwarded,
              const char *wanted)
{
    char text[CLIENT_ADDR_TEXT_BYTES];
    client_addr_t from = addr(peer);
    client_addr_t client = client_addr_behind(self, &from, svc_str_c(forwarded));

    client_addr_text(&client, text);
    assert_string_equal(text, wanted);
}

static void
only_trusted_proxies_are_believed(void **state)
{
    char *cidrs[] = {(char *)"10.0.0.0/8"};
    client_trust_t *self = trust(1, cidrs);

    (void)state;
    assert_client(self, "5.5.5.5", "1.1.1.1", "5.5.5.5");
    assert_client(self, "10.0.0.1", "", "10.0.0.1");
    assert_client(self, "10.0.0.1", "1.1.1.1", "1.1.1.1");
    assert_client(self, "10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1");
    assert_client(self, "10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1");
    assert_client(self, "10.0.0.1", "10.0.0.3,10.0.0.2", "10.0.0.3");
    assert_client(self, "10.0.0.1", "1.1.1.1, nonsense", "10.0.0.1");
    assert_client(self, "10.0.0.1", ",,", "10.0.0.1");
    assert_client(self, "10.0.0.1", "nonsense, 10.0.0.2", "10.0.0.2");
    client_trust_destroy(&self);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_read_and_written),
        cmocka_unit_test(socket_addresses_of_both_families_are_understood),
        cmocka_unit_test(loopback_is_known),
        cmocka_unit_test(networks_match_by_prefix),
        cmocka_unit_test(a_network_that_is_none_is_refused_by_name),
        cmocka_unit_test(only_trusted_proxies_are_believed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
