/* import_body.c - one conversation as the original backend keeps it: the JSON object of Redis' key conversation:<id>.
 *
 * json-c allocates for every value, so what it may be given is bounded first. Texts stay its own; they are views here. Broken
 * UTF-8 is refused as a whole: the original wrote with Go's encoder, which never makes any.
 * Answers that stood there in parts are the only copies. */
#include "import_body.h"

#include "proto/utf8.h"

#include <json-c/json.h>
#include <stdlib.h>

#define DEPTH_MAX 32
#define VALUES_MAX \
    400000u /* commas and brackets outside strings: twenty for each message */
#define SECONDS_MAX 100000000000 /* a time after the year 5138 is in milliseconds */
#define FIRST_TURNS 8
#define BETWEEN     "\n\n" /* two answers to one question */

uint64_t
import_id(svc_str text)
{
    uint64_t id = 0;

    if (text.n == 0 || text.n > 16 || text.p[0] == '0')
        return 0;
    for (size_t i = 0; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return 0;
        id = id * 10 + (uint64_t)(text.p[i] - '0');
    }
    return id <= PROTO_ID_MAX ? id : 0;
}

uint64_t
import_time(int64_t value)
{
    if (value > SECONDS_MAX)
        value /= 1000;
    return value > 0 && value <= SECONDS_MAX ? (uint64_t)value : 0;
}

/* --- JSON -------------------------------------------------------------------------------- */

/* True for what json-c may be given: not too many values. */
static bool
is_fit_for_parser(svc_str json)
{
    size_t values = 0;
    bool in_string = false;

    for (size_t i = 0; i < json.n; i++) {
        char c = json.p[i];

        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && strchr(",[{", c) != NULL && ++values > VALUES_MAX)
            return false;
    }
    return true;
}

static bool
is_blank(svc_str text)
{
    for (size_t i = 0; i < text.n; i++)
        if (memchr(" \t\r\n", text.p[i], 4) == NULL)
            return false;
    return true;
}

static struct json_object *
parse(svc_str json)
{
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    struct json_object *root = NULL;
    size_t end;

    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener,
                           JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    root = json_tokener_parse_ex(tokener, json.p, (int)json.n);
    end = json_tokener_get_parse_end(tokener);
    if (json_tokener_get_error(tokener) != json_tokener_success ||
        !json_object_is_type(root, json_type_object) ||
        !is_blank((svc_str){json.p + end, json.n - end})) {
        json_object_put(root);
        root = NULL;
    }
    json_tokener_free(tokener);
    return root;
}

/* A key whose value is a text. */
static bool
get_text(struct json_object *object, const char *key, svc_str *out)
{
    struct json_object *value = NULL;

    if (!json_object_object_get_ex(object, key, &value) ||
        !json_object_is_type(value, json_type_string))
        return false;
    *out = (svc_str){json_object_get_string(value),
                     (size_t)json_object_get_string_len(value)};
    return true;
}

/* A key whose value is a number, or a text of digits; 0 when there is none. */
static uint64_t
get_number(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    svc_str text;
    int64_t number = 0;

    if (get_text(object, key, &text))
        return import_id(text);
    if (json_object_object_get_ex(object, key, &value) &&
        json_object_is_type(value, json_type_int))
        number = json_object_get_int64(value);
    return number > 0 ? (uint64_t)number : 0;
}

/* --- turns ------------------------------------------------------------------------------- */

static const char *
add_question(import_body_t *self, svc_str text)
{
    if (text.n > PROTO_QUESTION_MAX_BYTES)
        return "a question is longer than 8 MiB";
    if (self->n == IMPORT_TURNS_MAX)
        return "it has more than 10000 questions";
    if (self->n == self->cap) {
        size_t cap = self->cap == 0 ? FIRST_TURNS : self->cap * 2;
        import_turn_t *turns = svc_try_alloc(cap * sizeof(*turns));

        if (turns == NULL)
            return "no memory";
        if (self->n > 0)
            memcpy(turns, self->turns, self->n * sizeof(*turns));
        free(self->turns);
        self->turns = turns;
        self->cap = cap;
    }
    self->turns[self->n++] = (import_turn_t){.question = text};
    return NULL;
}

