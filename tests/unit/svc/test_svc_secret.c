/* test_svc_secret.c - random bytes, secrets in files, and the encodings they may come in.
 *
 * All files are in one temporary directory. */
#include "dir_fixture.h"

#include "svc/svc_secret.h"
#include "svc/svc_text.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static char *
path_of(const char *name)
{
    char *path = NULL;

    assert_true(asprintf(&path, "%s/%s", dir, name) > 0);
    return path;
}

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void
makes_a_secret_once_and_reads_it_from_then_on(void **state)
{
    uint8_t first[SVC_SECRET_BYTES], second[SVC_SECRET_BYTES];
    char *path = path_of("a/b/secret");
    char *error = NULL;
    struct stat info;

    (void)state;
    assert_int_equal(svc_secret_load_or_make(path, first, &error), RC_OK);
    assert_int_equal(svc_secret_load_or_make(path, second, &error), RC_OK);
    assert_memory_equal(first, second, sizeof(first));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_nlink, 1);
    free(path);
}

static void
refuses_a_file_that_holds_no_secret(void **state)
{
    static const char *const bad[] = {
        "", "\n", "abc",
        "not hex at all, but long enough to be it........................"};
    char *path = path_of("bad");

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        uint8_t secret[SVC_SECRET_BYTES];
        char *error = NULL;

        write_file(path, bad[i]);
        assert_int_equal(svc_secret_load_or_make(path, secret, &error), RC_INTERNAL);
        assert_non_null(strstr(error, "bad: expected a secret of 64 hex digits"));
        free(error);
    }
    free(path);
}

static void
says_why_a_secret_cannot_be_made(void **state)
{
    uint8_t secret[SVC_SECRET_BYTES];
    char *file = path_of("file");
    char *path = path_of("file/secret");
    char *error = NULL;

    (void)state;
    write_file(file, "");
    assert_int_equal(svc_secret_load_or_make(path, secret, &error), RC_INTERNAL);
    assert_non_null(strstr(error, "Not a directory"));
    assert_null(strchr(error, '\n'));
    free(error);
    error = NULL;
    assert_int_equal(svc_secret_load_or_make(dir, secret, &error), RC_INTERNAL);
    assert_non_null(strstr(error, "Is a directory"));
    free(error);
    free(path);
    free(file);
}

static void *
load(void *out)
{
    char *path = path_of("raced/secret");
    char *error = NULL;

    assert_int_equal(svc_secret_load_or_make(path, out, &error), RC_OK);
    free(path);
    return NULL;
}

static void
those_who_start_together_get_the_same_secret(void **state)
{
    uint8_t secrets[8][SVC_SECRET_BYTES];
    pthread_t threads[8];

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load, secrets[i]), 0);
    for (size_t i = 0; i < SVC_COUNT(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 1; i < SVC_COUNT(threads); i++)
        assert_memory_equal(secrets[0], secrets[i], SVC_SECRET_BYTES);
}

static void
decodes_hex_and_base64_of_32_bytes_only(void **state)
{
    uint8_t secret[SVC_SECRET_BYTES];

    (void)state;
    assert_int_equal(svc_secret_decode(SVC_LIT("000102030405060708090a0b0c0d0e0f"
                                               "101112131415161718191a1b1c1d1e1f"),
                                       secret),
                     RC_OK);
    assert_int_equal(secret[31], 31);
    memset(secret, 0, sizeof(secret));
    assert_int_equal(svc_secret_decode(
                         SVC_LIT("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="), secret),
                     RC_OK);
    assert_int_equal(secret[31], 31);
    assert_int_equal(
        svc_secret_decode(SVC_LIT("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"), secret),
        RC_OK);
    assert_int_equal(svc_secret_decode(SVC_LIT(""), secret), RC_INVALID);
    assert_int_equal(svc_secret_decode(SVC_LIT("AAEC"), secret), RC_INVALID);
    assert_int_equal(svc_secret_decode(
                         SVC_LIT("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"), secret),
                     RC_INVALID);
    assert_int_equal(
        svc_secret_decode(SVC_LIT("no secret, whatever else it may be......"), secret),
        RC_INVALID);
}

static void
finds_the_path_beside_another(void **state)
{
    static const struct {
        const char *path;
        const char *beside;
    } cases[] = {{"./data/x.db", "./data/name"}, {"x.db", "./name"}, {"/x.db", "/name"}};

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        char *beside = svc_secret_path_beside(cases[i].path, "name");

        assert_string_equal(beside, cases[i].beside);
        free(beside);
    }
}

static void
random_numbers_differ_and_are_never_zero(void **state)
{
    uint64_t last = 0;

    (void)state;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = svc_random_u64();

        assert_true(value != 0 && value != last);
        last = value;
    }
}

static void
ids_of_one_source_and_of_two_never_come_twice(void **state)
{
    svc_ids_t one = {0}, other = {0};
    uint8_t ids[4][SVC_IDS_BYTES];
    (void)state;
    svc_ids_next(&one, ids[0]);
    svc_ids_next(&one, ids[1]);
    svc_ids_next(&other, ids[2]);
    svc_ids_next(&other, ids[3]);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            assert_memory_not_equal(ids[i], ids[k], SVC_IDS_BYTES);
}

static void
ids_of_one_source_sort_as_they_were_given(void **state)
{
    svc_ids_t one = {0};
    uint8_t before[SVC_IDS_BYTES], id[SVC_IDS_BYTES];
    (void)state;
    svc_ids_next(&one, before);
    for (int i = 0; i < 1000; i++) { /* past a byte's carry */
        svc_ids_next(&one, id);
        assert_true(memcmp(before, id, SVC_IDS_BYTES) < 0);
        memcpy(before, id, SVC_IDS_BYTES);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_a_secret_once_and_reads_it_from_then_on),
        cmocka_unit_test(refuses_a_file_that_holds_no_secret),
        cmocka_unit_test(says_why_a_secret_cannot_be_made),
        cmocka_unit_test(those_who_start_together_get_the_same_secret),
        cmocka_unit_test(decodes_hex_and_base64_of_32_bytes_only),
        cmocka_unit_test(finds_the_path_beside_another),
        cmocka_unit_test(random_numbers_differ_and_are_never_zero),
        cmocka_unit_test(ids_of_one_source_and_of_two_never_come_twice),
        cmocka_unit_test(ids_of_one_source_sort_as_they_were_given),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
