/* test_tls_store.c - which certificates and keys are taken, what is said of others, and how new ones replace old ones.
 *
 * What is shown is seen by a client that shakes hands. */
#include "tls_fixture.h"

typedef struct {
    tls_files_t files;
    tls_store_t *store; /* of them */
} place_t;

static int
open_place(void **state)
{
    place_t *self = svc_alloc(sizeof *self);
    char *error = NULL;

    tls_files_open(&self->files);
    self->store = tls_store_new(self->files.cert, self->files.key, &error);
    assert_non_null(self->store);
    *state = self;
    return 0;
}

static int
close_place(void **state)
{
    place_t *self = *state;

    tls_store_destroy(&self->store);
    tls_files_close(&self->files);
    free(self);
    return 0;
}

/* Shakes hands with a session of the store; the client's view of who that is. */
static void
see(tls_store_t *store, char *name, size_t n)
{
    int pair[2];
    tls_cert_t *cert = NULL;
    tls_client_t client;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    gnutls_session_t session = tls_store_open(store, pair[0], &cert);
    assert_non_null(session);
    tls_client_open(&client, pair[1], NULL, NULL);
    for (int i = 0; i < 50 && !tls_client_shakes(&client); i++)
        (void)gnutls_handshake(session);
    assert_true(client.is_open);
    tls_client_seen(&client, name, n);
    tls_client_close(&client);
    gnutls_deinit(session);
    tls_cert_release(&cert);
    close(pair[0]);
    close(pair[1]);
}

static void
files_that_fit_are_shown_to_clients(void **state)
{
    place_t *self = *state;
    char name[64];
    char *text = tls_store_describe(self->store);

    assert_non_null(strstr(text, "the certificate of CN=first is good until 20"));
    assert_null(strstr(text, "not yet"));
    free(text);
    see(self->store, name, sizeof name);
    assert_string_equal(name, "CN=first");
}

/* Neither a start nor a reload takes these files; the error is one line that has `part` in it. */
static void
expect_refused(place_t *self, const char *cert, const char *key, const char *part)
{
    char *error = NULL, name[64];

    assert_null(tls_store_new(cert, key, &error));
    if (strstr(error, part) == NULL || strchr(error, '\n') != NULL)
        fail_msg("%s", error);
    free(error);
    error = NULL;
    assert_false(tls_store_reload(self->store, cert, key, &error));
    assert_non_null(strstr(error, part));
    free(error);
    see(self->store, name, sizeof name);
    assert_string_equal(name, "CN=first");
}

static void
files_that_cannot_be_read_are_refused(void **state)
{
    place_t *self = *state;
    const tls_files_t *files = &self->files;
    char other[TLS_PATH_BYTES];

    expect_refused(self, "/nowhere.pem", files->key,
                   "server.tls.cert: cannot read /nowhere.pem: No such file");
    expect_refused(self, files->cert, "/nowhere.pem",
                   "server.tls.key: cannot read /nowhere.pem: No such file");
    expect_refused(self, files->dir, files->key, "it is no file, or too large");
    tls_path(files, "other.pem", other);
    tls_write(other, "", 0);
    expect_refused(self, other, files->key, "it is empty");
    tls_write(other, "hello\n", 6);
    expect_refused(self, other, files->key, "holds no certificates in PEM");
    expect_refused(self, files->cert, other, "holds no private key in PEM");
    assert_int_equal(truncate(other, TLS_FILE_MAX_BYTES + 1), 0);
    expect_refused(self, files->cert, other, "too large");
    if (geteuid() != 0) {
        assert_int_equal(chmod(other, 0), 0);
        expect_refused(self, files->cert, other, "Permission denied");
    }
}

static void
what_nobody_could_use_is_refused(void **state)
{
    place_t *self = *state;
    const tls_files_t *files = &self->files;
    gnutls_x509_privkey_t key = tls_make_key();
    time_t now = time(NULL);
    char other[TLS_PATH_BYTES];

    tls_path(files, "other.pem", other);
    tls_write_key(other, key, NULL);
    expect_refused(self, files->cert, other, "does not fit the certificate in");
    tls_write_key(other, key, "secret");
    expect_refused(self, files->cert, other, "is encrypted");
    tls_write_cert(other, key, "old", now - 7200, now - 3600);
    expect_refused(self, other, files->key, "has expired on 20");
    gnutls_x509_privkey_deinit(key);
}

static void
one_that_is_not_good_yet_is_taken_with_a_word(void **state)
{
    place_t *self = *state;
    gnutls_x509_privkey_t key = tls_make_key();
    time_t now = time(NULL);
    char *error = NULL;

    tls_write_key(self->files.key, key, NULL);
    tls_write_cert(self->files.cert, key, "early", now + 3600, now + 7200);
    gnutls_x509_privkey_deinit(key);
    assert_true(tls_store_reload(self->store, self->files.cert, self->files.key, &error));
    char *text = tls_store_describe(self->store);
    assert_non_null(strstr(text, "CN=early"));
    assert_non_null(strstr(text, "but not yet"));
    free(text);
}

static void
who_comes_after_a_reload_sees_the_new_one_and_others_keep_theirs(void **state)
{
    place_t *self = *state;
    char *error = NULL, name[64];
    tls_cert_t *cert = NULL;
    gnutls_session_t session = tls_store_open(self->store, 0, &cert);

    assert_non_null(session);
    tls_renew(&self->files, "second");
    assert_true(tls_store_reload(self->store, self->files.cert, self->files.key, &error));
    see(self->store, name, sizeof name);
    assert_string_equal(name, "CN=second");
    tls_store_destroy(&self->store); /* the session that is open does not need it */
    gnutls_deinit(session);
    tls_cert_release(&cert);
    tls_cert_release(&cert);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_that_fit_are_shown_to_clients, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(files_that_cannot_be_read_are_refused, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(what_nobody_could_use_is_refused, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(one_that_is_not_good_yet_is_taken_with_a_word,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(
            who_comes_after_a_reload_sees_the_new_one_and_others_keep_theirs, open_place,
            close_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
