/* svc_config_reload.h - a configuration that is read again while the service runs: what of it may change at once.
 *
 * Live keys do: log.level, and what README.md names beside it. All others keep the value that
 * the process started with until its next start: whoever changes one is told so. What is in
 * use is never changed: the other reading is another struct. Reentrant. */
#ifndef SVC_SVC_CONFIG_RELOAD_H
#define SVC_SVC_CONFIG_RELOAD_H

#include "svc/svc_config.h"

/* Names of keys that differ, by ", ". */
typedef struct {
    char *live;    /* owned; those that are taken over; "" : none */
    char *restart; /* owned; those that are not, until the next start */
} svc_config_change_t;

/* Compares what was read again with what the process runs with: sets *out (svc_config_change_fini), and gives `fresh` the running
 * value of each key that is not live. */
void svc_config_renew(svc_config_t *fresh, const svc_config_t *running,
                      svc_config_change_t *out);

/* Frees the names and empties it. */
void svc_config_change_fini(svc_config_change_t *self);

#endif
