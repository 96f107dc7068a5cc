/* proto_ops.c - which operations may be asked once more when nobody knows whether they were done.
 *
 * svc_peers asks this when the replica that a request went to goes down before its first reply:
 * a request that is safe to ask again goes to another replica, the caller of any other is told at
 * once. Safe are those that change nothing, and those that carry a key by which the second one
 * is known as the first (a stream, a request key). PROTOCOL.md says it with each operation in the
 * words "Safe to ask again"; `make lint` compares the two. */
#include "proto.h"

typedef struct {
    const char *op;  /* OP_… */
    bool idempotent; /* safe to ask again */
} op_row_t;

// clang-format off
static const op_row_t rows[] = {
    {OP_SVC_HELLO,     false}, /* of a connection: never asked of another one */
    {OP_SVC_PING,      false}, /* likewise */
    {OP_SVC_STATS,     false}, /* of a process */
    {OP_AUTH_REGISTER, true},  /* by its key */
    {OP_AUTH_LOGIN,    true},
    {OP_AUTH_VERIFY,   true},
    {OP_AUTH_TICKET,   true},  /* another ticket is as good */
    {OP_AUTH_REDEEM,   true},  /* a ticket may be used more than once */
    {OP_CONVO_CREATE,  true},  /* by its key */
    {OP_CONVO_LIST,    true},
    {OP_CONVO_HISTORY, true},
    {OP_CONVO_DELETE,  false}, /* the second one would not find it */
    {OP_CONVO_ASK,     true},  /* by its stream */
    {OP_CONVO_WATCH,   true},
    {OP_CONVO_READ,    true},
    {OP_CONVO_TAIL,    false}, /* for the owner of the answer alone */
    {OP_CONVO_STOP,    true},
    {OP_CONVO_RETRY,   true},  /* by its stream */
    {OP_CONVO_ACTIVE,  true},
    {OP_CONVO_UNWATCH, false}, /* as convo.tail */
    {OP_LLM_GENERATE,  false}, /* two would write */
    {OP_LLM_ATTACH,    false}, /* for the one that has the generation, as the next two */
    {OP_LLM_ACK,       false},
    {OP_LLM_STOP,      false},
    {OP_LLM_REPLAY,    true},
    {OP_LLM_MODELS,    true},
};
// clang-format on

bool
proto_op_is_idempotent(const char *op)
{
    for (size_t i = 0; i < SVC_COUNT(rows); i++)
        if (strcmp(rows[i].op, op) == 0)
            return rows[i].idempotent;
    return false;
}
