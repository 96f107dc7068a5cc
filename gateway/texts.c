/* texts.c - every sentence that a client can read, in English and in Chinese.
 *
 * Two tables, one row a sentence. A %s stands for a key of the request or a number;
 * rows with one are used through text_add. Chinese is chosen when the client ranks
 * some zh… above English. The unit test looks for rows that are missing in either
 * language. */
#include "texts.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

// clang-format off
static const char *const sentences[TEXT_COUNT][TEXT_LANGUAGES] = {
    [TEXT_REGISTERED]      = {"User registered successfully", "用户注册成功"},
    [TEXT_DELETED]         = {"Conversation deleted successfully", "对话删除成功"},
    [TEXT_NO_PATH]         = {"There is nothing at this path", "该路径不存在"},
    [TEXT_NO_TOKEN]        = {"A token is needed: Authorization: Bearer <token>", "需要令牌：Authorization: Bearer <token>"},
    [TEXT_NO_CONVERSATION] = {"Conversation not found", "对话不存在"},
    [TEXT_BAD_ID]          = {"The conversation id must be an integer", "对话 ID 必须是整数"},
    [TEXT_NO_JSON]         = {"The body is not valid JSON", "请求体不是有效的 JSON"},
    [TEXT_NO_OBJECT]       = {"The body must be a JSON object", "请求体必须是 JSON 对象"},
    [TEXT_NO_UTF8]         = {"The body is not valid UTF-8", "请求体不是有效的 UTF-8"},
    [TEXT_TOO_COMPLEX]     = {"The JSON in the body is nested too deep or has too many values", "请求体中的 JSON 嵌套过深或值过多"},
    [TEXT_MISSING]         = {"\"%s\" is missing", "缺少 \"%s\""},
    [TEXT_NO_STRING]       = {"\"%s\" must be a string", "\"%s\" 必须是字符串"},
    [TEXT_EMPTY]           = {"\"%s\" must not be empty", "\"%s\" 不能为空"},
    [TEXT_TOO_LONG]        = {"\"%s\" is too long", "\"%s\" 太长"},
    [TEXT_BODY_TOO_BIG]    = {"The body is larger than %s bytes", "请求体超过 %s 字节"},
    [TEXT_BAD_API_KEY]     = {"The api_key may hold visible ASCII characters only", "api_key 只能包含可见的 ASCII 字符"},
    [TEXT_BAD_FRAMING]     = {"The length of the body must be given once, by Content-Length or as chunked",
                              "请求体的长度必须且只能以 Content-Length 或 chunked 给出一次"},
    [TEXT_NO_HOST]         = {"A request must have one Host header (HTTP/1.0 may do without)", "请求必须有且只有一个 Host 头（HTTP/1.0 可以没有）"},
    [TEXT_TWO_TOKENS]      = {"There must be only one Authorization header", "只能有一个 Authorization 请求头"},
    [TEXT_BAD_STREAM_ID]   = {"This is no id of an event of this stream: <32 hex digits>:<bytes>, as the stream gave it", "这不是该流的事件 ID：应为流给出的 <32 位十六进制>:<字节数>"},
    [TEXT_TWO_KEYS]        = {"There must be only one Idempotency-Key header", "只能有一个 Idempotency-Key 请求头"},
    [TEXT_BAD_KEY]         = {"The Idempotency-Key must have 1 to 255 visible ASCII characters", "Idempotency-Key 必须为 1 到 255 个可见的 ASCII 字符"},
    [TEXT_BAD_CHOICE]      = {"\"on_disconnect\" must be \"continue\" or \"stop\"", "\"on_disconnect\" 必须为 \"continue\" 或 \"stop\""},
    [TEXT_BAD_TICKET]      = {"The ticket is not valid or has expired", "票据无效或已过期"},
    [TEXT_STORED_ANYWAY]   = {"The connection to the answer was lost; the answer goes on and is stored, read it in the history",
                              "与回答的连接已中断；回答仍在继续并会被保存，请稍后在历史记录中查看"},
};

