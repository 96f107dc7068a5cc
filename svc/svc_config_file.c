/* svc_config_file.c - config.yaml, event by event.
 *
 * libyaml gives events; no tree is built, so aliases cannot multiply anything (they are refused)
 * and nesting that no key asks for is an error where it begins: at most section, key, list, map.
 * Scalars are texts whatever their quotes: the table of keys knows what a number is. A key may
 * stand once. Names of keys come from the table, so messages repeat only bounded, printable text. */
#include "svc_config_file.h"

#include <stdarg.h>
#include <stdlib.h>
#include <yaml.h>

#define PATH_MAX_BYTES 96 /* of "section.part.key"; longer keys are unknown anyway */
#define SHOWN_MAX      64 /* bytes of a bad value in a message */

typedef struct {
    svc_config_t *config;    /* to be filled, borrowed */
    config_source_t *source; /* likewise */
    yaml_parser_t yaml;      /* owned */
    yaml_event_t event;      /* current, owned */
    bool has_event;          /* event must be deleted */
    svc_strings_t seen;      /* paths of all keys so far */
    char *error;             /* the first one */
} reader_t;

/* --- names ------------------------------------------------------------------------------- */

const config_key_t *
svc_config_find_key(const config_key_t *keys, const char *path)
{
    for (const config_key_t *key = keys; key->path != NULL; key++)
        if (strcmp(key->path, path) == 0)
            return key;
    return NULL;
}

/* True when some key begins with "path.". */
static bool
is_section(const char *path)
{
    size_t n = strlen(path);

    for (const config_key_t *key = svc_config_keys; key->path != NULL; key++)
        if (strncmp(key->path, path, n) == 0 && key->path[n] == '.')
            return true;
    return false;
}

/* How many letters must be added, removed or changed to make b of a (Levenshtein). */
static size_t
distance(const char *a, const char *b)
{
    size_t row[PATH_MAX_BYTES + 1];
    size_t n = strlen(b);

    if (n > PATH_MAX_BYTES || strlen(a) > PATH_MAX_BYTES)
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t best = diagonal + (a[i] != b[j]);

            diagonal = row[j + 1];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (diagonal + 1 < best)
                best = diagonal + 1;
            row[j + 1] = best;
        }
    }
    return row[n];
}

const char *
svc_config_similar(const config_key_t *keys, const char *path)
{
    static const char *const sections[] = {
        "server", "gateway", "storage", "sqlite", "redis",     "jwt", "auth",
        "convo",  "llm",     "bus",     "admin",  "providers", "log", "test"};
    size_t best = strlen(path) < 6 ? 2 : 3; /* more changes than that is another word */
    const char *similar = NULL;

    for (const config_key_t *key = keys; key->path != NULL; key++)
        if (distance(path, key->path) < best) {
            best = distance(path, key->path);
            similar = key->path;
        }
    for (size_t i = 0; i < SVC_COUNT(sections) && strchr(path, '.') == NULL; i++)
        if (distance(path, sections[i]) < best) {
            best = distance(path, sections[i]);
            similar = sections[i];
        }
    return similar;
}

/* --- messages ---------------------------------------------------------------------------- */

/* Line of the current event, as people count. */
static size_t
line_of(const reader_t *self)
{
    return self->event.start_mark.line + 1;
}

/* Keeps the first error; gives false. */
static bool SVC_PRINTF(3, 4) fail(reader_t *self, size_t line, const char *fmt, ...)
{
    char *text = NULL;
    va_list args;

    if (self->error != NULL)
        return false;
    va_start(args, fmt);
    SVC_ASSERT(vasprintf(&text, fmt, args) >= 0);
    va_end(args);
    SVC_ASSERT(asprintf(&self->error, "%s:%zu: %s", self->source->name, line, text) >= 0);
    free(text);
    return false;
}

/* Copies what of a text can be shown in a message. */
static void
show(svc_str text, char out[SHOWN_MAX + 4])
{
    size_t n = text.n < SHOWN_MAX ? text.n : SHOWN_MAX;

    for (size_t i = 0; i < n; i++)
        out[i] = text.p[i] >= 0x20 && text.p[i] < 0x7f ? text.p[i] : '?';
    memcpy(out + n, text.n > n ? "..." : "", text.n > n ? 4 : 1);
}

