/* svc_peer_call.h - what a peer is made of: shared by the two halves of svc_peer only.
 *
 * svc_peer.c holds the connection: socket, monitor, hello, ping, up, down, lost.
 * svc_peer_call.c holds the calls: sent, answered, timed out, failed, forgotten.
 * Nobody else includes this. Thread: the loop's. */
#ifndef SVC_SVC_PEER_CALL_H
#define SVC_SVC_PEER_CALL_H

#include "svc/svc_heap.h"
#include "svc/svc_peer.h"
#include "svc/svc_secret.h"
#include "svc/svc_table.h"

typedef enum {
    PEER_CLOSED,     /* no socket; a timer opens the next */
    PEER_CONNECTING, /* ZeroMQ tries, again and again */
    PEER_HELLO,      /* connected, hello not answered yet */
    PEER_UP,         /* hello was answered */
} peer_state;

struct svc_peer {
    svc_ctx_t *ctx;              /* borrowed */
    char *service;               /* expected there; owned */
    char *endpoint;              /* owned */
    svc_peer_event_fn *on_event; /* may be NULL */
    void *arg;                   /* for on_event */
    void *socket;                /* DEALER, owned; NULL while closed */
    void *monitor;               /* PAIR with its events, owned */
    uint64_t tick_timer;         /* each tick, always */
    uint64_t open_timer;         /* while PEER_CLOSED */
    peer_state state;            /* see there */
    bool lost_told;              /* LOST was told since the last UP */
    bool is_draining;            /* as its last ping reply said */
    bool hello_sent;             /* on this connection */
    bool is_asked;               /* a ping went out, and nothing has come since */
    bool complained;   /* about a wrong answer to hello, logged once until the next UP */
    unsigned ticks;    /* to ping at every n-th */
    uint64_t instance; /* that is or was up; 0: none yet */
    uint64_t last_life_ms;  /* monotonic: when anything came from it */
    uint64_t asked_ms;      /* monotonic: of the oldest ping since then, while is_asked */
    uint64_t hello_ms;      /* monotonic: when the handshake succeeded */
    proto_arena_t *arena;   /* of the reply in hand */
    void *rep;              /* room for the decoded reply in hand */
    size_t rep_cap;         /* bytes of rep */
    svc_buf_t out;          /* encoded body, between uses empty */
    svc_table_t calls;      /* owns the outstanding calls */
    svc_heap_t deadlines;   /* of them */
    uint64_t ids;           /* source of call ids */
    svc_ids_t traces;       /* of requests that come with none */
    uint64_t call_timer;    /* fires at call_timer_ms or later; 0: none */
    uint64_t call_timer_ms; /* monotonic */
};

#define SVC_PEER_OWN_IDS \
    (1ull << 62) /* ids from here on are hello and ping, below are calls */
#define SVC_PEER_HELLO_ID (SVC_PEER_OWN_IDS + 1)
#define SVC_PEER_PING_ID  (SVC_PEER_OWN_IDS + 2)

/* Sends one message. `trace` empty: a fresh one. RC_BUSY: no room (or no connection);
 * else what encoding says. */
svc_rc svc_peer_send(svc_peer_t *self, const proto_envelope_t *envelope,
                     const proto_schema_t *schema, const void *msg);

/* Handles a reply to a call; replies that nobody waits for are skipped. */
void svc_peer_on_reply(svc_peer_t *self, const proto_envelope_t *envelope, svc_str body);

/* Fails all outstanding calls with RC_UNAVAILABLE. */
void svc_peer_fail_calls(svc_peer_t *self);

/* Forgets all calls without a word and frees what they need. */
void svc_peer_drop_calls(svc_peer_t *self);

#endif
