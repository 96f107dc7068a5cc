/* upstream_error.c - turns statuses and error bodies into something a person can read.
 *
 * Providers repeat the key they refuse ("Incorrect API key provided: sk-…"), so the key
 * is looked for in all that is passed on. Line breaks become spaces: the sentence goes
 * into logs and into one line of JSON. */
#include "upstream_error.h"

#include "chunk_parser.h"
#include "proto/utf8.h"

#define SECRET_MIN_BYTES 4    /* shorter ones would blank ordinary words */
#define RAW_MAX_BYTES    4096 /* of a message, before it is cleaned and cut */

svc_rc
upstream_error_code(uint64_t status)
{
    switch (status) {
    case 401:
    case 403: return RC_UPSTREAM_AUTH;
    case 404: return RC_UPSTREAM_NOT_FOUND;
    case 429: return RC_UPSTREAM_RATE_LIMITED;
    default: return RC_UPSTREAM;
    }
}

ending_cause
upstream_error_cause(uint64_t status)
{
    switch (status) {
    case 401:
    case 403: return CAUSE_KEY;
    case 429: return CAUSE_RATE_LIMITED;
    default: return status >= 400 && status < 500 ? CAUSE_REFUSED : CAUSE_SERVER;
    }
}

void
upstream_error_clean(svc_str text, svc_str secret, svc_buf_t *out)
{
    size_t start = out->n;

    for (size_t i = 0; i < text.n && out->n - start < ENDING_TEXT_MAX_BYTES + 4;) {
        char c = text.p[i];
        if (secret.n >= SECRET_MIN_BYTES && text.n - i >= secret.n &&
            memcmp(text.p + i, secret.p, secret.n) == 0) {
            (void)!svc_buf_add(out, "***", 3);
            i += secret.n;
            continue;
        }
        if ((uint8_t)c < 0x20 || c == 0x7F)
            c = ' ';
        (void)!svc_buf_add(out, &c, 1);
        i++;
    }
    size_t n = out->n - start;
    if (n > 0)
        out->n = start + svc_utf8_valid(out->p + start, n < ENDING_TEXT_MAX_BYTES
                                                            ? n
                                                            : ENDING_TEXT_MAX_BYTES);
}

void
upstream_error_sentence(long status, svc_str body, svc_str secret, svc_buf_t *out)
{
    svc_buf_t message;

    svc_buf_init(&message, RAW_MAX_BYTES + 4);
    if (chunk_error_text(body, RAW_MAX_BYTES, &message) && message.n > 0)
        upstream_error_clean(svc_buf_str(&message), secret, out);
    else
        (void)!svc_buf_printf(out, "The provider answered with status %ld.", status);
    svc_buf_fini(&message);
}
