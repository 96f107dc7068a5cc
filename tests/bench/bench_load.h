/* bench_load.h - what the parts of the load generator share.
 *
 * One run is one struct: a set of connections, and what each of them is doing. The phases of a run
 * (calls one by one, requests in parallel, chats) follow one another on the same connections. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench_chat.h"
#include "bench_http.h"

#define LOAD_REQUEST_BYTES 2048
#define LOAD_FAULTS_SHOWN  3

typedef enum { PHASE_CALL, PHASE_REQUESTS, PHASE_CHATS } load_phase;

typedef struct load load_t;

/* What one connection is doing. */
typedef struct {
    load_t *load;      /* whose */
    char *body;        /* answer of a plain request; owned */
    size_t body_n;     /* bytes of it */
    size_t body_cap;   /* room for it */
    bench_chat_t chat; /* the answer that streams in */
    uint32_t job;      /* number of the request or chat */
    bool busy;         /* something is under way */
    bool counted;      /* its chat counts as open */
    bool watches;      /* the answer of another slot's chat */
} slot_t;

struct load {
    /* options */
    struct sockaddr_in to; /* the server */
    bench_chat_kind kind;  /* gateway, or raw: the provider or a proxy before it */
    const char *what;      /* chats list history create login get */
    const char *path;      /* get */
    char model[64];        /* chats, without letter */
    uint32_t parallel;     /* connections */
    uint32_t width;        /* of them, for plain requests */
    uint32_t count;        /* chats or requests; 0: until `ms` are over */
    uint32_t ms;           /* of requests */
    uint32_t ramp_ms;      /* chats: until all have begun */
    uint32_t timeout_s;    /* then what is left has failed */
    uint32_t verify;       /* chats whose history is read afterwards */
    uint32_t viewers;      /* of each answer, the one who asked included */
    bool wait;             /* for a line on stdin, before it begins */

    bench_http_t *http; /* owned */
    slot_t *slots;      /* `slots_n` of them; owned */
    uint32_t slots_n;   /* connections */
    char token[1024];   /* JWT */
    char user[64];      /* of this run */
    uint64_t *ids;      /* conversations, one a chat; owned */
    uint64_t *hashes;   /* of the answers that came; owned */

    load_phase phase;
    const char *fault;                /* of the call; NULL: good */
    char request[LOAD_REQUEST_BYTES]; /* the one that is repeated */
    size_t request_n;                 /* bytes of it */
    int expected_status;              /* of its answers */
    char *expected;     /* body that all answers must equal, NULL: none; owned */
    size_t expected_n;  /* bytes of it */
    uint32_t limit;     /* how many are to begin; UINT32_MAX: any number */
    uint32_t begun;     /* requests or chats */
    uint32_t done;      /* of them, however they ended */
    uint32_t failed;    /* refused, lost, late */
    uint32_t wrong;     /* with a wrong byte */
    uint32_t open;      /* chats that stream at this moment */
    bool told_open;     /* all of them did, and it has been said */
    uint64_t tokens;    /* in the answers, as the provider wrote them */
    uint64_t watched;   /* tokens that the other viewers got */
    uint64_t events;    /* pieces that they came in */
    uint64_t from_us;   /* beginning of the phase */
    uint64_t to_us;     /* its end */
    bench_hist_t first; /* to the first text, or to the end of a plain answer */
    bench_hist_t added; /* from the provider's write to here */
    char faults[LOAD_FAULTS_SHOWN][200]; /* the first ones */
    uint32_t faults_n;                   /* of them */
};

/* One request, answered before this returns; the body is in the first slot. Returns the status, 0 when
 * there was no answer. */
int load_call(load_t *self, const char *method, const char *path, const char *body);

/* Repeats a request on all connections until `limit` or for so many ms (0: no end); the answers
 * must have this status. */
void load_requests(load_t *self, const char *method, const char *path, const char *body,
                   int status, uint32_t limit, uint32_t ms);

/* The chats. */
void load_chats(load_t *self);

/* Remembers what went wrong, the first times. */
void load_fault(load_t *self, bool is_wrong, const char *text);

/* Calls of bench_http. */
bool load_on_body(bench_conn_t *conn, const char *bytes, size_t n);
void load_on_end(bench_conn_t *conn, const char *fault);

#endif
