/* svc_main.c - from argv to the exit code, the same for every service.
 *
 * Signals are blocked before the first thread exists, so that every thread inherits the mask and
 * SIGTERM reaches the loop alone, as a readable signalfd; a start that waits looks for it itself. SIGHUP comes the same way. Until the service runs, everything that
 * goes wrong is one line on stderr, `auth-svc: what and why`, and exit code 1 (while a start waits, the
 * log says what for); from then on the log speaks. The ZeroMQ context is made here and outlives all that the service holds. */
#include "svc_main.h"
#include "svc_admin.h"
#include "svc_config_reload.h"
#include "svc_harden.h"
#include "svc_curve.h"
#include "svc_refusals.h"
#include "svc_resolver.h"
#include "svc_secret.h"
#include "svc_time.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#ifndef SVC_VERSION
#define SVC_VERSION "dev" /* the Makefile knows better */
#endif

#define DEFAULT_CONFIG "./config.yaml"
#define PROBE_GOOD     200 /* HTTP status */
#define ZMQ_SOCKETS_MAX \
    16384 /* the default of 1023 would bound connections, not memory */

typedef enum {
    RUN,
    CHECK_CONFIG,
    CONFIG_TABLE,
    METRICS_TABLE,
    HELP,
    VERSION,
    PROBE_LIVE,
    PROBE_READY,
    TOOL,
    MAKE_KEY,
    BAD_USAGE
} task;

typedef struct {
    const svc_service_t *service; /* what main() described */
    const char *config_path;      /* borrowed from argv */
    const char *key_path;         /* likewise, of MAKE_KEY */
    const svc_tool_t *tool;       /* that is to run; NULL: none */
    char **args;                  /* of the tool, [n_args], borrowed from argv */
    size_t n_args;
    svc_config_t *config;  /* owned; as it started: who runs borrows from it */
    svc_config_t *current; /* owned; as it was read again last, NULL: never */
    svc_ctx_t ctx;         /* its pointers are owned here, but for config */
    svc_admin_t *admin;    /* owned; NULL: none is wanted */
    svc_beat_t beat;       /* of the main loop */
    int signals;           /* signalfd, -1: none */
    void *state;           /* what service->start gave */
    bool draining;         /* the first signal has come */
    uint64_t end_ms;       /* loop time: the loop is stopped then, while draining */
} process_t;

static atomic_bool
    is_started; /* the service's start is over: its loop reads the signals */

/* Says why the process cannot start, takes the text. */
static int
refuse(const process_t *self, char **error)
{
    fprintf(stderr, "%s: %s\n", self->service->name,
            *error != NULL ? *error : "cannot start");
    free(*error);
    *error = NULL;
    return EXIT_FAILURE;
}

/* --- options ----------------------------------------------------------------------------- */

#define USUAL_OPTIONS 8
#define TOOL_OPTION   256 /* the first tool's value for getopt: no character */

/* Fills in the options that every service has, and its tools. */
static void
list_options(const process_t *self, struct option *options)
{
    static const struct option usual[USUAL_OPTIONS] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"config-table", no_argument, NULL, 't'},
        {"metrics-table", no_argument, NULL, 'm'},
        {"probe", required_argument, NULL, 'p'},
        {"make-key", required_argument, NULL, 'y'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'}};
    const svc_tool_t *tools = self->service->tools;
    size_t n = USUAL_OPTIONS;

    memcpy(options, usual, sizeof(usual));
    for (size_t i = 0; tools != NULL && i < SVC_TOOLS_MAX && tools[i].option != NULL; i++)
        options[n++] = (struct option){tools[i].option, required_argument, NULL,
                                       TOOL_OPTION + (int)i};
    options[n] = (struct option){0};
}

/* Takes the arguments of the tool that was asked for: its own, and what stands behind the options. */
static task
read_tool(process_t *self, char *first, int argc, char **argv)
{
    size_t more = (size_t)(argc - optind);

    self->n_args = more + 1;
    if (self->n_args < self->tool->n_min || self->n_args > self->tool->n_max)
        return BAD_USAGE;
    self->args = svc_alloc(self->n_args * sizeof(*self->args));
    self->args[0] = first;
    for (size_t i = 0; i < more; i++)
        self->args[i + 1] = argv[(size_t)optind + i];
    return TOOL;
}

