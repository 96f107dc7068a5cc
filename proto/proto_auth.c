/* proto_auth.c - the fields of auth.*: users, passwords, tokens.
 *
 * The bounds here keep messages small; what a good username or password is, auth-svc judges. A
 * token to be verified may be any bytes: what cannot be a token is a 401, not an error of form.
 * What the fields mean stands in proto.h and PROTOCOL.md. */
#include "proto.h"

// clang-format off
static const proto_field_t register_req_fields[] = {
    /* key       type       must  min max                       where sub */
    {"username", PROTO_STR, true, 0,  PROTO_USERNAME_MAX_BYTES, offsetof(register_req_t, username), NULL},
    {"password", PROTO_STR, true, 0,  PROTO_PASSWORD_MAX_BYTES, offsetof(register_req_t, password), NULL},
    {"key",      PROTO_BIN, false, 0, PROTO_KEY_MAX_BYTES,      offsetof(register_req_t, key), NULL},
};

const proto_schema_t register_req_schema = {
    "register_req", register_req_fields, SVC_COUNT(register_req_fields), sizeof(register_req_t)};

static const proto_field_t register_rep_fields[] = {
    /* key   type       must  min max           where sub */
    {"user", PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(register_rep_t, user), NULL},
};

const proto_schema_t register_rep_schema = {
    "register_rep", register_rep_fields, SVC_COUNT(register_rep_fields), sizeof(register_rep_t)};

static const proto_field_t login_req_fields[] = {
    /* key       type       must   min max                       where sub */
    {"username", PROTO_STR, true,  0,  PROTO_USERNAME_MAX_BYTES, offsetof(login_req_t, username), NULL},
    {"password", PROTO_STR, true,  0,  PROTO_PASSWORD_MAX_BYTES, offsetof(login_req_t, password), NULL},
    {"address",  PROTO_STR, false, 0,  PROTO_ADDRESS_MAX_BYTES,  offsetof(login_req_t, address), NULL},
};

const proto_schema_t login_req_schema = {
    "login_req", login_req_fields, SVC_COUNT(login_req_fields), sizeof(login_req_t)};

static const proto_field_t login_rep_fields[] = {
    /* key        type       must  min max                    where sub */
    {"token",     PROTO_STR, true, 1,  PROTO_TOKEN_MAX_BYTES, offsetof(login_rep_t, token), NULL},
    {"expires_s", PROTO_U64, true, 0,  PROTO_ID_MAX,          offsetof(login_rep_t, expires_s), NULL},
};

const proto_schema_t login_rep_schema = {
    "login_rep", login_rep_fields, SVC_COUNT(login_rep_fields), sizeof(login_rep_t)};

static const proto_field_t verify_req_fields[] = {
    /* key    type       must  min max                    where sub */
    {"token", PROTO_BIN, true, 0,  PROTO_TOKEN_MAX_BYTES, offsetof(verify_req_t, token), NULL},
};

const proto_schema_t verify_req_schema = {
    "verify_req", verify_req_fields, SVC_COUNT(verify_req_fields), sizeof(verify_req_t)};

static const proto_field_t verify_rep_fields[] = {
    /* key        type       must  min max           where sub */
    {"user",      PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(verify_rep_t, user), NULL},
    {"expires_s", PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(verify_rep_t, expires_s), NULL},
};

const proto_schema_t verify_rep_schema = {
    "verify_rep", verify_rep_fields, SVC_COUNT(verify_rep_fields), sizeof(verify_rep_t)};

static const proto_field_t ticket_req_fields[] = {
    /* key           type       must  min max           where sub */
    {"user",         PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(ticket_req_t, user), NULL},
    {"conversation", PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(ticket_req_t, conversation), NULL},
    {"expires_s",    PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(ticket_req_t, expires_s), NULL},
};

const proto_schema_t ticket_req_schema = {
    "ticket_req", ticket_req_fields, SVC_COUNT(ticket_req_fields), sizeof(ticket_req_t)};

static const proto_field_t ticket_rep_fields[] = {
    /* key           type       must  min max                     where sub */
    {"ticket",       PROTO_STR, true, 1,  PROTO_TICKET_MAX_BYTES, offsetof(ticket_rep_t, ticket), NULL},
    {"expires_in_s", PROTO_U64, true, 0,  PROTO_ID_MAX,           offsetof(ticket_rep_t, expires_in_s), NULL},
};

const proto_schema_t ticket_rep_schema = {
    "ticket_rep", ticket_rep_fields, SVC_COUNT(ticket_rep_fields), sizeof(ticket_rep_t)};

static const proto_field_t redeem_req_fields[] = {
    /* key     type       must  min max                     where sub */
    {"ticket", PROTO_BIN, true, 0,  PROTO_TICKET_MAX_BYTES, offsetof(redeem_req_t, ticket), NULL},
};

const proto_schema_t redeem_req_schema = {
    "redeem_req", redeem_req_fields, SVC_COUNT(redeem_req_fields), sizeof(redeem_req_t)};

static const proto_field_t redeem_rep_fields[] = {
    /* key           type       must  min max           where sub */
    {"user",         PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(redeem_rep_t, user), NULL},
    {"conversation", PROTO_U64, true, 1,  PROTO_ID_MAX, offsetof(redeem_rep_t, conversation), NULL},
    {"open_until_s", PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(redeem_rep_t, open_until_s), NULL},
    {"expires_s",    PROTO_U64, true, 0,  PROTO_ID_MAX, offsetof(redeem_rep_t, expires_s), NULL},
};

const proto_schema_t redeem_rep_schema = {
    "redeem_rep", redeem_rep_fields, SVC_COUNT(redeem_rep_fields), sizeof(redeem_rep_t)};
// clang-format on
