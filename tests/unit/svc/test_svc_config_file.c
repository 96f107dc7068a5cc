/* test_svc_config_file.c - config.yaml event by event: which YAML is taken, and where a fault is said to be.
 *
 * The file is read straight into a struct with its defaults; checks that concern several keys and
 * the environment are in test_svc_config.c. Every refusal is one line that begins with file and line. */
#include "clean_env.h"

#include "svc/svc_config_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct {
    svc_config_t config;
    config_source_t source;
    char *error; /* of the latest read */
} world_t;

static void
clear(world_t *w)
{
    svc_config_release(svc_config_keys, &w->config);
    for (size_t i = 0; i < w->source.n_providers; i++) {
        svc_config_release(svc_config_provider_keys, &w->source.providers[i]);
    }
    free(w->source.providers);
    free(w->error);
    *w = (world_t){0};
}

static int
set_up(void **state)
{
    *state = svc_alloc(sizeof(world_t));
    return 0;
}

static int
tear_down(void **state)
{
    clear(*state);
    free(*state);
    return 0;
}

/* Reads a file over the defaults, nothing else. */
static bool
reads(world_t *w, svc_str yaml)
{
    clear(w);
    w->source.name = "c.yaml";
    svc_config_set_defaults(svc_config_keys, &w->config);
    const bool good = svc_config_read_file(&w->config, &w->source, yaml, &w->error);
    assert_int_equal(good, w->error == NULL);
    return good;
}

static void
assert_read(world_t *w, const char *yaml)
{
    if (!reads(w, svc_str_c(yaml)))
        fail_msg("'%s' is refused: %s", yaml, w->error);
}

/* The message must be this one, whole. */
static void
assert_refused(world_t *w, const char *yaml, const char *wanted)
{
    if (reads(w, svc_str_c(yaml)))
        fail_msg("taken: %s", yaml);
    if (strcmp(w->error, wanted) != 0)
        fail_msg("'%s' said '%s'", yaml, w->error);
}

/* The message must begin so, and be one printable line. */
static void
assert_refused_at(world_t *w, svc_str yaml, const char *where)
{
    if (reads(w, yaml))
        fail_msg("taken: %.*s", (int)yaml.n, yaml.p);
    if (strncmp(w->error, where, strlen(where)) != 0)
        fail_msg("'%.*s' said '%s'", (int)yaml.n, yaml.p, w->error);
    assert_true(strlen(w->error) < 300);
    for (const char *c = w->error; *c != '\0'; c++)
        assert_true(*c >= 0x20 && *c < 0x7F);
}

static size_t
row_of(const char *path)
{
    return (size_t)(svc_config_find_key(svc_config_keys, path) - svc_config_keys);
}

/* --- what is taken ---------------------------------------------------------------------------- */

static void
a_file_may_say_nothing(void **state)
{
    static const char *const empty[] = {"",
                                        "\n\n",
                                        "# only a remark",
                                        "---\n",
                                        "---\n...\n",
                                        "~",
                                        "null",
                                        "{}",
                                        "server:\n",
                                        "server: {}",
                                        "providers:\n",
                                        "providers: []",
                                        "server: ~\nlog: null\n"};
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(empty); i++) {
        assert_read(w, empty[i]);
        assert_int_equal(w->config.server_port, 8080);
        assert_int_equal(w->source.n_providers, 0);
    }
}

static void
block_and_flow_quotes_and_folds_say_the_same(void **state)
{
    static const char *const same[] = {
        "redis:\n  password: a b\n  db: 3\n",
        "redis: {password: a b, db: 3}",
        "redis:\r\n  password: 'a b'\r\n  db: \"3\"\r\n",
        "redis.password: a b\nredis.db: 3",
        "\"redis\":\n  \"password\": \"a\\x20b\"\n  ? db\n  : 3\n",
        "redis:\n  password: >-\n    a\n    b\n  db: !!int 3\n",
        "\xEF\xBB\xBFredis:\n  password: &p a b   # a remark\n  db: 3\n",
        "%YAML 1.1\n---\nredis: {db: 3, password: a b}\n...\n",
    };
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(same); i++) {
        assert_read(w, same[i]);
        assert_string_equal(w->config.redis_password, "a b");
        assert_int_equal(w->config.redis_db, 3);
    }
}