static task
read_options(process_t *self, int argc, char **argv)
{
    struct option options[USUAL_OPTIONS + SVC_TOOLS_MAX + 1];
    char *first = NULL; /* argument of the tool */
    task what = RUN;
    int c;

    list_options(self, options);
    self->config_path = DEFAULT_CONFIG;
    opterr = 0; /* the one line on stderr is ours */
    optind = 1;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'c': self->config_path = optarg; break;
        case 'k': what = CHECK_CONFIG; break;
        case 't': what = CONFIG_TABLE; break;
        case 'm': what = METRICS_TABLE; break;
        case 'p':
            what = strcmp(optarg, "live") == 0    ? PROBE_LIVE
                   : strcmp(optarg, "ready") == 0 ? PROBE_READY
                                                  : BAD_USAGE;
            if (what == BAD_USAGE)
                return what;
            break;
        case 'y':
            self->key_path = optarg;
            what = MAKE_KEY;
            break;
        case 'v': what = VERSION; break;
        case 'h': what = HELP; break;
        default:
            if (c < TOOL_OPTION || self->tool != NULL)
                return BAD_USAGE;
            self->tool = &self->service->tools[c - TOOL_OPTION];
            first = optarg;
        }
    }
    if (what == RUN && self->tool != NULL)
        return read_tool(self, first, argc, argv);
    return optind == argc ? what : BAD_USAGE;
}

static int
print_usage_error(const process_t *self)
{
    fprintf(stderr, "%s: unknown or incomplete option; %s --help lists them\n",
            self->service->name, self->service->name);
    return EXIT_FAILURE;
}

static void
print_help(const process_t *self)
{
    printf(
        "%s - %s\n\n"
        "usage: %s [--config FILE] [--check-config | --probe live | --probe ready]\n\n"
        "  --config FILE    read this configuration (default %s)\n"
        "  --check-config   check the configuration and exit\n"
        "  --probe WHAT     ask the one that runs with this configuration whether it is "
        "live, or ready:\n"
        "                   print what it says, exit with 0 or 1\n"
        "  --make-key FILE  make a key pair of the bus in FILE, which must not exist yet: "
        "scripts/make-keys\n"
        "                   makes all that a stack needs\n"
        "  --config-table   print the configuration keys as a Markdown table and exit\n"
        "  --metrics-table  print what /metrics of all services tells as a Markdown table "
        "and exit\n"
        "  --version        print the version and exit\n"
        "  --help           print this help and exit\n",
        self->service->name, self->service->summary, self->service->name, DEFAULT_CONFIG);
    for (const svc_tool_t *tool = self->service->tools;
         tool != NULL && tool->option != NULL; tool++)
        printf("  --%s %s\n                   %s\n", tool->option, tool->usage,
               tool->help);
    puts("");
    svc_config_print_help(stdout);
}

static int
check_config(const process_t *self)
{
    char *error = NULL;
    svc_keys_t *keys = NULL;

    if (self->config->bus_keys[0] != '\0') {
        keys = svc_keys_read(self->config->bus_keys, self->service->name, &error);
        if (keys == NULL)
            return refuse(self, &error);
        svc_keys_destroy(&keys);
    }
    if (self->service->check_config != NULL &&
        !self->service->check_config(self->config, &error))
        return refuse(self, &error);
    if (self->service->print_config != NULL)
        self->service->print_config(self->config);
    else
        puts("config ok");
    for (size_t i = 0; i < self->config->warnings.n; i++)
        printf("warning: %s\n", self->config->warnings.items[i]);
    return EXIT_SUCCESS;
}

/* A pair for scripts/make-keys. */
static int
make_key(const process_t *self)
{
    char *error = NULL;

    if (svc_keys_make(self->key_path, &error) != RC_OK)
        return refuse(self, &error);
    return EXIT_SUCCESS;
}

