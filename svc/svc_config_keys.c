/* svc_config_keys.c - every configuration key there is, one row each, and what is printed from them.
 *
 * A key exists when it has a row here: nothing else knows its name, default or bounds. Bounds are
 * what the code behind a key can bear, not what is wise. Sections and their order are those of
 * config.yaml. */
#include "svc_config_keys.h"

#include "proto/proto.h"

#include <inttypes.h>
#include <stddef.h>

#define AT(field)          offsetof(svc_config_t, field)
#define OF_PROVIDER(field) offsetof(config_provider_t, field)
#define HOUR_S             3600
#define YEAR_S             31536000
#define TEXT_MAX           4096  /* bytes of a path, a URL, a name */
#define PROMPT_MAX         65536 /* bytes of the system prompt */

static const char *const framings[] = {"sse", "bare", NULL};
static const char *const storages[] = {"sqlite", "postgresql", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};

// clang-format off
const config_key_t svc_config_keys[] = {
    /* path, type, default, min, max, unit, help, where, choices */
    {"server.port", CONFIG_LISTEN, "8080", 1, 65535, "", "where clients connect: 8080, :8080 or 127.0.0.1:8080", AT(server_port), NULL},
    {"server.tls.cert", CONFIG_STRING, "", 0, TEXT_MAX, "", "file of the certificate chain (PEM): the port speaks HTTPS only; empty for plain HTTP", AT(server_tls_cert), NULL},
    {"server.tls.key", CONFIG_STRING, "", 0, TEXT_MAX, "", "file of its private key (PEM, not encrypted)", AT(server_tls_key), NULL},
    {"server.default_framing", CONFIG_CHOICE, "sse", 0, 0, "", "how answers stream to clients without an Accept header: sse, or bare (lines of JSON)", AT(server_default_framing), framings},
    {"server.max_body_bytes", CONFIG_U64, "1048576", 1024, PROTO_QUESTION_MAX_BYTES, "bytes", "larger request bodies get 413", AT(server_max_body_bytes), NULL},
    {"server.header_timeout_s", CONFIG_U32, "10", 1, HOUR_S, "s", "a request's headers must have arrived by then", AT(server_header_timeout_s), NULL},
    {"server.body_timeout_s", CONFIG_U32, "60", 1, HOUR_S, "s", "a request's body must have arrived by then", AT(server_body_timeout_s), NULL},
    {"server.idle_timeout_s", CONFIG_U32, "60", 1, HOUR_S, "s", "an idle keep-alive connection is closed", AT(server_idle_timeout_s), NULL},
    {"server.max_connections", CONFIG_U32, "10000", 1, 1000000, "", "open client connections at once", AT(server_max_connections), NULL},
    {"server.max_connections_per_address", CONFIG_U32, "256", 1, 1000000, "", "of one client address; loopback and trusted proxies are exempt", AT(server_max_connections_per_address), NULL},
    {"server.trusted_proxies", CONFIG_CIDRS, "", 0, SVC_CONFIG_LIST_MAX, "", "address ranges (CIDR) whose X-Forwarded-For is believed", AT(server_trusted_proxies), NULL},
    {"server.cors_origins", CONFIG_LIST, "*", 0, SVC_CONFIG_LIST_MAX, "", "origins of web pages that may call; * for any", AT(server_cors_origins), NULL},
    {"server.drain_s", CONFIG_U32, "5", 0, HOUR_S, "s", "after SIGTERM: at most this long to finish what is there", AT(server_drain_s), NULL},
    {"server.lame_duck_s", CONFIG_U32, "3", 0, HOUR_S, "s", "of that time: served on as before, while load balancers and callers look for another replica", AT(server_lame_duck_s), NULL},

    {"gateway.workers", CONFIG_U32, "0", 0, 256, "", "threads that serve clients; 0: one per core it may use", AT(gateway_workers), NULL},
    {"gateway.headers_after_s", CONFIG_U32, "10", 1, HOUR_S, "s", "a stream's headers go out then, even if nothing has come yet", AT(gateway_headers_after_s), NULL},
    {"gateway.keepalive_s", CONFIG_U32, "15", 1, HOUR_S, "s", "a silent stream gets a comment line", AT(gateway_keepalive_s), NULL},
    {"gateway.reattach_s", CONFIG_U32, "10", 1, HOUR_S, "s", "how long a stream waits for a service that is away", AT(gateway_reattach_s), NULL},
    {"gateway.request_timeout_s", CONFIG_U32, "10", 1, HOUR_S, "s", "requests that take longer get 504", AT(gateway_request_timeout_s), NULL},
    {"gateway.verify_cache_s", CONFIG_U32, "5", 0, 5, "s", "how long a token that was found good is not asked about again", AT(gateway_verify_cache_s), NULL},
    {"gateway.verify_stream_s", CONFIG_U32, "60", 1, 60, "s", "the token of an open stream is asked about again after this", AT(gateway_verify_stream_s), NULL},
    {"gateway.viewer_backlog_kb", CONFIG_U32, "256", 16, 65536, "KiB", "unsent bytes that are kept for one slow viewer; more is read again when it goes on", AT(gateway_viewer_backlog_kb), NULL},
    {"gateway.viewer_idle_s", CONFIG_U32, "600", 1, HOUR_S * 24, "s", "a viewer that takes no byte for so long is closed", AT(gateway_viewer_idle_s), NULL},

    {"storage.driver", CONFIG_CHOICE, "sqlite", 0, 0, "", "sqlite: one auth-svc and one convo-svc; postgresql: any number of replicas", AT(storage_driver), storages},
    {"storage.postgresql.url", CONFIG_SECRET, "", 0, TEXT_MAX, "", "database of users and conversations: postgresql://user:password@host/name", AT(storage_postgresql_url), NULL},
    {"storage.postgresql.pool", CONFIG_U32, "4", 1, 64, "", "connections of one process that read; another one writes", AT(storage_postgresql_pool), NULL},

    {"sqlite.path", CONFIG_STRING, "./data/llm_backend.db", 1, TEXT_MAX, "", "database of conversations; users and secrets live beside it", AT(sqlite_path), NULL},
    {"sqlite.max_open_conns", CONFIG_U32, "10", 1, 1000, "", "database connections: one writes, the others read", AT(sqlite_max_open_conns), NULL},
    {"sqlite.max_idle_conns", CONFIG_U32, "5", 0, 1000, "", "reading connections that stay open when idle", AT(sqlite_max_idle_conns), NULL},
    {"sqlite.conn_max_lifetime", CONFIG_U32, "300", 0, YEAR_S, "s", "a reading connection is reopened after this; 0: never", AT(sqlite_conn_max_lifetime), NULL},

    {"redis.address", CONFIG_ADDRESS, "", 0, TEXT_MAX, "", "host:port of a Redis: a cache, and where all auth-svc count wrong passwords; empty: in memory, each alone", AT(redis_address), NULL},
    {"redis.password", CONFIG_SECRET, "", 0, TEXT_MAX, "", "its password", AT(redis_password), NULL},
    {"redis.db", CONFIG_U32, "0", 0, 65535, "", "its database", AT(redis_db), NULL},
    {"redis.ttl_s", CONFIG_U32, "3600", 1, YEAR_S, "s", "how long a conversation stays cached", AT(redis_ttl_s), NULL},

    {"jwt.secret", CONFIG_SECRET, "", 0, TEXT_MAX, "", "signs the tokens; 16 bytes or more, 32 are good; empty: made at first start", AT(jwt_secret), NULL},
    {"jwt.ttl_s", CONFIG_U32, "86400", 1, YEAR_S, "s", "how long a token is good", AT(jwt_ttl_s), NULL},

    {"auth.bcrypt_cost", CONFIG_U32, "10", 4, 15, "", "work of hashing a password; one more doubles it", AT(auth_bcrypt_cost), NULL},
    {"auth.bcrypt_threads", CONFIG_U32, "0", 0, 256, "", "threads that hash; 0: one per core it may use", AT(auth_bcrypt_threads), NULL},
    {"auth.bcrypt_queue", CONFIG_U32, "256", 1, 65536, "", "logins that may wait for them; more get 503", AT(auth_bcrypt_queue), NULL},
    {"auth.password_min", CONFIG_U32, "8", 1, 72, "bytes", "shortest password of a new user", AT(auth_password_min), NULL},
    {"auth.guess_limit", CONFIG_U32, "10", 1, 1000, "", "wrong passwords per user and address, before 429", AT(auth_guess_limit), NULL},
    {"auth.guess_window_s", CONFIG_U32, "300", 1, HOUR_S * 24, "s", "within this time", AT(auth_guess_window_s), NULL},
    {"auth.ticket_s", CONFIG_U32, "60", 1, HOUR_S, "s", "a stream must be opened so soon after its ticket was made", AT(auth_ticket_s), NULL},

    {"convo.system_prompt", CONFIG_TEXT, "You are a helpful assistant.", 0, PROMPT_MAX, "", "first message of every conversation; never shown", AT(convo_system_prompt), NULL},
    {"convo.seal_key", CONFIG_SECRET, "", 0, TEXT_MAX, "", "encrypts stored api keys: 32 bytes as hex or base64; empty: made at first start", AT(convo_seal_key), NULL},
    {"convo.cache_mb", CONFIG_U32, "32", 0, 65536, "MiB", "cache in memory: a quarter for lists, the rest for histories when there is no Redis; 0: none", AT(convo_cache_mb), NULL},
    {"convo.disconnect_stop_s", CONFIG_U32, "10", 1, HOUR_S, "s", "an answer asked with on_disconnect: stop ends when its last viewer has been gone for so long", AT(convo_disconnect_stop_s), NULL},

    {"llm.max_answer_bytes", CONFIG_U64, "16777216", 1, PROTO_ANSWER_MAX_BYTES, "bytes", "a longer answer ends there, with finish reason length", AT(llm_max_answer_bytes), NULL},

    {"bus.auth.bind", CONFIG_ENDPOINT, "tcp://127.0.0.1:7101", 1, TEXT_MAX, "", "where auth-svc listens", AT(bus_auth.bind), NULL},
    {"bus.auth.connect", CONFIG_ENDPOINTS, "tcp://127.0.0.1:7101", 1, TEXT_MAX, "", "where its callers find it: tcp://host:port, several by commas; a name stands for all its addresses", AT(bus_auth.connect), NULL},
    {"bus.convo.bind", CONFIG_ENDPOINT, "tcp://127.0.0.1:7102", 1, TEXT_MAX, "", "where convo-svc listens", AT(bus_convo.bind), NULL},
    {"bus.convo.connect", CONFIG_ENDPOINTS, "tcp://127.0.0.1:7102", 1, TEXT_MAX, "", "where its callers find it: tcp://host:port, several by commas; a name stands for all its addresses", AT(bus_convo.connect), NULL},
    {"bus.llm.bind", CONFIG_ENDPOINT, "tcp://127.0.0.1:7103", 1, TEXT_MAX, "", "where llm-svc listens", AT(bus_llm.bind), NULL},
    {"bus.llm.connect", CONFIG_ENDPOINTS, "tcp://127.0.0.1:7103", 1, TEXT_MAX, "", "where its callers find it: tcp://host:port, several by commas; a name stands for all its addresses", AT(bus_llm.connect), NULL},
    {"bus.tokens.bind", CONFIG_ENDPOINT, "tcp://127.0.0.1:7104", 1, TEXT_MAX, "", "where llm-svc publishes pieces of answers", AT(bus_tokens.bind), NULL},
    {"bus.tokens.connect", CONFIG_ENDPOINTS, "tcp://127.0.0.1:7104", 1, TEXT_MAX, "", "where gateways subscribe to them, likewise", AT(bus_tokens.connect), NULL},
    {"bus.gateway.bind", CONFIG_ENDPOINT, "tcp://127.0.0.1:7100", 0, TEXT_MAX, "", "where a gateway tells its counters; empty: nowhere", AT(bus_gateway_bind), NULL},
    {"bus.keys", CONFIG_STRING, "", 0, TEXT_MAX, "", "directory with the keys of the bus (scripts/make-keys): everything on it is encrypted, and only ours may come; empty: plain", AT(bus_keys), NULL},
    {"bus.insecure", CONFIG_BOOL, "false", 0, 0, "", "allow a bus off loopback without keys", AT(bus_insecure), NULL},

    {"admin.gateway", CONFIG_ADDRESS, "127.0.0.1:7110", 0, TEXT_MAX, "", "host:port where a gateway answers /healthz, /readyz and /metrics; empty: nowhere; no secrets are told, so it may be off loopback", AT(admin_gateway), NULL},
    {"admin.auth", CONFIG_ADDRESS, "127.0.0.1:7111", 0, TEXT_MAX, "", "the same of auth-svc", AT(admin_auth), NULL},
    {"admin.convo", CONFIG_ADDRESS, "127.0.0.1:7112", 0, TEXT_MAX, "", "the same of convo-svc", AT(admin_convo), NULL},
    {"admin.llm", CONFIG_ADDRESS, "127.0.0.1:7113", 0, TEXT_MAX, "", "the same of llm-svc", AT(admin_llm), NULL},

    {"log.format", CONFIG_CHOICE, "text", 0, 0, "", "text, or json (one object a line)", AT(log_format), log_formats},
    {"log.level", CONFIG_CHOICE, "info", 0, 0, "", "debug, info, warn or error", AT(log_level), log_levels},

    {"test.drop_token_frames", CONFIG_REAL, "0.0", 0, 1, "", "tests only: share of token frames that llm-svc drops", AT(test_drop_token_frames), NULL},
    {"test.plain_paths", CONFIG_BOOL, "false", 0, 0, "", "tests only: every special fast path is off, the general one serves", AT(test_plain_paths), NULL},
    {"test.debuggable", CONFIG_BOOL, "false", 0, 0, "", "tests only: debuggers may look into the process and it may dump core, with the secrets in its memory", AT(test_debuggable), NULL},
    {"test.die_at", CONFIG_STRING, "", 0, 64, "", "tests only: the process kills itself at this fault point; name or name:n", AT(test_die_at), NULL},
    {"test.hang_at", CONFIG_STRING, "", 0, 64, "", "tests only: the thread that comes to this fault point stands still for good; name or name:n", AT(test_hang_at), NULL},
    {"test.freeze_at", CONFIG_STRING, "", 0, 64, "", "tests only: the process stops itself (SIGSTOP) at this fault point; name or name:n", AT(test_freeze_at), NULL},
    {0},
};

