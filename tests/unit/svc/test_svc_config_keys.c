/* test_svc_config_keys.c - the table of keys fits together: with itself, the struct and what is printed.
 *
 * Every row is looked at, so a new key is tested from the day it stands in the table. */
#include "clean_env.h"

#include "svc/svc_config_keys.h"

#include <ctype.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME_BYTES 128

/* A table, and the struct that its values live in. */
typedef struct {
    const config_key_t *keys;
    size_t size;
} table_t;

static const table_t tables[] = {
    {svc_config_keys, sizeof(svc_config_t)},
    {svc_config_provider_keys, sizeof(config_provider_t)},
};

static bool
is_text(const config_key_t *key)
{
    return key->type == CONFIG_STRING || key->type == CONFIG_TEXT ||
           key->type == CONFIG_SECRET;
}

static bool
is_whole_number(const config_key_t *key)
{
    return key->type == CONFIG_U32 || key->type == CONFIG_U64;
}

/* The variable that overrides a key, as the README says it is made. */
static void
variable_of(const config_key_t *key, const char *suffix, char out[NAME_BYTES])
{
    assert_true(snprintf(out, NAME_BYTES, "LLMB_%s%s", key->path, suffix) < NAME_BYTES);
    for (char *c = out; *c != '\0'; c++)
        *c = *c == '.' ? '_' : (char)toupper((unsigned char)*c);
}

static bool
takes(const config_key_t *key, void *base, svc_str text)
{
    char *wrong = NULL;
    const bool good = svc_config_set(key, base, text, &wrong);

    assert_int_equal(good, wrong == NULL);
    free(wrong);
    return good;
}

static void
every_row_says_what_it_must(void **state)
{
    static const char *const units[] = {"", "s", "bytes", "KiB", "MiB"};

    (void)state;
    for (size_t t = 0; t < SVC_COUNT(tables); t++)
        for (const config_key_t *key = tables[t].keys; key->path != NULL; key++) {
            bool is_known = false;

            for (size_t i = 0; i < SVC_COUNT(units); i++)
                is_known |= strcmp(key->unit, units[i]) == 0;
            if (!is_known)
                fail_msg("%s is in \"%s\"", key->path, key->unit);
            if (strlen(key->help) < 8 || strpbrk(key->help, "|\n`") != NULL)
                fail_msg("%s has no help, or one that breaks a table", key->path);
            if (strspn(key->path, "abcdefghijklmnopqrstuvwxyz0123456789_.[]") !=
                strlen(key->path))
                fail_msg("%s is no name", key->path);
            if (strlen(key->path) >= 64 || strlen(key->value) >= 100)
                fail_msg("%s is too long for what shows it", key->path);
            assert_true(key->min <= key->max);
            assert_int_equal(key->type == CONFIG_CHOICE, key->choices != NULL);
        }
}

static void
no_key_and_no_variable_is_named_twice(void **state)
{
    size_t n = 0;

    (void)state;
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++, n++)
        for (const config_key_t *other = svc_config_keys; other->path != NULL; other++) {
            char name[NAME_BYTES], of_file[NAME_BYTES], taken[NAME_BYTES];

            variable_of(key, "", name);
            variable_of(key, "_FILE", of_file);
            variable_of(other, "", taken);
            if (other != key)
                assert_string_not_equal(name, taken);
            assert_string_not_equal(of_file, taken);
        }
    assert_true(n <= CONFIG_KEYS_MAX);
    for (const config_key_t *key = svc_config_provider_keys; key->path != NULL; key++)
        for (const config_key_t *other = key + 1; other->path != NULL; other++)
            assert_string_not_equal(key->path, other->path);
}

/* The first part of a path; the file and --help go by sections in one piece. */
static size_t
section_length(const config_key_t *key)
{
    return strcspn(key->path, ".");
}

static void
a_section_stands_in_one_piece(void **state)
{
    (void)state;
    for (const config_key_t *key = svc_config_keys + 1; key->path != NULL; key++) {
        const size_t n = section_length(key);

        assert_true(key->path[n] == '.');
        if (strncmp(key[-1].path, key->path, n + 1) == 0)
            continue;
        for (const config_key_t *other = svc_config_keys; other < key; other++)
            if (strncmp(other->path, key->path, n + 1) == 0)
                fail_msg("%s stands apart from %s", key->path, other->path);
    }
}

/* Bytes that a value takes at key->where. */
static size_t
size_of(const config_key_t *key)
{
    switch (key->type) {
    case CONFIG_U32: return sizeof(uint32_t);
    case CONFIG_U64: return sizeof(uint64_t);
    case CONFIG_REAL: return sizeof(double);
    case CONFIG_BOOL: return sizeof(bool);
    case CONFIG_CHOICE: return sizeof(int);
    case CONFIG_LIST:
    case CONFIG_CIDRS: return sizeof(svc_strings_t);
    case CONFIG_LISTEN: return sizeof(uint16_t);
    default: return sizeof(char *);
    }
}

