/* test_seal.c - sealed api keys.
 *
 * What was sealed opens again with its key, and with nothing else. */
#include "convo_fixture.h"

#include <sodium.h>

typedef struct {
    seal_t seal, other;
    svc_buf_t sealed, text;
} test_t;

static int
setup(void **state)
{
    test_t *self = svc_alloc(sizeof(*self));
    uint8_t key[SVC_SECRET_BYTES] = {1};

    seal_init(&self->seal, key);
    key[0] = 2;
    seal_init(&self->other, key);
    svc_buf_init(&self->sealed, SEAL_MAX_BYTES);
    svc_buf_init(&self->text, SEAL_MAX_BYTES);
    *state = self;
    return 0;
}

static int
teardown(void **state)
{
    test_t *self = *state;

    svc_buf_fini(&self->sealed);
    svc_buf_fini(&self->text);
    free(self);
    return 0;
}

static void
opens_what_it_closed(void **state)
{
    test_t *self = *state;
    char longest[PROTO_API_KEY_MAX_BYTES];
    svc_str texts[] = {SVC_LIT("sk-secret"), {longest, sizeof(longest)}, {"\0", 1}};

    memset(longest, 'k', sizeof(longest));
    for (size_t i = 0; i < SVC_COUNT(texts); i++) {
        svc_buf_clear(&self->sealed);
        svc_buf_clear(&self->text);
        assert_int_equal(seal_close(&self->seal, texts[i], &self->sealed), RC_OK);
        assert_int_equal(seal_open(&self->seal, svc_buf_str(&self->sealed), &self->text),
                         RC_OK);
        assert_true(svc_str_eq(svc_buf_str(&self->text), texts[i]));
    }
}

static void
an_empty_text_stays_empty(void **state)
{
    test_t *self = *state;

    assert_int_equal(seal_close(&self->seal, (svc_str){NULL, 0}, &self->sealed), RC_OK);
    assert_int_equal(self->sealed.n, 0);
    assert_int_equal(seal_open(&self->seal, svc_buf_str(&self->sealed), &self->text),
                     RC_OK);
    assert_int_equal(self->text.n, 0);
}

static void
a_seal_around_nothing_is_not_ours(void **state)
{
    test_t *self = *state;
    unsigned char *p;
    size_t head = 1 + SEAL_ID_BYTES + crypto_secretbox_NONCEBYTES;

    assert_int_equal(seal_close(&self->seal, SVC_LIT("x"), &self->sealed), RC_OK);
    p = (unsigned char *)self->sealed.p;
    assert_int_equal(
        crypto_secretbox_easy(p + head, p, 0, p + 1 + SEAL_ID_BYTES, self->seal.key), 0);
    assert_int_equal(seal_open(&self->seal, (svc_str){self->sealed.p, self->sealed.n - 1},
                               &self->text),
                     RC_INVALID);
}

static void
never_seals_the_same_text_alike_and_never_shows_it(void **state)
{
    test_t *self = *state;

    assert_int_equal(seal_close(&self->seal, SVC_LIT("sk-secret"), &self->sealed), RC_OK);
    assert_int_equal(seal_close(&self->seal, SVC_LIT("sk-secret"), &self->text), RC_OK);
    assert_false(svc_str_eq(svc_buf_str(&self->sealed), svc_buf_str(&self->text)));
    assert_null(memmem(self->sealed.p, self->sealed.n, "sk-secret", 9));
}

static void
refuses_another_key_and_every_change_of_a_byte_or_of_the_length(void **state)
{
    test_t *self = *state;

    assert_int_equal(seal_close(&self->seal, SVC_LIT("sk-secret"), &self->sealed), RC_OK);
    assert_int_equal(seal_open(&self->other, svc_buf_str(&self->sealed), &self->text),
                     RC_INVALID);
    for (size_t i = 0; i < self->sealed.n; i++) {
        self->sealed.p[i] ^= 1;
        assert_int_equal(seal_open(&self->seal, svc_buf_str(&self->sealed), &self->text),
                         RC_INVALID);
        self->sealed.p[i] ^= 1;
        if (i > 0)
            assert_int_equal(
                seal_open(&self->seal, (svc_str){self->sealed.p, i}, &self->text),
                RC_INVALID);
    }
    assert_int_equal(self->text.n, 0);
    assert_int_equal(seal_open(&self->seal, svc_buf_str(&self->sealed), &self->text),
                     RC_OK);
}

static void
a_full_buffer_is_refused(void **state)
{
    test_t *self = *state;
    svc_buf_t small;

    svc_buf_init(&small, 10);
    assert_int_equal(seal_close(&self->seal, SVC_LIT("x"), &small), RC_TOO_BIG);
    assert_int_equal(
        seal_close(&self->seal, SVC_LIT("a secret of some length"), &self->sealed),
        RC_OK);
    assert_int_equal(seal_open(&self->seal, svc_buf_str(&self->sealed), &small),
                     RC_TOO_BIG);
    svc_buf_fini(&small);
}

static void
a_database_remembers_the_key_it_was_sealed_with(void **state)
{
    test_t *self = *state;
    folder_t folder;
    convo_store_t *store;

    folder_open(&folder);
    store = folder_store(&folder, true);
    store_begin(store);
    assert_int_equal(seal_check(&self->seal, store), RC_OK);
    store_commit(store);
    store_begin(store);
    assert_int_equal(seal_check(&self->seal, store), RC_OK);
    assert_int_equal(seal_check(&self->other, store), RC_INVALID);
    store->api->rollback(store);
    convo_store_destroy(&store);
    folder_close(&folder);
}

static void
a_key_is_the_configurations_or_made_once(void **state)
{
    test_t *self = *state;
    folder_t folder;
    svc_config_t config = {0};
    seal_t first, second;
    char *error = NULL;

    folder_open(&folder);
    config.sqlite_path = folder.db;
    config.convo_seal_key = (char *)"";
    assert_int_equal(seal_load(&first, &config, &error), RC_OK);
    assert_int_equal(seal_load(&second, &config, &error), RC_OK);
    assert_memory_equal(&first, &second, sizeof(first));
    config.convo_seal_key =
        (char *)"0100000000000000000000000000000000000000000000000000000000000000";
    assert_int_equal(seal_load(&second, &config, &error), RC_OK);
    assert_memory_equal(&self->seal, &second, sizeof(second));
    config.convo_seal_key = (char *)"short";
    assert_int_equal(seal_load(&second, &config, &error), RC_INVALID);
    assert_non_null(strstr(error, "is not 32 bytes"));
    free(error);
    folder_close(&folder);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(opens_what_it_closed),
        TEST(an_empty_text_stays_empty),
        TEST(a_seal_around_nothing_is_not_ours),
        TEST(never_seals_the_same_text_alike_and_never_shows_it),
        TEST(refuses_another_key_and_every_change_of_a_byte_or_of_the_length),
        TEST(a_full_buffer_is_refused),
        TEST(a_database_remembers_the_key_it_was_sealed_with),
        TEST(a_key_is_the_configurations_or_made_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
