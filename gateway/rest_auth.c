/* rest_auth.c - register and login.
 *
 * Both turn a small JSON body into one call of auth-svc, which judges names and
 * passwords. What is too long for a message to auth-svc gets the answer here that it
 * would get there: register explains the form, login has none, what cannot match is a
 * wrong password. */
#include "rest.h"
#include "svc/svc_secret.h"
#include "svc/svc_text.h"

#define ANSWER_MAX_BYTES (8u << 10) /* a token and its quotes */

json_in_t *
rest_read_body(request_t *self, const json_in_key_t *keys, size_t n)
{
    json_in_error_t error;
    json_in_t *json = json_in_parse(request_body(self), &error);

    if (json != NULL && json_in_read(json, keys, n, &error))
        return json;
    request_refuse_input(self, RC_INVALID, error.text, error.key);
    json_in_destroy(&json);
    return NULL;
}

/* Reads username and password, of any length that a body can have. */
static json_in_t *
read_credentials(request_t *self, svc_str *username, svc_str *password)
{
    const json_in_key_t keys[] = {
        {.key = "username", .required = true, .max_bytes = SIZE_MAX, .out = username},
        {.key = "password", .required = true, .max_bytes = SIZE_MAX, .out = password},
    };

    return rest_read_body(self, keys, SVC_COUNT(keys));
}

static void
on_registered(request_t *self, const void *rep)
{
    (void)rep;
    request_answer_text(self, MHD_HTTP_CREATED, TEXT_REGISTERED);
}

void
rest_register(request_t *self)
{
    register_req_t req = {.username = {NULL, 0}, .password = {NULL, 0}};
    uint8_t key[IDEM_KEY_RANDOM_BYTES]; /* asked twice by us, it is one registration */
    json_in_t *json = read_credentials(self, &req.username, &req.password);

    if (json == NULL)
        return;
    svc_random(key, sizeof key);
    req.key = (svc_str){(const char *)key, sizeof key};
    if (req.username.n == 0 || req.username.n > PROTO_USERNAME_MAX_BYTES)
        request_refuse(self, RC_INVALID_USERNAME, (svc_str){NULL, 0}, 0);
    else if (req.password.n == 0 || req.password.n > PROTO_PASSWORD_MAX_BYTES)
        request_refuse(self, RC_INVALID_PASSWORD, (svc_str){NULL, 0}, 0);
    else
        request_call(self, &(request_call_t){.peer = REACTOR_AUTH,
                                             .op = OP_AUTH_REGISTER,
                                             .req_schema = &register_req_schema,
                                             .req = &req,
                                             .rep_schema = &register_rep_schema,
                                             .on_reply = on_registered});
    json_in_destroy(&json);
}

static void
on_logged_in(request_t *self, const void *rep)
{
    const login_rep_t *login = rep;
    svc_buf_t json;

    svc_buf_init(&json, ANSWER_MAX_BYTES);
    bool ok = svc_buf_add_str(&json, SVC_LIT("{\"token\":")) == RC_OK &&
              svc_json_string(&json, login->token) == RC_OK &&
              svc_buf_add_str(&json, SVC_LIT("}")) == RC_OK;
    if (ok)
        request_answer(self, MHD_HTTP_OK, svc_buf_str(&json));
    else
        request_refuse(self, RC_INTERNAL, (svc_str){NULL, 0}, 0);
    svc_buf_fini(&json);
}

void
rest_login(request_t *self)
{
    char address[CLIENT_ADDR_TEXT_BYTES];
    login_req_t req = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    json_in_t *json = read_credentials(self, &req.username, &req.password);

    if (json == NULL)
        return;
    request_client(self, address);
    req.address = svc_str_c(address);
    if (req.username.n == 0 || req.username.n > PROTO_USERNAME_MAX_BYTES ||
        req.password.n == 0 || req.password.n > PROTO_PASSWORD_MAX_BYTES)
        request_refuse(self, RC_BAD_CREDENTIALS, (svc_str){NULL, 0}, 0);
    else
        request_call(self, &(request_call_t){.peer = REACTOR_AUTH,
                                             .op = OP_AUTH_LOGIN,
                                             .req_schema = &login_req_schema,
                                             .req = &req,
                                             .rep_schema = &login_rep_schema,
                                             .on_reply = on_logged_in});
    json_in_destroy(&json);
}
