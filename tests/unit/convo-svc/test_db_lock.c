/* test_db_lock.c - one process owns a database.
 *
 * (Two descriptors of one process lock each other out just as well.) */
#include "convo_fixture.h"

#include "convo-svc/db_lock.h"

static void
makes_the_folder_and_locks_out_a_second_one_until_released(void **state)
{
    folder_t folder;
    char path[128];
    char *error = NULL;
    int first, second;

    (void)state;
    folder_open(&folder);
    snprintf(path, sizeof(path), "%s/a/b/convo.db", folder.path);
    first = db_lock_take(path, &error);
    assert_true(first >= 0);
    assert_int_equal(db_lock_take(path, &error), -1);
    assert_non_null(strstr(error, path));
    assert_non_null(strstr(error, "PostgreSQL"));
    assert_null(strchr(error, '\n'));
    free(error);
    db_lock_release(&first);
    assert_int_equal(first, -1);
    db_lock_release(&first);
    second = db_lock_take(path, &error);
    assert_true(second >= 0);
    db_lock_release(&second);
    folder_close(&folder);
}

static void
says_why_when_the_lock_cannot_be_made(void **state)
{
    folder_t folder;
    char path[128];
    char *error = NULL;
    FILE *file;

    (void)state;
    folder_open(&folder);
    snprintf(path, sizeof(path), "%s/file", folder.path);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    snprintf(path, sizeof(path), "%s/file/convo.db", folder.path);
    assert_int_equal(db_lock_take(path, &error), -1);
    assert_non_null(error);
    free(error);
    folder_close(&folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_the_folder_and_locks_out_a_second_one_until_released),
        cmocka_unit_test(says_why_when_the_lock_cannot_be_made),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
