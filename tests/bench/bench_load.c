/* bench_load.c - the load generator of the bench: chats checked byte by byte, plain requests.
 *
 *   bench_load chats --target 127.0.0.1:8080 --parallel 32 --count 320 --model bench:burst:200
 *   bench_load chats --viewers 3 … each answer is read by two more, from its start
 *   bench_load chats --raw … the same through a bare proxy, or straight to the provider
 *   bench_load list|history|create|login --target … --parallel 32 --count 1000 (or --ms 3000)
 *   bench_load get --path /x --target … plain GET; every answer must equal the first
 *   bench_load yardstick --dir build    one bcrypt of cost 10, one fdatasync
 *
 * One JSON object a line: {"ready"} before it begins (--wait: until a line comes on stdin),
 * {"open"} when all chats stream at once, then the result. Exit code 1: a byte was wrong. */
#include "bench_load.h"

#include <arpa/inet.h>
#include <crypt.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define SETUP_PARALLEL     64 /* connections that create conversations before chats */
#define LIST_CONVERSATIONS 20
#define HISTORY_CHATS      5 /* ten messages */
#define HISTORY_MODEL      "bench:burst:170"
#define PASSWORD           "correct horse battery"
#define SYNC_ROUNDS        200
#define SYNC_BYTES         4096
#define HASH_MS            600

static void
die(const char *what, int status, const char *body)
{
    printf("{\"fatal\":\"%s\",\"status\":%d}\n", what, status);
    fprintf(stderr, "bench_load: %s: HTTP %d %s\n", what, status, body ? body : "");
    exit(2);
}

/* --- setting up ----------------------------------------------------------------------------- */
static void
log_in(load_t *self)
{
    char body[160];
    int status;

    snprintf(self->user, sizeof(self->user), "bench-%d-%" PRIu64, (int)getpid(),
             bench_now_us());
    snprintf(body, sizeof(body), "{\"username\":\"%s\",\"password\":\"" PASSWORD "\"}",
             self->user);
    status = load_call(self, "POST", "/api/users/register", body);
    if (status != 201)
        die("register", status, self->slots[0].body);
    status = load_call(self, "POST", "/api/users/login", body);
    char *token = status == 200 ? strstr(self->slots[0].body, "\"token\":\"") : NULL;
    if (!token || sscanf(token + 9, "%1023[^\"]", self->token) != 1)
        die("login", status, self->slots[0].body);
}

/* Creates conversations; chat i gets ids[i], of the model with its letter. */
static void
create_all(load_t *self, const char *model, uint32_t n)
{
    uint64_t *ids = calloc(n, sizeof(*ids));
    uint64_t *some = calloc(n, sizeof(*some));

    if (!ids || !some)
        abort();
    for (uint32_t letter = 0; letter < BENCH_LETTERS && letter < n; letter++) {
        uint32_t count = (n - letter + BENCH_LETTERS - 1) / BENCH_LETTERS;
        char body[160];

        snprintf(body, sizeof(body), "{\"title\":\"Bench\",\"model\":\"%s:%c\"}", model,
                 (char)('a' + letter));
        self->ids = some;
        load_requests(self, "POST", "/api/conversations/create", body, 200, count, 0);
        self->ids = NULL;
        if (self->failed > 0)
            die("create", 0, self->faults[0]);
        for (uint32_t i = 0; i < count; i++)
            ids[letter + i * BENCH_LETTERS] = some[i];
    }
    free(some);
    self->ids = ids;
}

/* A conversation of ten messages, its path goes to out. */
static void
make_history(load_t *self, char *out, size_t cap)
{
    char path[96];

    create_all(self, HISTORY_MODEL, 1);
    for (int i = 0; i < HISTORY_CHATS; i++) {
        snprintf(path, sizeof(path), "/api/chat/%" PRIu64, self->ids[0]);
        int status = load_call(self, "POST", path,
                               "{\"message\":\"How does this go on, please?\"}");
        if (status != 200 || !strstr(self->slots[0].body, "full_response"))
            die("chat", status, self->slots[0].body);
    }
    snprintf(out, cap, "/api/conversations/history/%" PRIu64, self->ids[0]);
    free(self->ids);
    self->ids = NULL;
}

/* --- what is measured ----------------------------------------------------------------------- */
static void
tell_ready(const load_t *self)
{
    char line[16];

    printf("{\"ready\":true}\n");
    fflush(stdout);
    if (self->wait && !fgets(line, sizeof(line), stdin))
        exit(2);
}

static void
print_faults(const load_t *self)
{
    printf(",\"faults\":[");
    for (uint32_t i = 0; i < self->faults_n; i++) {
        printf("%s\"", i > 0 ? "," : "");
        for (const char *p = self->faults[i]; *p; p++) {
            if (*p == '"' || *p == '\\')
                putchar('\\');
            if ((unsigned char)*p >= ' ' && (unsigned char)*p < 127)
                putchar(*p);
        }
        putchar('"');
    }
    printf("]");
}