const config_key_t svc_config_provider_keys[] = {
    {"providers[].name", CONFIG_STRING, "", 1, 64, "", "what it is called in logs and errors", OF_PROVIDER(is.name), NULL},
    {"providers[].models", CONFIG_LIST, "", 1, SVC_CONFIG_LIST_MAX, "", "patterns of model names that go there (* and ?); the first match of all providers wins", OF_PROVIDER(is.models), NULL},
    {"providers[].base_url", CONFIG_URL, "", 1, TEXT_MAX, "", "where /chat/completions is appended", OF_PROVIDER(is.base_url), NULL},
    {"providers[].api_key_env", CONFIG_STRING, "", 0, 256, "", "environment variable with the key for conversations that bring none", OF_PROVIDER(api_key_env), NULL},
    {"providers[].api_key", CONFIG_SECRET, "", 0, PROTO_API_KEY_MAX_BYTES, "", "that key itself; goes before the other two", OF_PROVIDER(is.api_key), NULL},
    {"providers[].api_key_file", CONFIG_STRING, "", 0, TEXT_MAX, "", "file with that key, read by llm-svc at its start and at SIGHUP; goes before api_key_env unless it is empty", OF_PROVIDER(is.api_key_file), NULL},
    {"providers[].ca_file", CONFIG_STRING, "", 0, TEXT_MAX, "", "certificates to trust; empty: the system's", OF_PROVIDER(is.ca_file), NULL},
    {"providers[].connect_s", CONFIG_U32, "5", 1, HOUR_S, "s", "longest wait for a connection", OF_PROVIDER(is.connect_s), NULL},
    {"providers[].first_byte_s", CONFIG_U32, "120", 1, HOUR_S, "s", "longest wait for the first byte of an answer", OF_PROVIDER(is.first_byte_s), NULL},
    {"providers[].idle_s", CONFIG_U32, "60", 1, HOUR_S, "s", "longest silence within an answer", OF_PROVIDER(is.idle_s), NULL},
    {0},
};
// clang-format on

