/* svc_config.c - the configuration: defaults, then the file, then the environment, then checks.
 *
 * Whatever is wrong is one line that says where (file and line, or variable) and what was
 * expected; the first fault ends it. Checks here concern more than one key, or what must be safe:
 * secrets that everybody knows, a bus that the network could reach. Values of secrets are never
 * repeated. */
#include "svc_config.h"
#include "svc_config_file.h"
#include "svc_secret.h"

#include "proto/proto.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENV_PREFIX         "LLMB_"
#define ENV_FILE_SUFFIX    "_FILE"
#define ENV_NAME_MAX       128   /* bytes of a variable's name; longer ones are unknown */
#define ENV_FILE_MAX_BYTES 65536 /* of a file that a variable names */
#define PUBLIC_JWT_SECRET \
    "S3cureK3y#2024!AIsafety" /* published, so anybody could forge tokens with it */
#define KEY_FILE_MAX_BYTES (PROTO_API_KEY_MAX_BYTES + 2) /* a key and its line's end */
#define JWT_SECRET_MIN     16
#define JWT_SECRET_GOOD    32

extern char **environ;

/* What is put together while a configuration is read. */
typedef struct {
    svc_config_t *config;   /* the result so far */
    config_source_t source; /* where it came from */
    bool use_env;           /* read the environment, too */
    char *error;            /* the first one */
} build_t;

/* --- messages ---------------------------------------------------------------------------- */

/* Keeps the first error; gives false. */
static bool SVC_PRINTF(2, 3) fail(build_t *self, const char *fmt, ...)
{
    va_list args;

    if (self->error != NULL)
        return false;
    va_start(args, fmt);
    SVC_ASSERT(vasprintf(&self->error, fmt, args) >= 0);
    va_end(args);
    return false;
}

/* The same about one key, with the place its value came from. */
static bool SVC_PRINTF(3, 4)
    fail_key(build_t *self, const char *path, const char *fmt, ...)
{
    const config_key_t *key = svc_config_find_key(svc_config_keys, path);
    size_t row = (size_t)(key - svc_config_keys);
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    SVC_ASSERT(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    if (self->source.variable[row].n != 0)
        fail(self, "%.*s: %s", (int)self->source.variable[row].n,
             self->source.variable[row].p, text);
    else if (self->source.line[row] != 0)
        fail(self, "%s:%zu: %s: %s", self->source.name, self->source.line[row], path,
             text);
    else
        fail(self, "%s: %s: %s", self->source.name, path, text);
    free(text);
    return false;
}

static void SVC_PRINTF(2, 3) warn(build_t *self, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    SVC_ASSERT(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    svc_strings_add(&self->config->warnings, svc_str_c(text));
    free(text);
}

/* --- files ------------------------------------------------------------------------------- */

/* Reads a whole regular file of at most `max` bytes. False: *why_p (free() it) tells. */
static bool
read_bytes(const char *path, size_t max, svc_buf_t *out, char **why_p)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int failed = fd < 0 ? errno : 0;
    struct stat info;

    svc_buf_init(out, max + 1);
    if (fd >= 0 && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode))
        failed = EISDIR;
    while (failed == 0 && out->n <= max) {
        ssize_t n;

        if (svc_buf_reserve(out, out->n + 1024 <= max ? 1024 : max + 1 - out->n) !=
            RC_OK) {
            failed = ENOMEM;
            break;
        }
        n = read(fd, out->p + out->n, out->cap - out->n);
        if (n <= 0) {
            failed = n < 0 ? errno : 0;
            break;
        }
        out->n += (size_t)n;
    }
    if (failed != 0)
        SVC_ASSERT(asprintf(why_p, "%s: cannot be read: %s", path, strerror(failed)) >=
                   0);
    else if (out->n > max)
        SVC_ASSERT(asprintf(why_p, "%s: larger than %zu bytes", path, max) >= 0);
    if (fd >= 0)
        close(fd);
    if (*why_p != NULL)
        svc_buf_fini(out);
    return *why_p == NULL;
}

/* Takes the line's end off a file that holds one value. */
static svc_str
only_line(const svc_buf_t *bytes)
{
    svc_str text = svc_buf_str(bytes);

    while (text.n > 0 && (text.p[text.n - 1] == '\n' || text.p[text.n - 1] == '\r'))
        text.n--;
    return text;
}

/* --- environment ------------------------------------------------------------------------- */