static void
print_hist(const char *name, const bench_hist_t *hist)
{
    printf(",\"%s\":{\"n\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
           ",\"max\":%" PRIu64 "}",
           name, hist->count, bench_hist_at(hist, 0.5), bench_hist_at(hist, 0.99),
           hist->max_us);
}

static void
print_result(const load_t *self, uint32_t verified)
{
    double seconds = (double)(self->to_us - self->from_us) / 1e6;

    printf("{\"result\":\"%s\",\"done\":%u,\"failed\":%u,\"wrong\":%u,\"seconds\":%.6f",
           self->what, self->done, self->failed, self->wrong, seconds);
    if (self->phase == PHASE_CHATS)
        printf(",\"tokens\":%" PRIu64 ",\"tokens_per_s\":%.1f,\"events\":%" PRIu64
               ",\"watched\":%" PRIu64 ",\"verified\":%u",
               self->tokens, (double)self->tokens / seconds, self->events, self->watched,
               verified);
    else
        printf(",\"per_s\":%.1f,\"bytes\":%zu", (double)self->done / seconds,
               self->expected_n);
    print_hist("first_us", &self->first);
    if (self->added.count > 0)
        print_hist("added_us", &self->added);
    print_faults(self);
    printf("}\n");
    fflush(stdout);
}

/* Reads the history of some chats: the stored answer must be what was streamed. */
static uint32_t
verify_stored(load_t *self)
{
    static const char key[] = "\"role\":\"assistant\",\"content\":\"";
    uint32_t verified = 0;

    for (uint32_t k = 0; k < self->verify && k < self->count; k++) {
        uint32_t i = (uint32_t)((uint64_t)k * self->count / self->verify);
        char path[96];
        char name[80];
        bench_model_t model;
        bench_check_t check;

        if (self->hashes[i] == 0)
            continue;
        snprintf(path, sizeof(path), "/api/conversations/history/%" PRIu64, self->ids[i]);
        int status = load_call(self, "GET", path, "");
        slot_t *slot = &self->slots[0];
        char *p = status == 200 ? strstr(slot->body, key) : NULL;
        snprintf(name, sizeof(name), "%s:%c", self->model,
                 (char)('a' + i % BENCH_LETTERS));
        bench_model_parse(name, strlen(name), &model);
        bench_check_init(&check, &model);
        if (!p ||
            !bench_chat_string(p + sizeof(key) - 1, slot->body + slot->body_n, &check,
                               NULL, NULL) ||
            check.hash != self->hashes[i] || !bench_check_is_whole(&check))
            load_fault(self, true, "a stored answer is not what was streamed");
        verified++;
    }
    return verified;
}

static void
run_chats(load_t *self)
{
    uint32_t verified = 0;

    self->hashes = calloc(self->count, sizeof(uint64_t));
    if (!self->hashes)
        abort();
    if (self->kind == CHAT_GATEWAY) {
        log_in(self);
        create_all(self, self->model, self->count);
    }
    tell_ready(self);
    load_chats(self);
    print_result(self, 0);
    if (self->kind == CHAT_GATEWAY && self->verify > 0) {
        uint32_t wrong = self->wrong;

        verified = verify_stored(self);
        printf("{\"verified\":%u,\"wrong\":%u}\n", verified, self->wrong - wrong);
    }
}

/* The first answer is what all others are compared with. */
static void
repeat_get(load_t *self, const char *path)
{
    int status = load_call(self, "GET", path, "");

    if (status != 200)
        die(path, status, self->slots[0].body);
    self->expected_n = self->slots[0].body_n;
    self->expected = malloc(self->expected_n + 1);
    if (!self->expected)
        abort();
    memcpy(self->expected, self->slots[0].body, self->expected_n);
    tell_ready(self);
    load_requests(self, "GET", path, "", 200, self->count ? self->count : UINT32_MAX,
                  self->ms);
    print_result(self, 0);
}

static void
repeat_post(load_t *self, const char *path, const char *body)
{
    tell_ready(self);
    load_requests(self, "POST", path, body, 200, self->count ? self->count : UINT32_MAX,
                  self->ms);
    print_result(self, 0);
}

static void
run_what(load_t *self)
{
    char text[160];

    if (strcmp(self->what, "chats") == 0) {
        run_chats(self);
        return;
    }
    if (strcmp(self->what, "get") == 0) {
        repeat_get(self, self->path);
        return;
    }
    log_in(self);
    if (strcmp(self->what, "list") == 0) {
        create_all(self, HISTORY_MODEL, LIST_CONVERSATIONS);
        free(self->ids);
        self->ids = NULL;
        repeat_get(self, "/api/conversations/list");
    } else if (strcmp(self->what, "history") == 0) {
        make_history(self, text, sizeof(text));
        repeat_get(self, text);
    } else if (strcmp(self->what, "create") == 0) {
        repeat_post(self, "/api/conversations/create",
                    "{\"title\":\"Bench\",\"model\":\"" HISTORY_MODEL "\"}");
    } else if (strcmp(self->what, "login") == 0) {
        snprintf(text, sizeof(text),
                 "{\"username\":\"%s\",\"password\":\"" PASSWORD "\"}", self->user);
        self->token[0] = '\0';
        repeat_post(self, "/api/users/login", text);
    } else {
        die("unknown command", 0, self->what);
    }
}

