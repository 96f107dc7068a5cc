/* test_svc_config_value.c - each type of value at its edges: what is taken, what is refused, what stays.
 *
 * The keys are made for the tests; those of the real table are in test_svc_config_keys.c. A refusal
 * must say what would have been right, must not repeat the value, and must change nothing. */
#include "svc/svc_config_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define ADD(list, text) svc_strings_add(&(list), SVC_LIT(text))

/* One value of each type. */
typedef struct {
    char *text;
    uint32_t u32;
    uint64_t u64;
    double real;
    bool yes;
    int choice;
    svc_strings_t list;
} values_t;

static char *last_wrong; /* what the latest refusal expected */

static bool
set(const config_key_t *key, void *base, svc_str text)
{
    free(last_wrong);
    last_wrong = NULL;
    return svc_config_set(key, base, text, &last_wrong);
}

static void
assert_refused(const config_key_t *key, void *base, svc_str text, const char *wanted)
{
    if (set(key, base, text))
        fail_msg("taken: %.*s", (int)text.n, text.p);
    assert_non_null(last_wrong);
    if (strcmp(last_wrong, wanted) != 0)
        fail_msg("'%.*s' expected %s, not %s", (int)text.n, text.p, last_wrong, wanted);
}

static int
forget_wrong(void **state)
{
    (void)state;
    free(last_wrong);
    last_wrong = NULL;
    return 0;
}

/* --- numbers ----------------------------------------------------------------------------------- */

static void
numbers_are_digits_within_their_bounds(void **state)
{
    static const char *const bad[] = {
        "",
        "9",
        "101",
        "-10",
        "+10",
        " 10",
        "10 ",
        "1e1",
        "0x10",
        "10.0",
        "ten",
        "1_0",
        "10s",
        "\xD9\xA1\xD9\xA0", /* Arabic digits */
        "18446744073709551626" /* 10 more than 64 bits hold */,
        "0000000000000000010",
    };
    const config_key_t key = {.path = "k",
                              .type = CONFIG_U32,
                              .min = 10,
                              .max = 100,
                              .unit = "s",
                              .where = offsetof(values_t, u32)};
    values_t values = {.u32 = 55};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &values, svc_str_c(bad[i]), "a number from 10 to 100 s");
        assert_int_equal(values.u32, 55);
    }
    assert_true(set(&key, &values, SVC_LIT("10")));
    assert_int_equal(values.u32, 10);
    assert_true(set(&key, &values, SVC_LIT("0100")));
    assert_int_equal(values.u32, 100);
}

static void
large_numbers_are_taken_whole(void **state)
{
    config_key_t key = {.path = "k",
                        .type = CONFIG_U64,
                        .max = UINT64_MAX,
                        .unit = "",
                        .where = offsetof(values_t, u64)};
    values_t values = {0};

    (void)state;
    assert_true(set(&key, &values, SVC_LIT("999999999999999999")));
    assert_true(values.u64 == 999999999999999999u);
    assert_refused(&key, &values, SVC_LIT("1000000000000000000"),
                   "a number from 0 to 18446744073709551615");
    key.type = CONFIG_U32;
    key.max = UINT32_MAX;
    key.where = offsetof(values_t, u32);
    assert_true(set(&key, &values, SVC_LIT("4294967295")));
    assert_int_equal(values.u32, UINT32_MAX);
    assert_refused(&key, &values, SVC_LIT("4294967296"), "a number from 0 to 4294967295");
    assert_true(values.u64 == 999999999999999999u); /* its neighbour is untouched */
}

static void
shares_are_digits_with_one_point(void **state)
{
    static const char *const bad[] = {
        "",     ".",     "1.1",  "-0.1", "+0.5",
        "1e-1", "0x0.8", "inf",  "nan",  "0,5",
        "0.5 ", " 0.5",  "0..5", "0.5.", "0.00000000000000000000000000000001",
    };
    static const struct {
        const char *text;
        double value;
    } good[] = {{"0", 0}, {"1", 1}, {"0.5", 0.5}, {".25", 0.25}, {"1.", 1}, {"1.0", 1}};
    const config_key_t key = {.path = "k",
                              .type = CONFIG_REAL,
                              .max = 1,
                              .unit = "",
                              .where = offsetof(values_t, real)};
    values_t values = {.real = 0.125};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &values, svc_str_c(bad[i]),
                       "a number from 0 to 1, like 0.3");
        assert_true(values.real == 0.125);
    }
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        assert_true(set(&key, &values, svc_str_c(good[i].text)));
        assert_true(values.real == good[i].value);
    }
}

