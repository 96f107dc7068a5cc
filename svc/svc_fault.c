/* svc_fault.c - counts how often a chosen point is passed, and dies, hangs or freezes there.
 *
 * One point of each kind a process: what happens when two things fail is for the tests that fail at random.
 * SIGKILL and not abort(): no handler, no buffer, no destructor may run, as with a machine that
 * loses its power. SIGSTOP goes to the thread that has come there: it takes no further step, while
 * a signal to the process may first wake another thread. The counter is atomic, since a writer thread passes points of its own. */
#include "svc/svc_fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define TIMES_MAX 1000000ul

typedef struct {
    svc_fault_point point; /* where; FAULT_POINTS: nowhere */
    atomic_ulong left;     /* how often it is still to be passed, this time included */
} trap_t;

struct svc_fault {
    trap_t die, hang, freeze;
};

static const char *const names[FAULT_POINTS] = {
    [FAULT_CREATE_RECEIVED] = "create.received",
    [FAULT_ASK_RECEIVED] = "ask.received",
    [FAULT_ASK_BEFORE_COMMIT] = "ask.before_commit",
    [FAULT_ASK_AFTER_COMMIT] = "ask.after_commit",
    [FAULT_ASK_BEFORE_GENERATE] = "ask.before_generate",
    [FAULT_ASK_AFTER_GENERATE] = "ask.after_generate",
    [FAULT_JOURNAL_RECEIVED] = "journal.received",
    [FAULT_JOURNAL_BEFORE_COMMIT] = "journal.before_commit",
    [FAULT_JOURNAL_AFTER_COMMIT] = "journal.after_commit",
    [FAULT_JOURNAL_BEFORE_ACK] = "journal.before_ack",
    [FAULT_JOURNAL_AFTER_ACK] = "journal.after_ack",
    [FAULT_END_RECEIVED] = "end.received",
    [FAULT_END_BEFORE_COMMIT] = "end.before_commit",
    [FAULT_END_AFTER_COMMIT] = "end.after_commit",
    [FAULT_END_BEFORE_TELL] = "end.before_tell",
    [FAULT_STOP_RECEIVED] = "stop.received",
    [FAULT_STOP_BEFORE_COMMIT] = "stop.before_commit",
    [FAULT_STOP_AFTER_COMMIT] = "stop.after_commit",
    [FAULT_DELETE_RECEIVED] = "delete.received",
    [FAULT_DELETE_BEFORE_COMMIT] = "delete.before_commit",
    [FAULT_DELETE_AFTER_COMMIT] = "delete.after_commit",
    [FAULT_RETRY_RECEIVED] = "retry.received",
    [FAULT_RETRY_BEFORE_COMMIT] = "retry.before_commit",
    [FAULT_RETRY_AFTER_COMMIT] = "retry.after_commit",
    [FAULT_TAKEOVER_BEFORE_COMMIT] = "takeover.before_commit",
    [FAULT_TAKEOVER_AFTER_COMMIT] = "takeover.after_commit",
    [FAULT_TAKEOVER_BEFORE_ATTACH] = "takeover.before_attach",
    [FAULT_GENERATE_RECEIVED] = "generate.received",
    [FAULT_GENERATE_BEFORE_PIECE] = "generate.before_piece",
    [FAULT_GENERATE_AFTER_PIECE] = "generate.after_piece",
    [FAULT_GENERATE_AFTER_ACK] = "generate.after_ack",
    [FAULT_GENERATE_GATE_OPENED] = "generate.gate_opened",
    [FAULT_GENERATE_BEFORE_FINAL] = "generate.before_final",
    [FAULT_GENERATE_AFTER_FINAL] = "generate.after_final",
    [FAULT_GATEWAY_ASK_SENT] = "gateway.ask_sent",
    [FAULT_GATEWAY_FIRST_STATUS] = "gateway.first_status",
    [FAULT_GATEWAY_FIRST_SHOWN] = "gateway.first_shown",
    [FAULT_GATEWAY_TAIL_SENT] = "gateway.tail_sent",
};

/* The number behind the colon; 0: it is none. */
static unsigned long
read_times(const char *text)
{
    unsigned long times = 0;

    for (; *text >= '0' && *text <= '9' && times <= TIMES_MAX; text++)
        times = times * 10 + (unsigned long)(*text - '0');
    return *text == '\0' && times <= TIMES_MAX ? times : 0;
}

/* Sets a trap where `config` says, if anywhere. False with *error: there is no such point. */
static bool
set_trap(trap_t *out, const char *key, const char *config, char **error)
{
    const char *colon = strchr(config, ':');
    size_t n = colon == NULL ? strlen(config) : (size_t)(colon - config);
    unsigned long times = colon == NULL ? 1 : read_times(colon + 1);
    int point = 0;

    while (point < FAULT_POINTS &&
           (strlen(names[point]) != n || memcmp(names[point], config, n) != 0))
        point++;
    if (*config != '\0' && (point == FAULT_POINTS || times == 0)) {
        SVC_ASSERT(asprintf(error, "%s: there is no point '%s'", key, config) >= 0);
        return false;
    }
    out->point = (svc_fault_point)point;
    atomic_init(&out->left, times);
    return true;
}

svc_fault_t *
svc_fault_new(const char *die_at, const char *hang_at, const char *freeze_at,
              char **error)
{
    svc_fault_t *self;

    *error = NULL;
    if (*die_at == '\0' && *hang_at == '\0' && *freeze_at == '\0')
        return NULL;
    self = svc_alloc(sizeof(*self));
    if (!set_trap(&self->die, "test.die_at", die_at, error) ||
        !set_trap(&self->hang, "test.hang_at", hang_at, error) ||
        !set_trap(&self->freeze, "test.freeze_at", freeze_at, error))
        svc_fault_destroy(&self);
    return self;
}

void
svc_fault_destroy(svc_fault_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

/* Is this the point, and the time? */
static bool
springs(trap_t *trap, svc_fault_point point)
{
    /* Passed more often than that it wraps: by then nobody is waiting for it. */
    return point == trap->point && atomic_fetch_sub(&trap->left, 1) == 1;
}

void
svc_fault_hit(svc_fault_t *self, svc_fault_point point)
{
    if (springs(&self->die, point))
        kill(getpid(), SIGKILL);
    if (springs(&self->freeze, point))
        raise(SIGSTOP);
    if (springs(&self->hang, point))
        for (;;)
            pause();
}
