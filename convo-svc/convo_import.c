/* convo_import.c - convo-svc --import-original: the conversations of the original backend, with their ids.
 *
 * One conversation is one transaction by the store's own seam: created, each question added, its answer journaled in pieces and
 * ended, as if all of it had happened here. So whatever looks at it later finds nothing special, and a run that is cut off
 * leaves whole conversations. They come in the order in which they were made: equal times sort by insertion. */
#include "convo_import.h"

#include "convo.h"
#include "convo_writer_private.h"
#include "import_body.h"
#include "import_redis.h"

#include "proto/utf8.h"
#include "svc/svc_db_lock.h"
#include "svc/svc_main.h"
#include "svc/svc_original.h"
#include "svc/svc_time.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE_BYTES (64u << 10) /* of an answer's text: a page */
#define UNANSWERED  "the original has no answer to this question"
#define BUSY_TRIES  5

/* Times are numbers, or texts in one of SQLite's forms (Go's has nine digits of a second and maybe a zone). */
#define SQL_CONVERSATIONS                                                                      \
    "SELECT id, title, typeof(user_id) = 'integer', user_id,"                                  \
    " CASE WHEN typeof(create_time) IN ('integer', 'real') THEN create_time"                   \
    "  WHEN create_time NOT GLOB '*[^0-9]*' THEN create_time"                                  \
    "  ELSE coalesce(strftime('%s', create_time), strftime('%s', substr(create_time, 1, 19)))" \
    " END FROM conversations ORDER BY 5, rowid"
#define SQL_KNOWN "SELECT 1 FROM conversations WHERE id = ?1"

typedef struct {
    const svc_config_t *config; /* borrowed */
    uint64_t instance;
    convo_store_t *store; /* owned; NULL: a dry run, and there is none yet */
    seal_t seal;          /* not loaded in a dry run */
    import_redis_t *redis;
    sqlite3 *db; /* the original's */
    sqlite3_stmt *known;
    svc_user_map_t users;
    svc_buf_t json, sealed;
    bool is_dry;
    bool failed;                                    /* *error of the run is set */
    char **error;                                   /* of the run */
    uint64_t found, added, there, refused, changed; /* conversations */
    uint64_t messages;                              /* brought over */
    uint64_t prompts; /* conversations with a system prompt of their own */
} import_t;

/* One row of the original's table. */
typedef struct {
    char name[SVC_ORIGINAL_NAME_BYTES]; /* its id, to be shown */
    svc_str text_id, title;
    uint64_t id;
    uint64_t owner; /* ours */
    uint64_t created_s;
} row_t;

/* What is here already under an id. */
typedef struct {
    uint64_t user, last_message;
} present_t;

static void
refuse(import_t *self, const row_t *row, const char *why)
{
    printf("conversation %s: not brought over: %s\n", row->name, why);
    self->refused++;
}

static bool
fail(import_t *self, const char *what, svc_rc rc)
{
    if (!self->failed && *self->error == NULL)
        SVC_ASSERT(
            asprintf(self->error,
                     "%s (%s); what is there stays, run it again when that is mended",
                     what, svc_rc_info(rc)->wire) >= 0);
    self->failed = true;
    return false;
}

/* --- writing ----------------------------------------------------------------------------- */

static svc_rc
note_present(void *arg, const conversation_row_t *row)
{
    *(present_t *)arg = (present_t){row->user, row->last_message};
    return RC_OK;
}

static svc_rc
add_conversation(import_t *self, const row_t *row, const import_body_t *body)
{
    svc_str title = body->has_title ? body->title : row->title;
    const conversation_row_t conversation = {
        .id = row->id,
        .user = row->owner,
        .created_s = row->created_s,
        .version = writer_next_version(0),
        .title = {title.p, svc_utf8_valid(title.p, title.n < PROTO_TITLE_MAX_BYTES
                                                       ? title.n
                                                       : PROTO_TITLE_MAX_BYTES)},
        .model = body->model,
        .sealed_key = svc_buf_str(&self->sealed),
    };

    return self->store->api->conversation_add(self->store, &conversation);
}

