/* test_svc_keys.c - files of keys: what is taken, and each way in which one can be wrong.
 *
 * Every fault is looked for by the line that the operator sees: it names the file. */
#include "keys_fixture.h"

#include <sys/prctl.h>
#include <sys/stat.h>

#define NOBODY 65534 /* user and group */
#define KEY_A  "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
#define KEY_B  "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"

static keys_dir_t keys;

static int
make_keys(void **state)
{
    (void)state;
    keys_open(&keys);
    return 0;
}

static int
remove_keys(void **state)
{
    (void)state;
    keys_close(&keys);
    return 0;
}

static void
expect_refused(const char *service, const char *expected)
{
    char *error = NULL;
    svc_keys_t *read = svc_keys_read(keys.dir, service, &error);

    assert_null(read);
    assert_non_null(error);
    if (strstr(error, expected) == NULL)
        fail_msg("\"%s\" is not in: %s", expected, error);
    assert_null(strchr(error, '\n'));
    assert_non_null(strstr(error, keys.dir));
    free(error);
}

static void
every_service_reads_its_own_pair_and_knows_all_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < SVC_COUNT(key_names); i++) {
        char *error = NULL;
        svc_keys_t *read = svc_keys_read(keys.dir, key_names[i], &error);

        assert_non_null(read);
        assert_string_equal(svc_keys_owner(read, read->public_key)->service,
                            key_names[i]);
        for (size_t k = 0; k < SVC_COUNT(key_names); k++)
            assert_int_equal(svc_keys_of(read, key_names[k])->n, 1);
        assert_null(svc_keys_owner(read, read->secret_key));
        assert_null(svc_keys_of(read, "stranger"));
        svc_keys_destroy(&read);
        svc_keys_destroy(&read);
    }
}

static void
tools_may_have_no_key_but_services_may_not(void **state)
{
    char *tool = keys_path(&keys, "tool", ".pub"),
         *llm = keys_path(&keys, "llm-svc", ".pub");
    char *error = NULL;
    svc_keys_t *read;

    (void)state;
    assert_int_equal(unlink(tool), 0);
    read = svc_keys_read(keys.dir, "gateway", &error);
    assert_non_null(read);
    assert_int_equal(svc_keys_of(read, "tool")->n, 0);
    svc_keys_destroy(&read);
    assert_int_equal(unlink(llm), 0);
    expect_refused("gateway", "llm-svc.pub: cannot be read: No such file");
    free(tool);
    free(llm);
}

static void
a_secret_that_others_may_read_is_refused(void **state)
{
    char *path = keys_path(&keys, "gateway", ".key");

    (void)state;
    for (mode_t mode = 0; mode < 0100; mode++) {
        char *error = NULL;
        svc_keys_t *read;

        assert_int_equal(chmod(path, 0600 | mode), 0);
        read = svc_keys_read(keys.dir, "gateway", &error);
        assert_true((read != NULL) == (mode == 0));
        if (error != NULL)
            assert_non_null(strstr(error, "gateway.key: others may read it: chmod 600"));
        free(error);
        svc_keys_destroy(&read);
    }
    free(path);
}

/* As Kubernetes mounts a Secret: root's, and readable by the group of the pod. */
static void
a_secret_of_root_may_be_lent_to_a_group_and_no_further(void **state)
{
    static const struct {
        uid_t owner;
        mode_t mode;
        const char *why; /* NULL: it is taken */
    } cases[] = {{0, 0640, NULL},
                 {0, 0440, NULL},
                 {0, 0660, "gateway.key: others may read it: chmod 640 at most"},
                 {0, 0650, "gateway.key: others may read it: chmod 640 at most"},
                 {0, 0644, "gateway.key: others may read it: chmod 640 at most"},
                 {1, 0640, "gateway.key: belongs to another user"}};
    char *path = keys_path(&keys, "gateway", ".key");

    (void)state;
    if (geteuid() != 0)
        skip(); /* nobody else can give files away */
    assert_int_equal(chmod(keys.dir, 0755), 0);
    for (size_t i = 0; i < SVC_COUNT(cases); i++) {
        char *error = NULL;
        svc_keys_t *read;

        assert_int_equal(chown(path, cases[i].owner, NOBODY), 0);
        assert_int_equal(chmod(path, cases[i].mode), 0);
        assert_true(setegid(NOBODY) == 0 && seteuid(NOBODY) == 0);
        read = svc_keys_read(keys.dir, "gateway", &error);
        assert_true(seteuid(0) == 0 && setegid(0) == 0);
        (void)prctl(PR_SET_DUMPABLE, 1, 0, 0,
                    0); /* else the leak sanitizer cannot look */
        assert_true((read != NULL) == (cases[i].why == NULL));
        if (cases[i].why != NULL)
            assert_non_null(strstr(error, cases[i].why));
        free(error);
        svc_keys_destroy(&read);
    }
    free(path);
}

static void
what_is_no_key_file_is_refused_by_name(void **state)
{
    char *path = keys_path(&keys, "gateway", ".key");

    (void)state;
    keys_write(&keys, "gateway", ".key", "");
    expect_refused("gateway", "gateway.key: no public key");
    keys_write(&keys, "gateway", ".key", "public " KEY_A "\n");
    expect_refused("gateway", "gateway.key: expected one public and one secret key");
    keys_write(&keys, "gateway", ".key",
               "# a comment\n\npublic " KEY_A "\nsecret short\n");
    expect_refused("gateway", "gateway.key:4: expected `public` or `secret`");
    keys_write(&keys, "gateway", ".key", "public " KEY_A "\nsecret " KEY_B "\n");
    expect_refused("gateway", "public and secret key do not fit each other");
    assert_int_equal(unlink(path), 0);
    expect_refused("gateway", "gateway.key: cannot be read: No such file");
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refused("gateway", "gateway.key: is not a file");
    free(path);
}

