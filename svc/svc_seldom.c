/* svc_seldom.c - a line of the log that may come too often: a window of a minute for each.
 *
 * A window begins with the first that is asked for after the last one has ended, so that what is
 * rare is told at once. Windows do not slide: a burst at the end of one and another at the
 * beginning of the next are both told. */
#include "svc_seldom.h"

bool
svc_seldom(svc_seldom_t *self, unsigned max, uint64_t now_ms, uint64_t *untold)
{
    if (self->began_ms == 0 || now_ms - self->began_ms >= SVC_SELDOM_MS) {
        self->began_ms = now_ms == 0 ? 1 : now_ms;
        self->told = 0;
    }
    if (self->told >= max) {
        self->untold++;
        return false;
    }
    if (untold != NULL)
        *untold = self->untold;
    self->told++;
    self->untold = 0;
    return true;
}