/* Journals an answer's text in pieces of whole characters, and its end. */
static svc_rc
add_answer(import_t *self, svc_str stream, svc_str text)
{
    answer_step_t step = {
        .stream = stream, .term = 1, .fence = 1, .state = ANSWER_WAITING};
    svc_rc rc = RC_OK;

    while (rc == RC_OK && text.n > PIECE_BYTES) {
        step.bytes = (svc_str){text.p, svc_utf8_valid(text.p, PIECE_BYTES)};
        step.next_state = ANSWER_STREAMING;
        rc = self->store->api->answer_step(self->store, &step, 0);
        step.state = ANSWER_STREAMING;
        step.length += step.bytes.n;
        text.p += step.bytes.n;
        text.n -= step.bytes.n;
    }
    step.bytes = text;
    step.next_state = step.length + text.n > 0 ? ANSWER_COMPLETE : ANSWER_INTERRUPTED;
    if (step.next_state == ANSWER_COMPLETE) {
        step.finish = SVC_LIT("stop");
    } else {
        step.reason = svc_str_c(svc_rc_info(RC_LOST)->wire);
        step.text = SVC_LIT(UNANSWERED);
    }
    return rc == RC_OK
               ? self->store->api->answer_step(self->store, &step, writer_next_version(0))
               : rc;
}

static svc_rc
add_turn(import_t *self, const row_t *row, const import_turn_t *turn)
{
    static const uint8_t no_hash[WRITER_HASH_BYTES];
    uint8_t stream[PROTO_STREAM_BYTES];
    uint64_t message;
    const answer_row_t answer = {
        .stream = {(const char *)stream, sizeof(stream)},
        .conversation = row->id,
        .term = 1,
        .fence = 1,
        .attempt = 1,
        .owner = self->instance,
        .asked_ms = row->created_s * 1000,
        .question_bytes = turn->question.n,
        .body_hash = {(const char *)no_hash, sizeof(no_hash)},
    };
    svc_rc rc;

    svc_random(stream, sizeof(stream));
    rc = self->store->api->question_add(self->store, &answer, turn->question,
                                        writer_next_version(0), &message);
    return rc == RC_OK ? add_answer(self, answer.stream, turn->answer) : rc;
}

/* Writes a conversation, all of it or nothing. RC_CONFLICT: the id has been taken in this moment. */
static svc_rc
write_once(import_t *self, const row_t *row, const import_body_t *body)
{
    const convo_store_api_t *api = self->store->api;
    svc_rc rc = api->begin(self->store, true);

    if (rc != RC_OK)
        return rc;
    rc = add_conversation(self, row, body);
    for (size_t i = 0; i < body->n && rc == RC_OK; i++)
        rc = add_turn(self, row, &body->turns[i]);
    if (rc == RC_OK)
        return api->commit(self->store);
    api->rollback(self->store);
    return rc;
}

static svc_rc
write_conversation(import_t *self, const row_t *row, const import_body_t *body)
{
    svc_rc rc;

    svc_buf_clear(&self->sealed);
    rc = seal_close(&self->seal, body->api_key, &self->sealed);
    if (rc == RC_OK)
        rc = RC_BUSY;
    for (int i = 0; i < BUSY_TRIES && rc == RC_BUSY; i++)
        rc = write_once(self, row, body);
    if (rc == RC_OK)
        self->store->api->tidy(self->store);
    return rc;
}

/* --- reading ----------------------------------------------------------------------------- */

/* Fetches and reads what Redis has. False: refused, or the run has failed. */
static bool
read_body(import_t *self, const row_t *row, import_body_t *body)
{
    svc_rc rc = import_redis_get(self->redis, row->text_id, &self->json, self->error);
    const char *why = rc == RC_NOT_FOUND ? "Redis has nothing of it"
                      : rc == RC_INVALID ? "what Redis has of it is no string"
                      : rc == RC_TOO_BIG ? "what Redis has of it is larger than 64 MiB"
                                         : NULL;

    if (rc == RC_UNAVAILABLE)
        self->failed = true;
    else if (why == NULL)
        why = import_body_parse(body, svc_buf_str(&self->json), row->id);
    if (why != NULL)
        refuse(self, row, why);
    return why == NULL && !self->failed;
}

/* Tells what is not as it was. */
static void
tell_changes(import_t *self, const row_t *row, const import_body_t *body)
{
    bool has_long_title = (body->has_title ? body->title : row->title).n >
                          PROTO_TITLE_MAX_BYTES;

    if (body->left_out > 0)
        printf(
            "conversation %s: %zu of its messages left out: no question and no answer, "
            "no text, or an answer to nothing\n",
            row->name, body->left_out);
    if (body->unanswered > 0)
        printf("conversation %s: %zu of its questions have no answer: they get an empty "
               "one, \"interrupted\"\n",
               row->name, body->unanswered);
    if (body->joined > 0)
        printf("conversation %s: %zu of its answers are joined to the one before\n",
               row->name, body->joined);
    if (has_long_title)
        printf("conversation %s: its title is cut at %d bytes\n", row->name,
               PROTO_TITLE_MAX_BYTES);
    self->changed += body->left_out + body->unanswered + body->joined > 0 ||
                     has_long_title;
    self->prompts += body->system_prompt.n > 0 &&
                     !svc_str_eq(body->system_prompt,
                                 svc_str_c(self->config->convo_system_prompt));
}