/* Adds an answer behind the one that is there. */
static const char *
join_answer(import_body_t *self, import_turn_t *turn, svc_str text)
{
    const size_t between = sizeof(BETWEEN) - 1;
    const size_t n = turn->answer.n + between + text.n;
    char *joined = n > PROTO_ANSWER_MAX_BYTES ? NULL : svc_try_alloc(n);

    if (joined == NULL)
        return "an answer is longer than 16 MiB";
    memcpy(joined, turn->answer.p, turn->answer.n);
    memcpy(joined + turn->answer.n, BETWEEN, between);
    memcpy(joined + turn->answer.n + between, text.p, text.n);
    free(turn->joined);
    turn->joined = joined;
    turn->answer = (svc_str){joined, n};
    self->joined++;
    return NULL;
}

static const char *
add_answer(import_body_t *self, svc_str text)
{
    import_turn_t *turn = self->n == 0 ? NULL : &self->turns[self->n - 1];

    if (turn == NULL && text.n > 0)
        self->left_out++;
    if (turn == NULL || text.n == 0)
        return NULL;
    if (text.n > PROTO_ANSWER_MAX_BYTES)
        return "an answer is longer than 16 MiB";
    if (turn->answer.n > 0)
        return join_answer(self, turn, text);
    turn->answer = text;
    return NULL;
}

static const char *
add_message(import_body_t *self, struct json_object *message, size_t i)
{
    svc_str role = {0}, content = {0};

    if (!json_object_is_type(message, json_type_object) ||
        !get_text(message, "role", &role) || !get_text(message, "content", &content)) {
        self->left_out++;
        return NULL;
    }
    if (svc_str_eq(role, SVC_LIT("user")))
        return add_question(self, content);
    if (svc_str_eq(role, SVC_LIT("assistant")))
        return add_answer(self, content);
    if (svc_str_eq(role, SVC_LIT("system")) && i == 0)
        self->system_prompt = content;
    else
        self->left_out++;
    return NULL;
}

static const char *
read_messages(import_body_t *self)
{
    struct json_object *messages = NULL;
    const char *why = NULL;

    if (!json_object_object_get_ex(self->root, "messages", &messages) || messages == NULL)
        return NULL; /* nothing was asked */
    if (!json_object_is_type(messages, json_type_array))
        return "its messages are no list";
    for (size_t i = 0; i < json_object_array_length(messages) && why == NULL; i++)
        why = add_message(self, json_object_array_get_idx(messages, i), i);
    for (size_t i = 0; i < self->n; i++)
        self->unanswered += self->turns[i].answer.n == 0;
    return why;
}

const char *
import_body_parse(import_body_t *self, svc_str json, uint64_t id)
{
    struct json_object *named = NULL;

    *self = (import_body_t){0};
    if (json.n > IMPORT_BODY_MAX_BYTES)
        return "what Redis has of it is larger than 64 MiB";
    if (svc_utf8_valid(json.p, json.n) != json.n)
        return "what Redis has of it is no valid UTF-8";
    if (!is_fit_for_parser(json))
        return "what Redis has of it has too many values";
    self->root = parse(json);
    if (self->root == NULL)
        return "what Redis has of it is no JSON object";
    if (json_object_object_get_ex(self->root, "conversation_id", &named) &&
        get_number(self->root, "conversation_id") != id)
        return "what Redis has of it names another conversation";
    self->has_title = get_text(self->root, "title", &self->title);
    if (!get_text(self->root, "model", &self->model) || self->model.n == 0)
        return "it has no model";
    if (self->model.n > PROTO_MODEL_MAX_BYTES)
        return "its model has a name of more than 256 bytes";
    if (get_text(self->root, "api_key", &self->api_key) &&
        self->api_key.n > PROTO_API_KEY_MAX_BYTES)
        return "its api key is longer than 1024 bytes";
    self->created_s = import_time((int64_t)get_number(self->root, "created_time"));
    return read_messages(self);
}

void
import_body_fini(import_body_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        free(self->turns[i].joined);
    free(self->turns);
    json_object_put(self->root);
    *self = (import_body_t){0};
}