/* Writes the variable that overrides a key: "server.port" becomes LLMB_SERVER_PORT. */
static void
variable_of(const char *path, char out[ENV_NAME_MAX])
{
    size_t n = (size_t)snprintf(out, ENV_NAME_MAX, ENV_PREFIX "%s", path);

    for (size_t i = 0; i < n && i < ENV_NAME_MAX - 1; i++)
        out[i] = out[i] == '.' ? '_' : (char)toupper((unsigned char)out[i]);
}

static const config_key_t *
find_variable(svc_str name)
{
    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++) {
        char variable[ENV_NAME_MAX];

        variable_of(key->path, variable);
        if (svc_str_eq(name, svc_str_c(variable)))
            return key;
    }
    return NULL;
}

static bool
fail_unknown_variable(build_t *self, svc_str name)
{
    char path[ENV_NAME_MAX];
    char variable[ENV_NAME_MAX];
    size_t n = name.n - strlen(ENV_PREFIX);
    const char *similar;

    if (n >= sizeof(path))
        return fail(self, "unknown variable %.*s... in the environment", 64, name.p);
    /* Which of its underscores stand for points is tried for the first one only: sections have no underscore. */
    for (size_t i = 0; i < n; i++)
        path[i] = (char)tolower((unsigned char)name.p[strlen(ENV_PREFIX) + i]);
    path[n] = '\0';
    if (strncmp(path, "providers", 9) == 0)
        return fail(self, "%.*s: providers come from the file only", (int)name.n, name.p);
    if (strchr(path, '_') != NULL)
        *strchr(path, '_') = '.';
    if (strncmp(path, "bus.", 4) == 0 && strchr(path, '_') != NULL)
        *strchr(path, '_') = '.';
    similar = svc_config_similar(svc_config_keys, path);
    if (similar == NULL || strchr(similar, '.') == NULL)
        return fail(self, "unknown variable %.*s in the environment", (int)name.n,
                    name.p);
    variable_of(similar, variable);
    return fail(self, "unknown variable %.*s in the environment (did you mean %s?)",
                (int)name.n, name.p, variable);
}

/* Sets a key from the content of the file that its variable names, without the line end. */
static bool
set_from_file(build_t *self, const config_key_t *key, const char *variable,
              const char *file)
{
    svc_buf_t bytes;
    char *why = NULL;
    bool good;

    if (!read_bytes(file, ENV_FILE_MAX_BYTES, &bytes, &why)) {
        fail(self, "%s: %s", variable, why);
        free(why);
        return false;
    }
    good = svc_config_set(key, self->config, only_line(&bytes), &why);
    if (!good)
        fail(self, "%s: expected %s in %s", variable, why, file);
    free(why);
    svc_buf_fini(&bytes);
    return good;
}

/* Takes one variable of ours. `entry` is "NAME=value" of environ. */
static bool
read_variable(build_t *self, char *entry)
{
    const char *equals = strchr(entry, '=');
    svc_str name = {entry, equals == NULL ? strlen(entry) : (size_t)(equals - entry)};
    size_t suffix = strlen(ENV_FILE_SUFFIX);
    const config_key_t *key = find_variable(name);
    bool is_file = false;
    char variable[ENV_NAME_MAX];
    char *wrong = NULL;
    size_t row;

    if (equals == NULL)
        return true;
    if (key == NULL && name.n > suffix &&
        memcmp(name.p + name.n - suffix, ENV_FILE_SUFFIX, suffix) == 0) {
        key = find_variable((svc_str){name.p, name.n - suffix});
        is_file = true;
    }
    if (key == NULL)
        return fail_unknown_variable(self, name);
    row = (size_t)(key - svc_config_keys);
    (void)snprintf(variable, sizeof(variable), "%.*s", (int)name.n, name.p);
    if (self->source.variable[row].n != 0)
        return fail(self, "%s: is set, and as a file, too; expected one of them",
                    variable);
    self->source.variable[row] = name;
    if (is_file)
        return set_from_file(self, key, variable, equals + 1);
    if (svc_config_set(key, self->config, svc_str_c(equals + 1), &wrong))
        return true;
    fail(self, "%s: expected %s", variable, wrong);
    free(wrong);
    return false;
}

static bool
read_environment(build_t *self)
{
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++)
        if (strncmp(*entry, ENV_PREFIX, strlen(ENV_PREFIX)) == 0 &&
            !read_variable(self, *entry))
            return false;
    return true;
}

/* --- providers --------------------------------------------------------------------------- */

