/* ticket.h - tickets: what opens the stream of one conversation where no token can be sent.
 *
 * A browser's EventSource has no headers, so its URL carries a ticket: user, conversation, until when a
 * stream may be opened with it, and when the token that it stands for expires, signed. Nothing is
 * stored, so any replica redeems it. Its key is derived from the secret of the tokens: a ticket is no
 * token and a token no ticket. Tickets never reach a log. Thread: the one that made the signer. */
#ifndef AUTH_TICKET_H
#define AUTH_TICKET_H

#include "proto/base.h"

#define TICKET_TEXT_BYTES 87 /* of every ticket: base64url without padding */

typedef struct ticket_signer ticket_signer_t;

/* What a ticket says. */
typedef struct {
    uint64_t user, conversation; /* 1..PROTO_ID_MAX */
    uint64_t
        open_until_s; /* Unix seconds: for opening; later it is good for opening again only */
    uint64_t expires_s; /* Unix seconds: of the token */
} ticket_t;

/* Gives a signer whose key comes from the secret of the tokens (at least one byte). */
ticket_signer_t *ticket_signer_new(const void *secret, size_t n);

/* Wipes the key, frees the signer, sets *self_p to NULL. NULL-safe. */
void ticket_signer_destroy(ticket_signer_t **self_p);

/* Writes a ticket with its NUL. */
void ticket_make(const ticket_signer_t *self, const ticket_t *ticket,
                 char out[TICKET_TEXT_BYTES + 1]);

/* Checks any bytes for a ticket of ours whose token is good at `now_s`. RC_UNAUTHORIZED: it is not. Whether it may still
 * open a stream is the caller's to judge. */
svc_rc ticket_check(const ticket_signer_t *self, svc_str text, uint64_t now_s,
                    ticket_t *out) SVC_MUST_CHECK;

#endif
