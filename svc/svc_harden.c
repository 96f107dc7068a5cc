/* svc_harden.c - what a process gives up at its start, so that whoever takes it over gets less.
 *
 * The filter is a list of what is denied, with EPERM, not of what is allowed: libraries may
 * use any call of everyday work, on any kernel and with any driver, and get it. What is on the list starts
 * programs, reads other processes, changes the system, or is known for holes in the kernel. Calls of
 * another architecture (32 bits, x32), by whose numbers the list could be walked around, are denied as a whole. */
#include "svc_harden.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_TRACED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_TRACED 1
#endif
#endif

#if defined(OUR_ARCH) && !defined(IS_TRACED)
#define HAS_FILTER 1
#else
#define HAS_FILTER 0
#endif

#define X32_BIT 0x40000000u /* of a number: x32's way to call a kernel of 64 bits */

#if HAS_FILTER
// clang-format off
static const uint32_t denied[] = {
    /* other programs, and other processes */
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp,
    SYS_pidfd_getfd, SYS_process_madvise, SYS_perf_event_open,
    /* other views of the system */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_setns, SYS_unshare, SYS_open_tree, SYS_move_mount,
    SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_open_by_handle_at,
    /* the system itself */
    SYS_reboot, SYS_kexec_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_swapon, SYS_swapoff,
    SYS_acct, SYS_quotactl, SYS_syslog, SYS_sethostname, SYS_setdomainname, SYS_settimeofday, SYS_clock_settime,
    SYS_adjtimex, SYS_clock_adjtime,
    /* where the kernel's own holes were */
    SYS_bpf, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_personality,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_mount_setattr
    SYS_mount_setattr,
#endif
#ifdef SYS_iopl
    SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
};
// clang-format on

#define HEAD 6 /* instructions before the list */

/* Writes the program: architecture, x32, one comparison for each denied call. */
static unsigned short
write_filter(struct sock_filter out[HEAD + SVC_COUNT(denied) + 2])
{
    const struct sock_filter deny = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    const struct sock_filter head[HEAD] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),
        deny,
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
        deny,
    };
    size_t n = HEAD;

    memcpy(out, head, sizeof head);
    for (size_t i = 0; i < SVC_COUNT(denied); i++) {
        size_t to_deny = SVC_COUNT(denied) -
                         i; /* over the rest of the list and "allow" */
        out[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, denied[i],
                                                (uint8_t)to_deny, 0);
    }
    out[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    out[n++] = deny;
    return (unsigned short)n;
}

static bool
set_filter(void)
{
    struct sock_filter program[HEAD + SVC_COUNT(denied) + 2];
    struct sock_fprog filter = {.len = write_filter(program), .filter = program};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}
#else
static bool
set_filter(void)
{
    return true;
}
#endif

bool
svc_harden_has_filter(void)
{
    return HAS_FILTER;
}

const char *
svc_harden(bool is_debuggable)
{
    const struct rlimit none = {0, 0};
    const char *missing = NULL;

    if (!is_debuggable &&
        (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0))
        missing = "this kernel keeps core files and debuggers allowed";
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !set_filter())
        missing =
            "this kernel filters no system calls: a process that is taken over could "
            "start programs";
    return missing;
}
