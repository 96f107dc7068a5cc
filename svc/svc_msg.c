/* svc_msg.c - the only place that sends and receives ZeroMQ messages.
 *
 * libzmq is not built with ThreadSanitizer, so the hand-over of a payload from thread
 * to thread looks like a race to it; the two annotations tell what the mailbox
 * guarantees: by the payload's address, or for small messages, which libzmq copies, by
 * one address for all of them. A payload that was taken from a buffer is freed by whichever thread
 * drops it last (mostly libzmq's own). */
#include "svc/svc_msg.h"

#include "proto/proto.h"

#include <errno.h>
#include <stdlib.h>

#define MSG_HANDSHAKE_MS \
    3000 /* libzmq's default of 30 s would hide a frozen peer behind the kernel's backlog */

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MSG_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define MSG_TSAN 1
#endif

#ifdef MSG_TSAN
#define MSG_COPIED_MAX_BYTES 33 /* libzmq 4.3: larger ones travel by address */

void __tsan_acquire(void *addr);
void __tsan_release(void *addr);

static char copied; /* stands for all small messages; only its address is used */

static void *
sync_of(void *payload, size_t n)
{
    return n > MSG_COPIED_MAX_BYTES ? payload : &copied;
}
#endif

static void
annotate_release(zmq_msg_t *msg)
{
#ifdef MSG_TSAN
    __tsan_release(sync_of(zmq_msg_data(msg), zmq_msg_size(msg)));
#else
    (void)msg;
#endif
}

static void
annotate_acquire(void *payload, size_t n)
{
#ifdef MSG_TSAN
    __tsan_acquire(sync_of(payload, n));
#else
    (void)payload;
    (void)n;
#endif
}

bool
svc_msg_send(void *socket, zmq_msg_t *msg, int flags)
{
    annotate_release(msg);
    int rc;
    do
        rc = zmq_msg_send(msg, socket, flags);
    while (rc < 0 && errno == EINTR);
    return rc >= 0;
}

bool
svc_msg_send_bytes(void *socket, svc_str bytes, int flags)
{
    zmq_msg_t msg;
    if (zmq_msg_init_size(&msg, bytes.n) != 0)
        return false;
    if (bytes.n > 0)
        memcpy(zmq_msg_data(&msg), bytes.p, bytes.n);
    if (svc_msg_send(socket, &msg, flags))
        return true;
    int error = errno;
    zmq_msg_close(&msg);
    errno = error;
    return false;
}

bool
svc_msg_recv(void *socket, zmq_msg_t *msg, int flags)
{
    int rc;
    do
        rc = zmq_msg_recv(msg, socket, flags);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return false;
    annotate_acquire(zmq_msg_data(msg), zmq_msg_size(msg));
    return true;
}

void
svc_msg_skip_rest(void *socket, const zmq_msg_t *msg)
{
    bool more = zmq_msg_more(msg) != 0;
    while (more) {
        zmq_msg_t rest;
        zmq_msg_init(&rest);
        more = svc_msg_recv(socket, &rest, 0) && zmq_msg_more(&rest) != 0;
        zmq_msg_close(&rest);
    }
}

svc_str
svc_msg_str(const zmq_msg_t *msg)
{
    /* zmq_msg_data wants a non-const message though it changes nothing. */
    zmq_msg_t *m = (zmq_msg_t *)(uintptr_t)msg;
    return (svc_str){zmq_msg_data(m), zmq_msg_size(m)};
}

static void
free_payload(void *payload, void *hint)
{
    (void)hint;
    annotate_acquire(payload, SIZE_MAX);
    annotate_acquire(payload, 0); /* its size is not known here */
    free(payload);
}

void
svc_msg_take(zmq_msg_t *msg, svc_buf_t *buf)
{
    if (buf->p == NULL) {
        zmq_msg_init(msg);
        return;
    }
    SVC_ASSERT(zmq_msg_init_data(msg, buf->p, buf->n, free_payload, NULL) == 0);
    svc_buf_init(buf, buf->max);
}

void *
svc_msg_socket(void *zmq_ctx, int type, int hwm)
{
    void *socket = zmq_socket(zmq_ctx, type);
    if (socket == NULL)
        return NULL;
    const int linger = 0;
    const int64_t max_size = PROTO_MESSAGE_MAX_BYTES;
    const int handshake = MSG_HANDSHAKE_MS;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger));
    zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_size, sizeof(max_size));
    zmq_setsockopt(socket, ZMQ_HANDSHAKE_IVL, &handshake, sizeof(handshake));
    zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof(hwm));
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof(hwm));
    return socket;
}

/* Only where it is needed: with this option ZeroMQ takes names and "*" for IPv6, too. It counts for
 * the connections that are made next. */
static void
allow_ipv6(void *socket, const char *endpoint)
{
    const int wanted = strchr(endpoint, '[') != NULL ? 1 : 0;
    zmq_setsockopt(socket, ZMQ_IPV6, &wanted, sizeof(wanted));
}

bool
svc_msg_connect(void *socket, const char *endpoint)
{
    allow_ipv6(socket, endpoint);
    return zmq_connect(socket, endpoint) == 0;
}

bool
svc_msg_bind(void *socket, const char *endpoint)
{
    allow_ipv6(socket, endpoint);
    return zmq_bind(socket, endpoint) == 0;
}
