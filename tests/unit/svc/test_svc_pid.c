/* test_svc_pid.c - the process id is the kernel's, in a child as well.
 *
 * The linker takes our getpid() before libc's. What could go wrong is an answer that outlives a fork. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void
tells_the_process_id(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(getpid(), syscall(SYS_getpid));
}

/* Grandchildren, too: what makes a child forget is inherited. */
static void
a_child_does_not_take_itself_for_its_parent(void **state)
{
    int status = -1;
    (void)state;
    const pid_t parent = getpid(), child = fork();
    if (child == 0) {
        const bool is_right = getpid() == syscall(SYS_getpid) && getpid() != parent;
        const pid_t own = getpid(), grandchild = is_right ? fork() : -1;
        if (grandchild == 0)
            _exit(getpid() == syscall(SYS_getpid) && getpid() != own ? 0 : 1);
        if (grandchild < 0 || waitpid(grandchild, &status, 0) != grandchild)
            _exit(1);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_the_process_id),
        cmocka_unit_test(a_child_does_not_take_itself_for_its_parent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