static void
add_default_provider(build_t *self, const char *name, const char *models,
                     const char *base_url, const char *api_key_env)
{
    config_provider_t *provider = svc_config_add_provider(&self->source, 0);
    const struct {
        const char *path;
        const char *value;
    } values[] = {{"providers[].name", name},
                  {"providers[].models", models},
                  {"providers[].base_url", base_url},
                  {"providers[].api_key_env", api_key_env}};

    for (size_t i = 0; i < SVC_COUNT(values); i++) {
        char *wrong = NULL;

        SVC_ASSERT(
            svc_config_set(svc_config_find_key(svc_config_provider_keys, values[i].path),
                           provider, svc_str_c(values[i].value), &wrong));
    }
}

static bool SVC_PRINTF(3, 4)
    fail_provider(build_t *self, const config_provider_t *provider, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, fmt);
    SVC_ASSERT(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    fail(self, "%s:%zu: provider \"%s\": %s", self->source.name, provider->line,
         provider->is.name, text);
    free(text);
    return false;
}

/* As every key of ours can be: NAME_FILE in the environment names the file when NAME itself is not there. */
static void
take_key_file(config_provider_t *provider, const char *name)
{
    char *variable = NULL;
    const char *file;

    SVC_ASSERT(asprintf(&variable, "%s_FILE", name) >= 0);
    file = getenv(variable);
    free(variable);
    if (file == NULL || provider->is.api_key_file[0] != '\0')
        return;
    free(provider->is.api_key_file);
    provider->is.api_key_file = svc_str_dup(svc_str_c(file));
}

/* Takes the key from the variable that api_key_env names, unless it stands in the file itself. */
static bool
read_api_key(build_t *self, config_provider_t *provider)
{
    const config_key_t *key = svc_config_find_key(svc_config_provider_keys,
                                                  "providers[].api_key");
    const char *name = provider->api_key_env;
    const char *value;
    char *wrong = NULL;

    for (const char *p = name; *p != '\0'; p++)
        if (!isalnum((unsigned char)*p) && *p != '_')
            return fail_provider(self, provider,
                                 "api_key_env: expected the name of a variable");
    if (provider->is.api_key[0] != '\0') { /* it goes before all others */
        provider->is.api_key_file[0] = '\0';
        return true;
    }
    if (!self->use_env || name[0] == '\0')
        return true;
    value = getenv(name);
    if (value == NULL || value[0] == '\0') {
        take_key_file(provider, name);
        return true;
    }
    if (svc_config_set(key, provider, svc_str_c(value), &wrong))
        return true;
    fail_provider(self, provider, "%s in the environment: expected %s", name, wrong);
    free(wrong);
    return false;
}

static bool
check_provider(build_t *self, config_provider_t *provider)
{
    if (provider->is.name[0] == '\0')
        return fail_provider(self, provider, "name: expected a text that is not empty");
    for (config_provider_t *other = self->source.providers; other < provider; other++)
        if (strcmp(other->is.name, provider->is.name) == 0)
            return fail_provider(self, provider, "name: is used twice");
    if (provider->is.models.n == 0)
        return fail_provider(self, provider, "models: expected patterns like [\"gpt*\"]");
    if (provider->is.base_url[0] == '\0')
        return fail_provider(self, provider,
                             "base_url: expected a URL like https://host/v1");
    return read_api_key(self, provider);
}

/* Checks the providers and hands them over to the configuration. */
static bool
take_providers(build_t *self)
{
    config_source_t *source = &self->source;

    if (!source->has_providers) {
        add_default_provider(self, "openai", "gpt*,o1*,o3*,o4*",
                             "https://api.openai.com/v1", "OPENAI_API_KEY");
        add_default_provider(self, "zhipu", "glm*",
                             "https://open.bigmodel.cn/api/paas/v4", "ZHIPU_API_KEY");
    }
    for (size_t i = 0; i < source->n_providers; i++)
        if (!check_provider(self, &source->providers[i]))
            return false;
    self->config->providers = svc_alloc((source->n_providers + 1) *
                                        sizeof(svc_provider_t));
    self->config->n_providers = source->n_providers;
    for (size_t i = 0; i < source->n_providers; i++) {
        self->config->providers[i] = source->providers[i].is;
        free(source->providers[i].api_key_env);
    }
    source->n_providers = 0;
    return true;
}

/* --- checks ------------------------------------------------------------------------------ */

