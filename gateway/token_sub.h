/* token_sub.h - where token frames come in: one SUB socket for all llm-svc replicas.
 *
 * Connects to every endpoint of bus.tokens.connect and hands on the frames of the streams
 * that were asked for. A few fresh stream ids are subscribed in advance, so that the
 * subscription has reached llm-svc when a question comes. Frames may be lost, doubled or
 * come from one that was given up: feeds know what to make of that.
 * Thread: its reactor's. */
#ifndef GATEWAY_TOKEN_SUB_H
#define GATEWAY_TOKEN_SUB_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"

#define TOKEN_SUB_SPARE_IDS \
    16 /* stream ids subscribed in advance: more questions than that rarely come in the ms that a subscription takes */

typedef struct token_sub token_sub_t;

/* Receives a frame; views die on return. */
typedef void token_sub_fn(void *arg, const proto_token_t *token);

/* Reads frames from all addresses of `endpoints` ("tcp://host:port,tcp://…", see svc_endpoints). Keeps ctx. NULL with *error
 * (free() it) set: that is no list of endpoints. */
token_sub_t *token_sub_new(svc_ctx_t *ctx, const char *endpoints, token_sub_fn *on_token,
                           void *arg, char **error);

/* Closes it and sets *self_p to NULL. NULL-safe. */
void token_sub_destroy(token_sub_t **self_p);

/* Takes the fresh stream id that has been subscribed for longest. */
void token_sub_take_id(token_sub_t *self, uint8_t out[PROTO_STREAM_BYTES]);

/* Subscribes to a stream. */
void token_sub_add(token_sub_t *self, svc_str stream);

/* Ends the subscription, of an id that was taken, too. */
void token_sub_drop(token_sub_t *self, svc_str stream);

#endif
