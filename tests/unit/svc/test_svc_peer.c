/* test_svc_peer.c - what a peer makes of servers that die, freeze, restart or say wrong things.
 *
 * Servers that stand still are processes of their own, or answer nothing; what becomes of calls is
 * looked at in test_svc_peer_call.c. */
#include "peer_bench.h"

#include "svc/svc_peer_call.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void
refuses_endpoints_that_are_none_and_several_at_once(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",         "127.0.0.1:70",        "tcp://",           "tcp://host",
        "tcp://:7", "tcp://host:0",        "tcp://host:70000", "tcp://host:x",
        "ipc:///x", "tcp://a:70,tcp://b:7"};
    fixture_t fixture;
    fixture_open(&fixture, "gateway");
    for (size_t i = 0; i < SVC_COUNT(wrong); i++) {
        char *error = NULL;
        assert_null(svc_peer_new(&fixture.ctx, "auth-svc", wrong[i], NULL, NULL, &error));
        assert_non_null(error);
        assert_non_null(strstr(error, "auth-svc"));
        assert_int_equal(strstr(wrong[i], ",") != NULL,
                         strstr(error, "one endpoint") != NULL);
        free(error);
    }
    fixture_close(&fixture);
}

static void
a_peer_that_never_was_there_is_neither_down_nor_lost(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_server(&bench, 1, NULL);
    svc_server_destroy(&bench.server);
    open_peer(&bench);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_UNAVAILABLE);
    fixture_run_for(&bench.fixture, 500);
    assert_string_equal(bench.events, "");
    start_server(&bench, 1, bench.endpoint); /* ... and comes up when it starts */
    await_events(&bench, "U");
    close_bench(&bench);
}

static const char never_answered[] = " has not answered yet";

/* Reads what was logged until now; the writer's place is the end again afterwards. */
static const char *
read_log(FILE *file, char *said, size_t max)
{
    rewind(file);
    const size_t n = fread(said, 1, max - 1, file);
    said[n] = '\0';
    (void)fseek(file, 0, SEEK_END);
    return said;
}

static bool
absence_is_told(void *arg)
{
    char said[2048];
    return strstr(read_log(arg, said, sizeof(said)), never_answered) != NULL;
}

static void
one_that_has_never_answered_is_told_once(void **state)
{
    (void)state;
    bench_t bench;
    FILE *file = tmpfile();
    char said[2048];
    open_bench(&bench);
    bench.times.down = 100;
    bench.fixture.ctx.log = svc_log_new(fileno(file), "gateway", SVC_LOG_TEXT,
                                        SVC_LOG_WARN);
    start_server(&bench, 1, NULL);
    svc_server_destroy(&bench.server);
    open_peer(&bench);
    fixture_run_until(&bench.fixture, absence_is_told, file);
    fixture_run_for(&bench.fixture, 300);
    start_server(&bench, 1, bench.endpoint);
    await_events(&bench, "U");
    const char *at = strstr(read_log(file, said, sizeof(said)), never_answered);
    assert_non_null(at);
    assert_null(strstr(at + 1, never_answered));
    svc_log_destroy(&bench.fixture.ctx.log);
    close_bench(&bench);
    (void)fclose(file);
}

static int64_t
peers_of(const bench_t *b, svc_family family, uint16_t column)
{
    return fixture_family(&b->fixture, family, SVC_L_PEER, "auth-svc", column);
}

static void
the_death_of_a_server_fails_its_calls_and_its_successor_is_another_instance(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    for (int i = 0; i < 10; i++)
        assert_int_equal(call(&bench, "later", 60000, 0, NULL), RC_OK);
    bench.wanted = 10;
    fixture_run_until(&bench.fixture, has_served, &bench);
    svc_server_destroy(&bench.server);
    await_replies(&bench, 10); /* long before their time */
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_UNAVAILABLE);
    await_events(&bench, "UDL"); /* refused */
    assert_int_equal(bench.calls_at_down, 10);
    assert_int_equal(bench.instances[2], 1);
    fixture_run_for(&bench.fixture, 300);
    assert_string_equal(bench.events, "UDL"); /* told once */
    assert_int_equal(peers_of(&bench, SVC_F_PEERS_UP, 0), 0);
    assert_int_equal(peers_of(&bench, SVC_F_CALLS, svc_metrics_code(RC_UNAVAILABLE)), 10);
    start_server(&bench, 2, bench.endpoint);
    await_events(&bench, "UDLU");
    assert_int_equal(bench.instances[3], 2);
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    await_replies(&bench, 11);
    assert_int_equal(bench.kind, PROTO_FINAL);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_UPS), 2);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_DOWNS), 1);
    assert_int_equal(fixture_count(&bench.fixture, SVC_M_PEER_LOSSES), 1);
    assert_int_equal(peers_of(&bench, SVC_F_PEERS, 0), 1);
    assert_int_equal(peers_of(&bench, SVC_F_PEERS_UP, 0), 1);
    assert_int_equal(peers_of(&bench, SVC_F_CALLS, svc_metrics_code(RC_OK)), 1);
    assert_int_equal(peers_of(&bench, SVC_F_CALL_US, 0), 11); /* the histogram's count */
    svc_peer_destroy(&bench.peer);
    assert_int_equal(peers_of(&bench, SVC_F_PEERS, 0), 0);
    assert_int_equal(peers_of(&bench, SVC_F_PEERS_UP, 0), 0);
    close_bench(&bench);
}