static bool
is_number(const config_key_t *key)
{
    return key->type == CONFIG_U32 || key->type == CONFIG_U64 || key->type == CONFIG_REAL;
}

/* Writes the default as it would stand in the file. */
static void
format_default(const config_key_t *key, char *out, size_t size)
{
    bool bare = is_number(key) || key->type == CONFIG_BOOL || key->type == CONFIG_CHOICE;

    if (svc_config_is_list(key))
        (void)snprintf(out, size, key->value[0] == '\0' ? "[]" : "[\"%s\"]", key->value);
    else
        (void)snprintf(out, size, bare ? "%s" : "\"%s\"", key->value);
}

void
svc_config_print_help(FILE *out)
{
    const config_key_t *const tables[] = {svc_config_keys, svc_config_provider_keys};

    fprintf(
        out,
        "Keys of the configuration file (LLMB_SERVER_PORT in the environment overrides "
        "server.port,\nLLMB_SERVER_PORT_FILE reads it from a file; providers come from "
        "the file only):\n\n");
    for (size_t t = 0; t < SVC_COUNT(tables); t++)
        for (const config_key_t *key = tables[t]; key->path != NULL; key++) {
            char value[128];

            format_default(key, value, sizeof(value));
            fprintf(out, "  %-36s %s%s%s (%s)\n", key->path, key->help,
                    key->unit[0] == '\0' ? "" : ", in ", key->unit, value);
        }
}

void
svc_config_print_table(FILE *out)
{
    const config_key_t *const tables[] = {svc_config_keys, svc_config_provider_keys};

    fprintf(out, "| key | default | bounds | meaning |\n| --- | --- | --- | --- |\n");
    for (size_t t = 0; t < SVC_COUNT(tables); t++)
        for (const config_key_t *key = tables[t]; key->path != NULL; key++) {
            char value[128];
            char bounds[64] = "";

            format_default(key, value, sizeof(value));
            if (is_number(key))
                (void)snprintf(bounds, sizeof(bounds), "%" PRIu64 "..%" PRIu64 "%s%s",
                               key->min, key->max, key->unit[0] == '\0' ? "" : " ",
                               key->unit);
            fprintf(out, "| `%s` | `%s` | %s | %s |\n", key->path, value, bounds,
                    key->help);
        }
}