/* --- the admin port ---------------------------------------------------------------------- */

/* The last part of the service's key: "admin.auth" is auth-svc's. */
static svc_str
admin_key(const process_t *self)
{
    svc_str name = svc_str_c(self->service->name);
    const char *suffix = strstr(name.p, "-svc");

    if (suffix != NULL)
        name.n = (size_t)(suffix - name.p);
    return name;
}

/* Listens where the configuration says, if anywhere: also while the service starts, which may take its time. */
static bool
open_admin(process_t *self, char **error)
{
    const char *address = svc_config_admin(self->config, self->service->name);
    const svc_str key = admin_key(self);
    char *why = NULL;
    char upper[16];
    size_t n = 0;

    if (address[0] == '\0')
        return true;
    const svc_metrics_about_t about = {.metrics = self->ctx.metrics,
                                       .health = self->ctx.health,
                                       .service = self->ctx.service,
                                       .version = self->ctx.version};
    self->admin = svc_admin_new(address, &about, self->ctx.log, &why);
    if (self->admin != NULL)
        return true;
    for (; n < key.n && n < sizeof(upper); n++)
        upper[n] = (char)toupper((unsigned char)key.p[n]);
    SVC_ASSERT(asprintf(error,
                        "the admin port: %s; admin.%.*s (LLMB_ADMIN_%.*s in the "
                        "environment) sets another one, or none",
                        why, (int)key.n, key.p, (int)n, upper) >= 0);
    free(why);
    return false;
}

