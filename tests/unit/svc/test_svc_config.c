/* test_svc_config.c - keys, values, messages, environment, and config.yaml itself.
 *
 * Every refusal must be one line that says where and what was expected. */
#include "clean_env.h"

#include "svc/svc_config_keys.h"

#include "proto/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char *last_error; /* of the latest parse that failed */

static svc_config_t *
parse(const char *yaml)
{
    free(last_error);
    last_error = NULL;
    return svc_config_parse(svc_str_c(yaml), "c.yaml", false, &last_error);
}

/* Parses what must be right; destroyed by the caller. */
static svc_config_t *
good(const char *yaml)
{
    svc_config_t *config = parse(yaml);

    if (config == NULL)
        fail_msg("refused: %s", last_error);
    return config;
}

static void
assert_refused(const char *yaml, const char *wanted)
{
    svc_config_t *config = parse(yaml);

    if (config != NULL)
        fail_msg("accepted: %s", yaml);
    if (strstr(last_error, wanted) == NULL || strchr(last_error, '\n') != NULL)
        fail_msg("'%s' said: %s", yaml, last_error);
}

/* The same value in both? */
static bool
is_equal(const config_key_t *key, const void *a, const void *b)
{
    const void *x = (const char *)a + key->where;
    const void *y = (const char *)b + key->where;
    const svc_strings_t *p = x, *q = y;

    switch (key->type) {
    case CONFIG_U32: return memcmp(x, y, sizeof(uint32_t)) == 0;
    case CONFIG_U64: return memcmp(x, y, sizeof(uint64_t)) == 0;
    case CONFIG_REAL: return memcmp(x, y, sizeof(double)) == 0;
    case CONFIG_BOOL: return memcmp(x, y, sizeof(bool)) == 0;
    case CONFIG_CHOICE: return memcmp(x, y, sizeof(int)) == 0;
    case CONFIG_LISTEN: return memcmp(x, y, sizeof(uint16_t)) == 0;
    case CONFIG_LIST:
    case CONFIG_CIDRS:
        for (size_t i = 0; p->n == q->n && i < p->n; i++)
            if (strcmp(p->items[i], q->items[i]) != 0)
                return false;
        return p->n == q->n;
    default: return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    }
}

static void
config_yaml_says_the_defaults_and_every_key(void **state)
{
    char *error = NULL;
    svc_config_t *file = svc_config_load("config.yaml", &error);
    svc_config_t *empty = good("");
    FILE *text = fopen("config.yaml", "r");
    char bytes[32768];
    size_t n;

    (void)state;
    if (file == NULL)
        fail_msg("%s", error);
    assert_non_null(text);
    n = fread(bytes, 1, sizeof(bytes) - 1, text);
    bytes[n] = '\0';
    fclose(text);
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++) {
        char name[64];

        if (!is_equal(key, file, empty))
            fail_msg("%s differs from its default", key->path);
        (void)snprintf(name, sizeof(name), " %s:", strrchr(key->path, '.') + 1);
        if (strstr(bytes, name) == NULL)
            fail_msg("%s is missing in config.yaml", key->path);
    }
    assert_int_equal(file->n_providers, empty->n_providers);
    for (size_t i = 0; i < file->n_providers; i++)
        for (const config_key_t *key = svc_config_provider_keys; key->path != NULL;
             key++) {
            config_provider_t a = {.is = file->providers[i], .api_key_env = (char *)""};
            config_provider_t b = {.is = empty->providers[i], .api_key_env = (char *)""};

            if (!is_equal(key, &a, &b))
                fail_msg("%s differs from its default", key->path);
        }
    assert_int_equal(file->warnings.n, 0);
    svc_config_destroy(&file);
    svc_config_destroy(&empty);
    assert_null(empty);
}

