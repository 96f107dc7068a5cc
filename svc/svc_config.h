/* svc_config.h - the configuration of all services: one struct, one table of keys.
 *
 * Read at start from config.yaml and the environment, checked completely, never changed
 * afterwards: what is read again (SIGHUP) is another one. The table in svc_config_keys.c names every key with type, default, bounds, unit and
 * help; --help and the README's table are printed from it. Unknown keys and bad values are
 * refused with file, line and what was expected. */
#ifndef SVC_SVC_CONFIG_H
#define SVC_SVC_CONFIG_H

#include "proto/base.h"
#include <stdatomic.h>
#include <stdio.h>

#define SVC_CONFIG_MAX_BYTES     (1u << 20)
#define SVC_CONFIG_PROVIDERS_MAX 64
#define SVC_CONFIG_LIST_MAX      256

typedef struct {
    char **items; /* owned */
    size_t n;     /* count */
} svc_strings_t;

typedef struct {
    char *name;           /* for logs and errors */
    svc_strings_t models; /* glob patterns, first match wins over all providers */
    char *base_url; /* without the trailing slash; "/chat/completions" is appended */
    char *api_key;  /* api_key, or what api_key_env names; "" : neither. A secret */
    char *
        api_key_file; /* "" : none, or api_key goes before it; see svc_config_read_key_files */
    char *ca_file;         /* "" : the system's */
    uint32_t connect_s;    /* 5 */
    uint32_t first_byte_s; /* 120 */
    uint32_t idle_s;       /* 60 */
} svc_provider_t;

typedef enum { SVC_FRAMING_SSE, SVC_FRAMING_BARE } svc_framing;
typedef enum { SVC_STORAGE_SQLITE, SVC_STORAGE_POSTGRESQL } svc_storage;
typedef enum { SVC_LOG_TEXT, SVC_LOG_JSON } svc_log_format;

typedef struct {
    char *bind;    /* what the service listens on */
    char *connect; /* where its callers find it */
} svc_endpoint_t;

/* Strings are owned by the struct, never NULL. */
typedef struct svc_config {
    char *server_host;    /* of server.port, without brackets; "" : all addresses */
    uint16_t server_port; /* 8080 */
    char *server_tls_cert, *server_tls_key; /* files; both or, "", neither */
    int server_default_framing;             /* svc_framing */
    uint64_t server_max_body_bytes;
    uint32_t server_header_timeout_s, server_body_timeout_s, server_idle_timeout_s;
    uint32_t server_max_connections, server_max_connections_per_address;
    svc_strings_t server_trusted_proxies, server_cors_origins;
    uint32_t server_drain_s, server_lame_duck_s;
    uint32_t gateway_workers; /* 0: one per core */
    uint32_t gateway_headers_after_s, gateway_keepalive_s, gateway_reattach_s,
        gateway_request_timeout_s;
    uint32_t gateway_verify_cache_s, gateway_verify_stream_s;
    uint32_t gateway_viewer_backlog_kb, gateway_viewer_idle_s;
    int storage_driver;           /* svc_storage */
    char *storage_postgresql_url; /* a secret */
    uint32_t storage_postgresql_pool;
    char *sqlite_path;
    uint32_t sqlite_max_open_conns, sqlite_max_idle_conns, sqlite_conn_max_lifetime;
    char *redis_address, *redis_password;
    uint32_t redis_db, redis_ttl_s;
    char *jwt_secret; /* "" : made at first start */
    uint32_t jwt_ttl_s;
    uint32_t auth_bcrypt_cost, auth_bcrypt_threads, auth_bcrypt_queue, auth_password_min;
    uint32_t auth_guess_limit, auth_guess_window_s, auth_ticket_s;
    char *convo_system_prompt;
    char *convo_seal_key; /* "" : made at first start */
    uint32_t convo_cache_mb, convo_disconnect_stop_s;
    uint64_t llm_max_answer_bytes;
    svc_endpoint_t bus_auth, bus_convo, bus_llm, bus_tokens;
    char *bus_gateway_bind; /* "" : none */
    char *bus_keys;         /* directory; "" : none, the bus is plain */
    bool bus_insecure;
    char *admin_gateway, *admin_auth, *admin_convo, *admin_llm; /* "" : none */
    svc_provider_t *providers; /* in the order of the file */
    size_t n_providers;
    int log_format;                /* svc_log_format */
    int log_level;                 /* svc_log_level */
    double test_drop_token_frames; /* 0..1 */
    bool test_plain_paths;         /* every special fast path is off */
    bool test_debuggable;          /* debuggers and core files are allowed */
    char *test_die_at;             /* "" : nowhere; a fault point, see svc_fault.h */
    char *test_hang_at;            /* "" : nowhere; likewise */
    char *test_freeze_at;          /* likewise: where it stops itself */
    svc_strings_t warnings; /* sentences to log at start (short secret, test switches) */
    atomic_uint holders;    /* beside its owner, see svc_config_hold */
} svc_config_t;

/* Reads file (a path) and environment, checks all. NULL: *error (free() it) is one line: "file:line: what was expected". */
svc_config_t *svc_config_load(const char *path, char **error);

/* The same from bytes; `name` stands for the file in errors. `use_env`: false for tests and the fuzzer. */
svc_config_t *svc_config_parse(svc_str yaml, const char *name, bool use_env,
                               char **error);

/* Takes the keys of providers that have an api_key_file from there; an empty file leaves what api_key_env gave. For the one
 * service that needs them, at its start: others run where these files are not. False with *error (free() it): one line. */
bool svc_config_read_key_files(svc_config_t *self, char **error);

/* The address of the admin port of a service ("convo-svc"), "" when it has none. Borrowed from the configuration. */
const char *svc_config_admin(const svc_config_t *self, const char *service);

/* One holder more: it lives until each of them and its owner has called svc_config_destroy. Gives the same one, which the holder
 * changes as little as anybody. Thread: any. */
svc_config_t *svc_config_hold(const svc_config_t *self);

/* Lets go of it, sets *self_p to NULL; the last one frees it. NULL-safe. Thread: any. */
void svc_config_destroy(svc_config_t **self_p);

/* Prints the keys for --help. */
void svc_config_print_help(FILE *out);

/* Prints the keys as the Markdown table of the README. */
void svc_config_print_table(FILE *out);

/* Gives the path of the users' database beside sqlite.path; free() it. */
char *svc_config_users_path(const svc_config_t *self);

#endif
