/* texts.h - every sentence that a client can read, in English and in Chinese.
 *
 * Results of operations have one sentence each; input errors are told finer, with the
 * name of the key or the limit in them. A provider's own message is passed on beside
 * ours. Clients branch on status and "code", so sentences may change; they never hold
 * a secret. Reentrant. */
#ifndef GATEWAY_TEXTS_H
#define GATEWAY_TEXTS_H

#include "proto/base.h"

typedef enum { TEXT_EN, TEXT_ZH, TEXT_LANGUAGES } text_language;

/* Sentences beside those of results. */
typedef enum {
    TEXT_REGISTERED,      /* 201 of register */
    TEXT_DELETED,         /* 200 of delete */
    TEXT_NO_PATH,         /* 404: no such path */
    TEXT_NO_TOKEN,        /* 401: no Authorization header */
    TEXT_NO_CONVERSATION, /* 404 */
    TEXT_BAD_ID,          /* 400: the id in the path is no integer */
    TEXT_NO_JSON,         /* 400: not JSON, or more after it */
    TEXT_NO_OBJECT,       /* 400: JSON, but no object */
    TEXT_NO_UTF8,         /* 400 */
    TEXT_TOO_COMPLEX,     /* 400: nested too deep or too many values */
    TEXT_MISSING,         /* 400: %s is the key */
    TEXT_NO_STRING,       /* 400: %s is the key */
    TEXT_EMPTY,           /* 400: %s is the key */
    TEXT_TOO_LONG,        /* 400: %s is the key */
    TEXT_BODY_TOO_BIG,    /* 413: %s is the limit in bytes */
    TEXT_BAD_API_KEY,     /* 400 */
    TEXT_BAD_FRAMING,     /* 400: the body's length is said twice, or not as we know it */
    TEXT_NO_HOST,         /* 400 */
    TEXT_TWO_TOKENS,      /* 400: more than one Authorization */
    TEXT_BAD_STREAM_ID,   /* 400: Last-Event-ID or ?after= is no id of this stream */
    TEXT_BAD_KEY,         /* 400: Idempotency-Key */
    TEXT_TWO_KEYS,        /* 400: more than one of them */
    TEXT_BAD_CHOICE,      /* 400: on_disconnect */
    TEXT_BAD_TICKET,      /* 401 */
    TEXT_STORED_ANYWAY,   /* error event: we lost sight of the answer, it goes on */
    TEXT_COUNT
} text_id;

/* The language that an Accept-Language header asks for; English when in doubt. */
text_language text_language_of(svc_str accept_language);

/* The sentence `id`; may hold one %s, see text_id. Never NULL. */
const char *text_of(text_language language, text_id id);

/* The sentence of a result. Never NULL. */
const char *text_of_rc(text_language language, svc_rc rc);

/* Appends the sentence `id` with `arg` (may be NULL) in place of its %s. RC_TOO_BIG:
 * `out` is full. */
svc_rc text_add(svc_buf_t *out, text_language language, text_id id,
                const char *arg) SVC_MUST_CHECK;

/* Appends the sentence of `rc`. `told` is what the service said, maybe nothing: a
 * provider's message is passed on (in Chinese behind our own sentence), as is what a
 * service finds wrong with the input. `password_min`: for RC_INVALID_PASSWORD.
 * RC_TOO_BIG: `out` is full. */
svc_rc text_add_rc(svc_buf_t *out, text_language language, svc_rc rc, svc_str told,
                   uint32_t password_min) SVC_MUST_CHECK;

#endif