static void
strings_need_no_quotes_and_numbers_may_have_some(void **state)
{
    svc_config_t *config = good(
        "server: {port: 9090, drain_s: '7', default_framing: bare}\n"
        "redis: {address: 127.0.0.1:6379, password: 12345}\n"
        "bus: {insecure: 'true'}\n"
        "test: {drop_token_frames: 0.25}\n"
        "log:\n  level: debug\n  format: \"json\"\n"
        "convo: {system_prompt: \"two\\nlines\"}\n"
        "sqlite:\nredis.db: 3\n");

    (void)state;
    assert_int_equal(config->server_port, 9090);
    assert_int_equal(config->server_drain_s, 7);
    assert_int_equal(config->server_default_framing, SVC_FRAMING_BARE);
    assert_string_equal(config->redis_address, "127.0.0.1:6379");
    assert_string_equal(config->redis_password, "12345");
    assert_int_equal(config->redis_db, 3);
    assert_true(config->bus_insecure);
    assert_true(config->test_drop_token_frames > 0.24 &&
                config->test_drop_token_frames < 0.26);
    assert_int_equal(config->log_format, SVC_LOG_JSON);
    assert_int_equal(config->log_level, 0);
    assert_string_equal(config->convo_system_prompt, "two\nlines");
    svc_config_destroy(&config);
}

static void
the_port_comes_in_several_forms(void **state)
{
    static const struct {
        const char *yaml;
        const char *host;
        int port;
    } cases[] = {{"server: {port: 8080}", "", 8080},
                 {"server: {port: \"8080\"}", "", 8080},
                 {"server: {port: \":8081\"}", "", 8081},
                 {"server: {port: \"127.0.0.1:1\"}", "127.0.0.1", 1},
                 {"server: {port: localhost:65535}", "127.0.0.1", 65535},
                 {"server: {port: \"*:80\"}", "", 80},
                 {"server: {port: \"[::1]:80\"}", "::1", 80}};
    static const char *const bad[] = {
        "0",          "65536",   "''",        "':'",      "-1",        "http", "1.2.3.4",
        "'1.2.3:80'", "'[::1]'", "'[zz]:80'", "'::1:80'", "'host:80'", "80 80"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        svc_config_t *config = good(cases[i].yaml);

        assert_string_equal(config->server_host, cases[i].host);
        assert_int_equal(config->server_port, cases[i].port);
        svc_config_destroy(&config);
    }
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        char yaml[64];

        (void)snprintf(yaml, sizeof(yaml), "server: {port: %s}", bad[i]);
        assert_refused(yaml, "c.yaml:1: server.port: expected a port from 1 to 65535");
    }
}

static void
an_unknown_key_is_refused_with_the_one_that_was_meant(void **state)
{
    (void)state;
    assert_refused(
        "server:\n  prot: 1\n",
        "c.yaml:2: unknown key \"server.prot\" (did you mean \"server.port\"?)");
    assert_refused("sever: {port: 1}",
                   "unknown key \"sever\" (did you mean \"server\"?)");
    assert_refused("bus: {auth: {bnd: x}}", "(did you mean \"bus.auth.bind\"?)");
    assert_refused("bus: {tokens: {}, mail: {}}", "unknown key \"bus.mail\"");
    assert_refused("providers: [{nam: x}]", "(did you mean \"providers[].name\"?)");
    assert_refused("somethingelse: 1", "c.yaml:1: unknown key \"somethingelse\"");
    assert_null(strstr(last_error, "did you mean"));
    assert_refused("\"a\\nb\\u263a\": 1", "unknown key \"a?b???\"");
}

static void
a_key_may_stand_once(void **state)
{
    (void)state;
    assert_refused("server: {port: 1, port: 1}",
                   "key \"server.port\" stands here a second time");
    assert_refused("server: {port: 1}\nserver: {drain_s: 1}\n",
                   "c.yaml:2: key \"server\" stands");
    assert_refused("providers: []\nproviders: []\n", "key \"providers\" stands");
    assert_refused("providers: [{name: a, name: b}]", "key \"providers[].name\" stands");
}