static void
another_instance_at_the_same_address_is_the_loss_of_the_old_one(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_GOOD, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    bench.fake_instance = 6; /* the next ping reply shows it */
    await_events(&bench, "UDLU");
    assert_int_equal(bench.instances[1], 5);
    assert_int_equal(bench.instances[2], 5);
    assert_int_equal(bench.instances[3], 6);
    close_bench(&bench);
}

static void
another_service_at_the_address_is_refused(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_GOOD, 5, "convo-svc");
    open_peer(&bench);
    bench.wanted = 3; /* it goes on trying */
    fixture_run_until(&bench.fixture, has_hellos, &bench);
    assert_string_equal(bench.events, "");
    bench.mode = FAKE_HELLO_ERROR;
    bench.wanted = bench.fake_hellos + 3;
    fixture_run_until(&bench.fixture, has_hellos, &bench);
    assert_string_equal(bench.events, "");
    bench.mode = FAKE_GOOD;
    bench.fake_service = "auth-svc";
    await_events(&bench, "U");
    close_bench(&bench);
}

static void
another_service_that_takes_the_address_over_is_the_loss_of_the_instance(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_GOOD, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    bench.fake_service = "convo-svc"; /* the address never refuses in between */
    bench.fake_instance = 6;
    await_events(&bench, "UDL");
    assert_int_equal(bench.instances[2], 5);
    bench.wanted = bench.fake_hellos + 3;
    fixture_run_until(&bench.fixture, has_hellos, &bench);
    assert_string_equal(bench.events, "UDL"); /* told once */
    bench.fake_service = "auth-svc";
    await_events(&bench, "UDLU");
    assert_int_equal(bench.instances[3], 6);
    close_bench(&bench);
}

static void
silence_is_down_then_lost_and_a_sign_of_life_is_up_again(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    start_fake(&bench, FAKE_HELLO_ONLY, 5, "auth-svc");
    const uint64_t began = svc_mono_ms();
    open_peer(&bench);
    await_events(&bench, "U");
    bench.mode = FAKE_SILENT;
    bench.times.down = 300;
    assert_int_equal(call(&bench, "later", 60000, 0, NULL), RC_OK);
    await_events(&bench, "UD");
    assert_true(svc_mono_ms() - began >= bench.times.down);
    assert_int_equal(bench.rc, RC_UNAVAILABLE);
    const uint64_t again = svc_mono_ms();
    bench.mode = FAKE_GOOD; /* back before it is lost: the same instance */
    await_events(&bench, "UDU");
    bench.mode = FAKE_SILENT;
    bench.times.lost = 600;
    await_events(&bench, "UDUDL");
    assert_true(svc_mono_ms() - again >= bench.times.lost);
    bench.mode = FAKE_GOOD;
    await_events(&bench, "UDUDLU");
    assert_int_equal(bench.instances[5], 5);
    close_bench(&bench);
}

/* The times that others rely on: convo-svc gives an answer up, and gateways hand their tails in, by them. */
static void
a_freeze_is_down_within_3_seconds_and_lost_after_12(void **state)
{
    (void)state;
    const svc_peer_times_t *times = &svc_peer_usual_times;
    assert_true(times->ping + times->down + times->tick < 3000);
    assert_true(times->down > 2000); /* who stood still for 2 s is not down */
    assert_int_equal(times->lost, 12000);
    assert_int_equal(times->ping % times->tick, 0);
}

static void
pings_tell_of_draining(void **state)
{
    (void)state;
    bench_t bench;
    open_pair(&bench);
    assert_false(svc_peer_is_draining(bench.peer));
    svc_server_set_draining(bench.server);
    const uint64_t until = svc_mono_ms() + FIXTURE_PATIENCE_MS;
    while (!svc_peer_is_draining(bench.peer) && svc_mono_ms() < until)
        fixture_run_for(&bench.fixture, 10);
    assert_true(svc_peer_is_draining(bench.peer));
    assert_true(svc_peer_is_up(bench.peer));
    close_bench(&bench);
}

/* A process of its own, so that it can be stopped and killed; writes its endpoint to `fd`. */
static void
run_child_server(int fd)
{
    bench_t bench;
    open_bench(&bench);
    start_server(&bench, 1, NULL);
    if (write(fd, bench.endpoint, sizeof(bench.endpoint)) < 0)
        _exit(1);
    svc_loop_run(bench.fixture.ctx.loop);
    _exit(0);
}

static pid_t
start_child_server(char endpoint[256])
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        run_child_server(fds[1]);
    assert_int_equal(read(fds[0], endpoint, 256), 256);
    close(fds[0]);
    close(fds[1]);
    return pid;
}

