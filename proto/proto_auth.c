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
// clang-format on
