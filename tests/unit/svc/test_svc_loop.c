/* test_svc_loop.c - order of timers, safety of removal inside handlers, and standing still.
 *
 * Each test writes down what ran as a string of letters. Standing still is a handler that sleeps. */
#include "bus_fixture.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "svc/svc_msg.h"

typedef struct {
    svc_loop_t *loop; /* under test */
    char trace[64];   /* what ran, in order */
    uint64_t timer;   /* to cancel */
    void *socket;     /* to remove */
    int fd;           /* to remove */
    int turns;        /* counted by on_turn */
    bool is_done;     /* end of the test */
} script_t;

typedef struct {
    script_t *script;
    char letter;
} step_t;

static bool
is_done(void *arg)
{
    return ((script_t *)arg)->is_done;
}

static void
write_letter(script_t *script, char letter)
{
    size_t n = strlen(script->trace);
    if (n + 1 < sizeof(script->trace))
        script->trace[n] = letter;
}

static void
on_step(void *arg, short events)
{
    (void)events;
    const step_t *step = arg;
    write_letter(step->script, step->letter);
    if (step->letter == 'z')
        step->script->is_done = true;
}

/* Blocks the thread: what a handler must never do, and what SIGSTOP looks like. */
static void
stand_still(uint64_t ms)
{
    const struct timespec wait = {.tv_sec = (time_t)(ms / 1000),
                                  .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&wait, NULL);
}

static void
runs_timers_in_order_of_their_time_and_then_of_being_set(void **state)
{
    (void)state;
    fixture_t fixture;
    script_t script = {0};
    fixture_open(&fixture, "test");
    step_t steps[] = {
        {&script, 'z'}, {&script, 'b'}, {&script, 'a'}, {&script, 'c'}, {&script, 'x'}};
    svc_loop_after(fixture.ctx.loop, 60, on_step, &steps[0]);
    svc_loop_after(fixture.ctx.loop, 30, on_step, &steps[1]);
    svc_loop_after(fixture.ctx.loop, 0, on_step, &steps[2]);
    svc_loop_after(fixture.ctx.loop, 31, on_step, &steps[3]);
    svc_loop_cancel(fixture.ctx.loop,
                    svc_loop_after(fixture.ctx.loop, 10, on_step, &steps[4]));
    fixture_run_until(&fixture, is_done, &script);
    assert_string_equal(script.trace, "abcz");
    fixture_close(&fixture);
}

static void
on_cancel_other(void *arg, short events)
{
    script_t *script = arg;
    (void)events;
    write_letter(script, 'c');
    svc_loop_cancel(script->loop, script->timer);
    svc_loop_cancel(script->loop, script->timer); /* harmless */
    svc_loop_cancel(script->loop, 0);
}

static void
a_timer_cancelled_by_another_that_is_due_at_the_same_time_does_not_run(void **state)
{
    (void)state;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    script_t script = {.loop = fixture.ctx.loop};
    step_t x = {&script, 'x'}, z = {&script, 'z'};
    svc_loop_after(script.loop, 0, on_cancel_other, &script);
    script.timer = svc_loop_after(script.loop, 0, on_step, &x);
    svc_loop_after(script.loop, 20, on_step, &z);
    fixture_run_until(&fixture, is_done, &script);
    assert_string_equal(script.trace, "cz");
    fixture_close(&fixture);
}

static void
on_repeat(void *arg, short events)
{
    script_t *script = arg;
    (void)events;
    write_letter(script, 'r');
    if (strlen(script->trace) == 3) {
        svc_loop_cancel(script->loop, script->timer);
        script->is_done = true;
    }
}

static void
a_repeating_timer_runs_until_it_cancels_itself(void **state)
{
    (void)state;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    script_t script = {.loop = fixture.ctx.loop};
    script.timer = svc_loop_every(script.loop, 2, on_repeat, &script);
    fixture_run_until(&fixture, is_done, &script);
    fixture_run_for(&fixture, 20);
    assert_string_equal(script.trace, "rrr");
    fixture_close(&fixture);
}

static void
on_again(void *arg, short events)
{
    script_t *script = arg;
    (void)events;
    if (!script->is_done)
        svc_loop_after(script->loop, 0, on_again, script);
}

static void
on_fd_done(void *arg, short events)
{
    script_t *script = arg;
    assert_true((events & ZMQ_POLLIN) != 0);
    script->is_done = true;
    svc_loop_remove_fd(script->loop, script->fd);
}