static bool
check_secrets(build_t *self)
{
    svc_config_t *config = self->config;
    size_t n = strlen(config->jwt_secret);
    uint8_t key[SVC_SECRET_BYTES];

    if (strcmp(config->jwt_secret, PUBLIC_JWT_SECRET) == 0) {
        warn(
            self,
            "jwt.secret is the published example, so it counts as not configured: a secret "
            "of its own is made beside the database");
        config->jwt_secret[0] = '\0';
    } else if (n > 0 && n < JWT_SECRET_MIN) {
        return fail_key(self, "jwt.secret",
                        "expected at least %d bytes (%d are good), or nothing",
                        JWT_SECRET_MIN, JWT_SECRET_GOOD);
    } else if (n > 0 && n < JWT_SECRET_GOOD) {
        warn(self, "jwt.secret is short: %d random bytes or more are good",
             JWT_SECRET_GOOD);
    }
    if (config->convo_seal_key[0] != '\0' &&
        svc_secret_decode(svc_str_c(config->convo_seal_key), key) != RC_OK)
        return fail_key(self, "convo.seal_key",
                        "expected %d bytes as hex or base64, or nothing",
                        SVC_SECRET_BYTES);
    memset(key, 0, sizeof(key));
    return true;
}

/* Are all endpoints of a list, by commas, on this machine? */
static bool
are_loopback(const char *endpoints)
{
    bool good = true;

    while (good && endpoints[0] != '\0') {
        const size_t n = strcspn(endpoints, ",");
        char *one = svc_str_dup((svc_str){endpoints, n});

        good = n == 0 || svc_config_is_loopback(one);
        free(one);
        endpoints += n + (endpoints[n] == ',' ? 1 : 0);
    }
    return good;
}

/* Without keys, what crosses the bus is neither encrypted nor authenticated: only this machine may reach it. */
static bool
check_bus(build_t *self)
{
    const svc_config_t *config = self->config;
    const struct {
        const char *path;
        const char *endpoint;
    } places[] = {{"bus.auth.bind", config->bus_auth.bind},
                  {"bus.auth.connect", config->bus_auth.connect},
                  {"bus.convo.bind", config->bus_convo.bind},
                  {"bus.convo.connect", config->bus_convo.connect},
                  {"bus.llm.bind", config->bus_llm.bind},
                  {"bus.llm.connect", config->bus_llm.connect},
                  {"bus.tokens.bind", config->bus_tokens.bind},
                  {"bus.tokens.connect", config->bus_tokens.connect},
                  {"bus.gateway.bind", config->bus_gateway_bind}};

    for (size_t i = 0; i < SVC_COUNT(places) && config->bus_keys[0] == '\0'; i++) {
        if (are_loopback(places[i].endpoint))
            continue;
        if (!config->bus_insecure)
            return fail_key(
                self, places[i].path,
                "expected an address of this machine only, like tcp://127.0.0.1:7101, "
                "since the bus has no keys (bus.keys names their directory, scripts/make-keys "
                "makes them; bus.insecure: true does without)");
        warn(
            self,
            "%s is off loopback without keys: everybody who reaches it can read and ask everything",
            places[i].path);
    }
    return true;
}

static bool
check_tls(build_t *self)
{
    bool has_cert = self->config->server_tls_cert[0] != '\0';
    bool has_key = self->config->server_tls_key[0] != '\0';

    return has_cert == has_key ||
           fail_key(self, has_cert ? "server.tls.key" : "server.tls.cert",
                    "expected a file, since %s is set",
                    has_cert ? "server.tls.cert" : "server.tls.key");
}

static bool
check_origins(build_t *self)
{
    const svc_strings_t *origins = &self->config->server_cors_origins;

    for (size_t i = 0; i < origins->n; i++) {
        const char *origin = origins->items[i];
        const char *host = strncmp(origin, "https://", 8) == 0  ? origin + 8
                           : strncmp(origin, "http://", 7) == 0 ? origin + 7
                                                                : NULL;

        if (strcmp(origin, "*") == 0)
            continue;
        if (host == NULL || host[0] == '\0' || strpbrk(host, "/ ?#*") != NULL)
            return fail_key(self, "server.cors_origins",
                            "expected \"*\" or origins like https://chat.example.org");
    }
    return true;
}

static bool
check_all(build_t *self)
{
    if (self->config->test_drop_token_frames > 0)
        warn(self, "test.drop_token_frames is on: token frames are dropped on purpose");
    if (self->config->test_debuggable)
        warn(self, "test.debuggable is on: who debugs the process sees its secrets");
    if (self->config->test_plain_paths)
        warn(self, "test.plain_paths is on: every special fast path is off");
    return check_secrets(self) && check_bus(self) && check_tls(self) &&
           check_origins(self);
}

/* --- what callers see -------------------------------------------------------------------- */

