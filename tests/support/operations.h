/* operations.h - every operation of the bus by name, with its messages.
 *
 * For what speaks of all of them: bus_call, the tests of proto/ and the fuzz target. Services have
 * tables of their own, with handlers; test_protocol_md compares this one with PROTOCOL.md. */
#ifndef TESTS_SUPPORT_OPERATIONS_H
#define TESTS_SUPPORT_OPERATIONS_H

#include "proto/proto.h"

typedef struct {
    const char *op;            /* OP_… */
    const proto_schema_t *req; /* of its request */
    const proto_schema_t *rep; /* of its replies, NULL: never answered */
} operation_t;

// clang-format off
static const operation_t all_operations[] = {
    {OP_SVC_HELLO,     &hello_schema,            &hello_schema},
    {OP_SVC_PING,      &empty_schema,            &ping_rep_schema},
    {OP_SVC_STATS,     &empty_schema,            &stats_rep_schema},
    {OP_AUTH_REGISTER, &register_req_schema,     &register_rep_schema},
    {OP_AUTH_LOGIN,    &login_req_schema,        &login_rep_schema},
    {OP_AUTH_VERIFY,   &verify_req_schema,       &verify_rep_schema},
    {OP_AUTH_TICKET,   &ticket_req_schema,       &ticket_rep_schema},
    {OP_AUTH_REDEEM,   &redeem_req_schema,       &redeem_rep_schema},
    {OP_CONVO_CREATE,  &create_req_schema,       &create_rep_schema},
    {OP_CONVO_LIST,    &list_req_schema,         &list_rep_schema},
    {OP_CONVO_HISTORY, &history_req_schema,      &history_rep_schema},
    {OP_CONVO_DELETE,  &conversation_req_schema, &empty_schema},
    {OP_CONVO_ASK,     &ask_req_schema,          &status_rep_schema},
    {OP_CONVO_WATCH,   &watch_req_schema,        &status_rep_schema},
    {OP_CONVO_READ,    &read_req_schema,         &read_rep_schema},
    {OP_CONVO_TAIL,    &tail_req_schema,         &empty_schema},
    {OP_CONVO_STOP,    &watch_req_schema,        &status_rep_schema},
    {OP_CONVO_RETRY,   &retry_req_schema,        &status_rep_schema},
    {OP_CONVO_ACTIVE,  &active_req_schema,       &active_rep_schema},
    {OP_CONVO_UNWATCH, &unwatch_req_schema,      NULL},
    {OP_LLM_GENERATE,  &generate_req_schema,     &journal_rep_schema},
    {OP_LLM_ATTACH,    &attach_req_schema,       &journal_rep_schema},
    {OP_LLM_ACK,       &ack_req_schema,          NULL},
    {OP_LLM_STOP,      &llm_stop_req_schema,     &empty_schema},
    {OP_LLM_REPLAY,    &replay_req_schema,       &replay_rep_schema},
    {OP_LLM_MODELS,    &empty_schema,            &models_rep_schema},
};
// clang-format on

#endif
