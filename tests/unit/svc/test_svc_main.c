/* test_svc_main.c - a process from options to exit code: one service of the test's own, in a child.
 *
 * The child's output goes through a pipe; the parent reads until a wanted text has come or the
 * child has ended, so nothing waits for a fixed time. */
#include "svc/svc_main.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

static char config_path[] = "/tmp/test_svc_main.XXXXXX";
static svc_ctx_t *service_ctx; /* in the child */

typedef struct {
    pid_t pid;        /* of the child */
    int out;          /* its stdout and stderr */
    char text[65536]; /* what it said so far */
    size_t n;         /* bytes of it */
} child_t;

/* --- the service in the child ----------------------------------------------------------------- */

static void *
start(svc_ctx_t *ctx, char **error)
{
    struct rlimit limit;

    (void)error;
    service_ctx = ctx;
    assert_non_null(ctx->zmq);
    assert_true(ctx->instance != 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_int_equal(limit.rlim_cur, limit.rlim_max);
    return ctx;
}

static void *
fail_to_start(svc_ctx_t *ctx, char **error)
{
    (void)ctx;
    *error = svc_str_dup(SVC_LIT("no luck today"));
    return NULL;
}

static bool
find_nothing_wrong(const svc_config_t *config, char **error)
{
    (void)error;
    return config->jwt_secret[0] != '\0';
}

static bool
miss_something(const svc_config_t *config, char **error)
{
    (void)config;
    *error = svc_str_dup(SVC_LIT("some.key must be configured"));
    return false;
}

static void
announce(void *service)
{
    svc_log_info(((svc_ctx_t *)service)->log, "announce was called");
}

static void
drain(void *service, uint64_t left_ms)
{
    svc_log_info(((svc_ctx_t *)service)->log, "drain was called, %llu s left",
                 (unsigned long long)((left_ms + 999) / 1000));
    svc_loop_stop(service_ctx->loop);
}

static void
drain_forever(void *service, uint64_t left_ms)
{
    (void)left_ms;
    svc_log_info(((svc_ctx_t *)service)->log, "drain was called");
}

static void
stop(void *service)
{
    svc_log_info(((svc_ctx_t *)service)->log, "stop was called");
}

/* Refuses what it is asked to by the configuration. */
static bool
reload(void *service, const svc_config_t *fresh, char **error)
{
    svc_log_info(((svc_ctx_t *)service)->log, "reload was called: port %u",
                 fresh->server_port);
    if (fresh->log_level != SVC_LOG_ERROR)
        return true;
    *error = svc_str_dup(SVC_LIT("there is no level like that today"));
    return false;
}

static const svc_service_t renewable = {.name = "test-svc",
                                        .summary = "a test",
                                        .start = start,
                                        .reload = reload,
                                        .drain = drain,
                                        .stop = stop};
static const svc_service_t good = {.name = "test-svc",
                                   .summary = "a test",
                                   .start = start,
                                   .announce = announce,
                                   .drain = drain,
                                   .stop = stop};
static const svc_service_t unlucky = {.name = "test-svc",
                                      .summary = "a test",
                                      .check_config = find_nothing_wrong,
                                      .start = fail_to_start,
                                      .stop = stop};
static const svc_service_t picky = {.name = "test-svc",
                                    .summary = "a test",
                                    .check_config = miss_something,
                                    .start = fail_to_start,
                                    .stop = stop};
static const svc_service_t stubborn = {.name = "test-svc",
                                       .summary = "a test",
                                       .start = start,
                                       .drain = drain_forever,
                                       .stop = stop};

/* Tells what it was given; a first argument "sulk" makes it fail. */
static bool
tell_arguments(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    printf("%s has %zu:", ctx->service, n);
    for (size_t i = 0; i < n; i++)
        printf(" %s", args[i]);
    printf(" (%s)\n", ctx->config->jwt_secret);
    if (strcmp(args[0], "sulk") != 0)
        return true;
    *error = svc_str_dup(SVC_LIT("it sulks"));
    return false;
}

static const svc_tool_t tools[] = {{"tell", "WORD [WORD]", "tells", 1, 2, tell_arguments},
                                   {"pair", "A B", "tells both", 2, 2, tell_arguments},
                                   {0}};
static const svc_service_t handy = {.name = "test-svc",
                                    .summary = "a test",
                                    .tools = tools,
                                    .start = fail_to_start,
                                    .stop = stop};

/* Waits for something that never comes, as a start does for its database. */
static void *
wait_for_ever(svc_ctx_t *ctx, char **error)
{
    svc_log_info(ctx->log, "waits");
    while (!svc_main_is_told_to_end())
        poll(NULL, 0, 10);
    *error = svc_str_dup(SVC_LIT("it did not come"));
    return NULL;
}

static const svc_service_t patient = {
    .name = "test-svc", .summary = "a test", .start = wait_for_ever, .stop = stop};

/* --- the child -------------------------------------------------------------------------------- */

static void
launch(child_t *child, const svc_service_t *service, const char *a, const char *b,
       const char *c)
{
    char *argv[] = {(char *)"test-svc", (char *)a, (char *)b, (char *)c, NULL};
    int argc = a == NULL ? 1 : b == NULL ? 2 : c == NULL ? 3 : 4;
    int fds[2];

    memset(child, 0, sizeof(*child));
    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    child->pid = fork();
    assert_true(child->pid >= 0);
    if (child->pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        exit(svc_main(service, argc, argv));
    }
    close(fds[1]);
    child->out = fds[0];
}

/* Reads until `wanted` has come (NULL: until the child has closed its output). */
static void
read_until(child_t *child, const char *wanted)
{
    struct pollfd ready = {.fd = child->out, .events = POLLIN};

    while (wanted == NULL || strstr(child->text, wanted) == NULL) {
        ssize_t n;

        if (poll(&ready, 1, PATIENCE_MS) <= 0)
            fail_msg("waited in vain; it said: %s", child->text);
        n = read(child->out, child->text + child->n, sizeof(child->text) - 1 - child->n);
        if (n <= 0) {
            if (wanted != NULL)
                fail_msg("it ended, having said: %s", child->text);
            return;
        }
        child->n += (size_t)n;
    }
}

/* Waits for the end; gives the exit code, or -signal. */
static int
finish(child_t *child)
{
    int status = 0;

    read_until(child, NULL);
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    close(child->out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void
write_config(const char *yaml)
{
    FILE *file = fopen(config_path, "w");

    assert_non_null(file);
    fputs(yaml, file);
    fclose(file);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void
runs_until_a_signal_and_ends_with_zero(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT};
    child_t child;

    (void)state;
    write_config("test: {drop_token_frames: 0.5}");
    for (size_t i = 0; i < SVC_COUNT(signals); i++) {
        launch(&child, &good, "--config", config_path, NULL);
        read_until(&child, "started: version");
        assert_non_null(
            strstr(child.text, "warn  test-svc test.drop_token_frames is on"));
        assert_int_equal(kill(child.pid, signals[i]), 0);
        assert_int_equal(finish(&child), 0);
        assert_non_null(strstr(child.text, "stop was called"));
        assert_non_null(strstr(child.text, "stopped\n"));
    }
}

static void
a_service_that_does_not_finish_is_stopped_after_drain_s(void **state)
{
    child_t child;

    (void)state;
    write_config("server: {drain_s: 0}");
    launch(&child, &stubborn, "--config", config_path, NULL);
    read_until(&child, "started: version");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    assert_int_equal(finish(&child), 0);
    assert_non_null(strstr(child.text, "not finished within server.drain_s"));
    assert_non_null(strstr(child.text, "stop was called"));
}

static void
sigterm_makes_a_lame_duck_first_and_sigint_does_not(void **state)
{
    static const struct {
        const char *config;
        int signal;
        unsigned low,
            high; /* seconds that the drain is told: a busy machine may lose some */
    } rows[] = {{"server: {drain_s: 600, lame_duck_s: 1}", SIGTERM, 580, 599},
                {"server: {drain_s: 6, lame_duck_s: 600}", SIGTERM, 1, 3},
                {"server: {drain_s: 600, lame_duck_s: 0}", SIGTERM, 600, 600},
                {"server: {drain_s: 600, lame_duck_s: 500}", SIGINT, 600, 600}};
    child_t child;

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        write_config(rows[i].config);
        launch(&child, &good, "--config", config_path, NULL);
        read_until(&child, "started: version");
        assert_int_equal(kill(child.pid, rows[i].signal), 0);
        assert_int_equal(finish(&child), 0);
        const char *announced = strstr(child.text, "announce was called");
        const char *drained = strstr(child.text, "drain was called");
        assert_non_null(announced);
        assert_non_null(drained);
        assert_true(announced < drained);
        unsigned left = 0;
        if (sscanf(drained, "drain was called, %u s left", &left) != 1 ||
            left < rows[i].low || left > rows[i].high)
            fail_msg("row %zu: %s", i, drained);
    }
}

static void
a_lame_duck_serves_until_its_time_is_over_or_a_second_signal_comes(void **state)
{
    child_t child;

    (void)state;
    write_config("server: {drain_s: 600, lame_duck_s: 500}");
    launch(&child, &good, "--config", config_path, NULL);
    read_until(&child, "started: version");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    read_until(&child, "announce was called");
    assert_null(strstr(child.text, "drain was called"));
    assert_int_equal(kill(child.pid, SIGHUP), 0); /* who goes takes nothing over */
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    assert_int_equal(finish(&child), 128 + SIGTERM);
    assert_null(strstr(child.text, "drain was called"));
    assert_null(strstr(child.text, "was read again"));
}

static void
a_second_signal_ends_it_at_once(void **state)
{
    child_t child;

    (void)state;
    write_config("server: {drain_s: 600}");
    launch(&child, &stubborn, "--config", config_path, NULL);
    read_until(&child, "started: version");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    read_until(&child, "got SIGTERM");
    assert_int_equal(kill(child.pid, SIGINT), 0);
    assert_int_equal(finish(&child), 128 + SIGINT);
    assert_null(strstr(child.text, "stop was called"));
}

static void
a_signal_ends_a_start_that_waits(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT};
    child_t child;

    (void)state;
    write_config("");
    for (size_t i = 0; i < SVC_COUNT(signals); i++) {
        launch(&child, &patient, "--config", config_path, NULL);
        read_until(&child, "waits");
        assert_int_equal(kill(child.pid, signals[i]), 0);
        assert_int_equal(finish(&child), 0);
        assert_non_null(
            strstr(child.text, "stopped before it had started: it did not come"));
        assert_null(strstr(child.text, "stop was called"));
    }
}

/* Has the child read `yaml` again; waits until it says `wanted`, gives what it says from there on. */
static const char *
read_again(child_t *child, const char *yaml, const char *wanted)
{
    write_config(yaml);
    child->n = 0;
    memset(child->text, 0, sizeof(child->text));
    assert_int_equal(kill(child->pid, SIGHUP), 0);
    read_until(child, wanted);
    return strstr(child->text, wanted);
}

static void
sighup_has_the_configuration_read_again(void **state)
{
    child_t child;

    (void)state;
    write_config("server: {port: 1234}\nlog: {level: warn}\ntest: {plain_paths: true}");
    launch(&child, &renewable, "--config", config_path, NULL);
    read_until(&child, "plain_paths is on");
    /* the level counts from here on: what is said about it is written already */
    read_again(&child, "server: {port: 4321}\nlog: {level: info}",
               "needs a restart to change: server.port, test.plain_paths\n");
    assert_non_null(strstr(child.text, "the configuration was read again: changed: "
                                       "log.level\n"));
    /* a key that needs a restart keeps its value, and is named again */
    read_again(&child, "server: {port: 4321}\nlog: {level: info}",
               "needs a restart to change: server.port, test.plain_paths\n");
    assert_non_null(strstr(child.text, "reload was called: port 1234"));
    read_again(&child,
               "server: {port: 1234}\nlog: {level: info}\n"
               "test: {plain_paths: true}",
               "the configuration was read again: nothing has changed\n");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    assert_int_equal(finish(&child), 0);
}

static void
what_cannot_be_taken_over_changes_nothing(void **state)
{
    child_t child;

    (void)state;
    write_config("");
    launch(&child, &renewable, "--config", config_path, NULL);
    read_until(&child, "started: version");
    read_again(&child, "log: {level: loud}",
               "error test-svc the configuration stays as it was: ");
    assert_null(strstr(child.text, "reload was called"));
    read_again(&child, "log: {level: error}",
               "the configuration stays as it was: there is no level like that today\n");
    assert_int_equal(unlink(config_path), 0);
    child.n = 0;
    memset(child.text, 0, sizeof(child.text));
    assert_int_equal(kill(child.pid, SIGHUP), 0);
    read_until(&child, "stays as it was: /tmp/test_svc_main.");
    read_again(&child, "", "nothing has changed\n");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    assert_int_equal(finish(&child), 0);
}

/* As with nohup: whoever ignores the signal before it starts us wants us to outlive a terminal, and we do. */
static void
an_ignored_sighup_is_heard_too(void **state)
{
    child_t child;

    (void)state;
    write_config("");
    signal(SIGHUP, SIG_IGN);
    launch(&child, &good, "--config", config_path, NULL);
    signal(SIGHUP, SIG_DFL);
    read_until(&child, "started: version");
    read_again(&child, "log: {level: debug}", "changed: log.level\n");
    assert_int_equal(kill(child.pid, SIGTERM), 0);
    assert_int_equal(finish(&child), 0);
}

static void
assert_refused(const svc_service_t *service, const char *a, const char *b,
               const char *wanted)
{
    child_t child;

    launch(&child, service, a, b, NULL);
    assert_int_equal(finish(&child), 1);
    assert_true(child.n > 0);
    if (strstr(child.text, wanted) != child.text ||
        strchr(child.text, '\n') != child.text + child.n - 1)
        fail_msg("said: %s", child.text);
}

static void
what_keeps_it_from_starting_is_one_line(void **state)
{
    (void)state;
    write_config("");
    assert_refused(&unlucky, "--config", config_path, "test-svc: no luck today\n");
    assert_refused(&good, "--config", "/nonexistent.yaml",
                   "test-svc: /nonexistent.yaml: cannot be read: No such file");
    assert_refused(&good, "--nonsense", NULL, "test-svc: unknown or incomplete option");
    assert_refused(&good, "--config", NULL, "test-svc: unknown or incomplete option");
    assert_refused(&good, "surplus", NULL, "test-svc: unknown or incomplete option");
    write_config("server: {port: x}");
    assert_refused(&good, "--config", config_path, "test-svc: /tmp/test_svc_main.");
}

static void
options_that_only_print_do_so(void **state)
{
    child_t child;

    (void)state;
    write_config("jwt: {secret: sixteen-bytes-xx}");
    launch(&child, &unlucky, "--config", config_path, "--check-config");
    assert_int_equal(finish(&child), 0);
    assert_true(strncmp(child.text, "config ok\nwarning: jwt.secret is short", 38) == 0);
    launch(&child, &unlucky, "--version", NULL, NULL);
    assert_int_equal(finish(&child), 0);
    assert_true(strncmp(child.text, "test-svc ", 9) == 0);
    launch(&child, &unlucky, "--help", NULL, NULL);
    assert_int_equal(finish(&child), 0);
    assert_non_null(strstr(child.text, "test-svc - a test"));
    assert_non_null(strstr(child.text, "--check-config"));
    assert_non_null(strstr(child.text, "server.port"));
    launch(&child, &unlucky, "--config-table", NULL, NULL);
    assert_int_equal(finish(&child), 0);
    assert_true(strncmp(child.text, "| key |", 7) == 0);
}

static void
a_tool_runs_instead_of_the_service(void **state)
{
    child_t child;

    (void)state;
    write_config("jwt: {secret: sixteen-bytes-xx}");
    assert_int_equal(setenv("LLMB_JWT_SECRET", "of-the-environment", 1), 0);
    launch(&child, &handy, "--tell", "one", "two");
    assert_int_equal(finish(&child), 0);
    assert_string_equal(child.text, "test-svc has 2: one two (of-the-environment)\n");
    launch(&child, &handy, "--tell", "sulk", NULL);
    assert_int_equal(finish(&child), 1);
    assert_non_null(strstr(child.text, "test-svc: it sulks\n"));
    launch(&child, &handy, "--help", NULL, NULL);
    assert_int_equal(finish(&child), 0);
    assert_non_null(strstr(child.text, "--pair A B"));
    assert_int_equal(unsetenv("LLMB_JWT_SECRET"), 0);
    assert_refused(&handy, "--pair", "one", "test-svc: unknown or incomplete option");
    assert_refused(&handy, "--tell", NULL, "test-svc: unknown or incomplete option");
    assert_refused(&good, "--tell", "one", "test-svc: unknown or incomplete option");
    launch(&child, &handy, "--version", "--tell", "one");
    assert_int_equal(finish(&child), 0);
}

static void
a_configuration_that_the_service_would_refuse_is_not_ok(void **state)
{
    child_t child;

    (void)state;
    write_config("jwt: {secret: sixteen-bytes-xx}");
    launch(&child, &picky, "--config", config_path, "--check-config");
    assert_int_equal(finish(&child), 1);
    assert_string_equal(child.text, "test-svc: some.key must be configured\n");
}

/* Whoever runs the tests may have variables of ours set: they are not for these tests. */
static void
clear_environment(void)
{
    for (char **entry = environ; *entry != NULL;) {
        char name[128];

        (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(*entry, "="), *entry);
        if (strncmp(name, "LLMB_", 5) == 0 && unsetenv(name) == 0)
            entry = environ;
        else
            entry++;
    }
}

static int
make_config(void **state)
{
    int fd = mkstemp(config_path);

    (void)state;
    clear_environment();
    return fd < 0 ? -1 : close(fd);
}

static int
remove_config(void **state)
{
    (void)state;
    return unlink(config_path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_until_a_signal_and_ends_with_zero),
        cmocka_unit_test(sigterm_makes_a_lame_duck_first_and_sigint_does_not),
        cmocka_unit_test(
            a_lame_duck_serves_until_its_time_is_over_or_a_second_signal_comes),
        cmocka_unit_test(a_service_that_does_not_finish_is_stopped_after_drain_s),
        cmocka_unit_test(a_second_signal_ends_it_at_once),
        cmocka_unit_test(a_signal_ends_a_start_that_waits),
        cmocka_unit_test(sighup_has_the_configuration_read_again),
        cmocka_unit_test(what_cannot_be_taken_over_changes_nothing),
        cmocka_unit_test(an_ignored_sighup_is_heard_too),
        cmocka_unit_test(what_keeps_it_from_starting_is_one_line),
        cmocka_unit_test(options_that_only_print_do_so),
        cmocka_unit_test(a_tool_runs_instead_of_the_service),
        cmocka_unit_test(a_configuration_that_the_service_would_refuse_is_not_ok),
    };

    return cmocka_run_group_tests(tests, make_config, remove_config);
}