static void
a_frozen_process_is_down_and_not_lost_and_a_killed_one_is_lost(void **state)
{
    (void)state;
    bench_t bench;
    char endpoint[256];
    const pid_t pid = start_child_server(endpoint);
    open_bench(&bench);
    memcpy(bench.endpoint, endpoint, sizeof(endpoint));
    open_peer(&bench);
    await_events(&bench, "U");
    kill(pid, SIGSTOP);
    fixture_run_for(&bench.fixture, 300);
    kill(pid, SIGCONT);
    fixture_run_for(&bench.fixture, 300);
    assert_string_equal(bench.events, "U"); /* some missing answers are nothing */
    kill(pid, SIGSTOP);
    bench.times.down = 100;
    bench.times.handshake = 100;
    await_events(&bench, "UD");
    fixture_run_for(&bench.fixture, 600); /* handshakes begin and time out */
    assert_string_equal(bench.events, "UD");
    bench.times.down = svc_peer_usual_times.down;
    bench.times.handshake = svc_peer_usual_times.handshake;
    kill(pid, SIGCONT);
    await_events(&bench, "UDU");
    kill(pid, SIGKILL);
    await_events(&bench, "UDUDL");
    waitpid(pid, NULL, 0);
    close_bench(&bench);
}

static void
on_stand_still(void *arg, short events)
{
    const struct timespec wait = {.tv_sec = 1, .tv_nsec = 200000000};
    (void)events;
    nanosleep(&wait, NULL);
    ((bench_t *)arg)->mode = FAKE_GOOD;
}

static void
standing_still_ourselves_is_no_sign_of_anything(void **state)
{
    (void)state;
    bench_t bench;
    open_bench(&bench);
    bench.times.down = 1100;
    bench.times.lost = 1100;
    start_fake(&bench, FAKE_HELLO_ONLY, 5, "auth-svc");
    open_peer(&bench);
    await_events(&bench, "U");
    bench.wanted = 1; /* an answer is due when we stop looking */
    fixture_run_until(&bench.fixture, has_pings, &bench);
    svc_loop_after(bench.fixture.ctx.loop, 0, on_stand_still, &bench);
    bench.wanted = 5;
    fixture_run_until(&bench.fixture, has_pings, &bench);
    assert_string_equal(bench.events, "U");
    assert_int_equal(call(&bench, "ann", 5000, 0, NULL), RC_OK);
    close_bench(&bench);
}

/* --- an address that takes no connection ---------------------------------------------------------- */

#define FILLERS 4

/* Listens, and leaves all that comes in the kernel's queue, which is full then: further SYNs are dropped there. */
static int
open_full_listener(bench_t *bench, int fillers[FILLERS])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, n), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &n), 0);
    for (int i = 0; i < FILLERS; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, n);
    }
    snprintf(bench->endpoint, sizeof(bench->endpoint), "tcp://127.0.0.1:%d",
             ntohs(address.sin_port));
    return fd;
}

static bool
has_given_up_a_socket(void *arg)
{
    return ((const bench_t *)arg)->peer->socket == NULL;
}

/* The kernel would send its next SYN after 1, 3, 7, 15 s: a link that heals would be found too late. */
static void
an_address_that_takes_no_connection_is_tried_anew(void **state)
{
    (void)state;
    bench_t bench;
    int fillers[FILLERS];
    open_bench(&bench);
    bench.times.taken = 50;
    bench.times.reopen = 20;
    const int listener = open_full_listener(&bench, fillers);
    open_peer(&bench);
    for (int i = 0; i < 2; i++) {
        fixture_run_until(&bench.fixture, has_given_up_a_socket, &bench);
        fixture_run_for(&bench.fixture, 2 * bench.times.reopen);
    }
    for (int i = 0; i < FILLERS; i++)
        close(fillers[i]);
    close(listener);
    char endpoint[sizeof(bench.endpoint)];
    snprintf(endpoint, sizeof(endpoint), "%s", bench.endpoint);
    start_server(&bench, 1, endpoint);
    await_events(&bench, "U");
    close_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_endpoints_that_are_none_and_several_at_once),
        cmocka_unit_test(a_peer_that_never_was_there_is_neither_down_nor_lost),
        cmocka_unit_test(
            the_death_of_a_server_fails_its_calls_and_its_successor_is_another_instance),
        cmocka_unit_test(another_instance_at_the_same_address_is_the_loss_of_the_old_one),
        cmocka_unit_test(one_that_has_never_answered_is_told_once),
        cmocka_unit_test(another_service_at_the_address_is_refused),
        cmocka_unit_test(
            another_service_that_takes_the_address_over_is_the_loss_of_the_instance),
        cmocka_unit_test(silence_is_down_then_lost_and_a_sign_of_life_is_up_again),
        cmocka_unit_test(a_freeze_is_down_within_3_seconds_and_lost_after_12),
        cmocka_unit_test(pings_tell_of_draining),
        cmocka_unit_test(a_frozen_process_is_down_and_not_lost_and_a_killed_one_is_lost),
        cmocka_unit_test(standing_still_ourselves_is_no_sign_of_anything),
        cmocka_unit_test(an_address_that_takes_no_connection_is_tried_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