/* A value that is not what was expected; takes the expectation. */
static bool
fail_value(reader_t *self, const config_key_t *key, svc_str text, char **expected_p)
{
    char shown[SHOWN_MAX + 4];
    bool secret = key->type == CONFIG_SECRET;

    show(text, shown);
    fail(self, line_of(self), "%s: expected %s%s%s%s", key->path, *expected_p,
         secret ? "" : ", got \"", secret ? "" : shown, secret ? "" : "\"");
    free(*expected_p);
    *expected_p = NULL;
    return false;
}

/* --- events ------------------------------------------------------------------------------ */

/* Moves to the next event. */
static bool
next(reader_t *self)
{
    if (self->has_event)
        yaml_event_delete(&self->event);
    self->has_event = yaml_parser_parse(&self->yaml, &self->event) != 0;
    if (!self->has_event) {
        memset(&self->event, 0, sizeof(self->event));
        return fail(self, self->yaml.problem_mark.line + 1, "this is not YAML: %s",
                    self->yaml.problem != NULL ? self->yaml.problem : "unreadable");
    }
    if (self->event.type == YAML_ALIAS_EVENT)
        return fail(self, line_of(self), "aliases are not supported");
    return true;
}

static bool
is_at(const reader_t *self, yaml_event_type_t type)
{
    return self->event.type == type;
}

/* The current scalar as text; what YAML calls null is empty. */
static svc_str
scalar(const reader_t *self)
{
    svc_str text = {(const char *)self->event.data.scalar.value,
                    self->event.data.scalar.length};

    if (self->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        (svc_str_eq(text, SVC_LIT("~")) || svc_str_eq(text, SVC_LIT("null"))))
        text.n = 0;
    return text;
}

/* Reads the value of a key: a scalar, or a sequence of scalars for a list. */
static bool
read_value(reader_t *self, const config_key_t *key, void *base)
{
    char *wrong = NULL;

    if (!next(self))
        return false;
    if (is_at(self, YAML_SCALAR_EVENT))
        return svc_config_set(key, base, scalar(self), &wrong) ||
               fail_value(self, key, scalar(self), &wrong);
    if (!is_at(self, YAML_SEQUENCE_START_EVENT) || !svc_config_is_list(key))
        return fail(self, line_of(self), "%s: expected %s", key->path,
                    svc_config_is_list(key) ? "a list like [a, b]" : "a single value");
    svc_config_clear_list(key, base);
    while (next(self) && is_at(self, YAML_SCALAR_EVENT))
        if (!svc_config_add_item(key, base, scalar(self), &wrong))
            return fail_value(self, key, scalar(self), &wrong);
    return self->error == NULL &&
           (is_at(self, YAML_SEQUENCE_END_EVENT) ||
            fail(self, line_of(self), "%s: expected a list of texts", key->path));
}

/* Builds "prefix.key" of the current scalar and checks that it is new. */
static bool
read_path(reader_t *self, const char *prefix, char out[PATH_MAX_BYTES])
{
    char shown[SHOWN_MAX + 4];

    if (!is_at(self, YAML_SCALAR_EVENT))
        return fail(self, line_of(self), "expected a key");
    show(scalar(self), shown);
    (void)snprintf(out, PATH_MAX_BYTES, "%s%s%s", prefix, prefix[0] == '\0' ? "" : ".",
                   shown);
    for (size_t i = 0; i < self->seen.n; i++)
        if (strcmp(self->seen.items[i], out) == 0)
            return fail(self, line_of(self), "key \"%s\" stands here a second time", out);
    return true;
}

static bool
fail_unknown(reader_t *self, const config_key_t *keys, const char *path)
{
    const char *similar = svc_config_similar(keys, path);

    return fail(self, line_of(self), "unknown key \"%s\"%s%s%s", path,
                similar == NULL ? "" : " (did you mean \"",
                similar == NULL ? "" : similar, similar == NULL ? "" : "\"?)");
}

/* --- providers --------------------------------------------------------------------------- */

config_provider_t *
svc_config_add_provider(config_source_t *source, size_t line)
{
    config_provider_t *provider;

    if (source->n_providers == SVC_CONFIG_PROVIDERS_MAX)
        return NULL;
    if (source->providers == NULL)
        source->providers = svc_alloc(SVC_CONFIG_PROVIDERS_MAX * sizeof(*provider));
    provider = &source->providers[source->n_providers++];
    svc_config_set_defaults(svc_config_provider_keys, provider);
    provider->line = line;
    return provider;
}

