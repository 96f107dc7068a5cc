/* fuzz_config.c - any bytes as a configuration file: an error in one line, or a whole configuration.
 *
 * What is accepted is asked for everything a service would ask, so that a value which slipped
 * through half read is found. */
#include "svc/svc_config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    char *error = NULL;
    svc_config_t *config = svc_config_parse((svc_str){(const char *)bytes, n},
                                            "fuzz.yaml", false, &error);

    if (config == NULL) {
        SVC_ASSERT(error != NULL && strchr(error, '\n') == NULL);
        free(error);
        return 0;
    }
    SVC_ASSERT(error == NULL && config->server_port != 0 &&
               config->sqlite_path[0] != '\0');
    for (size_t i = 0; i < config->n_providers; i++)
        SVC_ASSERT(config->providers[i].name[0] != '\0' &&
                   config->providers[i].models.n > 0);
    free(svc_config_users_path(config));
    svc_config_destroy(&config);
    return 0;
}