/* --- words --------------------------------------------------------------------------------------- */

static void
yes_and_no_are_true_and_false_and_no_other_word(void **state)
{
    static const char *const bad[] = {"", "yes", "no", "True", "TRUE", "1", "0", "true "};
    const config_key_t key = {
        .path = "k", .type = CONFIG_BOOL, .unit = "", .where = offsetof(values_t, yes)};
    values_t values = {.yes = true};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &values, svc_str_c(bad[i]), "true or false");
        assert_true(values.yes);
    }
    assert_true(set(&key, &values, SVC_LIT("false")));
    assert_false(values.yes);
    assert_true(set(&key, &values, SVC_LIT("true")));
    assert_true(values.yes);
}

static void
a_choice_is_one_of_its_names(void **state)
{
    static const char *const names[] = {"red", "green", "blue", NULL};
    static const char *const bad[] = {"", "Red", "re", "redd", "red,green", "0"};
    const config_key_t key = {.path = "k",
                              .type = CONFIG_CHOICE,
                              .unit = "",
                              .where = offsetof(values_t, choice),
                              .choices = names};
    values_t values = {.choice = 7};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &values, svc_str_c(bad[i]), "one of red, green, blue");
        assert_int_equal(values.choice, 7);
    }
    assert_true(set(&key, &values, SVC_LIT("blue")));
    assert_int_equal(values.choice, 2);
}

/* --- texts --------------------------------------------------------------------------------------- */

static void
texts_are_printable_and_only_long_ones_have_lines(void **state)
{
    static const svc_str controls[] = {
        SVC_LIT("a\0b"), SVC_LIT("a\x01"), SVC_LIT("\x1B[31m"),     SVC_LIT("\x7F"),
        SVC_LIT("\xFF"), SVC_LIT("\xC3"),  SVC_LIT("\xED\xA0\x80"),
    };
    static const svc_str lines[] = {SVC_LIT("a\nb"), SVC_LIT("a\rb"), SVC_LIT("a\tb")};
    static const char wanted[] = "a text in UTF-8 without control characters";
    config_key_t key = {.path = "k", .unit = "", .max = 10};
    values_t values = {.text = svc_str_dup(SVC_LIT("kept"))};

    (void)state;
    for (int type = CONFIG_STRING; type <= CONFIG_SECRET; type++) {
        key.type = (config_type)type;
        for (size_t i = 0; i < SVC_COUNT(controls); i++)
            assert_refused(&key, &values, controls[i], wanted);
        for (size_t i = 0; i < SVC_COUNT(lines) && type != CONFIG_TEXT; i++)
            assert_refused(&key, &values, lines[i], wanted);
        assert_string_equal(values.text, "kept");
    }
    key.type = CONFIG_TEXT;
    for (size_t i = 0; i < SVC_COUNT(lines); i++) {
        assert_true(set(&key, &values, lines[i]));
        assert_int_equal(strlen(values.text), 3);
    }
    assert_true(set(&key, &values, SVC_LIT("gr\xC3\xBC\xC3\x9F")));
    assert_string_equal(values.text, "gr\xC3\xBC\xC3\x9F");
    free(values.text);
}

static void
texts_keep_their_length(void **state)
{
    const config_key_t key = {
        .path = "k", .type = CONFIG_SECRET, .unit = "", .min = 2, .max = 4};
    values_t values = {.text = svc_str_dup(SVC_LIT("old"))};

    (void)state;
    assert_refused(&key, &values, SVC_LIT("a"), "a text that is not empty");
    assert_refused(&key, &values, SVC_LIT("abcde"), "a text of at most 4 bytes");
    assert_string_equal(values.text, "old");
    assert_true(set(&key, &values, SVC_LIT("ab")));
    assert_true(set(&key, &values, SVC_LIT("abcd")));
    assert_string_equal(values.text, "abcd");
    free(values.text);
}

/* --- addresses ----------------------------------------------------------------------------------- */

