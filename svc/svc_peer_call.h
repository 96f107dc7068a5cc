/* svc_peer_call.h - what a peer is made of: shared by the halves of svc_peer and by svc_peers only.
 *
 * svc_peer.c holds the connection: socket, monitor, hello, ping, up, down, lost.
 * svc_peer_call.c holds the calls: sent, answered, timed out, failed, forgotten. All peers of
 * a set share one svc_peer_calls_t, so a call keeps its id and its deadline when it goes
 * to another peer. Nobody else includes this. Thread: the loop's. */
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

typedef struct peer_call peer_call_t;

/* Who else may answer a call whose peer has gone down, or leaves it to others? True: somebody does (svc_peer_resend). */
typedef bool svc_peer_again_fn(void *arg, peer_call_t *call);

/* The outstanding calls of one peer, or of all peers of a set. */
typedef struct svc_peer_calls {
    svc_ctx_t *ctx;       /* borrowed */
    svc_table_t table;    /* owns the calls, by id */
    svc_heap_t deadlines; /* of them */
    uint64_t ids;         /* source of call ids */
    svc_ids_t traces;     /* of requests that come with none */
    uint64_t timer;       /* fires at timer_ms or later; 0: none */
    uint64_t timer_ms;    /* monotonic */
    proto_arena_t *arena; /* of the reply in hand */
    void *rep;            /* room for the decoded reply in hand */
    size_t rep_cap;       /* bytes of rep */
    svc_buf_t out;        /* what is being sent, between uses empty */
    uint64_t replier;     /* instance that the reply in hand is of; 0: it was never up */
    svc_peer_again_fn *again; /* of kept calls; NULL: nobody else */
    void *arg;                /* for again */
} svc_peer_calls_t;

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
    bool absence_told;           /* that it has never been up, logged once */
    bool
        handshake_told; /* that it would not shake hands, logged once until the next UP */
    size_t key;         /* of the service there: which of its public keys is tried */
    size_t keys_failed; /* in a row: handshakes since the last UP */
    bool complained;    /* about a wrong answer to hello, logged once until the next UP */
    unsigned ticks;     /* to ping at every n-th */
    uint64_t instance;  /* that is or was up; 0: none yet */
    uint64_t last_life_ms; /* monotonic: when anything came from it */
    uint64_t asked_ms;     /* monotonic: of the oldest ping since then, while is_asked */
    uint64_t hello_ms;     /* monotonic: when the handshake succeeded */
    uint64_t untaken_ms;   /* monotonic: since when it takes no connection; 0: it did */
    svc_peer_calls_t *calls;     /* borrowed from the set, or own_calls */
    svc_peer_calls_t *own_calls; /* owned; NULL: one of a set */
    peer_call_t *first_call;     /* list of those that this peer is to answer */
    size_t n_calls;              /* in it */
    uint16_t metric;             /* row of its service in metrics */
};

#define SVC_PEER_OWN_IDS \
    (1ull << 62) /* ids from here on are hello and ping, below are calls */
#define SVC_PEER_HELLO_ID (SVC_PEER_OWN_IDS + 1)
#define SVC_PEER_PING_ID  (SVC_PEER_OWN_IDS + 2)

/* Makes the calls of a peer or a set; keeps ctx. */
svc_peer_calls_t *svc_peer_calls_new(svc_ctx_t *ctx);

/* Forgets what is outstanding without a word, frees all and sets *self_p to NULL. The peers are
 * gone by then. NULL-safe. */
void svc_peer_calls_destroy(svc_peer_calls_t **self_p);

/* As svc_peer_new, as one of a set that has these calls (kept). */
svc_peer_t *svc_peer_new_among(svc_ctx_t *ctx, const char *service, const char *endpoint,
                               svc_peer_event_fn *on_event, void *arg,
                               svc_peer_calls_t *calls, char **error);

/* As svc_peer_call. `keep`: keeps the encoded request, so that calls->again may send it
 * elsewhere when this peer goes down before the first reply. */
svc_rc svc_peer_begin(svc_peer_t *self, const svc_peer_request_t *request, bool keep,
                      uint64_t *id_out) SVC_MUST_CHECK;

/* Who is to answer a call. */
const svc_peer_t *svc_peer_call_peer(const peer_call_t *call);

/* Sends a kept call once more, to this peer, which answers it from now on; never a third time.
 * RC_UNAVAILABLE, RC_BUSY: not sent, the call is as before. */
svc_rc svc_peer_resend(svc_peer_t *self, peer_call_t *call) SVC_MUST_CHECK;

/* As svc_peer_forget. */
void svc_peer_calls_forget(svc_peer_calls_t *self, uint64_t id);

/* How long it waits for what. */
const svc_peer_times_t *svc_peer_times(const svc_peer_t *self);

/* Asks it for a sign of life; PEER_UP only. */
void svc_peer_ping(svc_peer_t *self);

/* Sends one message. `trace` empty: a fresh one. RC_BUSY: no room (or no connection);
 * else what encoding says. */
svc_rc svc_peer_send(svc_peer_t *self, const proto_envelope_t *envelope,
                     const proto_schema_t *schema, const void *msg);

/* Handles a reply to a call; replies that nobody waits for are skipped. */
void svc_peer_on_reply(svc_peer_t *self, const proto_envelope_t *envelope, svc_str body);

/* Its outstanding calls go to others if they may, else they fail with RC_UNAVAILABLE. */
void svc_peer_fail_calls(svc_peer_t *self);

/* Forgets its calls without a word. */
void svc_peer_drop_calls(svc_peer_t *self);

#endif
