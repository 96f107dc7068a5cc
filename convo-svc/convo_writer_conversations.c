/* convo_writer_conversations.c - what the writer does to conversations: create, delete, and who owns one.
 *
 * Owner and state are looked at inside the transaction, so what is decided by them cannot be outdated when it is committed.
 * A conversation that was created with a key is found again by it, as long as it is there. What is deleted is gone with all
 * that hangs on it. Thread: the writer's. */
#include "convo_writer_private.h"

#include "svc/svc_time.h"

#include <sodium.h>

#define ID_TRIES 8 /* of a random conversation id; one is enough, if it is random */

uint64_t
writer_next_version(uint64_t version)
{
    return version + 1 + (svc_random_u64() & 0xfffff);
}

static svc_rc
check_owner(void *arg, const conversation_row_t *row)
{
    writer_owned_t *own = arg;

    if (row->user != own->user)
        return RC_NOT_FOUND;
    own->version = row->version;
    own->last_message = row->last_message;
    own->turns = row->turns;
    own->turn_bytes = row->turn_bytes;
    own->answering = row->answering;
    if (row->model.n > sizeof(own->model) || row->sealed_key.n > sizeof(own->sealed))
        return RC_INTERNAL;
    own->model_n = row->model.n;
    if (row->model.n > 0)
        memcpy(own->model, row->model.p, row->model.n);
    own->sealed_n = row->sealed_key.n;
    if (row->sealed_key.n > 0)
        memcpy(own->sealed, row->sealed_key.p, row->sealed_key.n);
    return RC_OK;
}

svc_rc
writer_get_owned(writer_t *self, uint64_t conversation, uint64_t user,
                 writer_owned_t *own)
{
    own->user = user;
    return self->store->api->conversation_get(self->store, conversation, check_owner,
                                              own);
}

/* --- create ----------------------------------------------------------------------------------- */

/* What was asked with a key. The api key counts, too, so it is hashed with ours: nobody can try keys on the hash. */
static void
hash_create(const writer_t *self, const create_req_t *req, uint8_t out[WRITER_HASH_BYTES])
{
    const svc_str parts[] = {req->title, req->model, req->api_key};
    crypto_generichash_state hash;

    (void)crypto_generichash_init(&hash, self->workers->seal->key,
                                  sizeof(self->workers->seal->key), WRITER_HASH_BYTES);
    for (size_t i = 0; i < SVC_COUNT(parts); i++) {
        uint64_t n = parts[i].n;

        (void)crypto_generichash_update(&hash, (const unsigned char *)&n, sizeof(n));
        (void)crypto_generichash_update(&hash, (const unsigned char *)parts[i].p, n);
    }
    (void)crypto_generichash_final(&hash, out, WRITER_HASH_BYTES);
}

typedef struct {
    svc_str hash; /* of what is asked */
    create_rep_t rep;
} created_t;

static svc_rc
take_created(void *arg, const conversation_row_t *row)
{
    created_t *created = arg;

    if (!svc_str_eq(row->body_hash, created->hash))
        return RC_KEY_REUSED;
    created->rep = (create_rep_t){row->id, row->created_s};
    return RC_OK;
}

/* The conversation that was made with this key before. RC_NOT_FOUND: none. */
static svc_rc
find_created(writer_t *self, const conversation_row_t *row, create_rep_t *out)
{
    created_t created = {.hash = row->body_hash};
    svc_rc rc = row->key.n == 0
                    ? RC_NOT_FOUND
                    : self->store->api->conversation_of_key(
                          self->store, row->user, row->key, take_created, &created);

    if (rc == RC_OK) {
        *out = created.rep;
        svc_metrics_add(self->workers->metrics, SVC_M_KEYS_REPLAYED, 1);
    }
    return rc;
}

/* Adds a conversation under a random id; with a key that is known, finds the one that it made. Nearly every key is new, so that
 * is looked at when the row was refused. */
static svc_rc
add_conversation(writer_t *self, conversation_row_t *row, create_rep_t *out)
{
    svc_rc rc = RC_CONFLICT;

    for (int i = 0; i < ID_TRIES && rc == RC_CONFLICT; i++) {
        row->id = svc_random_u64() & PROTO_ID_MAX;
        rc = row->id == 0 ? RC_CONFLICT
                          : self->store->api->conversation_add(self->store, row);
        if (rc != RC_CONFLICT)
            break;
        rc = find_created(self, row, out);
        if (rc != RC_NOT_FOUND)
            return rc;
        rc = RC_CONFLICT;
    }
    *out = (create_rep_t){row->id, row->created_s};
    return rc == RC_CONFLICT ? RC_INTERNAL : rc;
}

svc_rc
writer_create(writer_t *self, const void *arg, svc_buf_t *out)
{
    const create_req_t *req = arg;
    uint8_t hash[WRITER_HASH_BYTES];
    create_rep_t rep;
    conversation_row_t row = {.user = req->user,
                              .title = req->title,
                              .model = req->model,
                              .created_s = svc_unix_ms() / 1000,
                              .version = writer_next_version(0),
                              .key = req->key};
    svc_buf_t sealed;
    svc_rc rc;

    if (req->key.n > 0) {
        hash_create(self, req, hash);
        row.body_hash = (svc_str){(const char *)hash, sizeof(hash)};
    }
    svc_buf_init(&sealed, SEAL_MAX_BYTES);
    rc = seal_close(self->workers->seal, req->api_key, &sealed);
    row.sealed_key = svc_buf_str(&sealed);
    if (rc == RC_OK)
        rc = add_conversation(self, &row, &rep);
    svc_buf_fini(&sealed);
    return rc == RC_OK ? proto_encode(&create_rep_schema, &rep, out) : rc;
}

/* --- delete ----------------------------------------------------------------------------------- */

svc_rc
writer_delete(writer_t *self, const void *arg, svc_buf_t *out)
{
    const conversation_req_t *req = arg;
    writer_owned_t own;
    svc_rc rc = writer_get_owned(self, req->conversation, req->user, &own);

    if (rc == RC_OK)
        rc = self->store->api->conversation_remove(self->store, req->conversation);
    return rc == RC_OK ? svc_buf_add(out, &req->conversation, sizeof(req->conversation))
                       : rc;
}
