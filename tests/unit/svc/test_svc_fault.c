/* test_svc_fault.c - a process dies, hangs or freezes at the chosen point, the chosen time, and nowhere else.
 *
 * Both are done by children of the test; which step stands where is the story fault_points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "svc/svc_fault.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void
nothing_is_chosen_by_default(void **state)
{
    char *error = NULL;
    svc_fault_t *none = svc_fault_new("", "", "", &error);

    (void)state;
    assert_null(none);
    assert_null(error);
    svc_fault_at(none, FAULT_ASK_RECEIVED);
    svc_fault_destroy(&none);
}

static void
what_is_no_point_is_refused(void **state)
{
    static const char *const wrong[] = {"ask",
                                        "ask.",
                                        "ask.received ",
                                        "ask.received:",
                                        "ask.received:0",
                                        "ask.received:1x",
                                        "ask.received:99999999999999999999",
                                        ":1",
                                        "Ask.received"};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        char *error = NULL;

        assert_null(svc_fault_new(wrong[i], "", "", &error));
        assert_non_null(error);
        assert_memory_equal(error, "test.die_at: ", 13);
        assert_non_null(strstr(error, wrong[i]));
        free(error);
        error = NULL;
        assert_null(svc_fault_new("ask.received", wrong[i], "", &error));
        assert_non_null(error);
        assert_memory_equal(error, "test.hang_at: ", 14);
        free(error);
        error = NULL;
        assert_null(svc_fault_new("", "ask.received", wrong[i], &error));
        assert_non_null(error);
        assert_memory_equal(error, "test.freeze_at: ", 16);
        free(error);
    }
}

/* Passes the point so often in a child; gives the signal it died of, 0: none. */
static int
pass(const char *config, svc_fault_point point, int times)
{
    char *error = NULL;
    int status = 0;
    const pid_t child = fork();

    if (child == 0) {
        svc_fault_t *self = svc_fault_new(config, "", "stop.received:7", &error);

        for (int i = 0; i < times; i++)
            svc_fault_at(self, point);
        svc_fault_destroy(&self);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void
it_dies_there_at_that_time(void **state)
{
    (void)state;
    assert_int_equal(pass("ask.after_commit", FAULT_ASK_AFTER_COMMIT, 1), SIGKILL);
    assert_int_equal(pass("ask.after_commit", FAULT_ASK_BEFORE_COMMIT, 9), 0);
    assert_int_equal(pass("ask.after_commit:3", FAULT_ASK_AFTER_COMMIT, 2), 0);
    assert_int_equal(pass("ask.after_commit:3", FAULT_ASK_AFTER_COMMIT, 3), SIGKILL);
    assert_int_equal(pass("gateway.tail_sent", FAULT_GATEWAY_TAIL_SENT, 1), SIGKILL);
}

/* What /proc says of a process: R running, S asleep, Z dead. */
static char
state_of(pid_t pid)
{
    char path[64], text[512] = "";
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    assert_int_equal(fclose(file), 0);
    return strrchr(text, ')')[2];
}

static void
the_thread_that_comes_there_stands_still(void **state)
{
    char *error = NULL;
    int status = 0;
    const pid_t child = fork();
    char is;

    (void)state;
    if (child == 0) {
        svc_fault_t *self = svc_fault_new("", "journal.received:2", "", &error);

        svc_fault_at(self, FAULT_ASK_RECEIVED);
        svc_fault_at(self, FAULT_JOURNAL_RECEIVED);
        svc_fault_at(self, FAULT_JOURNAL_RECEIVED);
        _exit(0);
    }
    while ((is = state_of(child)) != 'S' && is != 'Z')
        sched_yield();
    kill(child, SIGTERM);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void
it_freezes_there_and_goes_on_when_it_is_told_to(void **state)
{
    char *error = NULL;
    int status = 0;
    const pid_t child = fork();

    (void)state;
    if (child == 0) {
        svc_fault_t *self = svc_fault_new("", "", "stop.received:2", &error);

        svc_fault_at(self, FAULT_STOP_RECEIVED);
        svc_fault_at(self, FAULT_RETRY_RECEIVED);
        svc_fault_at(self, FAULT_STOP_RECEIVED);
        svc_fault_at(self, FAULT_STOP_RECEIVED);
        svc_fault_destroy(&self);
        _exit(3);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(WSTOPSIG(status), SIGSTOP);
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_chosen_by_default),
        cmocka_unit_test(what_is_no_point_is_refused),
        cmocka_unit_test(the_thread_that_comes_there_stands_still),
        cmocka_unit_test(it_dies_there_at_that_time),
        cmocka_unit_test(it_freezes_there_and_goes_on_when_it_is_told_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