static void
a_timer_that_sets_itself_for_at_once_does_not_starve_descriptors(void **state)
{
    (void)state;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    script_t script = {.loop = fixture.ctx.loop, .fd = eventfd(1, EFD_CLOEXEC)};
    svc_loop_after(script.loop, 0, on_again, &script);
    svc_loop_add_fd(script.loop, script.fd, ZMQ_POLLIN, on_fd_done, &script);
    fixture_run_until(&fixture, is_done, &script);
    close(script.fd);
    fixture_close(&fixture);
}

static void
on_first_of_two(void *arg, short events)
{
    script_t *script = arg;
    (void)events;
    write_letter(script, 'h');
    svc_loop_remove_fd(script->loop, script->fd);
    svc_loop_remove_fd(script->loop, script->fd + 1);
    script->is_done = true;
}

static void
a_handler_that_another_has_removed_in_the_same_turn_does_not_run(void **state)
{
    (void)state;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    const int one = eventfd(1, EFD_CLOEXEC), other = dup2(one, one + 1);
    assert_int_equal(other, one + 1);
    script_t script = {.loop = fixture.ctx.loop, .fd = one};
    svc_loop_add_fd(script.loop, one, ZMQ_POLLIN, on_first_of_two, &script);
    svc_loop_add_fd(script.loop, other, ZMQ_POLLIN, on_first_of_two, &script);
    fixture_run_until(&fixture, is_done, &script);
    fixture_run_for(&fixture, 10);
    assert_string_equal(script.trace, "h");
    close(other);
    close(one);
    fixture_close(&fixture);
}

static int
on_turn(void *arg)
{
    script_t *script = arg;
    script->turns++;
    return script->turns < 5 ? 0 : -1;
}

static void
turn_functions_run_each_turn_and_may_ask_for_the_next_at_once(void **state)
{
    (void)state;
    fixture_t fixture;
    script_t script = {0};
    fixture_open(&fixture, "test");
    step_t z = {&script, 'z'};
    svc_loop_on_turn(fixture.ctx.loop, on_turn, &script);
    svc_loop_after(fixture.ctx.loop, 100, on_step, &z);
    fixture_run_until(&fixture, is_done, &script);
    assert_true(script.turns >= 5);
    fixture_close(&fixture);
}

static void *
stop_loop(void *loop)
{
    svc_loop_stop(loop);
    return NULL;
}

static void
another_thread_can_stop_a_loop_that_blocks(void **state)
{
    (void)state;
    fixture_t fixture;
    pthread_t thread;
    fixture_open(&fixture, "test");
    assert_int_equal(pthread_create(&thread, NULL, stop_loop, fixture.ctx.loop), 0);
    svc_loop_run(fixture.ctx.loop);
    pthread_join(thread, NULL);
    fixture_close(&fixture);
}

static void
on_messages(void *arg, short events)
{
    script_t *script = arg;
    (void)events;
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    if (svc_msg_recv(script->socket, &msg,
                     ZMQ_DONTWAIT)) /* one a turn: it takes many turns to read dry */
        write_letter(script, 'm');
    zmq_msg_close(&msg);
}

static void
on_stall(void *arg, short events)
{
    (void)events;
    write_letter(arg, 's');
}

static void
on_stand_still(void *arg, short events)
{
    (void)arg;
    (void)events;
    stand_still(SVC_LOOP_STALL_MS + 300);
}

static void
after_standing_still_messages_come_first_then_stall_functions_then_timers(void **state)
{
    (void)state;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    script_t script = {.loop = fixture.ctx.loop};
    script.socket = svc_msg_socket(fixture.ctx.zmq, ZMQ_PAIR, 0);
    void *sender = svc_msg_socket(fixture.ctx.zmq, ZMQ_PAIR, 0);
    assert_int_equal(zmq_bind(script.socket, "inproc://stall"), 0);
    assert_int_equal(zmq_connect(sender, "inproc://stall"), 0);
    step_t z = {&script, 'z'};
    svc_loop_after(script.loop, 0, on_stand_still, NULL);
    svc_loop_after(script.loop, 500, on_step, &z);
    svc_loop_add_socket(script.loop, script.socket, on_messages, &script);
    svc_loop_on_stall(script.loop, on_stall, &script);
    for (int i = 0; i < 4; i++)
        assert_true(svc_msg_send_bytes(sender, SVC_LIT("x"), 0));
    fixture_run_until(&fixture, is_done, &script);
    assert_string_equal(script.trace, "mmmmsz");

    svc_loop_off_stall(script.loop, &script);
    svc_loop_after(script.loop, 0, on_stand_still, NULL);
    fixture_run_for(&fixture, 100);
    assert_string_equal(script.trace, "mmmmsz");
    svc_loop_remove_socket(script.loop, script.socket);
    zmq_close(sender);
    zmq_close(script.socket);
    fixture_close(&fixture);
}

