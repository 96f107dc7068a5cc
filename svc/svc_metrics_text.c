/* svc_metrics_text.c - the tables of svc_metrics.c, written down; and what is asked only now: process and health.
 *
 * A family with one label tells all its rows, at zero too, so that a first count is seen as one; of two labels only the
 * first column (the good outcome) and what has been counted. "other" is told when it was needed. A histogram's buckets are read
 * one after the other while others count: its count is their sum, so the two never disagree. */
#include "svc/svc_metrics_text.h"

#include "svc/svc_metrics_private.h"
#include "svc/svc_process.h"

#include <inttypes.h>
#include <stdarg.h>

#define LAST_BYTES 512 /* kept for the last metric */

typedef struct {
    const svc_metrics_about_t *about; /* whose */
    svc_buf_t *out;                   /* where to */
    size_t begin;                     /* of the metric that is being written */
    bool is_full;                     /* it does not fit */
    unsigned left_out;                /* so many did not */
} writer_t;

/* What has no row in svc_metrics.c. */
typedef enum {
    OWN_BUILD,
    OWN_ALIVE,
    OWN_READY,
    OWN_MISSING,
    OWN_START,
    OWN_CPU,
    OWN_RESIDENT,
    OWN_VIRTUAL,
    OWN_THREADS,
    OWN_FDS,
    OWN_FDS_MAX,
    OWN_LEFT_OUT,
    OWN_COUNT
} own_metric;

// clang-format off
static const struct {
    const char *name;     /* as Prometheus has it */
    svc_metric_kind kind; /* see there */
    const char *labels;   /* for the table */
    const char *help;
} own_rows[OWN_COUNT] = {
    [OWN_BUILD]    = {"llmb_build_info",               KIND_GAUGE,   "service, version", "always 1; which build this is"},
    [OWN_ALIVE]    = {"llmb_alive",                    KIND_GAUGE,   "",     "1: every loop turns, as /healthz says"},
    [OWN_READY]    = {"llmb_ready",                    KIND_GAUGE,   "",     "1: it can serve, as /readyz says"},
    [OWN_MISSING]  = {"llmb_missing",                  KIND_GAUGE,   "need", "1: this is away, which the process needs, or works less well without"},
    [OWN_START]    = {"process_start_time_seconds",    KIND_GAUGE,   "",     "when the process started, Unix time"},
    [OWN_CPU]      = {"process_cpu_seconds_total",     KIND_COUNTER, "",     "time on cores, user and system"},
    [OWN_RESIDENT] = {"process_resident_memory_bytes", KIND_GAUGE,   "",     "memory in use"},
    [OWN_VIRTUAL]  = {"process_virtual_memory_bytes",  KIND_GAUGE,   "",     "addresses in use"},
    [OWN_THREADS]  = {"process_threads",               KIND_GAUGE,   "",     "threads"},
    [OWN_FDS]      = {"process_open_fds",              KIND_GAUGE,   "",     "open descriptors"},
    [OWN_FDS_MAX]  = {"process_max_fds",               KIND_GAUGE,   "",     "descriptors that it may open"},
    [OWN_LEFT_OUT] = {"llmb_metrics_left_out",         KIND_GAUGE,   "",     "metrics that did not fit into this answer"},
};

static const struct {
    const char *service;
    unsigned in; /* IN_… */
} services[] = {{"gateway", IN_GATEWAY}, {"auth-svc", IN_AUTH}, {"convo-svc", IN_CONVO}, {"llm-svc", IN_LLM}};

static const char *const kinds[] = {
    [KIND_COUNTER] = "counter", [KIND_GAUGE] = "gauge", [KIND_HISTOGRAM] = "histogram"};
// clang-format on

/* --- lines ------------------------------------------------------------------------------- */

static void put(writer_t *self, const char *fmt, ...) SVC_PRINTF(2, 3);

static void
put(writer_t *self, const char *fmt, ...)
{
    char line[1024];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    SVC_ASSERT(n >= 0 && (size_t)n < sizeof(line));
    if (self->out->n + (size_t)n + LAST_BYTES > self->out->max ||
        svc_buf_add(self->out, line, (size_t)n) != RC_OK)
        self->is_full = true;
}

