/* svc_config_keys.h - the table of configuration keys, and how a value is set from text.
 *
 * Private to svc_config*.c and their tests. One row says everything about a key: its name, type,
 * default (as it would stand in the file), bounds, unit, help and where its value lives. The
 * reader of the file, the environment, --help and the README's table all go by these rows. */
#ifndef SVC_SVC_CONFIG_KEYS_H
#define SVC_SVC_CONFIG_KEYS_H

#include "svc/svc_config.h"

typedef enum {
    CONFIG_STRING,    /* char *: one line of text */
    CONFIG_TEXT,      /* char *: text that may have several lines */
    CONFIG_SECRET,    /* char *: one line that is never shown */
    CONFIG_U32,       /* uint32_t */
    CONFIG_U64,       /* uint64_t */
    CONFIG_REAL,      /* double */
    CONFIG_BOOL,      /* bool */
    CONFIG_CHOICE,    /* int: index into `choices` */
    CONFIG_LIST,      /* svc_strings_t */
    CONFIG_CIDRS,     /* svc_strings_t of address ranges */
    CONFIG_LISTEN,    /* server_host and server_port */
    CONFIG_ENDPOINT,  /* char *: tcp://host:port, or (min 0) empty */
    CONFIG_ENDPOINTS, /* char *: one or more of them by commas, without spaces */
    CONFIG_ADDRESS,   /* char *: host:port, or empty */
    CONFIG_URL,       /* char *: http:// or https://, without trailing slashes */
} config_type;

typedef struct {
    const char *path;           /* "server.port"; a provider's: "providers[].name" */
    config_type type;           /* of the value */
    const char *value;          /* default, as text; items of lists by commas */
    uint64_t min, max;          /* inclusive: of numbers, and bytes of texts */
    const char *unit;           /* "s", "bytes", "" */
    const char *help;           /* one line */
    size_t where;               /* offsetof in svc_config_t, or config_provider_t */
    const char *const *choices; /* CONFIG_CHOICE: the names, NULL-terminated */
} config_key_t;

/* A provider while it is read. */
typedef struct {
    svc_provider_t is; /* what becomes of it */
    char *api_key_env; /* the variable that holds the key; "" : none */
    size_t line;       /* in the file, 0: built in */
} config_provider_t;

#define CONFIG_KEYS_MAX 96 /* rows of svc_config_keys at most; checked at start */

/* Rows end with path NULL. */
extern const config_key_t svc_config_keys[];
extern const config_key_t svc_config_provider_keys[];

/* Sets a value from text. False: nothing changed, *expected_p (free() it) is what would have been right: "a number from 1 to 10". */
bool svc_config_set(const config_key_t *key, void *base, svc_str text, char **expected_p);

/* Lists only: empties the list; appends one item, likewise. */
void svc_config_clear_list(const config_key_t *key, void *base);
bool svc_config_add_item(const config_key_t *key, void *base, svc_str text,
                         char **expected_p);

/* Sets all keys of `keys` in a zeroed struct to their defaults. */
void svc_config_set_defaults(const config_key_t *keys, void *base);

/* Frees what the values of `keys` own. */
void svc_config_release(const config_key_t *keys, void *base);

/* Have both structs the same value? */
bool svc_config_same(const config_key_t *key, const void *a, const void *b);

/* Gives `to` the value that `from` has (copied). */
void svc_config_copy(const config_key_t *key, void *to, const void *from);

/* Appends to a list. */
void svc_strings_add(svc_strings_t *self, svc_str item);

/* Frees the items and empties the list. */
void svc_strings_fini(svc_strings_t *self);

/* True when `endpoint` (tcp://host:port) can be reached from this machine only. */
bool svc_config_is_loopback(const char *endpoint);

/* True for a list type. */
bool svc_config_is_list(const config_key_t *key);

#endif
