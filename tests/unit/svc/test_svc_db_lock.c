/* test_svc_db_lock.c - one process owns a database.
 *
 * (Two descriptors of one process lock each other out just as well; another process shows that
 * its death frees the lock.) */
#include "dir_fixture.h"

#include "svc/svc_db_lock.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void
makes_the_folder_and_locks_out_a_second_one_until_released(void **state)
{
    char path[128];
    char *error = NULL;
    int first, second;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/a/b/convo.db", dir);
    first = svc_db_lock_take(path, "convo-svc", &error);
    assert_true(first >= 0);
    assert_int_equal(svc_db_lock_take(path, "convo-svc", &error), -1);
    assert_non_null(strstr(error, path));
    assert_non_null(strstr(error, "another convo-svc"));
    assert_non_null(strstr(error, "PostgreSQL"));
    assert_null(strchr(error, '\n'));
    free(error);
    assert_int_equal(svc_db_lock_take_idle(path, "convo-svc", "sing", &error), -1);
    assert_non_null(strstr(error, "is in use: stop convo-svc first, then sing"));
    free(error);
    svc_db_lock_release(&first);
    assert_int_equal(first, -1);
    first = svc_db_lock_take_idle(path, "convo-svc", "sing", &error);
    assert_true(first >= 0);
    svc_db_lock_release(&first);
    svc_db_lock_release(&first);
    second = svc_db_lock_take(path, "convo-svc", &error);
    assert_true(second >= 0);
    svc_db_lock_release(&second);
}

static void
says_why_when_the_lock_cannot_be_made(void **state)
{
    char path[128];
    char *error = NULL;
    FILE *file;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/file", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    (void)snprintf(path, sizeof(path), "%s/file/convo.db", dir);
    assert_int_equal(svc_db_lock_take(path, "convo-svc", &error), -1);
    assert_non_null(error);
    free(error);
}

/* Another process that takes the lock, says so, and waits to be killed. */
static pid_t
start_holder(const char *path)
{
    int ready[2];
    char byte = 0;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char *error = NULL;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (svc_db_lock_take(path, "auth-svc", &error) < 0 ||
            write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void
a_killed_process_has_given_its_lock_back(void **state)
{
    char path[128];
    char *error = NULL;
    pid_t holder;
    int fd;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/users.db", dir);
    holder = start_holder(path);
    assert_int_equal(svc_db_lock_take(path, "auth-svc", &error), -1);
    free(error);
    error = NULL;
    assert_int_equal(kill(holder, SIGKILL), 0);
    assert_int_equal(waitpid(holder, NULL, 0), holder);
    fd = svc_db_lock_take(path, "auth-svc", &error);
    assert_true(fd >= 0);
    svc_db_lock_release(&fd);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(makes_the_folder_and_locks_out_a_second_one_until_released),
        TEST(says_why_when_the_lock_cannot_be_made),
        TEST(a_killed_process_has_given_its_lock_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