svc_config_t *
svc_config_parse(svc_str yaml, const char *name, bool use_env, char **error)
{
    build_t self = {.use_env = use_env, .source.name = name};
    bool good;

    self.config = svc_alloc(sizeof(*self.config));
    svc_config_set_defaults(svc_config_keys, self.config);
    if (yaml.n > SVC_CONFIG_MAX_BYTES)
        good = fail(&self, "%s: larger than %u bytes", name, SVC_CONFIG_MAX_BYTES);
    else
        good = svc_config_read_file(self.config, &self.source, yaml, &self.error) &&
               (!use_env || read_environment(&self)) && take_providers(&self) &&
               check_all(&self);
    for (size_t i = 0; i < self.source.n_providers; i++)
        svc_config_release(svc_config_provider_keys, &self.source.providers[i]);
    free(self.source.providers);
    if (!good) {
        svc_config_destroy(&self.config);
        *error = self.error;
    }
    return self.config;
}

svc_config_t *
svc_config_load(const char *path, char **error)
{
    svc_config_t *config;
    svc_buf_t bytes;
    char *why = NULL;

    if (!read_bytes(path, SVC_CONFIG_MAX_BYTES, &bytes, &why)) {
        *error = why;
        return NULL;
    }
    config = svc_config_parse(svc_buf_str(&bytes), path, true, error);
    svc_buf_fini(&bytes);
    return config;
}

/* Takes one provider's key from its file. False with *error. */
static bool
read_key_file(svc_provider_t *provider, char **error)
{
    const config_key_t *key = svc_config_find_key(svc_config_provider_keys,
                                                  "providers[].api_key");
    config_provider_t place = {.is = *provider};
    svc_buf_t bytes;
    char *why = NULL;
    bool good = true;

    if (provider->api_key_file[0] == '\0')
        return true;
    if (!read_bytes(provider->api_key_file, KEY_FILE_MAX_BYTES, &bytes, &why)) {
        SVC_ASSERT(asprintf(error, "provider \"%s\": api_key_file: %s", provider->name,
                            why) >= 0);
        free(why);
        return false;
    }
    if (only_line(&bytes).n > 0)
        good = svc_config_set(key, &place, only_line(&bytes), &why);
    provider->api_key = place.is.api_key;
    if (!good)
        SVC_ASSERT(asprintf(error, "provider \"%s\": api_key_file: expected %s in %s",
                            provider->name, why, provider->api_key_file) >= 0);
    free(why);
    explicit_bzero(bytes.p, bytes.n);
    svc_buf_fini(&bytes);
    return good;
}

bool
svc_config_read_key_files(svc_config_t *self, char **error)
{
    for (size_t i = 0; i < self->n_providers; i++)
        if (!read_key_file(&self->providers[i], error))
            return false;
    return true;
}

const char *
svc_config_admin(const svc_config_t *self, const char *service)
{
    const struct {
        const char *service;
        const char *address;
    } rows[] = {{"gateway", self->admin_gateway},
                {"auth-svc", self->admin_auth},
                {"convo-svc", self->admin_convo},
                {"llm-svc", self->admin_llm}};

    for (size_t i = 0; i < SVC_COUNT(rows); i++)
        if (strcmp(rows[i].service, service) == 0)
            return rows[i].address;
    return "";
}

svc_config_t *
svc_config_hold(const svc_config_t *self)
{
    svc_config_t *held = (svc_config_t *)(uintptr_t)
        self; /* how many hold it is written there */

    atomic_fetch_add(&held->holders, 1);
    return held;
}

void
svc_config_destroy(svc_config_t **self_p)
{
    svc_config_t *self;

    if (self_p == NULL || *self_p == NULL)
        return;
    self = *self_p;
    *self_p = NULL;
    if (atomic_fetch_sub(&self->holders, 1) > 0)
        return;
    for (size_t i = 0; i < self->n_providers; i++) {
        config_provider_t provider = {.is = self->providers[i]};

        svc_config_release(svc_config_provider_keys, &provider);
    }
    free(self->providers);
    svc_strings_fini(&self->warnings);
    svc_config_release(svc_config_keys, self);
    free(self);
}

char *
svc_config_users_path(const svc_config_t *self)
{
    size_t n = strlen(self->sqlite_path);
    char *path = NULL;

    if (n > 3 && strcmp(self->sqlite_path + n - 3, ".db") == 0)
        n -= 3;
    SVC_ASSERT(asprintf(&path, "%.*s_users.db", (int)n, self->sqlite_path) >= 0);
    return path;
}