static void
no_two_values_share_a_place(void **state)
{
    (void)state;
    for (size_t t = 0; t < SVC_COUNT(tables); t++) {
        char *owner = svc_alloc(tables[t].size);

        for (const config_key_t *key = tables[t].keys; key->path != NULL; key++) {
            assert_true(key->where + size_of(key) <= tables[t].size);
            for (size_t i = 0; i < size_of(key); i++)
                if (owner[key->where + i]++ != 0)
                    fail_msg("%s lies on another value", key->path);
        }
        free(owner);
    }
}

static void
every_default_is_within_its_own_bounds(void **state)
{
    svc_config_t config = {0};

    (void)state;
    svc_config_set_defaults(svc_config_keys, &config);
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++)
        if (!takes(key, &config, svc_str_c(key->value)))
            fail_msg("%s does not take its default \"%s\"", key->path, key->value);
    svc_config_release(svc_config_keys, &config);
}

static void
a_provider_begins_with_what_it_may_leave_out(void **state)
{
    config_provider_t provider = {0};

    (void)state;
    svc_config_set_defaults(svc_config_provider_keys, &provider);
    for (const config_key_t *key = svc_config_provider_keys; key->path != NULL; key++) {
        const bool must = key->min > 0 && key->value[0] == '\0';
        const bool is_one_of_three = strcmp(key->path, "providers[].name") == 0 ||
                                     strcmp(key->path, "providers[].models") == 0 ||
                                     strcmp(key->path, "providers[].base_url") == 0;

        if (must != is_one_of_three)
            fail_msg("%s must%s be given", key->path, must ? "" : " not");
        if (!must && !takes(key, &provider, svc_str_c(key->value)))
            fail_msg("%s does not take its default", key->path);
    }
    assert_string_equal(provider.is.name, "");
    assert_int_equal(provider.is.models.n, 0);
    assert_int_equal(provider.is.connect_s, 5);
    svc_config_release(svc_config_provider_keys, &provider);
    assert_null(provider.is.name);
}

/* The value that stands at a key of a number. */
static uint64_t
number_at(const config_key_t *key, const void *base)
{
    const void *at = (const char *)base + key->where;

    return key->type == CONFIG_U32 ? *(const uint32_t *)at : *(const uint64_t *)at;
}

static void
check_number(const config_key_t *key, void *base)
{
    char text[32];

    assert_true(key->type == CONFIG_U64 || key->max <= UINT32_MAX);
    (void)snprintf(text, sizeof(text), "%" PRIu64, key->min);
    assert_true(takes(key, base, svc_str_c(text)));
    assert_int_equal(number_at(key, base), key->min);
    (void)snprintf(text, sizeof(text), "%" PRIu64, key->max);
    assert_true(takes(key, base, svc_str_c(text)));
    (void)snprintf(text, sizeof(text), "%" PRIu64, key->max + 1);
    assert_false(takes(key, base, svc_str_c(text)));
    if (key->min > 0) {
        (void)snprintf(text, sizeof(text), "%" PRIu64, key->min - 1);
        assert_false(takes(key, base, svc_str_c(text)));
    }
    assert_int_equal(number_at(key, base), key->max);
}

static void
check_text(const config_key_t *key, void *base, char *letters)
{
    char *const *at = (char *const *)(const void *)((char *)base + key->where);

    assert_true(takes(key, base, (svc_str){letters, key->max}));
    assert_false(takes(key, base, (svc_str){letters, key->max + 1}));
    assert_int_equal(strlen(*at), key->max);
    assert_int_equal(takes(key, base, SVC_LIT("")), key->min == 0);
}

static void
numbers_and_texts_are_taken_up_to_their_bounds(void **state)
{
    char *letters = svc_alloc(100001);

    (void)state;
    memset(letters, 'x', 100000);
    for (size_t t = 0; t < SVC_COUNT(tables); t++) {
        void *base = svc_alloc(tables[t].size);

        svc_config_set_defaults(tables[t].keys, base);
        for (const config_key_t *key = tables[t].keys; key->path != NULL; key++) {
            if (is_whole_number(key))
                check_number(key, base);
            else if (is_text(key))
                check_text(key, base, letters);
        }
        svc_config_release(tables[t].keys, base);
        free(base);
    }
    free(letters);
}

static void
addresses_and_urls_are_taken_up_to_their_bounds(void **state)
{
    static const struct {
        config_type type;
        const char *start, *end;
    } forms[] = {
        {CONFIG_ENDPOINT, "tcp://", ":1"},
        {CONFIG_ADDRESS, "", ":1"},
        {CONFIG_URL, "http://", ""},
    };
    config_key_t key = {.path = "k", .min = 0, .max = 100};
    char *value = NULL;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(forms); i++)
        for (int over = 0; over < 2; over++) {
            char text[128];
            const int letters = 100 + over -
                                (int)(strlen(forms[i].start) + strlen(forms[i].end));

            key.type = forms[i].type;
            (void)snprintf(
                text, sizeof(text), "%s%.*s%s", forms[i].start, letters,
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                forms[i].end);
            assert_int_equal(takes(&key, &value, svc_str_c(text)), over == 0);
            assert_int_equal(strlen(value), 100);
        }
    free(value);
}

