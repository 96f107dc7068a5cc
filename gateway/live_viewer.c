/* live_viewer.c - the readers of a live feed: who there is, and the pages of those that are behind.
 *
 * A reader is woken when the feed has changed and reads the window for itself. One that
 * is behind the window pages in older text from the journal, for itself alone: what it
 * asks for costs the others nothing. Pages that do not come are asked for again at each
 * tick until gateway.reattach_s is over. */
#include "live_feed_private.h"

size_t
live_feed_join(live_feed_t *self, live_viewer_t *viewer)
{
    viewer->live = self;
    viewer->prev = NULL;
    viewer->next = self->viewers;
    if (self->viewers != NULL)
        self->viewers->prev = viewer;
    self->viewers = viewer;
    return ++self->n_viewers;
}

size_t
live_feed_leave(live_feed_t *self, live_viewer_t *viewer)
{
    svc_peers_forget(self->bus->convo, viewer->page_call);
    *(viewer->prev != NULL ? &viewer->prev->next : &self->viewers) = viewer->next;
    if (viewer->next != NULL)
        viewer->next->prev = viewer->prev;
    viewer->prev = viewer->next = NULL;
    viewer->page_call = viewer->page_since_ms = 0;
    viewer->live = NULL;
    return --self->n_viewers;
}

void
live_feed_move_viewers(live_feed_t *self, live_feed_t *to)
{
    while (self->viewers != NULL) {
        live_viewer_t *viewer = self->viewers;
        (void)live_feed_leave(self, viewer);
        (void)live_feed_join(to, viewer);
    }
}

void
live_viewers_tell(live_feed_t *self)
{
    for (live_viewer_t *viewer = self->viewers; viewer != NULL; viewer = viewer->next)
        viewer->changed(viewer->arg);
}

bool
live_viewers_are_near(const live_feed_t *self)
{
    for (const live_viewer_t *viewer = self->viewers; viewer != NULL;
         viewer = viewer->next)
        if (viewer->offset + FEED_WINDOW_KEEP_BYTES / 2 >= feed_end(self->feed))
            return true;
    return false;
}

void
live_viewer_moved(live_viewer_t *viewer, uint64_t offset)
{
    viewer->offset = offset;
    if (offset > viewer->live->shown)
        viewer->live->shown = offset;
    if (feed_has_gap(viewer->live->feed))
        live_feed_fetch(viewer->live);
}

/* --- pages -------------------------------------------------------------------------------- */

/* There is no such answer any more: the watch tells why. */
static void
on_why(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_viewer_t *viewer = arg;

    (void)rep;
    (void)error;
    svc_peers_forget(viewer->live->bus->convo, viewer->page_call); /* one reply is all */
    viewer->page_call = 0;
    viewer->gone = live_feed_why_gone(kind, rc);
    if (viewer->gone != RC_OK)
        viewer->changed(viewer->arg);
}

static void
on_page(void *arg, proto_kind kind, svc_rc rc, const void *rep, const error_rep_t *error)
{
    live_viewer_t *viewer = arg;
    const read_rep_t *page = rep;

    (void)error;
    viewer->page_call = 0;
    if (kind == PROTO_ERROR && rc == RC_NOT_FOUND &&
        live_feed_call_watch(viewer->live, on_why, viewer, &viewer->page_call) == RC_OK)
        return;
    if (kind == PROTO_ERROR || page->bytes.n == 0)
        return; /* the tick asks again until the viewer starves */
    viewer->page_since_ms = 0;
    live_feed_count(viewer->live, SVC_M_REPLAYED_BYTES, page->bytes.n);
    viewer->paged(viewer->arg, page->from, page->bytes);
}

static void
ask_for_page(live_viewer_t *viewer)
{
    if (viewer->page_call == 0 &&
        live_feed_call_read(viewer->live, viewer->page_from, on_page, viewer,
                            &viewer->page_call) != RC_OK)
        viewer->page_call = 0;
}

void
live_viewer_want_page(live_viewer_t *viewer, uint64_t from)
{
    if (viewer->page_since_ms > 0)
        return;
    viewer->page_from = from;
    viewer->page_since_ms = live_feed_now_ms(viewer->live);
    ask_for_page(viewer);
}

void
live_viewers_tick(live_feed_t *self, uint64_t now)
{
    for (live_viewer_t *viewer = self->viewers; viewer != NULL; viewer = viewer->next) {
        if (viewer->page_since_ms == 0 || viewer->gone != RC_OK)
            continue;
        ask_for_page(viewer);
        if (now - viewer->page_since_ms < live_feed_reattach_ms(self))
            continue;
        viewer->starved = true;
        viewer->changed(viewer->arg);
    }
}

void
live_viewers_forgive(live_feed_t *self, uint64_t now)
{
    for (live_viewer_t *viewer = self->viewers; viewer != NULL; viewer = viewer->next)
        if (viewer->page_since_ms > 0)
            viewer->page_since_ms = now;
}
