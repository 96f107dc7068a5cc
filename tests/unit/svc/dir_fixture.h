/* dir_fixture.h - a folder of the test's own, gone when it is over.
 *
 * make_dir and remove_dir are setup and teardown of a test, or of all in a file. Included by tests of what is kept in files. */
#ifndef TESTS_UNIT_SVC_DIR_FIXTURE_H
#define TESTS_UNIT_SVC_DIR_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64]; /* its path */

static inline int
make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "/tmp/test_svc_dir.XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static inline int
remove_dir(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

#endif
