/* svc_process.h - what the kernel says of this process: time on cores, memory, descriptors.
 *
 * The numbers that every process exports under Prometheus' own names (process_…).
 * For whoever tells metrics, some times a minute: reading it counts all open descriptors, one by one. What cannot be
 * read (no /proc) is 0. Reentrant. */
#ifndef SVC_SVC_PROCESS_H
#define SVC_SVC_PROCESS_H

#include "proto/base.h"

typedef struct {
    double cpu_s;            /* user and system, of all threads since the start */
    uint64_t resident_bytes; /* in memory */
    uint64_t virtual_bytes;  /* of addresses */
    uint64_t threads;        /* of it */
    uint64_t fds;            /* open descriptors */
    uint64_t fds_max;        /* that it may open; UINT64_MAX: any number */
} svc_process_t;

/* Reads all of it. */
void svc_process_read(svc_process_t *out);

#endif
