/* test_svc_harden.c - what a process cannot do any more, and what it still can.
 *
 * Each look is taken in a process of its own: there is no way back. */
#include "svc/svc_harden.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD 42 /* exit code of a child that found everything as it should be */

/* Runs `check` in a hardened child: true when it gave true. */
static bool
holds(bool (*check)(void), bool is_debuggable)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        _exit(svc_harden(is_debuggable) == NULL && check() ? GOOD : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == GOOD;
}

static bool
starts_nothing(void)
{
    char *const args[] = {(char *)(uintptr_t) "true", NULL};
    char *const none[] = {NULL};
    bool is_denied = execve("/bin/true", args, none) < 0 && errno == EPERM;

    is_denied = is_denied &&
                syscall(SYS_execveat, AT_FDCWD, "/bin/true", args, none, 0) < 0 &&
                errno == EPERM;
    /* neither does a child of it */
    pid_t child = fork();
    int status = 0;
    if (child == 0) {
        execve("/bin/true", args, none);
        _exit(GOOD);
    }
    return is_denied && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == GOOD;
}

static bool
sees_nobody_else(void)
{
    char byte;
    struct {
        void *at;
        size_t n;
    } here = {&byte, 1};

    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 && errno == EPERM &&
           syscall(SYS_process_vm_readv, getppid(), &here, 1, &here, 1, 0) < 0 &&
           errno == EPERM;
}

static bool
changes_no_system(void)
{
    return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL) < 0 && errno == EPERM &&
           syscall(SYS_unshare, 0) < 0 && errno == EPERM &&
           syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == EPERM &&
           syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == EPERM;
}

/* The list cannot be walked around by numbers of another way to call. */
static bool
has_no_side_door(void)
{
    return syscall(0x40000000L | SYS_getpid) < 0 && errno == EPERM;
}

static void *
think(void *arg)
{
    return arg;
}

static bool
works_on(void)
{
    char path[] = "/tmp/llmb-harden-XXXXXX";
    struct addrinfo *found = NULL;
    pthread_t thread;
    void *thought = NULL;
    int fd = mkstemp(path);
    bool ok = fd >= 0 && unlink(path) == 0 && ftruncate(fd, 4096) == 0 && fsync(fd) == 0;
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    ok = ok && map != MAP_FAILED && munmap(map, 4096) == 0 && close(fd) == 0;
    ok = ok && pthread_create(&thread, NULL, think, path) == 0 &&
         pthread_join(thread, &thought) == 0 && thought == path;
    ok = ok && (fd = socket(AF_INET, SOCK_STREAM, 0)) >= 0 && close(fd) == 0;
    ok = ok && getaddrinfo("localhost", "80", NULL, &found) == 0;
    if (found != NULL)
        freeaddrinfo(found);
    return ok;
}

static bool
is_closed(void)
{
    struct rlimit limit;

    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 &&
           getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0 &&
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static bool
is_open_to_debuggers(void)
{
    return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 &&
           prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static void
what_no_service_needs_is_denied(void **state)
{
    (void)state;
    if (!svc_harden_has_filter())
        skip();
    assert_true(holds(starts_nothing, false));
    assert_true(holds(sees_nobody_else, true));
    assert_true(holds(changes_no_system, false));
#ifdef __x86_64__
    assert_true(holds(has_no_side_door, false));
#endif
}

static void
what_services_do_they_still_can(void **state)
{
    (void)state;
    assert_true(holds(works_on, false));
}

static void
its_memory_is_nobody_elses_unless_that_is_wanted(void **state)
{
    (void)state;
    assert_true(holds(is_closed, false));
    assert_true(holds(is_open_to_debuggers, true));
    assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0); /* only the children */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_no_service_needs_is_denied),
        cmocka_unit_test(what_services_do_they_still_can),
        cmocka_unit_test(its_memory_is_nobody_elses_unless_that_is_wanted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
