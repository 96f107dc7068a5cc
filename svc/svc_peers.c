/* svc_peers.c - the calling side of the bus: all replicas of one service.
 *
 * A member is one address with its svc_peer. Members tell of connections; what the owner is
 * told is of instances: an instance is up while any member is up with it, and lost when
 * every member that had it last has given it up. A member whose address is gone from the service's
 * name stays while it is up, or while its instance is not given up yet. All calls stand in one table that the
 * members share, so a reply, a deadline and a forget find them wherever they went.
 * There are a handful of members, so they are looked through. Thread: the loop's. */
#include "svc/svc_peers.h"

#include "svc/svc_endpoints.h"
#include "svc/svc_peer_call.h"
#include "svc/svc_secret.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    svc_peers_t *set;  /* its owner */
    svc_peer_t *peer;  /* owned */
    char *endpoint;    /* owned */
    uint64_t instance; /* that is or was up there; 0: none yet */
    bool is_lost;      /* of `instance`, as it told last */
    bool is_listed;    /* its address is one of the service's right now */
} member_t;

struct svc_peers {
    svc_ctx_t *ctx;              /* borrowed */
    char *service;               /* expected there; owned */
    svc_peer_event_fn *on_event; /* may be NULL */
    void *arg;                   /* for on_event */
    svc_peer_calls_t *calls;     /* owned; of all members */
    member_t **members;          /* owned */
    size_t n;                    /* of them */
    svc_endpoints_t *endpoints;  /* owned; says which members there are */
    uint64_t reap_timer;         /* takes out members whose time is over; 0: none */
    uint64_t dice;               /* state of what draws between equals, never 0 */
};

/* --- events ------------------------------------------------------------------------- */

static bool
is_up_with(const member_t *member, uint64_t instance)
{
    return member->instance == instance && svc_peer_is_up(member->peer);
}

/* How many members are up with this instance. */
static size_t
ways_to(const svc_peers_t *self, uint64_t instance)
{
    size_t n = 0;
    for (size_t i = 0; i < self->n; i++)
        n += is_up_with(self->members[i], instance) ? 1 : 0;
    return n;
}

/* True when no member that had this instance last still waits for it. */
static bool
is_given_up(const svc_peers_t *self, uint64_t instance)
{
    for (size_t i = 0; i < self->n; i++)
        if (self->members[i]->instance == instance && !self->members[i]->is_lost)
            return false;
    return true;
}

static void
tell(const svc_peers_t *self, svc_peer_event event, uint64_t instance)
{
    if (self->on_event != NULL)
        self->on_event(self->arg, event, instance);
}

static void want_reap(svc_peers_t *self);

static void
on_member(void *arg, svc_peer_event event, uint64_t instance)
{
    member_t *member = arg;
    svc_peers_t *self = member->set;
    switch (event) {
    case SVC_PEER_UP:
        member->instance = instance;
        member->is_lost = false;
        if (ways_to(self, instance) == 1)
            tell(self, SVC_PEER_UP, instance);
        break;
    case SVC_PEER_DOWN:
        if (ways_to(self, instance) == 0)
            tell(self, SVC_PEER_DOWN, instance);
        break;
    case SVC_PEER_LOST:
        member->is_lost = true;
        if (is_given_up(self, instance))
            tell(self, SVC_PEER_LOST, instance);
        if (!member->is_listed)
            want_reap(self);
        break;
    }
}

/* --- who is there ------------------------------------------------------------------- */

bool
svc_peers_is_up(const svc_peers_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        if (svc_peer_is_up(self->members[i]->peer))
            return true;
    return false;
}

bool
svc_peers_takes_work(const svc_peers_t *self)
{
    for (size_t i = 0; i < self->n; i++)
        if (svc_peer_is_up(self->members[i]->peer) &&
            !svc_peer_is_draining(self->members[i]->peer))
            return true;
    return false;
}

/* The best member for new work; 0 is best. One that was taken out of the service's name finishes what it has, like one that
 * drains: others no longer find it, or hear its token frames only for a while. */
static unsigned
rank_of(const member_t *member)
{
    const bool is_leaving = svc_peer_is_draining(member->peer) || !member->is_listed;
    return (svc_peer_is_silent(member->peer) ? 2u : 0u) + (is_leaving ? 1u : 0u);
}

