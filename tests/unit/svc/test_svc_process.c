/* test_svc_process.c - what the kernel says of this very test.
 *
 * Only what must be true of any process: the numbers themselves are the machine's. */
#include "svc/svc_process.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static void
reads_what_every_process_has(void **state)
{
    svc_process_t process;

    (void)state;
    svc_process_read(&process);
    assert_true(process.cpu_s > 0 && process.cpu_s < 3600);
    assert_true(process.resident_bytes >= 64 << 10);
    assert_true(process.virtual_bytes >= process.resident_bytes);
    assert_int_equal(process.threads, 1);
    assert_true(process.fds >= 3);
}

static void
counts_each_descriptor_and_not_its_own(void **state)
{
    svc_process_t before, after;
    int fd;

    (void)state;
    svc_process_read(&before);
    svc_process_read(&after);
    assert_int_equal(after.fds, before.fds);
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    svc_process_read(&after);
    close(fd);
    assert_int_equal(after.fds, before.fds + 1);
}

static void
tells_the_limit_as_it_is_now(void **state)
{
    svc_process_t process;
    struct rlimit limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = 77;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    svc_process_read(&process);
    assert_int_equal(process.fds_max, 77);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_every_process_has),
        cmocka_unit_test(counts_each_descriptor_and_not_its_own),
        cmocka_unit_test(tells_the_limit_as_it_is_now),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