static bool
read_provider(reader_t *self)
{
    config_provider_t *provider = svc_config_add_provider(self->source, line_of(self));
    size_t seen = self->seen.n;

    if (provider == NULL)
        return fail(self, line_of(self), "expected at most %d providers",
                    SVC_CONFIG_PROVIDERS_MAX);
    while (next(self) && !is_at(self, YAML_MAPPING_END_EVENT)) {
        const config_key_t *key;
        char path[PATH_MAX_BYTES];

        if (!read_path(self, "providers[]", path))
            return false;
        key = svc_config_find_key(svc_config_provider_keys, path);
        if (key == NULL)
            return fail_unknown(self, svc_config_provider_keys, path);
        svc_strings_add(&self->seen, svc_str_c(path));
        if (!read_value(self, key, provider))
            return false;
    }
    while (self->seen.n > seen) /* the next provider has the same keys */
        free(self->seen.items[--self->seen.n]);
    return self->error == NULL;
}

static bool
read_providers(reader_t *self)
{
    self->source->has_providers = true;
    if (!next(self))
        return false;
    if (is_at(self, YAML_SCALAR_EVENT) && scalar(self).n == 0)
        return true;
    if (!is_at(self, YAML_SEQUENCE_START_EVENT))
        return fail(self, line_of(self), "providers: expected a list of maps");
    while (next(self) && is_at(self, YAML_MAPPING_START_EVENT))
        if (!read_provider(self))
            return false;
    return self->error == NULL &&
           (is_at(self, YAML_SEQUENCE_END_EVENT) ||
            fail(self, line_of(self), "providers: expected a list of maps"));
}

/* --- sections ---------------------------------------------------------------------------- */

static bool read_section(reader_t *self, const char *prefix);

/* Reads what follows the key `path`: a value, or a section of its own. */
static bool
read_member(reader_t *self, const char *path)
{
    const config_key_t *key = svc_config_find_key(svc_config_keys, path);

    if (key == NULL && strcmp(path, "providers") != 0 && !is_section(path))
        return fail_unknown(self, svc_config_keys, path);
    svc_strings_add(&self->seen, svc_str_c(path));
    if (key != NULL) {
        self->source->line[key - svc_config_keys] = line_of(self);
        return read_value(self, key, self->config);
    }
    if (strcmp(path, "providers") == 0)
        return read_providers(self);
    if (!next(self))
        return false;
    if (is_at(self, YAML_SCALAR_EVENT) && scalar(self).n == 0)
        return true; /* a section whose keys are all commented out */
    if (!is_at(self, YAML_MAPPING_START_EVENT))
        return fail(self, line_of(self), "%s: expected a section with keys of its own",
                    path);
    return read_section(self, path);
}

/* Reads keys up to the end of the map. Recurses as deep as the table has sections: once. */
static bool
read_section(reader_t *self, const char *prefix)
{
    while (next(self) && !is_at(self, YAML_MAPPING_END_EVENT)) {
        char path[PATH_MAX_BYTES];

        if (!read_path(self, prefix, path) || !read_member(self, path))
            return false;
    }
    return self->error == NULL;
}

/* Reads the one document; a file without any is empty. */
static bool
read_document(reader_t *self)
{
    if (!next(self) || !next(self)) /* stream start; document start or stream end */
        return false;
    if (is_at(self, YAML_STREAM_END_EVENT))
        return true;
    if (!next(self))
        return false;
    if (is_at(self, YAML_MAPPING_START_EVENT)) {
        if (!read_section(self, ""))
            return false;
    } else if (!is_at(self, YAML_SCALAR_EVENT) || scalar(self).n != 0) {
        return fail(self, line_of(self), "expected sections like \"server:\"");
    }
    if (!next(self) || !next(self)) /* document end; stream end */
        return false;
    return is_at(self, YAML_STREAM_END_EVENT) ||
           fail(self, line_of(self), "expected one document, this begins a second one");
}

bool
svc_config_read_file(svc_config_t *config, config_source_t *source, svc_str yaml,
                     char **error_p)
{
    reader_t self = {.config = config, .source = source};
    bool good;

    SVC_ASSERT(yaml_parser_initialize(&self.yaml) != 0);
    yaml_parser_set_encoding(&self.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &self.yaml, (const unsigned char *)(yaml.n == 0 ? "" : yaml.p), yaml.n);
    good = read_document(&self);
    if (self.has_event)
        yaml_event_delete(&self.event);
    yaml_parser_delete(&self.yaml);
    svc_strings_fini(&self.seen);
    *error_p = self.error;
    return good;
}
