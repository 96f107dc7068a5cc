/* svc_config_file.h - reads config.yaml into the struct, key by key.
 *
 * Private to svc_config.c. Knows YAML and the table of keys, and nothing of the environment or of
 * checks that concern several keys. Remembers where each value stood, for the messages of those
 * checks. */
#ifndef SVC_SVC_CONFIG_FILE_H
#define SVC_SVC_CONFIG_FILE_H

#include "svc_config_keys.h"

/* Where the values came from. */
typedef struct {
    const char *name;                  /* of the file, borrowed */
    size_t line[CONFIG_KEYS_MAX];      /* by row of the table; 0: not in the file */
    svc_str variable[CONFIG_KEYS_MAX]; /* of the environment, borrowed; empty: none */
    config_provider_t *providers;      /* owned */
    size_t n_providers;                /* count */
    bool has_providers; /* the file has the key, even if the list is empty */
} config_source_t;

/* Reads the whole file into *config. False: *error_p (free() it) is one line with file and line. */
bool svc_config_read_file(svc_config_t *config, config_source_t *source, svc_str yaml,
                          char **error_p);

/* Appends a provider with its defaults to source->providers (at most SVC_CONFIG_PROVIDERS_MAX; NULL: full). */
config_provider_t *svc_config_add_provider(config_source_t *source, size_t line);

/* The row of the key called `path`, NULL when there is none. */
const config_key_t *svc_config_find_key(const config_key_t *keys, const char *path);

/* The known name (of a key or a section) that looks most like `path`; NULL when none does. */
const char *svc_config_similar(const config_key_t *keys, const char *path);

#endif