static void
bad_values_are_refused_with_what_was_expected(void **state)
{
    static const struct {
        const char *yaml;
        const char *wanted;
    } cases[] = {
        {"server: {drain_s: -1}",
         "server.drain_s: expected a number from 0 to 3600 s, got \"-1\""},
        {"server: {drain_s: 99999999999999999999}", "expected a number from 0 to 3600 s"},
        {"server: {drain_s: }", "expected a number"},
        {"server: {drain_s: 1.5}", "expected a number"},
        {"server: {drain_s: [1]}", "server.drain_s: expected a single value"},
        {"server: {drain_s: {a: b}}", "expected a single value"},
        {"server: {max_body_bytes: 8388609}",
         "expected a number from 1024 to 8388608 bytes"},
        {"llm: {max_answer_bytes: 16777217}",
         "expected a number from 1 to 16777216 bytes"},
        {"auth: {bcrypt_cost: 3}", "expected a number from 4 to 15"},
        {"auth: {bcrypt_cost: 16}", "expected a number from 4 to 15"},
        {"auth: {password_min: 73}", "expected a number from 1 to 72"},
        {"server: {default_framing: xml}", "expected one of sse, bare, got \"xml\""},
        {"bus: {insecure: maybe}", "expected true or false"},
        {"test: {drop_token_frames: 1.1}", "expected a number from 0 to 1"},
        {"test: {drop_token_frames: nan}", "expected a number from 0 to 1"},
        {"test: {drop_token_frames: 0x1}", "expected a number from 0 to 1"},
        {"test: {drop_token_frames: .}", "expected a number from 0 to 1"},
        {"sqlite: {path: ''}", "sqlite.path: expected a text that is not empty"},
        {"sqlite: {path: \"a\\0b\"}", "without control characters"},
        {"sqlite: {path: \"a\\nb\"}", "without control characters"},
        {"convo: {system_prompt: \"a\\0b\"}", "without control characters"},
        {"redis: {address: nowhere}", "expected host:port, or nothing"},
        {"server: {trusted_proxies: [10.0.0.0/33]}", "expected address ranges"},
        {"server: {trusted_proxies: [\"::1/129\"]}", "expected address ranges"},
        {"server: {trusted_proxies: [example.org]}", "expected address ranges"},
        {"server: {trusted_proxies: [[a]]}", "expected a list of texts"},
        {"server: {trusted_proxies: {a: b}}", "expected a list like [a, b]"},
        {"server: {cors_origins: [example.org]}", "expected \"*\" or origins like"},
        {"server: {cors_origins: [\"https://a.b/\"]}", "expected \"*\" or origins like"},
        {"server: {cors_origins: ['']}", "expected items that are not empty"},
        {"convo: {seal_key: abc}", "convo.seal_key: expected 32 bytes as hex or base64"},
        {"server: 5", "server: expected a section with keys of its own"},
        {"server: [a]", "server: expected a section"},
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++)
        assert_refused(cases[i].yaml, cases[i].wanted);
}

static void
lists_and_address_ranges_are_read(void **state)
{
    svc_config_t *config = good(
        "server:\n  trusted_proxies: [10.0.0.0/8, '::1', fd00::/8]\n"
        "  cors_origins: [\"https://a.example:8443\", \"http://b.example\"]\n");

    (void)state;
    assert_int_equal(config->server_trusted_proxies.n, 3);
    assert_string_equal(config->server_trusted_proxies.items[2], "fd00::/8");
    assert_int_equal(config->server_cors_origins.n, 2);
    svc_config_destroy(&config);
    config = good("server: {cors_origins: []}");
    assert_int_equal(config->server_cors_origins.n, 0);
    svc_config_destroy(&config);
    config = good("server: {cors_origins: 'https://a.example, https://b.example'}");
    assert_int_equal(config->server_cors_origins.n, 2);
    assert_string_equal(config->server_cors_origins.items[1], "https://b.example");
    svc_config_destroy(&config);
}