static void
a_listening_address_is_a_port_or_an_address_of_this_machine_and_a_port(void **state)
{
    static const struct {
        const char *text, *host;
        int port;
    } good[] = {
        {"8080", "", 8080},
        {":1", "", 1},
        {"65535", "", 65535},
        {"*:80", "", 80},
        {"127.0.0.1:80", "127.0.0.1", 80},
        {"localhost:80", "127.0.0.1", 80},
        {"[::1]:80", "::1", 80},
        {"[::]:80", "::", 80},
    };
    static const char *const bad[] = {"",
                                      "0",
                                      ":0",
                                      "65536",
                                      ":65536",
                                      "::1:80",
                                      "[::1]",
                                      "[::1]80",
                                      "[]:80",
                                      "[::1:80",
                                      "::1]:80",
                                      "[127.0.0.1]:80",
                                      "1.2.3:80",
                                      "256.1.1.1:80",
                                      "example.org:80",
                                      "127.0.0.1:",
                                      "127.0.0.1:0",
                                      "::",
                                      "80:80:80",
                                      " 80",
                                      "8080/",
                                      "http://:80",
                                      "[::1%lo]:80"};
    const config_key_t key = {.path = "k", .type = CONFIG_LISTEN, .unit = ""};
    svc_config_t config = {.server_host = svc_str_dup(SVC_LIT("kept")), .server_port = 7};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &config, svc_str_c(bad[i]),
                       "a port from 1 to 65535, or address:port");
        assert_string_equal(config.server_host, "kept");
        assert_int_equal(config.server_port, 7);
    }
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        assert_true(set(&key, &config, svc_str_c(good[i].text)));
        assert_string_equal(config.server_host, good[i].host);
        assert_int_equal(config.server_port, good[i].port);
    }
    svc_config_release(&(const config_key_t[]){key, {0}}[0], &config);
    assert_null(config.server_host);
}

static void
endpoints_and_addresses_have_a_host_and_a_port(void **state)
{
    static const char *const good[] = {"h:1", "a.b-c:65535", "[::1]:7", "*:7",
                                       "10.1.1.1:80"};
    static const char *const bad[] = {"h",    ":1",     "h:",    "h:0",   "h:65536",
                                      "h:1x", "h: 1",   "a/b:1", "a b:1", "::1:7",
                                      "[]:7", "[::1:7", "a@b:1", "'a':1", "\"a\":1"};
    config_key_t key = {.path = "k", .unit = "", .min = 1, .max = 100};
    values_t values = {.text = svc_str_dup(SVC_LIT("kept"))};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        char endpoint[64];

        (void)snprintf(endpoint, sizeof(endpoint), "tcp://%s", bad[i]);
        key.type = CONFIG_ADDRESS;
        assert_refused(&key, &values, svc_str_c(bad[i]), "host:port, or nothing");
        key.type = CONFIG_ENDPOINT;
        assert_refused(&key, &values, svc_str_c(endpoint), "tcp://host:port");
        assert_refused(&key, &values, svc_str_c(bad[i]), "tcp://host:port");
        assert_string_equal(values.text, "kept");
    }
    assert_refused(&key, &values, SVC_LIT("tcp://a:1,tcp://b:1"), "one tcp://host:port");
    assert_refused(&key, &values, SVC_LIT(""), "tcp://host:port");
    key.min = 0;
    assert_true(set(&key, &values, SVC_LIT("")));
    assert_string_equal(values.text, "");
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        char endpoint[64];

        (void)snprintf(endpoint, sizeof(endpoint), "tcp://%s", good[i]);
        key.type = CONFIG_ENDPOINT;
        assert_true(set(&key, &values, svc_str_c(endpoint)));
        assert_string_equal(values.text, endpoint);
        key.type = CONFIG_ADDRESS;
        assert_true(set(&key, &values, svc_str_c(good[i])));
    }
    assert_true(set(&key, &values, SVC_LIT("")));
    assert_string_equal(values.text, "");
    free(values.text);
}

static void
endpoints_of_replicas_stand_between_commas(void **state)
{
    static const char *const good[][2] = {
        {"tcp://h:1", "tcp://h:1"},
        {"tcp://h:1,tcp://[::1]:2", "tcp://h:1,tcp://[::1]:2"},
        {"  tcp://h:1 ,  tcp://i:2,tcp://h:1 ", "tcp://h:1,tcp://i:2,tcp://h:1"}};
    static const char *const bad[] = {"",
                                      " ",
                                      ",",
                                      "tcp://h:1,",
                                      ",tcp://h:1",
                                      "tcp://h:1,,tcp://i:1",
                                      "tcp://h:1;tcp://i:1",
                                      "tcp://h:1,i:1",
                                      "tcp://h:1 tcp://i:1",
                                      "tcp://h:1, "};
    config_key_t key = {
        .path = "k", .unit = "", .min = 1, .max = 100, .type = CONFIG_ENDPOINTS};
    values_t values = {.text = svc_str_dup(SVC_LIT("kept"))};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &values, svc_str_c(bad[i]),
                       "tcp://host:port, or several by commas");
        assert_string_equal(values.text, "kept");
    }
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        assert_true(set(&key, &values, svc_str_c(good[i][0])));
        assert_string_equal(values.text, good[i][1]);
    }
    free(values.text);
}