/* A member that is up with this instance (0: with any) and is not `but`, the best one; NULL: none is. */
static member_t *
find_member_but(svc_peers_t *self, uint64_t instance, const svc_peer_t *but)
{
    member_t *best = NULL;
    unsigned best_rank = 0;
    size_t at = 0;
    if (self->n > 1) { /* where to begin: the first of equals wins */
        self->dice ^= self->dice << 13;
        self->dice ^= self->dice >> 7;
        self->dice ^= self->dice << 17;
        at = (size_t)(self->dice % self->n);
    }
    for (size_t i = 0; i < self->n; i++, at = at + 1 < self->n ? at + 1 : 0) {
        member_t *member = self->members[at];
        if (member->peer == but ||
            !is_up_with(member, instance == 0 ? member->instance : instance))
            continue;
        const unsigned rank = rank_of(member);
        if (best != NULL &&
            (rank > best_rank || (rank == best_rank && svc_peer_load(member->peer) >=
                                                           svc_peer_load(best->peer))))
            continue;
        best = member;
        best_rank = rank;
    }
    return best;
}

static member_t *
find_member(svc_peers_t *self, uint64_t instance)
{
    return find_member_but(self, instance, NULL);
}

bool
svc_peers_has(const svc_peers_t *self, uint64_t instance)
{
    return ways_to(self, instance) > 0;
}

uint64_t
svc_peers_pick(svc_peers_t *self)
{
    const member_t *member = find_member(self, 0);
    return member == NULL ? 0 : member->instance;
}

void
svc_peers_each(const svc_peers_t *self, void (*fn)(void *arg, uint64_t instance),
               void *arg)
{
    for (size_t i = 0; i < self->n; i++) {
        const member_t *member = self->members[i];
        bool is_first = svc_peer_is_up(member->peer);
        for (size_t k = 0; k < i && is_first; k++)
            is_first = !is_up_with(self->members[k], member->instance);
        if (is_first)
            fn(arg, member->instance);
    }
}

/* --- calls -------------------------------------------------------------------------- */

/* The best one had no room, which is also how a connection looks that has just broken: any other
 * will do. */
static svc_rc
call_another(svc_peers_t *self, const svc_peer_request_t *request, bool keep,
             const member_t *busy, uint64_t *id_out)
{
    svc_rc rc = RC_BUSY;
    for (size_t i = 0; i < self->n && rc != RC_OK; i++)
        if (self->members[i] != busy && svc_peer_is_up(self->members[i]->peer))
            rc = svc_peer_begin(self->members[i]->peer, request, keep, id_out);
    return rc;
}

svc_rc
svc_peers_call(svc_peers_t *self, const svc_peer_request_t *request, uint64_t *id_out)
{
    const member_t *member = find_member(self, request->instance);
    /* Nobody else could answer it: then it is not copied either. */
    const bool keep = self->n > 1 && request->instance == 0 &&
                      proto_op_is_idempotent(request->op);
    if (member == NULL)
        return RC_UNAVAILABLE;
    const svc_rc rc = svc_peer_begin(member->peer, request, keep, id_out);
    return rc == RC_BUSY && request->instance == 0
               ? call_another(self, request, keep, member, id_out)
               : rc;
}

/* The peer of a kept call has gone down, or leaves it to another one: itself is asked again if there is none. */
static bool
call_again(void *arg, peer_call_t *call)
{
    svc_peers_t *self = arg;
    const member_t *member = find_member_but(self, 0, svc_peer_call_peer(call));
    if (member == NULL)
        member = find_member(self, 0);
    if (member == NULL || svc_peer_resend(member->peer, call) != RC_OK)
        return false;
    svc_metrics_add(self->ctx->metrics, SVC_M_CALLS_FAILED_OVER, 1);
    return true;
}

svc_rc
svc_peers_post(svc_peers_t *self, uint64_t instance, const char *op, svc_str trace,
               const proto_schema_t *schema, const void *req)
{
    const member_t *member = find_member(self, instance);
    return member == NULL ? RC_UNAVAILABLE
                          : svc_peer_post(member->peer, op, trace, schema, req);
}

void
svc_peers_forget(svc_peers_t *self, uint64_t id)
{
    svc_peer_calls_forget(self->calls, id);
}

