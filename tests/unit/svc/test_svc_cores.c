/* test_svc_cores.c - limits of control groups, read from a root of the test's own.
 *
 * What the machine has is asked of the same place with no limit. */
#include "svc/svc_cores.h"

#include "proto/base.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

typedef struct {
    char root[64];
    size_t all; /* cores without a limit */
} world_t;

/* Writes a file below the root. */
static void
put(const world_t *world, const char *folder, const char *name, const char *text)
{
    char command[512], path[512];
    FILE *file;

    (void)snprintf(command, sizeof(command), "mkdir -p '%s%s'", world->root, folder);
    assert_int_equal(system(command), 0);
    (void)snprintf(path, sizeof(path), "%s%s/%s", world->root, folder, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static int
open_world(void **state)
{
    world_t *world = svc_alloc(sizeof(*world));

    (void)snprintf(world->root, sizeof(world->root), "/tmp/llmb-cores-XXXXXX");
    assert_non_null(mkdtemp(world->root));
    world->all = svc_cores(world->root);
    *state = world;
    return 0;
}

static int
close_world(void **state)
{
    world_t *world = *state;
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -r '%s'", world->root);
    assert_int_equal(system(command), 0);
    free(world);
    return 0;
}

static size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void
without_a_limit_it_is_what_the_scheduler_gives(void **state)
{
    world_t *world = *state;
    cpu_set_t before, one;
    size_t cpu = 0;

    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    assert_int_equal(world->all, CPU_COUNT(&before));
    put(world, "/proc/self", "cgroup", "0::/\n");
    put(world, "/sys/fs/cgroup", "cpu.max", "max 100000\n");
    assert_int_equal(svc_cores(world->root), world->all);
    while (!CPU_ISSET(cpu, &before))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(svc_cores(world->root), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void
the_limit_of_a_container_counts(void **state)
{
    world_t *world = *state;
    static const struct {
        const char *text;
        size_t cores;
    } rows[] = {
        {"100000 100000\n", 1},   {"150000 100000\n", 1}, {"250000 100000\n", 2},
        {"20000 100000\n", 1},    {"50000 50000\n", 1},   {"100000000 100000\n", 1000},
        {"100000 0\n", SIZE_MAX}, {"", SIZE_MAX},         {"-1 100000\n", SIZE_MAX},
        {"nonsense\n", SIZE_MAX}, {"100000\n", SIZE_MAX}};

    put(world, "/proc/self", "cgroup", "0::/\n");
    for (size_t i = 0; i < SVC_COUNT(rows); i++) {
        put(world, "/sys/fs/cgroup", "cpu.max", rows[i].text);
        assert_int_equal(svc_cores(world->root), least(rows[i].cores, world->all));
    }
}

static void
so_do_those_of_the_groups_around_it(void **state)
{
    world_t *world = *state;

    put(world, "/proc/self", "cgroup", "1:cpu:/other\n0::/a.slice/b.scope\n");
    put(world, "/sys/fs/cgroup/a.slice/b.scope", "cpu.max", "max 100000\n");
    assert_int_equal(svc_cores(world->root), world->all);
    put(world, "/sys/fs/cgroup/other", "cpu.max", "100000 100000\n");
    assert_int_equal(svc_cores(world->root), world->all);
    put(world, "/sys/fs/cgroup/a.slice", "cpu.max", "100000 100000\n");
    assert_int_equal(svc_cores(world->root), 1);
}

static void
a_group_of_another_kind_or_none_limits_nothing(void **state)
{
    world_t *world = *state;

    put(world, "/sys/fs/cgroup", "cpu.max", "100000 100000\n");
    assert_int_equal(svc_cores(world->root), world->all);
    put(world, "/proc/self", "cgroup", "4:cpuset,cpuacct:/\nnonsense\n:\n::\n");
    assert_int_equal(svc_cores(world->root), world->all);
    put(world, "/proc/self", "cgroup", "");
    assert_int_equal(svc_cores(world->root), world->all);
}

static void
groups_of_version_1_count_likewise(void **state)
{
    world_t *world = *state;

    put(world, "/proc/self", "cgroup", "4:cpuacct,cpu:/docker/12ab\n3:cpuset:/\n0::/\n");
    put(world, "/sys/fs/cgroup/cpu", "cpu.cfs_period_us", "100000\n");
    put(world, "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "-1\n");
    assert_int_equal(svc_cores(world->root), world->all);
    put(world, "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "150000\n");
    assert_int_equal(svc_cores(world->root), 1);
    put(world, "/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "-1\n");
    put(world, "/sys/fs/cgroup/cpu/docker/12ab", "cpu.cfs_period_us", "50000\n");
    put(world, "/sys/fs/cgroup/cpu/docker/12ab", "cpu.cfs_quota_us", "50000\n");
    assert_int_equal(svc_cores(world->root), 1);
}

int
main(void)
{
#define WORLD_TEST(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)
    const struct CMUnitTest tests[] = {
        WORLD_TEST(without_a_limit_it_is_what_the_scheduler_gives),
        WORLD_TEST(the_limit_of_a_container_counts),
        WORLD_TEST(so_do_those_of_the_groups_around_it),
        WORLD_TEST(groups_of_version_1_count_likewise),
        WORLD_TEST(a_group_of_another_kind_or_none_limits_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