static void
a_value_remembers_its_line(void **state)
{
    world_t *w = *state;

    assert_read(w, "# one\nlog:\n  level: warn\n\n  format: json\nproviders:\n"
                   "  - name: a\n  -\n    name: b\n");
    assert_int_equal(w->source.line[row_of("log.level")], 3);
    assert_int_equal(w->source.line[row_of("log.format")], 5);
    assert_int_equal(w->source.line[row_of("redis.db")], 0);
    assert_true(w->source.has_providers);
    assert_int_equal(w->source.n_providers, 2);
    assert_int_equal(w->source.providers[0].line, 7);
    assert_int_equal(w->source.providers[1].line, 9);
    assert_string_equal(w->source.providers[1].is.name, "b");
    assert_read(w, "log: {level: warn}");
    assert_false(w->source.has_providers);
}

static void
nothing_is_only_what_stands_without_quotes(void **state)
{
    world_t *w = *state;

    assert_read(w, "redis: {password: ~}");
    assert_string_equal(w->config.redis_password, "");
    assert_read(w, "redis: {password: '~'}");
    assert_string_equal(w->config.redis_password, "~");
    assert_read(w, "redis: {password: \"null\"}");
    assert_string_equal(w->config.redis_password, "null");
    assert_read(w, "redis: {password: yes}"); /* a text, whatever YAML 1.1 thinks */
    assert_string_equal(w->config.redis_password, "yes");
}

static void
a_list_replaces_its_default(void **state)
{
    world_t *w = *state;

    assert_int_equal(svc_config_is_list(&svc_config_keys[row_of("server.cors_origins")]),
                     true);
    assert_read(w, "server: {cors_origins: [a, 'b, c']}");
    assert_int_equal(w->config.server_cors_origins.n, 2);
    assert_string_equal(w->config.server_cors_origins.items[1], "b, c");
    assert_read(w, "server:\n  cors_origins:\n  - a\n  - b\n  - c\n");
    assert_int_equal(w->config.server_cors_origins.n, 3);
    assert_read(w, "server: {cors_origins: []}");
    assert_int_equal(w->config.server_cors_origins.n, 0);
}

/* --- what is refused, and where ------------------------------------------------------------------ */

static void
a_bad_value_is_told_with_its_line(void **state)
{
    world_t *w = *state;

    assert_refused(w, "log:\n  # so\n  level: loud\n",
                   "c.yaml:3: log.level: expected one of debug, info, warn, error, got "
                   "\"loud\"");
    assert_refused(w, "server:\n  drain_s:\n    5 s\n",
                   "c.yaml:3: server.drain_s: expected a number from 0 to 3600 s, got "
                   "\"5 s\"");
    assert_refused(w, "log:\n  level: |\n    loud\n", /* ends a line later */
                   "c.yaml:2: log.level: expected a text in UTF-8 without control "
                   "characters, got \"loud?\"");
    assert_refused(w, "redis: {\n db: x\n}",
                   "c.yaml:2: redis.db: expected a number from 0 to 65535, got \"x\"");
    assert_refused(w, "server:\n  trusted_proxies:\n  - 10.0.0.0/8\n  - here\n",
                   "c.yaml:4: server.trusted_proxies: expected address ranges like "
                   "10.0.0.0/8 or fd00::/8, got \"here\"");
}

static void
a_message_shows_a_bounded_printable_part_and_nothing_of_a_secret(void **state)
{
    world_t *w = *state;
    char yaml[1000];

    assert_refused(w, "log: {level: \"a\\e[31m\xC3\xBC\"}",
                   "c.yaml:1: log.level: expected a text in UTF-8 without control "
                   "characters, got \"a?[31m??\"");
    (void)snprintf(yaml, sizeof(yaml), "log: {level: %0500d}", 0);
    assert_refused_at(w, svc_str_c(yaml), "c.yaml:1: log.level: expected one of");
    assert_non_null(strstr(w->error, "000...\""));
    (void)snprintf(yaml, sizeof(yaml), "%0500d: 1", 7);
    assert_refused_at(w, svc_str_c(yaml), "c.yaml:1: unknown key \"000");
    assert_refused(w, "jwt: {secret: \"hush\\x01\"}",
                   "c.yaml:1: jwt.secret: expected a text in UTF-8 without control "
                   "characters");
}