uint64_t
svc_peers_replier(const svc_peers_t *self)
{
    return self->calls->replier;
}

/* --- life --------------------------------------------------------------------------- */

static void
free_member(member_t *member)
{
    svc_peer_destroy(&member->peer);
    free(member->endpoint);
    free(member);
}

/* True when nothing is expected of it any more. */
static bool
is_over(const member_t *member)
{
    return !member->is_listed && !svc_peer_is_up(member->peer) &&
           (member->instance == 0 || member->is_lost);
}

static void
reap(void *arg, short events)
{
    svc_peers_t *self = arg;
    size_t kept = 0;
    (void)events;
    self->reap_timer = 0;
    for (size_t i = 0; i < self->n; i++)
        if (is_over(self->members[i])) {
            svc_log_info(self->ctx->log, "%s is at %s no more", self->service,
                         self->members[i]->endpoint);
            free_member(self->members[i]);
        } else {
            self->members[kept++] = self->members[i];
        }
    self->n = kept;
}

/* Later: whoever tells us is still at work in the member. */
static void
want_reap(svc_peers_t *self)
{
    if (self->reap_timer == 0)
        self->reap_timer = svc_loop_after(self->ctx->loop, 0, reap, self);
}

static void
add_member(svc_peers_t *self, const char *endpoint)
{
    char *error = NULL;
    member_t *member = svc_alloc(sizeof(*member));
    member->set = self;
    member->is_listed = true;
    member->endpoint = svc_str_dup(svc_str_c(endpoint));
    member_t **members = svc_alloc((self->n + 1) * sizeof(*members));
    if (self->n > 0)
        memcpy(members, self->members, self->n * sizeof(*members));
    free(self->members);
    self->members = members;
    member->peer = svc_peer_new_among(self->ctx, self->service, endpoint, on_member,
                                      member, self->calls, &error);
    if (member->peer != NULL) {
        self->members[self->n++] = member;
        return;
    }
    /* Not what svc_endpoints gives, unless a name server says odd things. */
    svc_log_error(self->ctx->log, "%s", error != NULL ? error : endpoint);
    free(error);
    free_member(member);
}

static void
on_endpoint(void *arg, const char *endpoint, bool is_added)
{
    svc_peers_t *self = arg;
    member_t *member = NULL;
    for (size_t i = 0; i < self->n && member == NULL; i++)
        if (strcmp(self->members[i]->endpoint, endpoint) == 0)
            member = self->members[i];
    if (member != NULL)
        member->is_listed = is_added;
    else if (is_added)
        add_member(self, endpoint);
    if (!is_added)
        want_reap(self);
}

/* Says for which service a list is none. */
static void
name_service(const char *service, char **error)
{
    char *wrong = *error;
    if (asprintf(error, "%s: cannot connect to %s", service,
                 wrong != NULL ? wrong : "it") < 0)
        *error = NULL;
    free(wrong);
}

svc_peers_t *
svc_peers_new(svc_ctx_t *ctx, const char *service, const char *endpoints,
              svc_peer_event_fn *on_event, void *arg, char **error)
{
    svc_peers_t *self = svc_alloc(sizeof(*self));
    self->ctx = ctx;
    self->service = svc_str_dup(svc_str_c(service));
    self->on_event = on_event;
    self->arg = arg;
    self->calls = svc_peer_calls_new(ctx);
    self->calls->again = call_again;
    self->calls->arg = self;
    self->dice = svc_random_u64() | 1;
    self->endpoints = svc_endpoints_new(ctx, endpoints, on_endpoint, self, error);
    if (self->endpoints != NULL)
        return self;
    name_service(service, error);
    svc_peers_destroy(&self);
    return NULL;
}

void
svc_peers_destroy(svc_peers_t **self_p)
{
    svc_peers_t *self = *self_p;
    if (self == NULL)
        return;
    svc_endpoints_destroy(&self->endpoints);
    svc_loop_cancel(self->ctx->loop, self->reap_timer);
    for (size_t i = 0; i < self->n; i++)
        free_member(self->members[i]);
    svc_peer_calls_destroy(&self->calls);
    free(self->members);
    free(self->service);
    free(self);
    *self_p = NULL;
}
