/* json_in.c - the JSON body of a request: an object of which a few string keys are read.
 *
 * json-c does the parsing. Before it, one pass over the bytes counts the values, since
 * json-c makes some sixty bytes of heap of every `1,` that a client sends for a key
 * that nobody reads. Views point into json-c's strings and die with the document. */
#include "json_in.h"
#include "proto/utf8.h"

#include <json-c/json.h>
#include <stdlib.h>

struct json_in {
    struct json_object *root; /* owned; an object */
};

/* Looks at every byte once: counts commas that stand outside strings (brackets are
 * bounded by the depth and by these) and finds what json-c 0.16 lets pass though it is
 * no JSON: raw control characters in strings, NaN, Infinity. */
static bool
is_fit_for_parser(svc_str body, text_id *text)
{
    size_t values = 0;
    bool in_string = false;

    for (size_t i = 0; i < body.n; i++) {
        unsigned char c = (unsigned char)body.p[i];
        *text = TEXT_NO_JSON;
        if (in_string ? c < 0x20 : c == 'N' || c == 'I')
            return false;
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        *text = TEXT_TOO_COMPLEX;
        if (c == ',' && !in_string && ++values > JSON_IN_VALUES_MAX)
            return false;
    }
    return true;
}

static bool
is_blank(svc_str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] != ' ' && text.p[i] != '\t' && text.p[i] != '\r' &&
            text.p[i] != '\n')
            return false;
    return true;
}

/* Runs json-c over the body; NULL with *text set when it does not like it. */
static struct json_object *
parse(svc_str body, text_id *text)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_IN_DEPTH_MAX);
    struct json_object *root = NULL;

    *text = TEXT_NO_JSON;
    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener,
                           JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    root = json_tokener_parse_ex(tokener, body.p, (int)body.n);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    size_t end = json_tokener_get_parse_end(tokener);
    if (error == json_tokener_error_depth)
        *text = TEXT_TOO_COMPLEX;
    if (error != json_tokener_success ||
        !is_blank((svc_str){body.p + end, body.n - end})) {
        json_object_put(root);
        root = NULL;
    }
    json_tokener_free(tokener);
    return root;
}

json_in_t *
json_in_parse(svc_str body, json_in_error_t *error)
{
    *error = (json_in_error_t){TEXT_NO_JSON, NULL};
    if (is_blank(body) || body.n > INT32_MAX)
        return NULL;
    if (svc_utf8_valid(body.p, body.n) != body.n) {
        error->text = TEXT_NO_UTF8;
        return NULL;
    }
    if (!is_fit_for_parser(body, &error->text))
        return NULL;
    struct json_object *root = parse(body, &error->text);
    if (root == NULL)
        return NULL;
    if (!json_object_is_type(root, json_type_object)) {
        json_object_put(root);
        error->text = TEXT_NO_OBJECT;
        return NULL;
    }
    json_in_t *self = svc_alloc(sizeof *self);
    self->root = root;
    return self;
}

void
json_in_destroy(json_in_t **self_p)
{
    json_in_t *self = *self_p;

    if (self == NULL)
        return;
    json_object_put(self->root);
    free(self);
    *self_p = NULL;
}

/* Reads one key; false with the sentence in *text. */
static bool
read_key(const json_in_t *self, const json_in_key_t *key, text_id *text)
{
    struct json_object *value = NULL;

    *key->out = (svc_str){NULL, 0};
    if (!json_object_object_get_ex(self->root, key->key, &value) || value == NULL) {
        *text = TEXT_MISSING;
        return !key->required;
    }
    *text = TEXT_NO_STRING;
    if (!json_object_is_type(value, json_type_string))
        return false;
    svc_str found = {json_object_get_string(value),
                     (size_t)json_object_get_string_len(value)};
    *text = TEXT_EMPTY;
    if (key->non_empty && found.n == 0)
        return false;
    *text = TEXT_TOO_LONG;
    if (found.n > key->max_bytes)
        return false;
    *key->out = found;
    return true;
}

bool
json_in_read(const json_in_t *self, const json_in_key_t *keys, size_t n,
             json_in_error_t *error)
{
    for (size_t i = 0; i < n; i++) {
        if (!read_key(self, &keys[i], &error->text)) {
            error->key = keys[i].key;
            return false;
        }
    }
    return true;
}
