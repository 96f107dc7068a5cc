/* token_pub.h - the PUB socket: token frames to whoever has subscribed to a stream.
 *
 * A message is [topic][token frame]; the topic is the stream's 16 raw bytes. PUB drops
 * what nobody wants and what a slow subscriber cannot take: frames are a fast path,
 * whoever lacks one asks for a replay. For tests a share of all frames
 * (test.drop_token_frames) is dropped on purpose, and counted. Thread: the loop's. */
#ifndef LLM_SVC_TOKEN_PUB_H
#define LLM_SVC_TOKEN_PUB_H

#include "proto/proto.h"
#include "svc/svc_ctx.h"

#define TOKEN_PUB_HWM 100000 /* frames that wait for one subscriber, some MB */

typedef struct token_pub token_pub_t;

/* Binds bus.tokens.bind. NULL with *error (free() it) set: it cannot be bound. Keeps
 * ctx. */
token_pub_t *token_pub_new(svc_ctx_t *ctx, char **error);

/* Closes the socket, frees everything, sets *self_p to NULL. NULL-safe. */
void token_pub_destroy(token_pub_t **self_p);

/* Publishes a frame, maybe. */
void token_pub_send(token_pub_t *self, const proto_token_t *token);

/* Where it is bound ("tcp://127.0.0.1:40001" for a wildcard port); lives as long as
 * self. */
const char *token_pub_endpoint(const token_pub_t *self);

#endif
