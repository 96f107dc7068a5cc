/* clean_env.h - whoever runs the tests may have variables of ours set: they are not for these tests.
 *
 * The runner itself sets some (LLMB_STORY_SLOW), and any that is no key is refused by the
 * configuration. Included by tests that read the environment. */
#ifndef TESTS_UNIT_SVC_CLEAN_ENV_H
#define TESTS_UNIT_SVC_CLEAN_ENV_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Removes all variables that begin with LLMB_. */
static inline void
clean_env(void)
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

#endif
