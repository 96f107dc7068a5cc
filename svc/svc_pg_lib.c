/* svc_pg_lib.c - dlopen() of libpq and a table of what it has.
 *
 * Called by svc_pg_check_url, so before anything that uses a connection. The table is the process's, as the library is:
 * it is written once and never changes, nor is the library ever unloaded (what it loads itself would not survive that).
 * RTLD_LOCAL keeps its names away from ours and those of other libraries. A service that is configured for SQLite
 * never comes here. Threads: any. */
#include "svc/svc_pg_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_NAME "libpq.so.5"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pg_lib_t lib; /* written by load_once only */
static bool loaded;  /* likewise */
static char *why;    /* likewise: why it is not */

bool
pg_lib_fill(pg_lib_t *out, const char *file, char **error)
{
#define ROW(function) {#function, offsetof(pg_lib_t, function)},
    static const struct {
        const char *name;
        size_t at;
    } functions[] = {PG_LIB_FUNCTIONS(ROW)};
#undef ROW
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL), *address = handle;

    for (size_t i = 0; i < SVC_COUNT(functions) && address != NULL; i++) {
        address = dlsym(handle, functions[i].name);
        memcpy((char *)out + functions[i].at, &address, sizeof(address));
    }
    if (address == NULL) /* a missing function: a libpq before version 14 */
        SVC_ASSERT(asprintf(error, "storage.driver: postgresql needs libpq5%s: %s",
                            handle == NULL ? "" : " 14 or newer", dlerror()) >= 0);
    return address != NULL;
}

static void
load_once(void)
{
    loaded = pg_lib_fill(&lib, FILE_NAME, &why);
}

bool
pg_lib_load(char **error)
{
    SVC_ASSERT(pthread_once(&once, load_once) == 0);
    if (!loaded)
        *error = svc_str_dup(svc_str_c(why));
    return loaded;
}

const pg_lib_t *
pg_lib(void)
{
    return &lib;
}
