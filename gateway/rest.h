/* rest.h - the handlers of all routes.
 *
 * Each is called once with the whole body there and the token checked, on its
 * reactor's thread. It either answers (request_answer…, request_refuse…) or asks a
 * service and answers when the reply comes; whoever called it suspends the connection
 * meanwhile. rest_auth.c, rest_convo.c, rest_chat.c, rest_stream.c, rest_answers.c and
 * rest_health.c hold them. */
#ifndef GATEWAY_REST_H
#define GATEWAY_REST_H

#include "idem_key.h"
#include "json_in.h"
#include "request.h"

/* POST /api/users/register: makes a user. */
void rest_register(request_t *self);

/* POST /api/users/login: a token for a name and a password. */
void rest_login(request_t *self);

/* POST /api/conversations/create: a conversation with a title and a model. */
void rest_create(request_t *self);

/* GET /api/conversations/history/:id: all messages of a conversation. */
void rest_history(request_t *self);

/* GET /api/conversations/list: the user's conversations. */
void rest_list(request_t *self);

/* POST /api/conversations/del/:id: removes a conversation. */
void rest_delete(request_t *self);

/* POST /api/chat/:id: asks a question and streams the answer. */
void rest_chat(request_t *self);

/* POST /api/chat/:id/retry: has the last question answered anew, and streams that. */
void rest_retry(request_t *self);

/* GET /api/chat/:id/stream: the latest answer from where the client has left it. */
void rest_stream(request_t *self);

/* POST /api/chat/:id/ticket: what opens that stream where no token can be sent. */
void rest_ticket(request_t *self);

/* POST /api/chat/:id/stop: ends the answer that is being written. */
void rest_stop(request_t *self);

/* GET /api/chat/active: the user's answers that are being written. */
void rest_active(request_t *self);

/* GET /healthz: this process lives. */
void rest_healthz(request_t *self);

/* GET /readyz: the services behind it are reachable. */
void rest_readyz(request_t *self);

/* Parses the body and reads `n` keys. NULL: the request was refused with the sentence
 * that says why. */
json_in_t *rest_read_body(request_t *self, const json_in_key_t *keys, size_t n);

/* Reads the Idempotency-Key for an operation into `key` (a view of `bytes`), or
 * leaves it empty when there is none. False: the request was refused. */
bool rest_read_key(request_t *self, idem_purpose purpose, uint8_t bytes[IDEM_KEY_BYTES],
                   svc_str *key);

#endif
