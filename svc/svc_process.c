/* svc_process.c - reads /proc/self, and asks for the limits.
 *
 * The time on cores comes from a clock, which is finer than the ticks in /proc.
 * Three fields of /proc/self/stat: the name of the process in it may hold spaces and parentheses, so they are counted
 * from the last one on. The descriptor that counts descriptors is not counted. */
#include "svc/svc_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void
read_stat(svc_process_t *out)
{
    char text[1024];
    const char *at;
    uint64_t threads, size;
    int64_t pages;
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return;
    text[n] = '\0';
    at = strrchr(text, ')');
    if (at == NULL ||
        sscanf(at + 1,
               " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
               "%*s %" SCNu64 " %*s %*s %" SCNu64 " %" SCNd64,
               &threads, &size, &pages) != 3)
        return;
    out->threads = threads;
    out->virtual_bytes = size;
    out->resident_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t
count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t n = 0;

    if (dir == NULL)
        return 0;
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n > 3 ? n - 3 : 0; /* ".", ".." and its own */
}

void
svc_process_read(svc_process_t *out)
{
    struct timespec cpu = {0, 0};
    struct rlimit limit;

    *out = (svc_process_t){0};
    read_stat(out);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    out->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
    out->fds = count_fds();
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        out->fds_max = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}
