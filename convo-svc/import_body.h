/* import_body.h - one conversation as the original backend keeps it: the JSON object of Redis' key conversation:<id>.
 *
 *   {"conversation_id", "title", "model", "api_key", "messages": [{"role", "content", "message_id"}…], "created_time"}
 *
 * Message 0 is the system prompt. Ours are turns: a question and its answer, under message_ids 2n - 1 and 2n. So a question that nobody
 * answered has an empty answer here, two answers in a row become one, and what fits nowhere is left out and counted. Any bytes
 * may come. Thread: the owner's. */
#ifndef IMPORT_BODY_H
#define IMPORT_BODY_H

#include "proto/proto.h"

#define IMPORT_BODY_MAX_BYTES (64u << 20)
#define IMPORT_TURNS_MAX      (PROTO_PROMPT_MAX_MESSAGES / 2)

typedef struct {
    svc_str question; /* may be empty: some have been asked nothing */
    svc_str answer;   /* empty: none came */
    char *joined;     /* owned; of an answer that stood there in parts, else NULL */
} import_turn_t;

typedef struct {
    struct json_object *root; /* owned; the views below are of it */
    svc_str title, model, api_key, system_prompt;
    bool has_title;       /* it may be empty */
    uint64_t created_s;   /* Unix seconds; 0: it does not say */
    import_turn_t *turns; /* owned */
    size_t n, cap;        /* turns */
    size_t unanswered;    /* of them */
    size_t joined;        /* answers that were added to the one before */
    size_t
        left_out; /* messages that are neither question nor answer, or no text, or an answer to nothing */
} import_body_t;

/* Reads the object, which must be of the conversation `id`. Gives NULL, or why it cannot be brought over (static); fini either way. */
const char *import_body_parse(import_body_t *self, svc_str json, uint64_t id);

/* Frees what it holds. */
void import_body_fini(import_body_t *self);

/* Reads an id as the original writes it: decimal digits, 1 to PROTO_ID_MAX, no more and no zero in front. 0: it is none. */
uint64_t import_id(svc_str text);

/* Reads a time of the original, in seconds or milliseconds since 1970. Gives seconds; 0: it makes no sense. */
uint64_t import_time(int64_t value);

#endif
