/* test_svc_pg_lib.c - libpq loaded, not there, and too old.
 *
 * libm stands for a library that lacks functions; no server is asked. */
#include "svc/svc_pg_lib.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void
every_function_is_there_after_loading(void **state)
{
    void *addresses[sizeof(pg_lib_t) / sizeof(void *)];
    char *error = NULL;

    (void)state;
    assert_true(pg_lib_load(&error));
    assert_true(pg_lib_load(&error));
    assert_null(error);
    memcpy(addresses, pg_lib(), sizeof(addresses));
    for (size_t i = 0; i < SVC_COUNT(addresses); i++)
        assert_non_null(addresses[i]);
    assert_int_equal(pg_lib()->PQstatus(NULL), CONNECTION_BAD);
}

static void
each_name_of_the_table_is_its_own_function(void **state)
{
    char *error = NULL;
    PQconninfoOption *options;

    (void)state;
    assert_true(pg_lib_load(&error));
    options = pg_lib()->PQconninfoParse("postgresql://host/name", NULL);
    assert_non_null(options);
    pg_lib()->PQconninfoFree(options);
    assert_int_equal(pg_lib()->PQsocket(NULL), -1);
    assert_int_equal(pg_lib()->PQserverVersion(NULL), 0);
    assert_int_equal(pg_lib()->PQntuples(NULL), 0);
    assert_int_equal(pg_lib()->PQresultStatus(NULL), PGRES_FATAL_ERROR);
    assert_int_equal(pg_lib()->PQpipelineStatus(NULL), PQ_PIPELINE_OFF);
}

static void
assert_refused(const char *file, const char *head)
{
    char *error = NULL;
    pg_lib_t lib;

    assert_false(pg_lib_fill(&lib, file, &error));
    assert_memory_equal(error, head, strlen(head));
    assert_non_null(strstr(error + strlen(head), file));
    free(error);
}

static void
a_library_that_is_missing_or_too_old_is_named(void **state)
{
    (void)state;
    assert_refused("libnothing.so.5", "storage.driver: postgresql needs libpq5: ");
    assert_refused("libm.so.6", "storage.driver: postgresql needs libpq5 14 or newer: ");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function_is_there_after_loading),
        cmocka_unit_test(each_name_of_the_table_is_its_own_function),
        cmocka_unit_test(a_library_that_is_missing_or_too_old_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