static void
an_unknown_key_is_told_with_the_one_that_was_meant(void **state)
{
    world_t *w = *state;

    assert_refused(w, "log:\n  levl: info\n",
                   "c.yaml:2: unknown key \"log.levl\" (did you mean \"log.level\"?)");
    assert_refused(w, "\nlogg: {}\n",
                   "c.yaml:2: unknown key \"logg\" (did you mean \"log\"?)");
    assert_refused(w, "zzz: 1\n", "c.yaml:1: unknown key \"zzz\"");
    assert_refused(w, "'': 1\n", "c.yaml:1: unknown key \"\"");
    assert_refused(w, "log: {'': 1}\n", "c.yaml:1: unknown key \"log.\"");
    assert_refused(w, "log: {level.x: 1}\n",
                   "c.yaml:1: unknown key \"log.level.x\" (did you mean \"log.level\"?)");
    assert_refused(w, "providers:\n- name: a\n  modles: [b]\n",
                   "c.yaml:3: unknown key \"providers[].modles\" (did you mean "
                   "\"providers[].models\"?)");
    assert_refused(w, "<<: {}\n", "c.yaml:1: unknown key \"<<\""); /* no merging */
}

static void
a_key_stands_once_however_it_is_written(void **state)
{
    world_t *w = *state;

    assert_refused(w, "redis:\n  db: 1\n  db: 1\n",
                   "c.yaml:3: key \"redis.db\" stands here a second time");
    assert_refused(w, "redis.db: 1\nredis:\n  'db': 1\n",
                   "c.yaml:3: key \"redis.db\" stands here a second time");
    assert_refused(w, "redis:\n\nredis: {}\n",
                   "c.yaml:3: key \"redis\" stands here a second time");
    assert_refused(w, "providers: []\nproviders: []\n",
                   "c.yaml:2: key \"providers\" stands here a second time");
    assert_refused(w, "providers: [{name: a}, {idle_s: 1, idle_s: 2}]",
                   "c.yaml:1: key \"providers[].idle_s\" stands here a second time");
    assert_read(w, "providers: [{name: a}, {name: b}]");
}

static void
aliases_are_refused_so_nothing_can_multiply(void **state)
{
    world_t *w = *state;

    assert_refused(w, "log: {level: &x info}\nredis: {password: *x}\n",
                   "c.yaml:2: aliases are not supported");
    assert_refused(w, "log: &x {level: info}\nredis: *x\n",
                   "c.yaml:2: aliases are not supported");
    assert_refused(w, "server: {cors_origins: [&x a, *x]}\n",
                   "c.yaml:1: aliases are not supported");
    assert_refused(w, "providers: [&x {name: a}, *x]\n",
                   "c.yaml:1: aliases are not supported");
    assert_refused(w, "*x : 1\n", "c.yaml:1: aliases are not supported");
    assert_refused(w, "server: &x\n  cors_origins: *x\n", /* itself */
                   "c.yaml:2: aliases are not supported");
}