static const char *const results[RC_COUNT][TEXT_LANGUAGES] = {
    [RC_OK]                    = {"OK", "成功"},
    [RC_LATER]                 = {"Later", "稍后"},
    [RC_INVALID]               = {"The request is not valid", "请求无效"},
    [RC_INVALID_USERNAME]      = {"The username must have 1 to 64 characters and no control characters", "用户名必须为 1 到 64 个字符，且不含控制字符"},
    [RC_INVALID_PASSWORD]      = {"The password must have %s to 72 bytes", "密码必须为 %s 到 72 个字节"},
    [RC_USERNAME_TAKEN]        = {"The username is already taken", "用户名已被占用"},
    [RC_UNKNOWN_MODEL]         = {"No provider serves this model", "没有提供该模型的服务商"},
    [RC_UNAUTHORIZED]          = {"The token is not valid or has expired", "令牌无效或已过期"},
    [RC_BAD_CREDENTIALS]       = {"Wrong username or password", "用户名或密码错误"},
    [RC_FORBIDDEN]             = {"This is not allowed", "不允许此操作"},
    [RC_NOT_FOUND]             = {"Not found", "未找到"},
    [RC_METHOD]                = {"This method is not allowed here", "此处不允许该请求方法"},
    [RC_CONFLICT]              = {"This is not possible in the present state", "当前状态下无法执行此操作"},
    [RC_ANSWERING]             = {"The previous question is still being answered", "上一个问题仍在回答中"},
    [RC_STALE]                 = {"This has been overtaken by something newer", "该内容已被更新的内容取代"},
    [RC_TOO_OLD]               = {"These bytes are no longer held", "这部分内容已不再保留"},
    [RC_DELETED]               = {"The conversation was deleted", "对话已被删除"},
    [RC_SUPERSEDED]            = {"A newer answer has taken the place of this one", "已有更新的回答取代了这个回答"},
    [RC_NO_ANSWER]             = {"Nothing was asked in this conversation yet", "这个对话中还没有提问"},
    [RC_KEY_REUSED]            = {"This Idempotency-Key was used with another request", "此 Idempotency-Key 已用于另一个请求"},
    [RC_TOO_BIG]               = {"The request is too large", "请求过大"},
    [RC_HEADERS_TOO_BIG]       = {"The request headers are too large", "请求头过大"},
    [RC_THROTTLED]             = {"Too many wrong passwords, try again later", "密码错误次数过多，请稍后再试"},
    [RC_UNAVAILABLE]           = {"The service is not available right now, try again", "服务暂时不可用，请重试"},
    [RC_MOVED]                 = {"The service is not available right now, try again", "服务暂时不可用，请重试"},
    [RC_BUSY]                  = {"The service is busy, try again", "服务繁忙，请重试"},
    [RC_TIMEOUT]               = {"The service did not answer in time, try again", "服务响应超时，请重试"},
    [RC_UPSTREAM]              = {"The model provider failed", "模型服务商出错"},
    [RC_UPSTREAM_AUTH]         = {"The model provider refused the API key", "模型服务商拒绝了 API 密钥"},
    [RC_UPSTREAM_NOT_FOUND]    = {"The model provider does not know this model", "模型服务商没有该模型"},
    [RC_UPSTREAM_RATE_LIMITED] = {"The model provider limits the rate of requests, try again later", "模型服务商限制了请求频率，请稍后再试"},
    [RC_UPSTREAM_TIMEOUT]      = {"The model provider did not answer in time", "模型服务商响应超时"},
    [RC_LOST]                  = {"The answer was interrupted", "回答被中断"},
    [RC_INTERNAL]              = {"Internal error", "内部错误"},
};
// clang-format on

