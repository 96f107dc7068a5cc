/* provider.h - the seam between a live answer and whoever writes it.
 *
 * A provider takes a prompt and gives text, then one ending; what is behind it (HTTP,
 * the question itself, a script in a test) is its own business. Events come later from
 * the loop, never inside start or cancel. After its ending, or after cancel, a job is
 * the provider's own: no more events, and its pointer means nothing to the caller.
 * Thread: the loop's. */
#ifndef LLM_SVC_PROVIDER_H
#define LLM_SVC_PROVIDER_H

#include "ending.h"

typedef struct provider provider_t;
typedef struct provider_job provider_job_t; /* each provider has its own */

/* Where the answer goes. */
typedef struct {
    /* More text: valid UTF-8, whole characters, no U+0000, never empty. */
    void (*text)(void *arg, svc_str text);
    /* It is over; once, last. The views die on return. */
    void (*end)(void *arg, const ending_t *ending);
} provider_sink_t;

/* The functions of one kind of provider. */
struct provider {
    const char *name; /* for logs */

    /* Begins to answer req (borrowed for the call, as `trace`: of the question, for logs and for whoever
     * is behind the provider; may be empty); `sink` (borrowed for the job's life) gets `arg`. RC_OK: *out is the job. An error: the request cannot be made at all (it is
     * too big, or its key is none). */
    svc_rc (*start)(provider_t *self, const generate_req_t *req, svc_str trace,
                    const provider_sink_t *sink, void *arg, provider_job_t **out);

    /* Nobody wants the rest: closes the connection. Safe inside the sink's functions. */
    void (*cancel)(provider_job_t *job);

    /* True when it has no job, not even one whose response is only read to its end. */
    bool (*is_idle)(const provider_t *self);

    /* Frees the provider with all its jobs; their sinks hear nothing. Sets *self_p to
     * NULL. */
    void (*destroy)(provider_t **self_p);
};

#endif