/* Asks the process that runs with this configuration; gives the exit code. */
static int
probe(const process_t *self, const char *path)
{
    const char *address = svc_config_admin(self->config, self->service->name);
    const svc_str key = admin_key(self);
    char *error = NULL;
    svc_buf_t body;
    int status = 0;

    svc_buf_init(&body, SVC_HEALTH_MAX_BYTES);
    if (address[0] != '\0')
        status = svc_admin_probe(address, path, &body, &error);
    else
        SVC_ASSERT(asprintf(&error, "admin.%.*s is empty: there is nobody to ask",
                            (int)key.n, key.p) >= 0);
    if (status != 0)
        printf("%.*s\n", (int)body.n, body.p);
    svc_buf_fini(&body);
    if (status == 0)
        return refuse(self, &error);
    return status == PROBE_GOOD ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* --- signals ----------------------------------------------------------------------------- */

static void
on_drained_too_long(void *arg, short events)
{
    process_t *self = arg;

    (void)events;
    svc_log_warn(self->ctx.log, "not finished within server.drain_s, stopping");
    svc_loop_stop(self->ctx.loop);
}

static void
on_lame_duck_over(void *arg, short events)
{
    process_t *self = arg;
    uint64_t now = svc_loop_now_ms(self->ctx.loop);

    (void)events;
    if (self->service->drain != NULL)
        self->service->drain(self->state, self->end_ms > now ? self->end_ms - now : 0);
    else
        svc_loop_stop(self->ctx.loop);
}

/* How long everything is served on after SIGTERM: callers and load balancers hear that we will go when they look next, and
 * until then send us requests that must not fail. Somebody at a keyboard (SIGINT) wants an end. */
static uint64_t
lame_duck_ms(const process_t *self, int signal_number)
{
    uint64_t drain_ms = self->config->server_drain_s * 1000ull;
    uint64_t ms = self->config->server_lame_duck_s * 1000ull;

    if (signal_number != SIGTERM)
        return 0;
    return ms < drain_ms ? ms : drain_ms / 2;
}

static void
begin_drain(process_t *self, int signal_number)
{
    const char *name = sigabbrev_np(signal_number);
    uint64_t drain_ms = self->config->server_drain_s * 1000ull;
    uint64_t ms = lame_duck_ms(self, signal_number);

    svc_health_set_draining(self->ctx.health);
    self->draining = true;
    self->end_ms = svc_loop_now_ms(self->ctx.loop) + drain_ms;
    svc_log_info(self->ctx.log, "got SIG%s, finishing what is there",
                 name != NULL ? name : "TERM");
    svc_loop_after(self->ctx.loop, drain_ms, on_drained_too_long, self);
    if (self->service->announce != NULL)
        self->service->announce(self->state);
    if (ms > 0)
        svc_loop_after(self->ctx.loop, ms, on_lame_duck_over, self);
    else
        on_lame_duck_over(self, 0);
}

/* Reads the configuration as a start does, for this service. NULL with *error. */
static svc_config_t *
read_again(const process_t *self, char **error)
{
    svc_config_t *fresh = svc_config_load(self->config_path, error);

    if (fresh == NULL)
        return NULL;
    if ((!self->service->reads_provider_keys ||
         svc_config_read_key_files(fresh, error)) &&
        (self->service->check_config == NULL ||
         self->service->check_config(fresh, error)))
        return fresh;
    svc_config_destroy(&fresh);
    return NULL;
}

static void
log_change(const process_t *self, const svc_config_change_t *change)
{
    svc_log_info(self->ctx.log, "the configuration was read again: %s%s",
                 change->live[0] != '\0' ? "changed: " : "nothing has changed",
                 change->live);
    if (change->restart[0] != '\0')
        svc_log_warn(self->ctx.log, "needs a restart to change: %s", change->restart);
}

/* SIGHUP: takes over what may change while the service runs, or says why not. */
static void
reload(process_t *self)
{
    const svc_config_t *running = self->current != NULL ? self->current : self->config;
    svc_config_change_t change = {NULL, NULL};
    char *error = NULL;
    svc_config_t *fresh = read_again(self, &error);

    if (fresh != NULL)
        svc_config_renew(fresh, running, &change);
    if (fresh != NULL && (self->service->reload == NULL ||
                          self->service->reload(self->state, fresh, &error))) {
        svc_config_destroy(&self->current);
        self->current = fresh;
        svc_log_set_level(self->ctx.log, (svc_log_level)fresh->log_level);
        log_change(self, &change);
    } else {
        svc_log_error(self->ctx.log, "the configuration stays as it was: %s",
                      error != NULL ? error : "it cannot be taken over");
        svc_config_destroy(&fresh);
    }
    svc_config_change_fini(&change);
    free(error);
}

static void
on_signal(void *arg, short events)
{
    process_t *self = arg;
    struct signalfd_siginfo info;

    (void)events;
    while (read(self->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            if (!self->draining)
                reload(self);
            continue;
        }
        if (self->draining) {
            svc_log_warn(self->ctx.log, "got a second signal, ending at once");
            _exit(128 + (int)info.ssi_signo);
        }
        begin_drain(self, (int)info.ssi_signo);
    }
}

/* Blocks what ends us and what has us read our files again, for this thread and all that it will make, and ignores broken
 * pipes. */
static bool
take_signals(process_t *self, char **error)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
        self->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    signal(SIGHUP, SIG_DFL); /* nohup has it ignored: no signalfd would ever see it */
    if (self->signals >= 0)
        return true;
    SVC_ASSERT(asprintf(error, "cannot watch for signals: %s", strerror(errno)) >= 0);
    return false;
}