static void
endpoints_are_one_tcp_host_and_port(void **state)
{
    static const char *const bad[] = {"''",
                                      "x",
                                      "'tcp://'",
                                      "'tcp://h'",
                                      "'tcp://:1'",
                                      "'tcp://h:0'",
                                      "'tcp://h:65536'",
                                      "'ipc://x'",
                                      "'tcp://h:1x'",
                                      "'tcp://a/b:1'"};
    svc_config_t *config;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        char yaml[64];

        (void)snprintf(yaml, sizeof(yaml), "bus: {auth: {connect: %s}}", bad[i]);
        assert_refused(
            yaml,
            "bus.auth.connect: expected tcp://host:port, or several by commas, got");
    }
    assert_refused("bus: {auth: {bind: 'tcp://a:1,tcp://b:1'}}",
                   "expected one tcp://host:port");
    config = good("bus: {auth: {connect: 'tcp://a:1, tcp://b:1'}, gateway: {bind: ''}, "
                  "insecure: true}");
    assert_string_equal(config->bus_auth.connect, "tcp://a:1,tcp://b:1");
    assert_string_equal(config->bus_gateway_bind, "");
    svc_config_destroy(&config);
    config = good(
        "bus: {convo: {connect: 'tcp://convo-svc:7102'}, auth: {bind: 'tcp://[::1]:7'}, "
        "keys: /keys}");
    assert_string_equal(config->bus_convo.connect, "tcp://convo-svc:7102");
    svc_config_destroy(&config);
}

static void
a_bus_off_loopback_must_be_asked_for(void **state)
{
    static const char *const hosts[] = {"*",           "0.0.0.0", "10.0.0.1",
                                        "example.org", "[::]",    "127.example.org"};
    svc_config_t *config;
    char yaml[128];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(hosts); i++) {
        (void)snprintf(yaml, sizeof(yaml), "log: {}\nbus: {llm: {bind: 'tcp://%s:7103'}}",
                       hosts[i]);
        assert_refused(
            yaml, "c.yaml:2: bus.llm.bind: expected an address of this machine only");
        (void)snprintf(yaml, sizeof(yaml),
                       "bus: {llm: {bind: 'tcp://%s:7103'}, insecure: true}", hosts[i]);
        config = good(yaml);
        assert_int_equal(config->warnings.n, 1);
        svc_config_destroy(&config);
        (void)snprintf(yaml, sizeof(yaml),
                       "bus: {llm: {bind: 'tcp://%s:7103'}, keys: /keys}", hosts[i]);
        config = good(yaml);
        assert_int_equal(config->warnings.n, 0);
        assert_string_equal(config->bus_keys, "/keys");
        svc_config_destroy(&config);
    }
    /* Whom it calls may be read and played by others just as well. */
    assert_refused(
        "bus: {auth: {connect: 'tcp://127.0.0.1:1,tcp://10.0.0.1:1'}}",
        "c.yaml:1: bus.auth.connect: expected an address of this machine only");
    assert_refused("bus: {tokens: {connect: 'tcp://llm-svc:7104'}}",
                   "c.yaml:1: bus.tokens.connect: expected an address of this machine");
    config = good(
        "bus: {llm: {bind: 'tcp://localhost:7103'}, auth: {bind: 'tcp://127.9.9.9:1'}}");
    svc_config_destroy(&config);
}

static void
weak_secrets_are_refused_or_warned_about(void **state)
{
    svc_config_t *config;

    (void)state;
    assert_refused("jwt: {secret: fifteen-bytes-x}",
                   "jwt.secret: expected at least 16 bytes");
    assert_null(strstr(last_error, "fifteen"));
    config = good("jwt: {secret: sixteen-bytes-xx}");
    assert_int_equal(config->warnings.n, 1);
    assert_string_equal(config->jwt_secret, "sixteen-bytes-xx");
    svc_config_destroy(&config);
    config = good("jwt: {secret: 0123456789012345678901234567890a}");
    assert_int_equal(config->warnings.n, 0);
    svc_config_destroy(&config);
    config = good("jwt: {secret: \"S3cureK3y#2024!AIsafety\"}");
    assert_int_equal(config->warnings.n, 1);
    assert_string_equal(config->jwt_secret, "");
    svc_config_destroy(&config);
    config = good("test: {drop_token_frames: 0.3}");
    assert_int_equal(config->warnings.n, 1);
    svc_config_destroy(&config);
}

