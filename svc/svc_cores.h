/* svc_cores.h - how many cores this process may use.
 *
 * What threads are counted by when the configuration says 0. Neither the machine's cores, of which a container may have
 * been given a part, nor what it is allowed to run on alone: the smaller of that and the CPU limit of its control group
 * and of those around it. Thread: any. */
#ifndef SVC_SVC_CORES_H
#define SVC_SVC_CORES_H

#include <stddef.h>

/* At least 1; a limit of 2.5 cores counts as 2, since other threads than those that are counted by it need something,
 * too. `root` stands before /proc and /sys: "" but in tests. */
size_t svc_cores(const char *root);

#endif