/* --- yardsticks ----------------------------------------------------------------------------- */
static void *
hash_on(void *arg)
{
    uint32_t *count = arg;
    uint64_t until = bench_now_us() + HASH_MS * 1000u;
    struct crypt_data *data = calloc(1, sizeof(*data));

    if (!data)
        abort();
    while (bench_now_us() < until) {
        crypt_r(PASSWORD, "$2b$10$abcdefghijklmnopqrstuu", data);
        (*count)++;
    }
    free(data);
    return NULL;
}

static double
hashes_per_s(uint32_t threads)
{
    pthread_t thread[64];
    uint32_t counts[64] = {0};
    uint64_t from = bench_now_us();
    uint32_t sum = 0;

    for (uint32_t i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, hash_on, &counts[i]);
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        sum += counts[i];
    }
    return sum * 1e6 / (double)(bench_now_us() - from);
}

static void
run_yardstick(const char *dir)
{
    char name[512];
    char page[SYNC_BYTES] = {0};
    bench_hist_t hist = {0};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    snprintf(name, sizeof(name), "%s/yardstick.tmp", dir);
    int fd = open(name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    for (int i = 0; fd >= 0 && i < SYNC_ROUNDS; i++) {
        uint64_t from = bench_now_us();

        if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page) || fdatasync(fd) != 0)
            break;
        bench_hist_add(&hist, bench_now_us() - from);
    }
    if (fd >= 0)
        close(fd);
    unlink(name);
    printf(
        "{\"result\":\"yardstick\",\"cores\":%ld,\"bcrypt_ms\":%.2f,\"bcrypts_per_s\":%.2f,"
        "\"fdatasync_us\":%" PRIu64 "}\n",
        cores, 1000 / hashes_per_s(1), hashes_per_s(cores < 64 ? (uint32_t)cores : 64),
        bench_hist_at(&hist, 0.5));
}

/* --- options -------------------------------------------------------------------------------- */
static void
read_target(load_t *self, const char *text)
{
    char host[64];
    unsigned port;

    self->to.sin_family = AF_INET;
    if (sscanf(text, "%63[0-9.]:%u", host, &port) != 2 ||
        inet_pton(AF_INET, host, &self->to.sin_addr) != 1)
        die("--target wants address:port", 0, text);
    self->to.sin_port = htons((uint16_t)port);
}

static bool
read_number(load_t *self, const char *key, const char *value)
{
    const struct {
        const char *key;
        uint32_t *where;
    } numbers[] = {
        {"--parallel", &self->parallel},
        {"--count", &self->count},
        {"--ms", &self->ms},
        {"--ramp-ms", &self->ramp_ms},
        {"--timeout-s", &self->timeout_s},
        {"--verify", &self->verify},
        {"--viewers", &self->viewers},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(key, numbers[i].key) == 0) {
            *numbers[i].where = (uint32_t)strtoul(value, NULL, 10);
            return true;
        }
    }
    return false;
}

static const char *
read_options(load_t *self, int argc, char **argv)
{
    const char *dir = ".";

    self->what = argv[1];
    for (int i = 2; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--raw") == 0) {
            self->kind = CHAT_RAW;
        } else if (strcmp(argv[i], "--wait") == 0) {
            self->wait = true;
        } else {
            if (strcmp(argv[i], "--target") == 0)
                read_target(self, value);
            else if (strcmp(argv[i], "--model") == 0)
                snprintf(self->model, sizeof(self->model), "%s", value);
            else if (strcmp(argv[i], "--path") == 0)
                self->path = value;
            else if (strcmp(argv[i], "--dir") == 0)
                dir = value;
            else if (!read_number(self, argv[i], value))
                die("unknown option", 0, argv[i]);
            i++;
        }
    }
    return dir;
}

int
main(int argc, char **argv)
{
    static load_t load = {
        .parallel = 1, .viewers = 1, .count = 0, .timeout_s = 120, .path = "/"};
    static const bench_http_calls_t calls = {load_on_body, load_on_end};
    struct rlimit limit;

    if (argc < 2)
        die("usage: see the top of bench_load.c", 0, "");
    const char *dir = read_options(&load, argc, argv);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (strcmp(load.what, "yardstick") == 0) {
        run_yardstick(dir);
        return 0;
    }
    if (load.viewers == 0)
        die("--viewers wants one at least", 0, "");
    load.slots_n = load.parallel * load.viewers;
    load.width = load.parallel;
    if (strcmp(load.what, "chats") == 0 && load.width > SETUP_PARALLEL)
        load.width = SETUP_PARALLEL;
    load.http = bench_http_new(&load.to, load.slots_n, &calls);
    load.slots = calloc(load.slots_n, sizeof(slot_t));
    if (!load.slots)
        abort();
    for (uint32_t i = 0; i < load.slots_n; i++) {
        load.slots[i].load = &load;
        bench_http_conn(load.http, i)->user = &load.slots[i];
    }
    run_what(&load);
    bench_http_destroy(&load.http);
    return load.wrong > 0 ? 1 : 0;
}