static void
a_bad_secret_is_not_repeated(void **state)
{
    (void)state;
    assert_refused("jwt: {secret: \"hidden\\nhidden\"}", "jwt.secret: expected");
    assert_null(strstr(last_error, "hidden"));
    assert_refused(
        "providers: [{name: a, models: [b], base_url: 'http://c', api_key: \"sk-hidden\\r\"}]",
        "providers[].api_key: expected");
    assert_null(strstr(last_error, "hidden"));
}

static void
providers_are_read_in_order(void **state)
{
    svc_config_t *config = good(
        "providers:\n"
        "  - {name: one, models: ['a*', b], base_url: 'http://127.0.0.1:1/v1//', api_key: k,\n"
        "     ca_file: /x.pem, connect_s: 1, first_byte_s: 2, idle_s: 3}\n"
        "  - name: two\n    models: c\n    base_url: https://h\n");
    const svc_provider_t *one = &config->providers[0];

    (void)state;
    assert_int_equal(config->n_providers, 2);
    assert_string_equal(one->name, "one");
    assert_int_equal(one->models.n, 2);
    assert_string_equal(one->models.items[0], "a*");
    assert_string_equal(one->base_url, "http://127.0.0.1:1/v1");
    assert_string_equal(one->api_key, "k");
    assert_string_equal(one->ca_file, "/x.pem");
    assert_int_equal(one->connect_s + one->first_byte_s + one->idle_s, 6);
    assert_string_equal(config->providers[1].models.items[0], "c");
    assert_string_equal(config->providers[1].api_key, "");
    assert_int_equal(config->providers[1].first_byte_s, 120);
    svc_config_destroy(&config);
    config = good("providers: []");
    assert_int_equal(config->n_providers, 0);
    svc_config_destroy(&config);
    config = good("");
    assert_int_equal(config->n_providers, 2);
    assert_string_equal(config->providers[0].name, "openai");
    assert_string_equal(config->providers[1].models.items[0], "glm*");
    svc_config_destroy(&config);
}

static void
incomplete_providers_are_refused(void **state)
{
    svc_buf_t many;

    (void)state;
    assert_refused("providers:\n - {models: [a], base_url: 'http://h'}",
                   "c.yaml:2: provider \"\": name:");
    assert_refused("providers: [{name: a, base_url: 'http://h'}]",
                   "provider \"a\": models: expected");
    assert_refused("providers: [{name: a, models: [], base_url: 'http://h'}]",
                   "models: expected");
    assert_refused("providers: [{name: a, models: [b]}]", "base_url: expected a URL");
    assert_refused("providers: [{name: a, models: [b], base_url: 'ftp://h'}]",
                   "expected a URL");
    assert_refused("providers: [{name: a, models: [b], base_url: 'http://'}]",
                   "expected a URL");
    assert_refused("providers: [{name: a, models: [b], base_url: 'http:///'}]",
                   "expected a URL");
    assert_refused(
        "providers: [{name: a, models: [b], base_url: 'http://h', api_key_env: 'A-B'}]",
        "expected the name of a variable");
    assert_refused("providers: [{name: a, models: [b], base_url: 'http://h'},\n"
                   " {name: a, models: [b], base_url: 'http://h'}]",
                   "c.yaml:2: provider \"a\": name: is used twice");
    assert_refused("providers: {name: a}", "providers: expected a list of maps");
    assert_refused("providers: [a]", "providers: expected a list of maps");
    svc_buf_init(&many, 1 << 20);
    assert_int_equal(svc_buf_printf(&many, "providers:\n"), RC_OK);
    for (int i = 0; i < 65; i++)
        assert_int_equal(
            svc_buf_printf(&many, " - {name: p%d, models: [a], base_url: 'http://h'}\n",
                           i),
            RC_OK);
    assert_int_equal(svc_buf_add(&many, "", 1), RC_OK);
    assert_refused(many.p, "expected at most 64 providers");
    svc_buf_fini(&many);
}

