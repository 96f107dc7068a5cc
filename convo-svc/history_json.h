/* history_json.h - pages of ready JSON: a user's conversations, and one conversation with its messages.
 *
 * The pages' bytes, one after another, are the body of the response: the first one opens it, the
 * last one closes it, and a long text may go over several pages (cut between two characters).
 * Called inside a read transaction. Reader's thread. */
#ifndef HISTORY_JSON_H
#define HISTORY_JSON_H

#include "convo_jobs.h"

#define HISTORY_JSON_PAGE_MIN_BYTES \
    (32u << 10) /* one item with all its characters escaped fits */

/* Appends a page of [{"conversation_id","title","created_time"}…], newest first, to `json` until about json->max.
 * *next_out: cursor of the next page, 0 after the last. Errors as the store's. */
svc_rc history_json_list(convo_store_t *store, const list_req_t *req, svc_buf_t *json,
                         uint64_t *next_out) SVC_MUST_CHECK;

/* Appends a page of {"conversation_id","title","model","messages":[…],"created_time"} to `json` until about json->max. Fills `out`
 * but for page.json. RC_NOT_FOUND: no such conversation of that user. */
svc_rc history_json_page(convo_store_t *store, const history_req_t *req, svc_buf_t *json,
                         history_job_t *out) SVC_MUST_CHECK;

#endif
