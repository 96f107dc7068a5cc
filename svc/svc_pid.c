/* svc_pid.c - getpid() without a system call, for libzmq.
 *
 * libzmq 4.3 asks for the process id before each look into a mailbox and before each wake-up of another
 * thread, to notice a fork; glibc has not kept the answer since 2.25. That was the most frequent system
 * call of every service, and 5 % of the CPU time of a list of conversations. The definition here comes
 * before libc's, for all libraries of the process; like glibc's former one it forgets the answer in a
 * child. It has no header: it is unistd.h's. Thread: any. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic pid_t
    known; /* 0: to be asked for; a global, because getpid() has no argument */

static void
forget(void)
{
    atomic_store_explicit(&known, 0, memory_order_relaxed);
}

pid_t
getpid(void)
{
    pid_t pid = atomic_load_explicit(&known, memory_order_relaxed);

    if (pid != 0)
        return pid;
    pid = (pid_t)syscall(SYS_getpid);
    if (pthread_atfork(NULL, NULL, forget) == 0) /* twice does no harm */
        atomic_store_explicit(&known, pid, memory_order_relaxed);
    return pid;
}
