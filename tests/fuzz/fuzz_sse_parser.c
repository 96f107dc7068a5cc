/* fuzz_sse_parser.c - a provider's response, cut anywhere, must say the same as in one piece.
 *
 * links: llm-svc The first 8 bytes seed where the rest is cut. The bytes go through the
 * event parser, the chunk parser and the text decoder twice, whole and cut; text, ends,
 * errors and results must be equal, and all text whole UTF-8. The body is read as an
 * answer that is no stream, and as an error body, too. The whole one is read by a memo of chunks, the
 * cut one without: that is to make no difference either. */
#include "llm-svc/chunk_memo.h"
#include "llm-svc/sse_parser.h"
#include "llm-svc/text_decoder.h"
#include "llm-svc/upstream_error.h"
#include "proto/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define TEXT_MAX_BYTES (16u << 20)
#define SEED_BYTES     8

/* What was understood. */
typedef struct {
    text_decoder_t decoder; /* of the answer */
    svc_buf_t text;         /* of it, with a letter for each other thing that was said */
    bool has_memo;          /* chunks are read by memo */
    chunk_memo_t memo;      /* of them */
} reader_t;

static void
note(reader_t *r, const char *what)
{
    SVC_ASSERT(svc_buf_add_str(&r->text, svc_str_c(what)) == RC_OK);
}

static void
read_data(void *arg, svc_str data)
{
    reader_t *r = arg;
    chunk_t c;
    svc_rc rc;

    SVC_ASSERT(data.n > 0);
    while ((rc = r->has_memo ? chunk_memo_next(&r->memo, &data, &c)
                             : chunk_next(&data, &c)) == RC_OK) {
        SVC_ASSERT(chunk_text(&c, &r->decoder, &r->text) == RC_OK);
        if (c.done)
            note(r, "<D>");
        if (c.finish.n > 0)
            note(r, "<F>");
        if (c.is_error) {
            note(r, "<E>");
            chunk_put_text(c.error, 100, &r->text);
        }
        if (c.has_usage)
            note(r, "<U>");
    }
    if (rc == RC_INVALID)
        note(r, "<I>");
    else
        SVC_ASSERT(rc == RC_NOT_FOUND);
}

static void
reader_init(reader_t *r)
{
    *r = (reader_t){0};
    svc_buf_init(&r->text, TEXT_MAX_BYTES);
    chunk_memo_init(&r->memo);
}

static void
reader_fini(reader_t *r)
{
    svc_buf_fini(&r->text);
    chunk_memo_fini(&r->memo);
}

static void
check_text(const svc_buf_t *text)
{
    SVC_ASSERT(text->n == 0 || svc_utf8_valid(text->p, text->n) == text->n);
    SVC_ASSERT(text->n == 0 || memchr(text->p, '\0', text->n) == NULL);
}

/* Feeds `in`, cut by the dice (0: not at all), into r. */
static void
read_stream(reader_t *r, svc_str in, uint64_t dice)
{
    sse_parser_t *parser = sse_parser_new(read_data, r);
    bool is_cut = dice != 0;

    while (in.n > 0) {
        size_t n = in.n;

        if (is_cut) {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            n = 1 + (size_t)(dice % 9 == 0 ? dice % in.n : dice % 3);
            n = n < in.n ? n : in.n;
        }
        SVC_ASSERT(sse_parser_feed(parser, (svc_str){in.p, n}) == RC_OK);
        in.p += n;
        in.n -= n;
    }
    SVC_ASSERT(sse_parser_end(parser) == RC_OK);
    SVC_ASSERT(text_decoder_end(&r->decoder, &r->text) == RC_OK);
    sse_parser_destroy(&parser);
    check_text(&r->text);
}

static void
read_whole(svc_str in)
{
    reader_t r;
    svc_buf_t sentence;

    reader_init(&r);
    if (in.n > 0)
        read_data(&r, in);
    SVC_ASSERT(text_decoder_end(&r.decoder, &r.text) == RC_OK);
    check_text(&r.text);
    reader_fini(&r);
    svc_buf_init(&sentence, 8192);
    upstream_error_sentence(500, in, SVC_LIT("secret"), &sentence);
    SVC_ASSERT(sentence.n <= ENDING_TEXT_MAX_BYTES);
    SVC_ASSERT(sentence.n == 0 || memmem(sentence.p, sentence.n, "secret", 6) == NULL);
    check_text(&sentence);
    svc_buf_fini(&sentence);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    reader_t one, cut;
    uint64_t dice;

    if (n < SEED_BYTES)
        return 0;
    memcpy(&dice, bytes, SEED_BYTES);
    svc_str in = {(const char *)bytes + SEED_BYTES, n - SEED_BYTES};
    reader_init(&one);
    reader_init(&cut);
    one.has_memo = true;
    read_stream(&one, in, 0);
    read_stream(&cut, in, dice | 1);
    SVC_ASSERT(svc_str_eq(svc_buf_str(&one.text), svc_buf_str(&cut.text)));
    reader_fini(&one);
    reader_fini(&cut);
    read_whole(in);
    return 0;
}