/* Reads the q of a language range ("zh-CN;q=0.8") in thousandths; 1000 without one. */
static unsigned
read_quality(svc_str params)
{
    for (size_t i = 0; i + 1 < params.n; i++) {
        if ((params.p[i] != 'q' && params.p[i] != 'Q') || params.p[i + 1] != '=')
            continue;
        unsigned whole = i + 2 < params.n && params.p[i + 2] == '1' ? 1000 : 0;
        unsigned part = 0;
        unsigned scale = 100;
        for (size_t k = i + 4; k < params.n && isdigit((unsigned char)params.p[k]); k++) {
            part += (unsigned)(params.p[k] - '0') * scale;
            scale /= 10;
        }
        return whole > 0 ? whole : part;
    }
    return 1000;
}

static bool
begins_with(svc_str text, const char *tag)
{
    size_t n = strlen(tag);

    return text.n >= n && strncasecmp(text.p, tag, n) == 0 &&
           (text.n == n || !isalnum((unsigned char)text.p[n]));
}

text_language
text_language_of(svc_str accept_language)
{
    text_language chosen = TEXT_EN;
    unsigned best = 0;
    size_t at = 0;

    while (at < accept_language.n) {
        size_t end = at;
        size_t params = 0;
        while (end < accept_language.n && accept_language.p[end] != ',') {
            if (accept_language.p[end] == ';' && params == 0)
                params = end;
            end++;
        }
        while (at < end && accept_language.p[at] == ' ')
            at++;
        unsigned quality = 1000;
        if (params > 0)
            quality = read_quality((svc_str){accept_language.p + params, end - params});
        svc_str range = {accept_language.p + at, end - at};
        for (int language = TEXT_EN; language < TEXT_LANGUAGES; language++) {
            if (begins_with(range, language == TEXT_EN ? "en" : "zh") && quality > best) {
                best = quality;
                chosen = (text_language)language;
            }
        }
        at = end + 1;
    }
    return chosen;
}

const char *
text_of(text_language language, text_id id)
{
    return sentences[id][language];
}

const char *
text_of_rc(text_language language, svc_rc rc)
{
    size_t row = (size_t)rc;

    return results[row < RC_COUNT ? row : RC_INTERNAL][language];
}

/* Appends `sentence` with `arg` in place of its %s. */
static svc_rc
add_sentence(svc_buf_t *out, const char *sentence, const char *arg)
{
    const char *hole = strstr(sentence, "%s");

    if (hole == NULL)
        return svc_buf_add_str(out, svc_str_c(sentence));
    svc_rc rc = svc_buf_add(out, sentence, (size_t)(hole - sentence));
    if (rc == RC_OK)
        rc = svc_buf_add_str(out, svc_str_c(arg));
    if (rc == RC_OK)
        rc = svc_buf_add_str(out, svc_str_c(hole + 2));
    return rc;
}

svc_rc
text_add(svc_buf_t *out, text_language language, text_id id, const char *arg)
{
    return add_sentence(out, text_of(language, id), arg);
}

/* True for results whose own words are worth more to the client than ours. */
static bool
speaks_for_itself(svc_rc rc)
{
    return rc == RC_UPSTREAM || rc == RC_UPSTREAM_AUTH || rc == RC_UPSTREAM_NOT_FOUND ||
           rc == RC_UPSTREAM_RATE_LIMITED || rc == RC_UPSTREAM_TIMEOUT ||
           rc == RC_INVALID;
}

svc_rc
text_add_rc(svc_buf_t *out, text_language language, svc_rc rc, svc_str told,
            uint32_t password_min)
{
    char number[16];

    snprintf(number, sizeof number, "%u", password_min);
    if (told.n == 0 || !speaks_for_itself(rc))
        return add_sentence(out, text_of_rc(language, rc), number);
    if (language == TEXT_EN)
        return svc_buf_add_str(out, told);
    svc_rc done = add_sentence(out, text_of_rc(language, rc), number);
    if (done == RC_OK)
        done = svc_buf_add_str(out, SVC_LIT("："));
    if (done == RC_OK)
        done = svc_buf_add_str(out, told);
    return done;
}