static void
a_url_has_a_host_no_query_and_loses_its_last_slashes(void **state)
{
    static const char *const bad[] = {
        "",        "http://",  "https://",   "http:///v1",   "ftp://h",   "h/v1",
        "http//h", "HTTP://h", "http://h v", "http://h?a=b", "http://h#a"};
    static const char *const good[][2] = {
        {"http://h", "http://h"},
        {"https://h/v1", "https://h/v1"},
        {"https://h/v1/", "https://h/v1"},
        {"http://h///", "http://h"},
        {"http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"},
    };
    const config_key_t key = {.path = "k", .type = CONFIG_URL, .unit = "", .max = 100};
    values_t values = {.text = svc_str_dup(SVC_LIT("kept"))};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        assert_refused(&key, &values, svc_str_c(bad[i]), "a URL like https://host/v1");
        assert_string_equal(values.text, "kept");
    }
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        assert_true(set(&key, &values, svc_str_c(good[i][0])));
        assert_string_equal(values.text, good[i][1]);
    }
    free(values.text);
}

static void
loopback_is_what_no_other_machine_reaches(void **state)
{
    static const char *const loopback[] = {"tcp://127.0.0.1:1", "tcp://127.9.9.9:1",
                                           "tcp://localhost:1", "tcp://[::1]:1"};
    static const char *const others[] = {"tcp://0.0.0.0:1",
                                         "tcp://*:1",
                                         "tcp://[::]:1",
                                         "tcp://10.0.0.1:1",
                                         "tcp://127.0.0.1.example.org:1",
                                         "tcp://127.1:1",
                                         "tcp://localhost.example:1",
                                         "tcp://h:1",
                                         "tcp://",
                                         "",
                                         "127.0.0.1:1"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(loopback); i++)
        if (!svc_config_is_loopback(loopback[i]))
            fail_msg("%s is loopback", loopback[i]);
    for (size_t i = 0; i < SVC_COUNT(others); i++)
        if (svc_config_is_loopback(others[i]))
            fail_msg("%s is not loopback", others[i]);
}

/* --- lists --------------------------------------------------------------------------------------- */

static void
a_list_is_split_at_commas_and_stays_as_it_was_when_an_item_is_bad(void **state)
{
    const config_key_t key = {.path = "k",
                              .type = CONFIG_LIST,
                              .unit = "",
                              .max = 3,
                              .where = offsetof(values_t, list)};
    values_t values = {0};

    (void)state;
    assert_true(svc_config_is_list(&key));
    assert_true(set(&key, &values, SVC_LIT(" a ,b\x20\x20,  c d")));
    assert_int_equal(values.list.n, 3);
    assert_string_equal(values.list.items[0], "a");
    assert_string_equal(values.list.items[2], "c d");
    assert_refused(&key, &values, SVC_LIT("a,b,c,d"), "at most 3 items");
    assert_refused(&key, &values, SVC_LIT("a,,b"), "items that are not empty");
    assert_refused(&key, &values, SVC_LIT(","), "items that are not empty");
    assert_refused(&key, &values, SVC_LIT("x,a\tb"),
                   "a text in UTF-8 without control characters");
    assert_int_equal(values.list.n, 3);
    assert_string_equal(values.list.items[1], "b");
    assert_true(set(&key, &values, SVC_LIT("  ")));
    assert_int_equal(values.list.n, 0);
    svc_strings_fini(&values.list);
}

static void
items_are_bounded_one_by_one(void **state)
{
    const config_key_t key = {.path = "k",
                              .type = CONFIG_LIST,
                              .unit = "",
                              .max = 2,
                              .where = offsetof(values_t, list)};
    values_t values = {0};
    char *wrong = NULL, *long_item = svc_alloc(4098);

    (void)state;
    memset(long_item, 'x', 4097);
    assert_true(svc_config_add_item(&key, &values, (svc_str){long_item, 4096}, &wrong));
    assert_false(svc_config_add_item(&key, &values, (svc_str){long_item, 4097}, &wrong));
    assert_string_equal(wrong, "items of at most 4096 bytes");
    free(wrong);
    assert_true(svc_config_add_item(&key, &values, SVC_LIT("a, b"), &wrong));
    assert_string_equal(values.list.items[1], "a, b"); /* one item of the file */
    assert_false(svc_config_add_item(&key, &values, SVC_LIT("c"), &wrong));
    assert_string_equal(wrong, "at most 2 items");
    free(wrong);
    svc_config_clear_list(&key, &values);
    assert_int_equal(values.list.n, 0);
    assert_null(values.list.items);
    free(long_item);
}