static void
another_shape_is_refused_where_it_begins(void **state)
{
    static const char *const cases[][2] = {
        {"- a\n", "c.yaml:1: expected sections like \"server:\""},
        {"a\n", "c.yaml:1: expected sections like \"server:\""},
        {"log:\n  - a\n", "c.yaml:2: log: expected a section with keys of its own"},
        {"log: info\n", "c.yaml:1: log: expected a section with keys of its own"},
        {"bus:\n  auth: tcp://h:1\n",
         "c.yaml:2: bus.auth: expected a section with keys of its own"},
        {"log:\n  level: [info]\n", "c.yaml:2: log.level: expected a single value"},
        {"log:\n  level: {a: b}\n", "c.yaml:2: log.level: expected a single value"},
        {"server:\n  cors_origins: {a: b}\n",
         "c.yaml:2: server.cors_origins: expected a list like [a, b]"},
        {"server:\n  cors_origins:\n  - a\n  - [b]\n",
         "c.yaml:4: server.cors_origins: expected a list of texts"},
        {"providers: {name: a}\n", "c.yaml:1: providers: expected a list of maps"},
        {"providers:\n- name: a\n- b\n", "c.yaml:3: providers: expected a list of maps"},
        {"providers: yes\n", "c.yaml:1: providers: expected a list of maps"},
        {"providers:\n- name: {a: b}\n",
         "c.yaml:2: providers[].name: expected a single value"},
        {"? [a]\n: b\n", "c.yaml:1: expected a key"},
        {"log: {}\n---\nlog: {}\n",
         "c.yaml:2: expected one document, this begins a second one"},
    };
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(cases); i++)
        assert_refused(w, cases[i][0], cases[i][1]);
}

static void
what_is_no_yaml_is_refused_with_a_line(void **state)
{
    static const struct {
        svc_str yaml;
        const char *where;
    } cases[] = {
        {SVC_LIT("log:\n  level: 'in\nfo\n"), "c.yaml:4: this is not YAML: "},
        {SVC_LIT("log: {level: info\n"), "c.yaml:2: this is not YAML: "},
        {SVC_LIT("log:\n\tlevel: info\n"), "c.yaml:2: this is not YAML: "},
        {SVC_LIT("log:\n  level: info\n format: text\n"), "c.yaml:3: this is not YAML: "},
        {SVC_LIT("log: {level: \"\\q\"}"), "c.yaml:1: this is not YAML: "},
        {SVC_LIT("log: {level: @x}"), "c.yaml:1: this is not YAML: "},
        {SVC_LIT("%YAML 3.0\n---\n{}"), "c.yaml:1: this is not YAML: "},
        {SVC_LIT("log: {level: in\0fo}"), "c.yaml:1: this is not YAML: "},
        {SVC_LIT("\xFF"), "c.yaml:1: this is not YAML: "},
        {SVC_LIT("log: {level: \xC3}"), "c.yaml:1: this is not YAML: "},
        {SVC_LIT("log: !x!y {}"), "c.yaml:1: this is not YAML: "},
    };
    world_t *w = *state;

    for (size_t i = 0; i < SVC_COUNT(cases); i++)
        assert_refused_at(w, cases[i].yaml, cases[i].where);
}

static void
depth_and_size_without_sense_end_where_they_begin(void **state)
{
    static const char *const units[] = {"[", "{", "- ", "? ", "{a: "};
    static const char *const starts[] = {
        "", "server: ", "server: {cors_origins: ", "providers: [{name: "};
    world_t *w = *state;
    char *yaml = svc_alloc(SVC_CONFIG_MAX_BYTES + 1);

    for (size_t i = 0; i < SVC_COUNT(starts); i++)
        for (size_t k = 0; k < SVC_COUNT(units); k++) {
            size_t n = (size_t)snprintf(yaml, 100, "%s", starts[i]);

            for (; n + 8 < SVC_CONFIG_MAX_BYTES; n += strlen(units[k]))
                memcpy(yaml + n, units[k], strlen(units[k]));
            assert_refused_at(w, (svc_str){yaml, n}, "c.yaml:");
        }
    memset(yaml, '\n', SVC_CONFIG_MAX_BYTES);
    memcpy(yaml + SVC_CONFIG_MAX_BYTES - 6, "zz: 1\n", 6);
    assert_refused_at(w, (svc_str){yaml, SVC_CONFIG_MAX_BYTES},
                      "c.yaml:1048571: unknown key \"zz\"");
    free(yaml);
}