static void
every_choice_can_be_chosen(void **state)
{
    svc_config_t config = {0};

    (void)state;
    svc_config_set_defaults(svc_config_keys, &config);
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++)
        for (int i = 0; key->choices != NULL && key->choices[i] != NULL; i++) {
            assert_true(takes(key, &config, svc_str_c(key->choices[i])));
            assert_int_equal(*(int *)(void *)((char *)&config + key->where), i);
        }
    svc_config_release(svc_config_keys, &config);
}

static void
every_key_listens_to_its_variable(void **state)
{
    char *error = NULL;

    (void)state;
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++) {
        char name[NAME_BYTES];
        svc_config_t *config;

        variable_of(key, "", name);
        assert_int_equal(setenv(name, key->value, 1), 0);
        config = svc_config_parse(SVC_LIT(""), "c.yaml", true, &error);
        if (config == NULL)
            fail_msg("%s=%s: %s", name, key->value, error);
        svc_config_destroy(&config);
        assert_int_equal(setenv(name, "a\x01z", 1), 0);
        config = svc_config_parse(SVC_LIT(""), "c.yaml", true, &error);
        if (config != NULL || strstr(error, name) == NULL)
            fail_msg("%s is not looked at", name);
        free(error);
        error = NULL;
        unsetenv(name);
    }
}

static char *
printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    assert_non_null(out);
    print(out);
    fclose(out);
    return text;
}

static void
the_table_of_the_readme_has_one_row_of_four_cells_for_each_key(void **state)
{
    char *text = printed(svc_config_print_table), *save = NULL;
    const char *line = strtok_r(text, "\n", &save);

    (void)state;
    assert_string_equal(line, "| key | default | bounds | meaning |");
    (void)strtok_r(NULL, "\n", &save);
    for (size_t t = 0; t < SVC_COUNT(tables); t++)
        for (const config_key_t *key = tables[t].keys; key->path != NULL; key++) {
            char start[NAME_BYTES];
            size_t bars = 0;

            line = strtok_r(NULL, "\n", &save);
            assert_non_null(line);
            (void)snprintf(start, sizeof(start), "| `%s` | `", key->path);
            assert_int_equal(strncmp(line, start, strlen(start)), 0);
            for (const char *c = line; *c != '\0'; c++)
                bars += *c == '|';
            assert_int_equal(bars, 5);
            assert_non_null(strstr(line, key->help));
        }
    assert_null(strtok_r(NULL, "\n", &save));
    free(text);
}

static void
help_says_each_key_with_its_default_as_the_file_would(void **state)
{
    static const char *const lines[] = {
        "  server.port                          where clients connect: 8080, :8080 or "
        "127.0.0.1:8080 (\"8080\")\n",
        "  server.cors_origins                  origins of web pages that may call; * for "
        "any ([\"*\"])\n",
        "  server.trusted_proxies               address ranges (CIDR) whose "
        "X-Forwarded-For is believed ([])\n",
        "  bus.insecure                         allow a bus off loopback without "
        "keys (false)\n",
        "  server.drain_s                       after SIGTERM: at most this long to "
        "finish what is there, in s (5)\n",
        "  redis.address                        host:port of a Redis: a cache, and where "
        "all auth-svc count wrong passwords; empty: in memory, each alone (\"\")\n",
    };
    char *text = printed(svc_config_print_help);

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(lines); i++)
        if (strstr(text, lines[i]) == NULL)
            fail_msg("--help has no line '%s'", lines[i]);
    free(text);
}

static int
prepare(void **state)
{
    (void)state;
    clean_env();
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_says_what_it_must),
        cmocka_unit_test(no_key_and_no_variable_is_named_twice),
        cmocka_unit_test(a_section_stands_in_one_piece),
        cmocka_unit_test(no_two_values_share_a_place),
        cmocka_unit_test(every_default_is_within_its_own_bounds),
        cmocka_unit_test(a_provider_begins_with_what_it_may_leave_out),
        cmocka_unit_test(numbers_and_texts_are_taken_up_to_their_bounds),
        cmocka_unit_test(addresses_and_urls_are_taken_up_to_their_bounds),
        cmocka_unit_test(every_choice_can_be_chosen),
        cmocka_unit_test(every_key_listens_to_its_variable),
        cmocka_unit_test(the_table_of_the_readme_has_one_row_of_four_cells_for_each_key),
        cmocka_unit_test(help_says_each_key_with_its_default_as_the_file_would),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