static void
what_is_no_configuration_is_refused(void **state)
{
    svc_config_t *config;
    char *big = svc_alloc(SVC_CONFIG_MAX_BYTES + 2);

    (void)state;
    assert_refused("[a, b]", "expected sections like");
    assert_refused("text", "expected sections like");
    assert_refused("server: {cors_origins: [", "this is not YAML");
    assert_refused("a: b\n\tc: d", "c.yaml:");
    assert_refused("\xff\xfe", "this is not YAML");
    assert_refused("log: {}\n---\nlog: {}\n", "expected one document");
    assert_refused("log: &x {level: info}\ntest: *x\n", "aliases are not supported");
    assert_refused("? [a]\n: b", "expected a key");
    memset(big, '#', SVC_CONFIG_MAX_BYTES + 1);
    assert_refused(big, "c.yaml: larger than 1048576 bytes");
    memset(big, '[', 100000);
    big[100000] = '\0';
    assert_refused(big, "c.yaml:1: ");
    free(big);
    config = good("# nothing\n---\n");
    svc_config_destroy(&config);
    config = good("~");
    svc_config_destroy(&config);
    svc_config_destroy(&config);
    svc_config_destroy(NULL);
}

/* --- environment and files ------------------------------------------------------------------ */

static svc_config_t *
parse_env(const char *yaml)
{
    free(last_error);
    last_error = NULL;
    return svc_config_parse(svc_str_c(yaml), "c.yaml", true, &last_error);
}

static void
assert_refused_env(const char *variable, const char *value, const char *wanted)
{
    assert_int_equal(setenv(variable, value, 1), 0);
    assert_null(parse_env(""));
    unsetenv(variable);
    if (strstr(last_error, wanted) == NULL || strchr(last_error, '\n') != NULL)
        fail_msg("%s=%s said: %s", variable, value, last_error);
}

static void
the_environment_overrides_the_file(void **state)
{
    svc_config_t *config;

    (void)state;
    setenv("LLMB_SERVER_PORT", "9999", 1);
    setenv("LLMB_BUS_AUTH_BIND", "tcp://127.0.0.1:1234", 1);
    setenv("LLMB_SERVER_CORS_ORIGINS", "https://a.example,https://b.example", 1);
    setenv("LLMB_SERVER_TRUSTED_PROXIES", "", 1);
    config = parse_env("server: {port: 1, trusted_proxies: [10.0.0.1]}");
    unsetenv("LLMB_SERVER_PORT");
    unsetenv("LLMB_BUS_AUTH_BIND");
    unsetenv("LLMB_SERVER_CORS_ORIGINS");
    unsetenv("LLMB_SERVER_TRUSTED_PROXIES");
    assert_non_null(config);
    assert_int_equal(config->server_port, 9999);
    assert_string_equal(config->bus_auth.bind, "tcp://127.0.0.1:1234");
    assert_int_equal(config->server_cors_origins.n, 2);
    assert_int_equal(config->server_trusted_proxies.n, 0);
    svc_config_destroy(&config);
}

static void
unknown_and_bad_variables_are_refused(void **state)
{
    (void)state;
    assert_refused_env(
        "LLMB_SERVER_PROT", "1",
        "unknown variable LLMB_SERVER_PROT in the environment (did you mean LLMB_SERVER_PORT?)");
    assert_refused_env("LLMB_BUS_AUTH_BIN", "1", "did you mean LLMB_BUS_AUTH_BIND?");
    assert_refused_env("LLMB_", "1", "unknown variable LLMB_ in");
    assert_refused_env("LLMB_WHATEVER_FILE", "/x", "unknown variable LLMB_WHATEVER_FILE");
    assert_refused_env("LLMB_PROVIDERS", "x", "providers come from the file only");
    assert_refused_env("LLMB_SERVER_PORT", "x", "LLMB_SERVER_PORT: expected a port");
    assert_refused_env("LLMB_JWT_SECRET", "short",
                       "LLMB_JWT_SECRET: expected at least 16 bytes");
    assert_refused_env(
        "LLMB_JWT_SECRET_FILE", "/nonexistent/file",
        "LLMB_JWT_SECRET_FILE: /nonexistent/file: cannot be read: No such file");
}