/* A conversation that is here already: of the same owner it is what was brought over before. */
static bool
compare(import_t *self, const row_t *row, const present_t *present)
{
    import_body_t body = {0};

    if (row->owner != present->user) {
        refuse(self, row, "its id is taken here by a conversation of somebody else");
        return true;
    }
    self->there++;
    if (import_redis_get(self->redis, row->text_id, &self->json, self->error) == RC_OK &&
        import_body_parse(&body, svc_buf_str(&self->json), row->id) == NULL &&
        body.n * 2 > present->last_message)
        printf("conversation %s: is here already with %" PRIu64
               " messages and stays so; the original has more\n",
               row->name, present->last_message);
    import_body_fini(&body);
    self->failed = *self->error != NULL;
    return !self->failed;
}

static bool
bring_over(import_t *self, const row_t *row)
{
    import_body_t body = {0};
    svc_rc rc = RC_OK;

    if (read_body(self, row, &body)) {
        row_t dated = *row;

        if (body.created_s != 0)
            dated.created_s = body.created_s;
        if (dated.created_s == 0)
            dated.created_s = svc_unix_ms() / 1000;
        if (!self->is_dry)
            rc = write_conversation(self, &dated, &body);
        if (rc == RC_OK) {
            self->added++;
            self->messages += body.n * 2;
            tell_changes(self, row, &body);
        } else if (rc == RC_CONFLICT) {
            refuse(self, row, "its id has just been taken here");
        } else {
            (void)fail(self, "the database refuses conversations", rc);
        }
    }
    import_body_fini(&body);
    return !self->failed;
}

/* Takes one row: found here, brought over, or refused. */
static bool
take(import_t *self, row_t *row, bool has_owner, uint64_t theirs)
{
    present_t present;
    svc_rc rc = RC_NOT_FOUND;

    self->found++;
    svc_original_name(row->text_id, row->name);
    row->id = import_id(row->text_id);
    if (row->id == 0)
        refuse(self, row, "its id is no number from 1 to 9007199254740991");
    else if (svc_utf8_valid(row->title.p, row->title.n) != row->title.n)
        refuse(self, row, "its title is no valid UTF-8");
    else if (!has_owner || !svc_user_map_find(&self->users, theirs, &row->owner))
        refuse(self, row, "its owner is none of the users that were brought over");
    else {
        if (self->store != NULL)
            rc = self->store->api->conversation_get(self->store, row->id, note_present,
                                                    &present);
        if (rc == RC_OK)
            return compare(self, row, &present);
        return rc == RC_NOT_FOUND ? bring_over(self, row)
                                  : fail(self, "the database cannot be read", rc);
    }
    return true;
}

static bool
read_conversations(import_t *self, const char *path)
{
    sqlite3_stmt *q = svc_original_query(self->db, path, SQL_CONVERSATIONS, self->error);
    bool good = q != NULL;
    int step = SQLITE_DONE;

    while (good && (step = sqlite3_step(q)) == SQLITE_ROW) {
        row_t row = {.text_id = svc_original_text(q, 0),
                     .title = svc_original_text(q, 1),
                     .created_s = import_time(sqlite3_column_int64(q, 4))};

        good = take(self, &row, sqlite3_column_int(q, 2) != 0,
                    (uint64_t)sqlite3_column_int64(q, 3));
        if (good && svc_main_is_told_to_end()) {
            *self->error = svc_str_dup(SVC_LIT("interrupted; run it again to go on"));
            good = false;
        }
    }
    if (good && step != SQLITE_DONE) {
        SVC_ASSERT(asprintf(self->error, "%s: %s", path, sqlite3_errmsg(self->db)) >= 0);
        good = false;
    }
    (void)sqlite3_finalize(q);
    return good;
}

/* Tells of a key of Redis that the table does not know: a conversation without owner. */
static bool
look_for_owner(void *arg, svc_str id)
{
    import_t *self = arg;
    row_t row = {.text_id = id};

    if (sqlite3_bind_text(self->known, 1, id.p, (int)id.n, SQLITE_TRANSIENT) ==
            SQLITE_OK &&
        sqlite3_step(self->known) != SQLITE_ROW) {
        svc_original_name(id, row.name);
        self->found++;
        refuse(self, &row, "it is in Redis only, and nobody owns it");
    }
    (void)sqlite3_reset(self->known);
    return true;
}