static void
address_ranges_are_addresses_with_as_many_bits_as_they_have(void **state)
{
    static const char *const good[] = {"10.0.0.0/8", "1.2.3.4", "0.0.0.0/0", "1.2.3.4/32",
                                       "fd00::/8",   "::1",     "::/0",      "::1/128"};
    static const char *const bad[] = {
        "10.0.0.0/33", "::/129",      "10.0.0/8",   "10.0.0.0/",  "/8",     "h/8",
        "10.0.0.0/-1", "1.2.3.4/8/8", "1.2.3.4 /8", "01.2.3.4.5", "[::1]/8"};
    const config_key_t key = {.path = "k",
                              .type = CONFIG_CIDRS,
                              .unit = "",
                              .max = 100,
                              .where = offsetof(values_t, list)};
    values_t values = {0};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(good); i++) {
        assert_true(set(&key, &values, svc_str_c(good[i])));
        assert_int_equal(values.list.n, 1);
    }
    for (size_t i = 0; i < SVC_COUNT(bad); i++)
        assert_refused(&key, &values, svc_str_c(bad[i]),
                       "address ranges like 10.0.0.0/8 or fd00::/8");
    svc_strings_fini(&values.list);
}

static void
a_list_of_strings_can_be_emptied_and_used_again(void **state)
{
    svc_strings_t list = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        ADD(list, "x");
    svc_strings_fini(&list);
    svc_strings_fini(&list);
    assert_int_equal(list.n, 0);
    ADD(list, "y");
    assert_string_equal(list.items[0], "y");
    svc_strings_fini(&list);
}

static void
a_copied_value_is_the_same_whatever_its_type(void **state)
{
    (void)state;
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++) {
        static const char *const texts[] = {"other",
                                            "4",
                                            "7",
                                            "0.5",
                                            "true",
                                            "json",
                                            "postgresql",
                                            "bare",
                                            "debug",
                                            "a, b",
                                            "10.0.0.0/8, fd00::/8",
                                            "127.0.0.1:9",
                                            "tcp://127.0.0.1:9",
                                            "4096"};
        svc_config_t *a = svc_alloc(sizeof(*a)), *b = svc_alloc(sizeof(*b));
        size_t n_set = 0;

        svc_config_set_defaults(svc_config_keys, a);
        svc_config_set_defaults(svc_config_keys, b);
        assert_true(svc_config_same(key, a, b));
        for (size_t i = 0; i < SVC_COUNT(texts); i++) {
            if (!set(key, a, svc_str_c(texts[i])) || svc_config_same(key, a, b))
                continue;
            n_set++;
            svc_config_copy(key, b, a);
            assert_true(svc_config_same(key, a, b));
        }
        if (n_set == 0)
            fail_msg("no text sets %s", key->path);
        svc_config_release(svc_config_keys, a);
        svc_config_release(svc_config_keys, b);
        free(a);
        free(b);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_digits_within_their_bounds),
        cmocka_unit_test(large_numbers_are_taken_whole),
        cmocka_unit_test(shares_are_digits_with_one_point),
        cmocka_unit_test(yes_and_no_are_true_and_false_and_no_other_word),
        cmocka_unit_test(a_choice_is_one_of_its_names),
        cmocka_unit_test(texts_are_printable_and_only_long_ones_have_lines),
        cmocka_unit_test(texts_keep_their_length),
        cmocka_unit_test(
            a_listening_address_is_a_port_or_an_address_of_this_machine_and_a_port),
        cmocka_unit_test(endpoints_of_replicas_stand_between_commas),
        cmocka_unit_test(endpoints_and_addresses_have_a_host_and_a_port),
        cmocka_unit_test(a_url_has_a_host_no_query_and_loses_its_last_slashes),
        cmocka_unit_test(loopback_is_what_no_other_machine_reaches),
        cmocka_unit_test(
            a_list_is_split_at_commas_and_stays_as_it_was_when_an_item_is_bad),
        cmocka_unit_test(items_are_bounded_one_by_one),
        cmocka_unit_test(address_ranges_are_addresses_with_as_many_bits_as_they_have),
        cmocka_unit_test(a_list_of_strings_can_be_emptied_and_used_again),
        cmocka_unit_test(a_copied_value_is_the_same_whatever_its_type),
    };
    return cmocka_run_group_tests(tests, NULL, forget_wrong);
}