static void
begin(writer_t *self, const char *name, svc_metric_kind kind, const char *help)
{
    self->begin = self->out->n;
    self->is_full = false;
    put(self, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

static void
end(writer_t *self)
{
    if (!self->is_full)
        return;
    self->out->n = self->begin;
    self->left_out++;
}

/* --- families ---------------------------------------------------------------------------- */

static uint16_t
rows_of(const svc_metrics_t *metrics, svc_label label)
{
    return (uint16_t)atomic_load_explicit(&metrics->labels[label].n,
                                          memory_order_acquire);
}

/* Writes {…} of a row and a column, with room for one label more; nothing when there are none. */
static void
write_labels(const svc_metrics_t *metrics, const svc_family_row_t *family, uint16_t row,
             uint16_t column, const char *le, char *out, size_t size)
{
    const char *texts[3] = {metrics->labels[family->row].texts[row],
                            metrics->labels[family->column].texts[column], le};
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < SVC_COUNT(texts); i++)
        if (texts[i][0] != '\0')
            n += (size_t)snprintf(out + n, size - n, "%c%s", n == 0 ? '{' : ',',
                                  texts[i]);
    if (n > 0)
        snprintf(out + n, size - n, "}");
}

static void
put_histogram(writer_t *self, svc_family which, uint16_t row)
{
    const svc_metrics_t *metrics = self->about->metrics;
    const svc_family_row_t *family = &svc_family_rows[which];
    const svc_bounds_t *bounds = family->bounds;
    char labels[512], le[48];
    uint64_t count = 0;
    double sum = (double)svc_family_read(metrics, which, row, 0, bounds->n + 1) /
                 bounds->unit;

    for (size_t i = 0; i <= bounds->n; i++) {
        count += svc_family_read(metrics, which, row, 0, i);
        if (i < bounds->n)
            snprintf(le, sizeof(le), "le=\"%g\"", (double)bounds->at[i] / bounds->unit);
        else
            snprintf(le, sizeof(le), "le=\"+Inf\"");
        write_labels(metrics, family, row, 0, le, labels, sizeof(labels));
        put(self, "%s_bucket%s %" PRIu64 "\n", family->name, labels, count);
    }
    write_labels(metrics, family, row, 0, "", labels, sizeof(labels));
    put(self, "%s_sum%s %.6f\n", family->name, labels, sum);
    put(self, "%s_count%s %" PRIu64 "\n", family->name, labels, count);
}

static void
put_row(writer_t *self, svc_family which, uint16_t row)
{
    const svc_metrics_t *metrics = self->about->metrics;
    const svc_family_row_t *family = &svc_family_rows[which];
    const uint16_t columns = rows_of(metrics, family->column);
    char labels[512];

    if (family->kind == KIND_HISTOGRAM) {
        if (row > 0 || family->row == SVC_L_NONE ||
            svc_metrics_read(metrics, which, row, 0) != 0)
            put_histogram(self, which, row);
        return;
    }
    for (uint16_t column = 0; column < columns; column++) {
        /* Cores are read one after the other: what was taken off on the second meanwhile may not have been put on the first. */
        const int64_t sum = svc_metrics_read(metrics, which, row, column);
        const int64_t value = sum < 0 ? 0 : sum;
        const bool is_plain = (row > 0 || family->row == SVC_L_NONE) &&
                              (column == 1 || family->column == SVC_L_NONE);

        if (!is_plain && value == 0)
            continue;
        write_labels(metrics, family, row, column, "", labels, sizeof(labels));
        put(self, "%s%s %" PRId64 "\n", family->name, labels, value);
    }
}

/* --- process and health ------------------------------------------------------------------ */

static void
put_own(writer_t *self, own_metric which, double value)
{
    begin(self, own_rows[which].name, own_rows[which].kind, own_rows[which].help);
    put(self, "%s %.15g\n", own_rows[which].name, value);
    end(self);
}

/* Two parts of a process may call a need by one name: a series that stands there twice would cost the whole scrape. */
static void
put_need(void *arg, const char *name, bool is_missing)
{
    const writer_t *self = arg;
    char label[64];
    const int n = snprintf(label, sizeof(label), "{need=\"%s\"}", name);

    SVC_ASSERT(n > 0 && (size_t)n < sizeof(label));
    if (memmem(self->out->p + self->begin, self->out->n - self->begin, label,
               (size_t)n) == NULL)
        put(arg, "%s{need=\"%s\"} %d\n", own_rows[OWN_MISSING].name, name,
            is_missing ? 1 : 0);
}

static void
put_health(writer_t *self)
{
    svc_health_t *health = self->about->health;
    svc_buf_t told;
    bool is_alive, is_ready;

    svc_buf_init(&told, SVC_HEALTH_MAX_BYTES);
    is_alive = svc_health_tell_alive(health, &told);
    svc_buf_clear(&told);
    is_ready = svc_health_tell_ready(health, &told);
    svc_buf_fini(&told);
    put_own(self, OWN_ALIVE, is_alive ? 1 : 0);
    put_own(self, OWN_READY, is_ready ? 1 : 0);
    begin(self, own_rows[OWN_MISSING].name, own_rows[OWN_MISSING].kind,
          own_rows[OWN_MISSING].help);
    svc_health_each_need(health, put_need, self);
    end(self);
}

static void
put_process(writer_t *self)
{
    svc_process_t process;

    svc_process_read(&process);
    put_own(self, OWN_START, (double)self->about->metrics->born_ms / 1000);
    put_own(self, OWN_CPU, process.cpu_s);
    put_own(self, OWN_RESIDENT, (double)process.resident_bytes);
    put_own(self, OWN_VIRTUAL, (double)process.virtual_bytes);
    put_own(self, OWN_THREADS, (double)process.threads);
    put_own(self, OWN_FDS, (double)process.fds);
    put_own(self, OWN_FDS_MAX, (double)process.fds_max);
}

/* --- all of it --------------------------------------------------------------------------- */

/* What a service has; one that we do not know has everything. */
static unsigned
mask_of(const char *service)
{
    for (size_t i = 0; i < SVC_COUNT(services); i++)
        if (strcmp(services[i].service, service) == 0)
            return services[i].in;
    return IN_ALL;
}

void
svc_metrics_text(const svc_metrics_about_t *about, svc_buf_t *out)
{
    writer_t self = {.about = about, .out = out};
    const unsigned in = mask_of(about->service);

    begin(&self, own_rows[OWN_BUILD].name, KIND_GAUGE, own_rows[OWN_BUILD].help);
    put(&self, "%s{service=\"%s\",version=\"%s\"} 1\n", own_rows[OWN_BUILD].name,
        about->service, about->version);
    end(&self);
    put_health(&self);
    put_process(&self);
    for (size_t i = 0; i < SVC_M_COUNT; i++) {
        const svc_counter_row_t *row = &svc_counter_rows[i];
        char name[96];

        if ((row->services & in) == 0)
            continue;
        snprintf(name, sizeof(name), "llmb_%s_total", row->name);
        begin(&self, name, KIND_COUNTER, row->help);
        put(&self, "%s %" PRIu64 "\n", name,
            svc_metrics_get(about->metrics, (svc_metric)i));
        end(&self);
    }
    for (size_t i = 0; i < SVC_F_COUNT; i++) {
        const svc_family_row_t *family = &svc_family_rows[i];

        if ((family->services & in) == 0)
            continue;
        begin(&self, family->name, family->kind, family->help);
        for (uint16_t row = 0; row < rows_of(about->metrics, family->row); row++)
            put_row(&self, (svc_family)i, row);
        end(&self);
    }
    out->max += LAST_BYTES; /* put() kept them free */
    put_own(&self, OWN_LEFT_OUT, self.left_out);
    out->max -= LAST_BYTES;
}

/* --- the table --------------------------------------------------------------------------- */

static void
print_row(FILE *out, const char *name, svc_metric_kind kind, const char *labels,
          unsigned in, const char *help)
{
    const char *comma = "";

    fprintf(out, "| `%s` | %s | %s | ", name, kinds[kind], labels);
    for (size_t i = 0; i < SVC_COUNT(services) && in != IN_ALL; i++)
        if ((services[i].in & in) != 0) {
            fprintf(out, "%s%s", comma, services[i].service);
            comma = ", ";
        }
    fprintf(out, "%s | %s |\n", in == IN_ALL ? "all" : "", help);
}

void
svc_metrics_print_table(FILE *out)
{
    char text[128];

    fprintf(out, "| metric | kind | labels | service | what it tells |\n"
                 "| --- | --- | --- | --- | --- |\n");
    for (size_t i = 0; i < SVC_F_COUNT; i++) {
        const svc_family_row_t *row = &svc_family_rows[i];
        const char *names[3] = {svc_label_rows[row->row].names[0],
                                svc_label_rows[row->row].names[1],
                                svc_label_rows[row->column].names[0]};
        size_t n = 0;

        text[0] = '\0';
        for (size_t k = 0; k < SVC_COUNT(names); k++)
            if (names[k] != NULL)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s",
                                      n == 0 ? "" : ", ", names[k]);
        print_row(out, row->name, row->kind, text, row->services, row->help);
    }
    for (size_t i = 0; i < SVC_M_COUNT; i++) {
        if (svc_counter_rows[i].services == 0)
            continue;
        snprintf(text, sizeof(text), "llmb_%s_total", svc_counter_rows[i].name);
        print_row(out, text, KIND_COUNTER, "", svc_counter_rows[i].services,
                  svc_counter_rows[i].help);
    }
    for (size_t i = 0; i < OWN_COUNT; i++)
        print_row(out, own_rows[i].name, own_rows[i].kind, own_rows[i].labels, IN_ALL,
                  own_rows[i].help);
}