static void
a_variable_may_name_a_file(void **state)
{
    char path[] = "/tmp/test_svc_config.XXXXXX";
    int fd = mkstemp(path);
    svc_config_t *config;

    (void)state;
    assert_int_equal(write(fd, "a secret of thirty-two bytes or more\r\n", 38), 38);
    close(fd);
    setenv("LLMB_JWT_SECRET_FILE", path, 1);
    config = parse_env("");
    assert_non_null(config);
    assert_string_equal(config->jwt_secret, "a secret of thirty-two bytes or more");
    svc_config_destroy(&config);
    assert_refused_env("LLMB_JWT_SECRET", "another secret", "expected one of them");
    unsetenv("LLMB_JWT_SECRET_FILE");
    assert_refused_env("LLMB_SERVER_PORT_FILE", path,
                       "LLMB_SERVER_PORT_FILE: expected a port");
    unlink(path);
}

static void
a_providers_key_comes_from_its_variable(void **state)
{
    const char *yaml =
        "providers: [{name: a, models: [b], base_url: 'http://h', api_key_env: TEST_KEY},"
        "{name: b, models: [b], base_url: 'http://h', api_key: own, api_key_env: TEST_KEY}]";
    svc_config_t *config;

    (void)state;
    setenv("TEST_KEY", "sk-1", 1);
    config = parse_env(yaml);
    assert_string_equal(config->providers[0].api_key, "sk-1");
    assert_string_equal(config->providers[1].api_key, "own");
    svc_config_destroy(&config);
    config = parse(yaml);
    assert_string_equal(config->providers[0].api_key, "");
    svc_config_destroy(&config);
    setenv("TEST_KEY", "sk-\n1", 1);
    assert_null(parse_env(yaml));
    assert_non_null(strstr(last_error, "TEST_KEY in the environment: expected"));
    assert_null(strstr(last_error, "sk-"));
    unsetenv("TEST_KEY");
}

/* Writes a file of its own for a key; unlink() and free() its name. */
static char *
key_file(const char *text)
{
    char *path = svc_str_dup(SVC_LIT("/tmp/llmb-test-key-XXXXXX"));
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    return path;
}

/* The key of the first provider once its file was read; `file` in the configuration, or in the environment. */
static void
assert_file_key(const char *own, const char *file, const char *in_env, const char *wanted)
{
    char yaml[512], *error = NULL;
    svc_config_t *config;

    snprintf(
        yaml, sizeof(yaml),
        "providers: [{name: a, models: [b], base_url: 'http://h', api_key_env: TEST_KEY,"
        " api_key: '%s', api_key_file: '%s'}]",
        own, file);
    if (in_env != NULL)
        setenv("TEST_KEY_FILE", in_env, 1);
    config = parse_env(yaml);
    unsetenv("TEST_KEY_FILE");
    assert_non_null(config);
    assert_true(svc_config_read_key_files(config, &error));
    assert_string_equal(config->providers[0].api_key, wanted);
    svc_config_destroy(&config);
}

