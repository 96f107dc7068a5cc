/* svc_msg.h - the only place that sends and receives ZeroMQ messages.
 *
 * ThreadSanitizer cannot see the happens-before edges inside libzmq; this wrapper
 * tells them by __tsan_release and __tsan_acquire on the payload. Sockets made here
 * have the house's options: ZMQ_LINGER 0, ZMQ_MAXMSGSIZE, bounded high-water marks. */
#ifndef SVC_SVC_MSG_H
#define SVC_SVC_MSG_H

#include "proto/base.h"
#include <zmq.h>

/* Sends a message (taken on success, still the caller's on failure). `flags` as of
 * zmq_msg_send. False: errno tells, EAGAIN when it would block, EHOSTUNREACH when a
 * ROUTER knows no such peer. */
bool svc_msg_send(void *socket, zmq_msg_t *msg, int flags) SVC_MUST_CHECK;

/* Sends a copy of `bytes`, likewise. */
bool svc_msg_send_bytes(void *socket, svc_str bytes, int flags) SVC_MUST_CHECK;

/* Receives into an initialised message. False: nothing there (EAGAIN) or the context
 * ends (ETERM). */
bool svc_msg_recv(void *socket, zmq_msg_t *msg, int flags) SVC_MUST_CHECK;

/* Reads and drops the remaining parts of a multipart message after `msg`. */
void svc_msg_skip_rest(void *socket, const zmq_msg_t *msg);

/* A view of the payload; dies with the message. */
svc_str svc_msg_str(const zmq_msg_t *msg);

/* Makes `msg` own a buffer's bytes and empties the buffer (no copy). */
void svc_msg_take(zmq_msg_t *msg, svc_buf_t *buf);

/* Gives a socket of `type` with the options above; NULL only when the context ends.
 * `hwm`: messages, both ways (0: no bound). */
void *svc_msg_socket(void *zmq_ctx, int type, int hwm);

/* Connects a socket to an endpoint, or binds it; an IPv6 address stands in brackets. False:
 * errno tells why not. */
bool svc_msg_connect(void *socket, const char *endpoint);
bool svc_msg_bind(void *socket, const char *endpoint);

#endif