static void
a_file_of_any_size_is_refused_past_its_bound(void **state)
{
    char path[] = "/tmp/test_svc_config_file.XXXXXX";
    const int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    char *error = NULL;
    svc_config_t *config;

    (void)state;
    clean_env();
    assert_non_null(file);
    for (size_t i = 0; i < SVC_CONFIG_MAX_BYTES; i++)
        assert_int_equal(fputc('#', file), '#');
    fflush(file);
    config = svc_config_load(path, &error);
    assert_non_null(config);
    svc_config_destroy(&config);
    fputc('#', file);
    fclose(file);
    assert_null(svc_config_load(path, &error));
    assert_non_null(strstr(error, ": larger than 1048576 bytes"));
    free(error);
    remove(path);
}

/* --- parts --------------------------------------------------------------------------------------- */

static void
providers_are_bounded(void **state)
{
    world_t *w = *state;
    svc_buf_t many;

    for (size_t i = 0; i < SVC_CONFIG_PROVIDERS_MAX; i++) {
        const config_provider_t *provider = svc_config_add_provider(&w->source, i);

        assert_ptr_equal(provider, &w->source.providers[i]);
        assert_int_equal(provider->line, i);
        assert_int_equal(provider->is.idle_s, 60);
    }
    assert_null(svc_config_add_provider(&w->source, 1));
    assert_int_equal(w->source.n_providers, SVC_CONFIG_PROVIDERS_MAX);
    svc_buf_init(&many, 1 << 16);
    assert_int_equal(svc_buf_printf(&many, "providers:\n"), RC_OK);
    for (size_t i = 0; i <= SVC_CONFIG_PROVIDERS_MAX; i++)
        assert_int_equal(svc_buf_printf(&many, "- name: p\n"), RC_OK);
    assert_false(reads(w, svc_buf_str(&many)));
    assert_string_equal(w->error, "c.yaml:66: expected at most 64 providers");
    svc_buf_fini(&many);
}

static void
names_are_found_whole_and_guessed_within_two_letters(void **state)
{
    static const char *const guesses[][2] = {
        {"server.prot", "server.port"},
        {"sever.port", "server.port"},
        {"redis.adress", "redis.address"},
        {"sqlite.pat", "sqlite.path"},
        {"serverr", "server"},
        {"provider", "providers"},
        {"lo", "log"},
        {"bus.auth.bin", "bus.auth.bind"},
        {"xserver.porxx", NULL},
        {"lx", NULL},
        {"", NULL},
    };
    char long_path[300];

    (void)state;
    assert_non_null(svc_config_find_key(svc_config_keys, "server.port"));
    assert_null(svc_config_find_key(svc_config_keys, "server.por"));
    assert_null(svc_config_find_key(svc_config_keys, "server.port."));
    assert_null(svc_config_find_key(svc_config_keys, "server"));
    assert_null(svc_config_find_key(svc_config_keys, ""));
    for (size_t i = 0; i < SVC_COUNT(guesses); i++) {
        const char *guess = svc_config_similar(svc_config_keys, guesses[i][0]);

        if (svc_str_eq(svc_str_c(guess), svc_str_c(guesses[i][1])))
            continue;
        fail_msg("%s could be %s", guesses[i][0], guess);
    }
    memset(long_path, 'x', sizeof(long_path) - 1);
    long_path[sizeof(long_path) - 1] = '\0';
    assert_null(svc_config_similar(svc_config_keys, long_path));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        TEST(a_file_may_say_nothing),
        TEST(block_and_flow_quotes_and_folds_say_the_same),
        TEST(a_value_remembers_its_line),
        TEST(nothing_is_only_what_stands_without_quotes),
        TEST(a_list_replaces_its_default),
        TEST(a_bad_value_is_told_with_its_line),
        TEST(a_message_shows_a_bounded_printable_part_and_nothing_of_a_secret),
        TEST(an_unknown_key_is_told_with_the_one_that_was_meant),
        TEST(a_key_stands_once_however_it_is_written),
        TEST(aliases_are_refused_so_nothing_can_multiply),
        TEST(another_shape_is_refused_where_it_begins),
        TEST(what_is_no_yaml_is_refused_with_a_line),
        TEST(depth_and_size_without_sense_end_where_they_begin),
        TEST(a_file_of_any_size_is_refused_past_its_bound),
        TEST(providers_are_bounded),
        TEST(names_are_found_whole_and_guessed_within_two_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
