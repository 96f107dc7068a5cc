/* convo_store.c - the choice between the databases behind convo_store.h.
 *
 * Everything else knows a store by its functions only. SQLite serves one process and one machine, PostgreSQL any number of
 * both.
 * Thread: any; a store belongs to the one that opened it. */
#include "convo_store.h"

const char *
convo_place_name(const convo_place_t *self)
{
    return self->driver == SVC_STORAGE_POSTGRESQL ? "PostgreSQL" : self->path;
}

convo_store_t *
convo_store_open(const convo_place_t *place, store_use use, svc_log_t *log, char **error)
{
    if (place->driver == SVC_STORAGE_POSTGRESQL)
        return convo_store_postgresql_open(place, use, log, error);
    return convo_store_sqlite_open(place->path, use, log, error);
}
