/* svc_cores.c - sched_getaffinity() and the CPU limit of each control group from ours up to the root.
 *
 * Their paths stand in /proc/self/cgroup: of version 2 behind "0::", with the limit in cpu.max; of version 1 behind the
 * controller "cpu", with the limit in two files below /sys/fs/cgroup/cpu. A container sees its own group where the
 * root is, whatever the path says, so groups that are not there are passed over. What cannot be read limits nothing.
 * Asked once at start; a limit that is changed later counts from the next start on. */
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

/* Reads up to two numbers from a file of a control group; gives how many there were. */
static int
read_numbers(const char *root, const char *group, const char *file, long long out[2])
{
    char name[PATH_BYTES * 2];
    FILE *in;
    int n;

    (void)snprintf(name, sizeof(name), "%s/sys/fs/cgroup%s/%s", root, group, file);
    in = fopen(name, "re");
    if (in == NULL)
        return 0;
    n = fscanf(in, "%18lld %18lld", &out[0], &out[1]); /* "max 100000" begins with none */
    (void)fclose(in);
    return n;
}

/* The limit of one group in whole cores; SIZE_MAX: it has none. A group of version 1 has two files, and -1 for none. */
static size_t
read_limit(const char *root, const char *group, bool is_v1)
{
    long long quota[2] = {0, 0}, period[2] = {0, 0};

    if (!is_v1 && read_numbers(root, group, "cpu.max", quota) == 2)
        period[0] = quota[1];
    if (is_v1 && read_numbers(root, group, "cpu.cfs_quota_us", quota) > 0)
        (void)read_numbers(root, group, "cpu.cfs_period_us", period);
    return quota[0] > 0 && period[0] > 0 ? (size_t)(quota[0] / period[0]) : SIZE_MAX;
}

/* The smallest limit of a group and those around it; `group` is shortened on the way. */
static size_t
read_limits(const char *root, char *group, size_t top, bool is_v1)
{
    size_t least = SIZE_MAX;

    for (;;) {
        size_t limit = read_limit(root, group, is_v1);
        char *slash = strrchr(group + top, '/');

        least = limit < least ? limit : least;
        if (slash == NULL)
            return least;
        *slash = '\0';
    }
}

/* The smallest limit in "id:controllers:path" as /proc/self/cgroup has it; SIZE_MAX: the line has nothing to say. */
static size_t
read_line(const char *root, char *line)
{
    char group[PATH_BYTES + sizeof("/cpu")];
    char *controllers = strchr(line, ':'), *path, *word, *rest = NULL;
    bool is_v1 = false;

    line[strcspn(line, "\n")] = '\0';
    path = controllers == NULL ? NULL : strchr(controllers + 1, ':');
    if (path == NULL || path[1] != '/')
        return SIZE_MAX;
    *controllers++ = *path++ = '\0';
    if (*controllers != '\0') {
        for (word = strtok_r(controllers, ",", &rest); word != NULL && !is_v1;
             word = strtok_r(NULL, ",", &rest))
            is_v1 = strcmp(word, "cpu") == 0;
        if (!is_v1)
            return SIZE_MAX;
    }
    (void)snprintf(group, sizeof(group), "%s%s", is_v1 ? "/cpu" : "", path);
    return read_limits(root, group, is_v1 ? strlen("/cpu") : 0, is_v1);
}

size_t
svc_cores(const char *root)
{
    size_t cores = count_allowed();
    char line[PATH_BYTES], name[PATH_BYTES];
    FILE *file;

    (void)snprintf(name, sizeof(name), "%s/proc/self/cgroup", root);
    file = fopen(name, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        size_t limit = read_line(root, line);

        cores = limit < cores ? limit : cores;
    }
    if (file != NULL)
        (void)fclose(file);
    return cores == 0 ? 1 : cores;
}
