/* svc_cores.c - sched_getaffinity() and the cpu.max of each control group from ours up to the root.
 *
 * Control groups of version 2 only: their path stands behind "0::" in /proc/self/cgroup, and in a container that is
 * "/" with its limit beside it, since it sees no further. What cannot be read limits nothing: version 1, other systems, a
 * /sys that is hidden. Asked once at start; a limit that is changed later counts from the next start on. */
#include "svc/svc_cores.h"

#include "proto/base.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_BYTES 4096

/* Cores that the scheduler would give us. */
static size_t
count_allowed(void)
{
    cpu_set_t set;
    long n;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return (size_t)CPU_COUNT(&set);
    n = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than a cpu_set_t knows */
    return n > 0 ? (size_t)n : 1;
}

/* Finds the path of our control group; false: there is none of version 2. */
static bool
find_group(const char *root, char *out, size_t size)
{
    char name[PATH_BYTES];
    FILE *file;
    bool found = false;

    (void)snprintf(name, sizeof(name), "%s/proc/self/cgroup", root);
    file = fopen(name, "re");
    if (file == NULL)
        return false;
    while (!found && fgets(out, (int)size, file) != NULL)
        found = strncmp(out, "0::/", 4) == 0;
    (void)fclose(file);
    if (found) {
        out[strcspn(out, "\n")] = '\0';
        memmove(out, out + 3, strlen(out + 3) + 1);
    }
    return found;
}

/* The limit of one group in whole cores; SIZE_MAX: it has none. */
static size_t
read_limit(const char *root, const char *group)
{
    unsigned long long quota = 0, period = 0;
    char name[PATH_BYTES * 2];
    FILE *file;
    int n;

    (void)snprintf(name, sizeof(name), "%s/sys/fs/cgroup%s/cpu.max", root, group);
    file = fopen(name, "re");
    if (file == NULL)
        return SIZE_MAX;
    n = fscanf(file, "%20llu %20llu", &quota, &period); /* "max 100000" is no number */
    (void)fclose(file);
    return n == 2 && period > 0 ? (size_t)(quota / period) : SIZE_MAX;
}

size_t
svc_cores(const char *root)
{
    size_t cores = count_allowed();
    char group[PATH_BYTES], *slash;

    if (find_group(root, group, sizeof(group)))
        do {
            size_t limit = read_limit(root, group);

            cores = limit < cores ? limit : cores;
            slash = strrchr(group, '/');
            if (slash != NULL)
                *slash = '\0';
        } while (slash != NULL);
    return cores == 0 ? 1 : cores;
}