static void
files_that_were_mixed_up_are_found_at_start(void **state)
{
    char *from = keys_path(&keys, "convo-svc", ".key"),
         *to = keys_path(&keys, "gateway", ".key");
    char *pub = keys_path(&keys, "convo-svc", ".pub"),
         *other = keys_path(&keys, "gateway", ".pub");

    (void)state;
    assert_int_equal(rename(from, to), 0);
    expect_refused("gateway",
                   "gateway.key: its public key does not stand in gateway.pub");
    assert_int_equal(unlink(other), 0);
    assert_int_equal(link(pub, other), 0);
    expect_refused("gateway", "convo-svc.pub: has a key of gateway");
    free(from);
    free(to);
    free(pub);
    free(other);
}

static void
a_secret_in_a_public_file_is_refused(void **state)
{
    (void)state;
    keys_write(&keys, "llm-svc", ".pub", "public " KEY_A "\nsecret " KEY_B "\n");
    expect_refused("gateway", "llm-svc.pub: holds a secret key");
}

static void
two_public_keys_are_accepted_and_not_three(void **state)
{
    char *error = NULL;
    svc_keys_t *read;

    (void)state;
    keys_make(&keys, "convo-svc", ".key.new");
    read = svc_keys_read(keys.dir, "gateway", &error);
    assert_non_null(read);
    assert_int_equal(svc_keys_of(read, "convo-svc")->n, 2);
    for (size_t i = 0; i < 2; i++)
        assert_string_equal(
            svc_keys_owner(read, svc_keys_of(read, "convo-svc")->public_keys[i])->service,
            "convo-svc");
    svc_keys_destroy(&read);
    keys_use(&keys, "convo-svc"); /* the second one may be the one in use */
    read = svc_keys_read(keys.dir, "convo-svc", &error);
    assert_non_null(read);
    svc_keys_destroy(&read);
    keys_make(&keys, "convo-svc", ".key.new");
    expect_refused("gateway", "convo-svc.pub:3: a third public key");
}

static void
parser_says_which_line_is_wrong(void **state)
{
    static const struct {
        const char *text, *why;
        size_t line;
    } bad[] = {
        {"", "no public key", 0},
        {"# nothing\n\n", "no public key", 0},
        {"secret " KEY_A "\n", "no public key", 0},
        {"public " KEY_A, NULL, 0},
        {"public " KEY_A "\r\nsecret " KEY_B "\r\n", NULL, 0},
        {"public " KEY_A " \n", "expected", 1},
        {"public  " KEY_A "\n", "expected", 1},
        {"PUBLIC " KEY_A "\n", "expected", 1},
        {"\npublic " KEY_A "x\n", "expected", 2},
        {"public " KEY_A "\npublic " KEY_A "\n", "twice", 2},
        {"public " KEY_A "\nsecret " KEY_B "\nsecret " KEY_B "\n", "a second secret", 3},
        {"public ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~\n", "expected", 1},
        {"public %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%\n", "expected", 1},
        {"public \"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\n",
         "expected", 1},
    };

    (void)state;
    for (size_t i = 0; i < SVC_COUNT(bad); i++) {
        svc_key_file_t file;
        const char *why = NULL;
        size_t line = 99;
        const svc_rc rc = svc_key_file_parse(svc_str_c(bad[i].text), &file, &why, &line);

        assert_int_equal(rc, bad[i].why == NULL ? RC_OK : RC_INVALID);
        assert_int_equal(line, bad[i].line);
        if (bad[i].why != NULL && strstr(why, bad[i].why) == NULL)
            fail_msg("%zu: %s", i, why);
    }
}

static void
a_file_of_any_size_is_refused_in_bounded_memory(void **state)
{
    char *text = svc_alloc(3 * SVC_KEY_FILE_MAX_BYTES);

    (void)state;
    memset(text, '#', 3 * SVC_KEY_FILE_MAX_BYTES - 1);
    text[3 * SVC_KEY_FILE_MAX_BYTES - 1] = '\0';
    keys_write(&keys, "tool", ".pub", text);
    expect_refused("gateway", "tool.pub: larger than 4096 bytes");
    free(text);
}

static void
a_pair_is_never_written_over(void **state)
{
    char *path = keys_path(&keys, "gateway", ".key");
    char *error = NULL;
    struct stat info;

    (void)state;
    assert_int_equal(svc_keys_make(path, &error), RC_INTERNAL);
    assert_non_null(strstr(error, "gateway.key: cannot be written: File exists"));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    free(error);
    free(path);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_keys, remove_keys)
        TEST(every_service_reads_its_own_pair_and_knows_all_others),
        TEST(tools_may_have_no_key_but_services_may_not),
        TEST(a_secret_that_others_may_read_is_refused),
        TEST(a_secret_of_root_may_be_lent_to_a_group_and_no_further),
        TEST(what_is_no_key_file_is_refused_by_name),
        TEST(files_that_were_mixed_up_are_found_at_start),
        TEST(a_secret_in_a_public_file_is_refused),
        TEST(two_public_keys_are_accepted_and_not_three),
        TEST(parser_says_which_line_is_wrong),
        TEST(a_file_of_any_size_is_refused_in_bounded_memory),
        TEST(a_pair_is_never_written_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