static void
a_providers_key_comes_from_its_file(void **state)
{
    char *full = key_file("sk-file\n"), *empty = key_file("\n"), *error = NULL;
    svc_config_t *config;

    (void)state;
    assert_file_key("", full, NULL, "sk-file");
    assert_file_key("own", full, NULL, "own");
    assert_file_key("", "", full, "sk-file");
    assert_file_key("", "", empty, "");
    setenv("TEST_KEY", "sk-env", 1);
    assert_file_key("", full, NULL, "sk-file");
    assert_file_key("", empty, NULL, "sk-env");
    assert_file_key("", "", full,
                    "sk-env"); /* the variable itself goes before its file */
    unsetenv("TEST_KEY");
    config = parse("providers: [{name: a, models: [b], base_url: 'http://h',"
                   " api_key_file: /nonexistent/key}]");
    assert_false(svc_config_read_key_files(config, &error));
    assert_non_null(strstr(error, "provider \"a\": api_key_file: /nonexistent/key"));
    free(error);
    svc_config_destroy(&config);
    unlink(full);
    unlink(empty);
    free(full);
    free(empty);
}

static void
each_service_has_an_admin_port_of_its_own(void **state)
{
    svc_config_t *config = good("admin: {convo: '', llm: '0.0.0.0:7113'}");

    (void)state;
    assert_string_equal(svc_config_admin(config, "gateway"), "127.0.0.1:7110");
    assert_string_equal(svc_config_admin(config, "auth-svc"), "127.0.0.1:7111");
    assert_string_equal(svc_config_admin(config, "convo-svc"), "");
    assert_string_equal(svc_config_admin(config, "llm-svc"), "0.0.0.0:7113");
    assert_string_equal(svc_config_admin(config, "another"), "");
    svc_config_destroy(&config);
}

static void
a_file_that_cannot_be_read_is_one_line(void **state)
{
    char *error = NULL;

    (void)state;
    assert_null(svc_config_load("/nonexistent.yaml", &error));
    assert_string_equal(error,
                        "/nonexistent.yaml: cannot be read: No such file or directory");
    free(error);
    error = NULL;
    assert_null(svc_config_load("/tmp", &error));
    assert_string_equal(error, "/tmp: cannot be read: Is a directory");
    free(error);
}

static void
users_live_beside_the_conversations(void **state)
{
    static const char *const cases[][2] = {{"./data/x.db", "./data/x_users.db"},
                                           {"x", "x_users.db"},
                                           {".db", ".db_users.db"}};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        svc_config_t config = {.sqlite_path = (char *)cases[i][0]};
        char *path = svc_config_users_path(&config);

        assert_string_equal(path, cases[i][1]);
        free(path);
    }
}

static int
prepare(void **state)
{
    (void)state;
    clean_env();
    return 0;
}

static int
free_last_error(void **state)
{
    (void)state;
    free(last_error);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_yaml_says_the_defaults_and_every_key),
        cmocka_unit_test(strings_need_no_quotes_and_numbers_may_have_some),
        cmocka_unit_test(the_port_comes_in_several_forms),
        cmocka_unit_test(an_unknown_key_is_refused_with_the_one_that_was_meant),
        cmocka_unit_test(a_key_may_stand_once),
        cmocka_unit_test(bad_values_are_refused_with_what_was_expected),
        cmocka_unit_test(lists_and_address_ranges_are_read),
        cmocka_unit_test(endpoints_are_one_tcp_host_and_port),
        cmocka_unit_test(a_bus_off_loopback_must_be_asked_for),
        cmocka_unit_test(weak_secrets_are_refused_or_warned_about),
        cmocka_unit_test(a_bad_secret_is_not_repeated),
        cmocka_unit_test(providers_are_read_in_order),
        cmocka_unit_test(incomplete_providers_are_refused),
        cmocka_unit_test(what_is_no_configuration_is_refused),
        cmocka_unit_test(the_environment_overrides_the_file),
        cmocka_unit_test(unknown_and_bad_variables_are_refused),
        cmocka_unit_test(a_variable_may_name_a_file),
        cmocka_unit_test(a_providers_key_comes_from_its_file),
        cmocka_unit_test(each_service_has_an_admin_port_of_its_own),
        cmocka_unit_test(a_providers_key_comes_from_its_variable),
        cmocka_unit_test(a_file_that_cannot_be_read_is_one_line),
        cmocka_unit_test(users_live_beside_the_conversations),
    };

    return cmocka_run_group_tests(tests, prepare, free_last_error);
}