static void
a_repeating_timer_runs_once_after_standing_still(void **state)
{
    (void)state;
    fixture_t fixture;
    fixture_open(&fixture, "test");
    script_t script = {.loop = fixture.ctx.loop};
    step_t r = {&script, 'r'}, z = {&script, 'z'};
    svc_loop_after(script.loop, 0, on_stand_still, NULL);
    svc_loop_every(script.loop, 400, on_step, &r);
    svc_loop_after(script.loop, 1200, on_step, &z);
    fixture_run_until(&fixture, is_done, &script);
    assert_string_equal(script.trace, "rz");
    fixture_close(&fixture);
}

/* A log that goes to a pipe, whose other end the same loop watches. */
typedef struct {
    svc_log_t *log;
    int fds[2];
    svc_loop_t *loop;
    size_t lines;     /* that have come out */
    uint64_t came_ms; /* monotonic: both of them */
} logged_t;

static void
log_two_requests(void *arg, short events)
{
    logged_t *logged = arg;
    (void)events;
    svc_log_request(logged->log, &(svc_log_request_t){.op = "one", .status = "ok"});
    svc_log_request(logged->log, &(svc_log_request_t){.op = "two", .status = "ok"});
}

static void
read_lines(void *arg, short events)
{
    logged_t *logged = arg;
    char text[PIPE_BUF];
    (void)events;
    ssize_t n = read(logged->fds[0], text, sizeof(text));
    for (ssize_t i = 0; i < n; i++)
        logged->lines += text[i] == '\n';
    if (logged->lines < 2)
        return;
    logged->came_ms = svc_mono_ms();
    svc_loop_stop(logged->loop);
}

/* Nothing else happens in this loop, not even the fixture's timer: it wakes for the lines' sake, or after a second. */
static void
lines_of_requests_are_written_while_the_loop_has_nothing_else_to_do(void **state)
{
    (void)state;
    fixture_t fixture;
    logged_t logged = {0};
    fixture_open(&fixture, "test");
    assert_int_equal(pipe(logged.fds), 0);
    logged.log = svc_log_new(logged.fds[1], "test", SVC_LOG_TEXT, SVC_LOG_INFO);
    svc_loop_add_fd(fixture.ctx.loop, logged.fds[0], ZMQ_POLLIN, read_lines, &logged);
    logged.loop = fixture.ctx.loop;
    uint64_t took_ms = UINT64_MAX;
    for (int i = 0; i < 10 && took_ms >= 500; i++) { /* a machine may stand still */
        const uint64_t began_ms = svc_mono_ms();
        logged.lines = 0;
        svc_loop_after(fixture.ctx.loop, 0, log_two_requests, &logged);
        svc_loop_run(fixture.ctx.loop);
        took_ms = logged.came_ms - began_ms;
    }
    assert_true(took_ms < 500);
    svc_loop_remove_fd(fixture.ctx.loop, logged.fds[0]);
    svc_log_destroy(&logged.log);
    close(logged.fds[0]);
    close(logged.fds[1]);
    fixture_close(&fixture);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_timers_in_order_of_their_time_and_then_of_being_set),
        cmocka_unit_test(
            a_timer_cancelled_by_another_that_is_due_at_the_same_time_does_not_run),
        cmocka_unit_test(a_repeating_timer_runs_until_it_cancels_itself),
        cmocka_unit_test(
            lines_of_requests_are_written_while_the_loop_has_nothing_else_to_do),
        cmocka_unit_test(
            a_timer_that_sets_itself_for_at_once_does_not_starve_descriptors),
        cmocka_unit_test(
            a_handler_that_another_has_removed_in_the_same_turn_does_not_run),
        cmocka_unit_test(turn_functions_run_each_turn_and_may_ask_for_the_next_at_once),
        cmocka_unit_test(another_thread_can_stop_a_loop_that_blocks),
        cmocka_unit_test(
            after_standing_still_messages_come_first_then_stall_functions_then_timers),
        cmocka_unit_test(a_repeating_timer_runs_once_after_standing_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