/* --- the run ----------------------------------------------------------------------------- */

/* Opens our own store to write, with the key for api keys. */
static bool
open_store(import_t *self, svc_ctx_t *ctx, const convo_place_t *place)
{
    svc_rc rc;

    if (seal_load(&self->seal, ctx->config, self->error) != RC_OK)
        return false;
    self->store = convo_store_open(place, STORE_WRITE_PLAIN, ctx->log, self->error);
    if (self->store == NULL)
        return false;
    rc = self->store->api->begin(self->store, true);
    if (rc == RC_OK) {
        rc = seal_check(&self->seal, self->store);
        if (rc == RC_OK)
            rc = self->store->api->commit(self->store);
        else
            self->store->api->rollback(self->store);
    }
    return rc == RC_OK ||
           fail(self,
                rc == RC_INVALID ? "the database was written with another seal key"
                                 : "the database cannot be written",
                rc);
}

/* Opens it to read, if there is one. */
static bool
open_store_to_read(import_t *self, const convo_place_t *place)
{
    svc_rc rc;

    if (place->driver == SVC_STORAGE_SQLITE && access(place->path, F_OK) != 0)
        return true;
    self->store = convo_store_open(place, STORE_READ, NULL, self->error);
    if (self->store == NULL)
        return false;
    rc = self->store->api->meta_get(self->store, "seal_check", &self->sealed);
    if (rc == RC_UNAVAILABLE)
        return fail(self, "the database does not answer", rc);
    if (rc == RC_INTERNAL) /* a server on which convo-svc has never run has no tables */
        convo_store_destroy(&self->store);
    return true;
}

static void
report(const import_t *self, const char *service)
{
    if (self->prompts > 0)
        printf("%" PRIu64 " conversations had another system prompt: from now on it is "
               "convo.system_prompt of the configuration\n",
               self->prompts);
    printf("%s: %" PRIu64 " conversations: %" PRIu64 " %s (%" PRIu64 " messages; %" PRIu64
           " not just as they were), %" PRIu64 " were here already, %" PRIu64 " %s\n",
           service, self->found, self->added,
           self->is_dry ? "would be brought over" : "brought over", self->messages,
           self->changed, self->there, self->refused,
           self->is_dry ? "cannot be" : "could not be");
}

static bool
run(import_t *self, svc_ctx_t *ctx, char *const *args)
{
    const convo_place_t place = {.driver = ctx->config->storage_driver,
                                 .path = ctx->config->sqlite_path,
                                 .url = ctx->config->storage_postgresql_url};

    self->db = svc_original_open(args[0], self->error);
    if (self->db == NULL || !svc_user_map_read(&self->users, args[2], self->error))
        return false;
    self->known = svc_original_query(self->db, args[0], SQL_KNOWN, self->error);
    if (self->known != NULL)
        self->redis = import_redis_open(args[1], getenv(CONVO_IMPORT_PASSWORD_ENV),
                                        self->error);
    return self->redis != NULL &&
           (self->is_dry ? open_store_to_read(self, &place)
                         : open_store(self, ctx, &place)) &&
           read_conversations(self, args[0]) &&
           import_redis_each(self->redis, look_for_owner, self, self->error);
}

bool
convo_import(svc_ctx_t *ctx, char *const *args, size_t n, char **error)
{
    const bool is_sqlite = ctx->config->storage_driver == SVC_STORAGE_SQLITE;
    import_t self = {.config = ctx->config,
                     .instance = ctx->instance,
                     .is_dry = n > 3,
                     .error = error};
    int lock = -1;
    bool good;

    if (n > 3 && strcmp(args[3], "dry-run") != 0) {
        SVC_ASSERT(asprintf(error, "%s: \"dry-run\" was expected", args[3]) >= 0);
        return false;
    }
    if (!convo_check_config(ctx->config, error))
        return false;
    if (is_sqlite && !self.is_dry) {
        lock = svc_db_lock_take_idle(ctx->config->sqlite_path, ctx->service, "import",
                                     error);
        if (lock < 0)
            return false;
    }
    svc_buf_init(&self.json, IMPORT_BODY_MAX_BYTES);
    svc_buf_init(&self.sealed, SEAL_MAX_BYTES);
    good = run(&self, ctx, args);
    if (good)
        report(&self, ctx->service);
    convo_store_destroy(&self.store);
    import_redis_close(&self.redis);
    (void)sqlite3_finalize(self.known);
    (void)sqlite3_close(self.db);
    svc_user_map_fini(&self.users);
    svc_buf_fini(&self.json);
    svc_buf_fini(&self.sealed);
    svc_db_lock_release(&lock);
    return good;
}
