/* svc_main.h - what the main() of every service does: options, configuration, signals, life and death.
 *
 * main.c describes its service in a svc_service_t and returns svc_main(). Options: --config FILE,
 * --check-config, --probe live|ready, --make-key FILE, --version, --help (and --config-table, --metrics-table: tables of the
 * manuals), and its tools. Exit codes: 0
 * ended as asked, 1 could not start (one clear line on stderr), or is not what was asked by --probe. */
#ifndef SVC_SVC_MAIN_H
#define SVC_SVC_MAIN_H

#include "svc/svc_ctx.h"

/* Something that the binary can do with the service's data instead of serving: --backup FILE. The option's own argument is
 * args[0], what stands behind are the others. */
typedef struct {
    const char *option;  /* without its dashes; NULL ends a list */
    const char *usage;   /* its arguments, for --help */
    const char *help;    /* one line */
    size_t n_min, n_max; /* arguments */

    /* Does it and prints what it did; false with *error (free() it) set: one line that says why not. Signals that end us are blocked:
     * what takes long asks svc_main_is_told_to_end(). Of `ctx` there are only names, configuration and log. */
    bool (*run)(svc_ctx_t *ctx, char *const *args, size_t n, char **error);
} svc_tool_t;

#define SVC_TOOLS_MAX 8 /* of a service */

typedef struct {
    const char *name;    /* folder name */
    const char *summary; /* one line for --help */
    bool
        is_batch; /* its threads handle many small events, and more at once when none interrupts another */

    /* What this service needs of the configuration, beyond what any of them does: false with *error (free() it) set, one line that
     * says what is missing. Called before --check-config says ok; start() refuses for the same reasons. May be NULL. */
    bool (*check_config)(const svc_config_t *config, char **error);

    bool reads_provider_keys; /* it needs the keys that stand in files: api_key_file */

    /* --check-config only: prints what else is worth saying ("config ok" is printed by svc_main when NULL). May be NULL. */
    void (*print_config)(const svc_config_t *config);

    const svc_tool_t *tools; /* ended by one without option; NULL: none */

    /* Builds the service on ctx->loop. NULL with *error (free() it) set: it cannot start. Runs before the loop does. */
    void *(*start)(svc_ctx_t *ctx, char **error);

    /* SIGHUP: takes over what may change while it runs, all of it or nothing. `fresh` is checked as at a start, and differs from what the
     * service runs with in live keys only (svc_config_reload.h); who needs it for longer holds it (svc_config_hold). Called also when no
     * key has changed: files that keys name may have. False with *error (free() it) set: refused, nothing has changed. On the main
     * thread, while the loop runs and nothing drains. NULL: nothing but log.level changes. */
    bool (*reload)(void *service, const svc_config_t *fresh, char **error);

    /* First SIGTERM or SIGINT: say to everybody that this process will go, and serve on. May be NULL. */
    void (*announce)(void *service);

    /* Later, after server.lame_duck_s (SIGINT: at once): finish what is there; call svc_loop_stop(ctx->loop) when done. svc_main stops the
     * loop itself server.drain_s after the signal, which is left_ms from now. NULL: there is nothing to finish. */
    void (*drain)(void *service, uint64_t left_ms);

    /* After the loop has ended: closes everything and frees the service. */
    void (*stop)(void *service);
} svc_service_t;

/* Runs a service from options to exit; gives the exit code. A second SIGTERM or SIGINT ends the process at once, in the lame duck's time, too. */
int svc_main(const svc_service_t *service, int argc, char **argv);

/* Has a SIGTERM or SIGINT come during start()? What waits there asks it now and then, and gives up: the process then ends with
 * exit code 0. False from then on: the loop hears of signals. Thread: any. */
bool svc_main_is_told_to_end(void);

#endif
