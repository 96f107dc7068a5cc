/* test_texts.c - every sentence stands there in both languages, and Accept-Language chooses.
 *
 * A result that is added without its sentences is found here. */
#include "gateway/texts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool
has_chinese(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text >= 0xe4)
            return true;
    return false;
}

static size_t
holes(const char *text)
{
    size_t n = 0;

    for (; (text = strstr(text, "%s")) != NULL; text += 2)
        n++;
    return n;
}

static void
every_result_has_both_sentences(void **state)
{
    (void)state;
    for (int rc = RC_OK; rc < RC_COUNT; rc++) {
        const char *en = text_of_rc(TEXT_EN, (svc_rc)rc);
        const char *zh = text_of_rc(TEXT_ZH, (svc_rc)rc);
        assert_non_null(en);
        assert_non_null(zh);
        assert_false(has_chinese(en));
        assert_true(has_chinese(zh));
        assert_int_equal(holes(en), holes(zh));
    }
    assert_string_equal(text_of_rc(TEXT_EN, (svc_rc)12345),
                        text_of_rc(TEXT_EN, RC_INTERNAL));
}

static void
every_other_text_has_both_sentences(void **state)
{
    (void)state;
    for (int id = 0; id < TEXT_COUNT; id++) {
        assert_false(has_chinese(text_of(TEXT_EN, (text_id)id)));
        assert_true(has_chinese(text_of(TEXT_ZH, (text_id)id)));
        assert_int_equal(holes(text_of(TEXT_EN, (text_id)id)),
                         holes(text_of(TEXT_ZH, (text_id)id)));
    }
}

static void
assert_language(const char *header, text_language wanted)
{
    if (text_language_of(svc_str_c(header)) != wanted)
        fail_msg("%s", header == NULL ? "no header" : header);
}

static void
accept_language_chooses(void **state)
{
    (void)state;
    assert_language(NULL, TEXT_EN);
    assert_language("", TEXT_EN);
    assert_language("zh", TEXT_ZH);
    assert_language("zh-CN", TEXT_ZH);
    assert_language("ZH-hans-CN,zh;q=0.9", TEXT_ZH);
    assert_language("en", TEXT_EN);
    assert_language("en-US,en;q=0.9,zh;q=0.8", TEXT_EN);
    assert_language("zh-CN,zh;q=0.9,en;q=0.8", TEXT_ZH);
    assert_language("en;q=0.5, zh;q=0.7", TEXT_ZH);
    assert_language("en;q=0.75,zh;q=0.7", TEXT_EN);
    assert_language("fr, zh;q=0.3", TEXT_ZH);
    assert_language("zh;q=0", TEXT_EN);
    assert_language("zh;q=0.000, en", TEXT_EN);
    assert_language("en,zh", TEXT_EN);
    assert_language("zhx", TEXT_EN);
    assert_language("z", TEXT_EN);
    assert_language(",;,;q=,=q;q=1.0.0,q", TEXT_EN);
}

static void
assert_told(text_language language, svc_rc rc, const char *told, const char *wanted)
{
    svc_buf_t out;

    svc_buf_init(&out, 4096);
    assert_int_equal(text_add_rc(&out, language, rc, svc_str_c(told), 8), RC_OK);
    assert_int_equal(out.n, strlen(wanted));
    assert_memory_equal(out.p, wanted, out.n);
    svc_buf_fini(&out);
}

static void
a_providers_own_words_are_passed_on(void **state)
{
    (void)state;
    assert_told(TEXT_EN, RC_UPSTREAM_AUTH, "Incorrect API key", "Incorrect API key");
    assert_told(TEXT_ZH, RC_UPSTREAM_AUTH, "Incorrect API key",
                "模型服务商拒绝了 API 密钥：Incorrect API key");
    assert_told(TEXT_EN, RC_UPSTREAM_AUTH, "", "The model provider refused the API key");
    assert_told(TEXT_EN, RC_NOT_FOUND, "row 17 is gone", "Not found");
    assert_told(TEXT_EN, RC_INVALID_PASSWORD, "", "The password must have 8 to 72 bytes");
    assert_told(TEXT_ZH, RC_INVALID_PASSWORD, "", "密码必须为 8 到 72 个字节");
}

static void
a_sentence_names_the_key(void **state)
{
    svc_buf_t out;

    (void)state;
    svc_buf_init(&out, 64);
    assert_int_equal(text_add(&out, TEXT_EN, TEXT_MISSING, "title"), RC_OK);
    assert_memory_equal(out.p, "\"title\" is missing", out.n);
    assert_int_equal(text_add(&out, TEXT_EN, TEXT_TOO_COMPLEX, NULL), RC_TOO_BIG);
    svc_buf_fini(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_result_has_both_sentences),
        cmocka_unit_test(every_other_text_has_both_sentences),
        cmocka_unit_test(accept_language_chooses),
        cmocka_unit_test(a_providers_own_words_are_passed_on),
        cmocka_unit_test(a_sentence_names_the_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