bool
svc_main_is_told_to_end(void)
{
    sigset_t pending;

    return !atomic_load(&is_started) && sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* --- life -------------------------------------------------------------------------------- */

/* Connections, databases and pipes are descriptors: take as many as we may. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* A thread that wakes then lets the one that runs finish its turn, instead of interrupting it for each
 * message: on cores that are busy, half as many switches and larger batches (measured: a fifth to a half more of
 * everything). On idle ones it changes nothing. Threads inherit it. Not for a service that computes for long:
 * those who wait behind it could not interrupt it. Whoever started us with a policy or a nice value of their own
 * (chrt, nice, systemd) has decided: beside programs that compute all the time, waiting for one's turn costs
 * milliseconds a message. */
static void
prefer_batches(void)
{
    const struct sched_param none = {0};

    if (sched_getscheduler(0) == SCHED_OTHER && getpriority(PRIO_PROCESS, 0) == 0)
        (void)sched_setscheduler(0, SCHED_BATCH, &none);
}

/* Who this process is, and how it logs: what a service and a tool have alike. */
static void
describe(process_t *self)
{
    svc_ctx_t *ctx = &self->ctx;

    ctx->service = self->service->name;
    ctx->version = SVC_VERSION;
    ctx->instance = svc_random_u64();
    ctx->config = self->config;
    ctx->log = svc_log_new(STDERR_FILENO, self->service->name, self->config->log_format,
                           (svc_log_level)self->config->log_level);
    if (self->config->test_plain_paths)
        svc_log_set_plain(ctx->log);
}

static bool
make_context(process_t *self, char **error)
{
    svc_ctx_t *ctx = &self->ctx;

    ctx->zmq = zmq_ctx_new();
    if (ctx->zmq == NULL || zmq_ctx_set(ctx->zmq, ZMQ_IO_THREADS, 1) != 0 ||
        zmq_ctx_set(ctx->zmq, ZMQ_MAX_SOCKETS, ZMQ_SOCKETS_MAX) != 0) {
        SVC_ASSERT(asprintf(error, "cannot make a ZeroMQ context: %s",
                            zmq_strerror(errno)) >= 0);
        return false;
    }
    ctx->fault = svc_fault_new(self->config->test_die_at, self->config->test_hang_at,
                               self->config->test_freeze_at, error);
    if (*error != NULL)
        return false;
    describe(self);
    ctx->metrics = svc_metrics_new();
    ctx->health = svc_health_new(SVC_HEALTH_STUCK_MS);
    ctx->loop = svc_loop_new();
    ctx->resolver = svc_resolver_new(ctx->log, NULL, NULL, SVC_RESOLVER_EVERY_MS);
    return true;
}

/* Locks the bus, if there are keys. */
static bool
open_bus(process_t *self, char **error)
{
    svc_ctx_t *ctx = &self->ctx;
    svc_keys_t *keys;

    ctx->refusals = svc_refusals_new(ctx->metrics, ctx->log);
    if (self->config->bus_keys[0] == '\0')
        return true;
    keys = svc_keys_read(self->config->bus_keys, ctx->service, error);
    if (keys != NULL)
        ctx->curve = svc_curve_new(ctx->zmq, &keys, ctx->refusals);
    return ctx->curve != NULL;
}

static void
free_all(process_t *self)
{
    svc_admin_destroy(&self->admin);
    svc_resolver_destroy(&self->ctx.resolver);
    svc_loop_destroy(&self->ctx.loop);
    if (self->ctx.zmq != NULL)
        while (zmq_ctx_term(self->ctx.zmq) != 0 && errno == EINTR)
            ;
    svc_curve_destroy(&self->ctx.curve);
    svc_refusals_destroy(&self->ctx.refusals);
    svc_health_destroy(&self->ctx.health);
    svc_metrics_destroy(&self->ctx.metrics);
    svc_fault_destroy(&self->ctx.fault);
    svc_log_destroy(&self->ctx.log);
    if (self->signals >= 0)
        close(self->signals);
    svc_config_destroy(&self->current);
    svc_config_destroy(&self->config);
    free(self->args);
}

/* Runs the loop to its end. */
static void
serve(process_t *self)
{
    svc_loop_add_fd(self->ctx.loop, self->signals, ZMQ_POLLIN, on_signal, self);
    svc_health_watch(self->ctx.health, &self->beat, self->ctx.loop, "main");
    svc_health_set_started(self->ctx.health);
    svc_loop_run(self->ctx.loop);
    svc_health_unwatch(&self->beat);
    svc_loop_remove_fd(self->ctx.loop, self->signals);
}

/* Runs the tool that was asked for: a process of its own, beside the service or without it. */
static int
run_tool(process_t *self)
{
    svc_ctx_t *ctx = &self->ctx;
    char *error = NULL;

    if (!take_signals(self, &error))
        return refuse(self, &error);
    umask(0077); /* what it writes holds secrets */
    (void)setvbuf(stdout, NULL, _IOLBF,
                  0); /* what takes long tells as it goes, into a pipe, too */
    describe(self);
    if (self->tool->run(ctx, self->args, self->n_args, &error))
        return EXIT_SUCCESS;
    return refuse(self, &error);
}

/* It was told to end while it waited for something: that is no failure. Takes the text. */
static int
give_up(const process_t *self, char **error)
{
    svc_log_info(self->ctx.log, "stopped before it had started: %s",
                 *error != NULL ? *error : "it was told to");
    free(*error);
    return EXIT_SUCCESS;
}

static int
run(process_t *self)
{
    char *error = NULL;
    const char *open = svc_harden(self->config->test_debuggable);

    if (!take_signals(self, &error) || !make_context(self, &error))
        return refuse(self, &error);
    if (open != NULL)
        svc_log_warn(self->ctx.log, "%s", open);
    raise_descriptor_limit();
    if (self->service->is_batch)
        prefer_batches();
    umask(0077); /* databases and secrets are nobody else's to read */
    if (!open_bus(self, &error) || !open_admin(self, &error) ||
        (self->service->reads_provider_keys &&
         !svc_config_read_key_files(self->config, &error)))
        return refuse(self, &error);
    self->state = self->service->start(&self->ctx, &error);
    if (self->state == NULL)
        return svc_main_is_told_to_end() ? give_up(self, &error) : refuse(self, &error);
    atomic_store(&is_started, true);
    for (size_t i = 0; i < self->config->warnings.n; i++)
        svc_log_warn(self->ctx.log, "%s", self->config->warnings.items[i]);
    if (self->config->test_die_at[0] != '\0')
        svc_log_warn(self->ctx.log, "this process kills itself at %s, see test.die_at",
                     self->config->test_die_at);
    if (self->config->test_hang_at[0] != '\0')
        svc_log_warn(self->ctx.log, "a thread stands still at %s, see test.hang_at",
                     self->config->test_hang_at);
    if (self->config->test_freeze_at[0] != '\0')
        svc_log_warn(self->ctx.log, "this process stops itself at %s, see test.freeze_at",
                     self->config->test_freeze_at);
    svc_log_info(self->ctx.log, "started: version %s, instance %016llx, process %ld",
                 SVC_VERSION, (unsigned long long)self->ctx.instance, (long)getpid());
    if (self->admin != NULL)
        svc_log_info(self->ctx.log,
                     "tells how it is on http://%s/healthz, /readyz and /metrics",
                     svc_config_admin(self->config, self->service->name));
    serve(self);
    self->service->stop(self->state);
    svc_log_info(self->ctx.log, "stopped");
    return EXIT_SUCCESS;
}

int
svc_main(const svc_service_t *service, int argc, char **argv)
{
    process_t self = {.service = service, .signals = -1};
    task what = read_options(&self, argc, argv);
    char *error = NULL;
    int code;

    switch (what) {
    case BAD_USAGE: return print_usage_error(&self);
    case HELP: print_help(&self); return EXIT_SUCCESS;
    case CONFIG_TABLE: svc_config_print_table(stdout); return EXIT_SUCCESS;
    case METRICS_TABLE: svc_metrics_print_table(stdout); return EXIT_SUCCESS;
    case MAKE_KEY: return make_key(&self);
    case VERSION: printf("%s %s\n", service->name, SVC_VERSION); return EXIT_SUCCESS;
    case CHECK_CONFIG:
    case PROBE_LIVE:
    case PROBE_READY:
    case TOOL:
    case RUN: break;
    }
    self.config = svc_config_load(self.config_path, &error);
    if (self.config == NULL)
        return refuse(&self, &error);
    if (what == CHECK_CONFIG)
        code = check_config(&self);
    else if (what == RUN)
        code = run(&self);
    else if (what == TOOL)
        code = run_tool(&self);
    else
        code = probe(&self, what == PROBE_LIVE ? "/healthz" : "/readyz");
    free_all(&self);
    return code;
}
