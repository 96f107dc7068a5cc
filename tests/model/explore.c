/* explore.c - walks through every state of the model, breadth first, and tells the shortest way to a wrong one.
 *
 *   explore             all states by the rules, then each rule taken out: that must be found
 *   explore switch…     all states with these switches (see `switches` below)
 *
 * States are kept one behind the other and found by a hash table of their numbers. Edges that come
 * about by themselves are kept, too: from every state a way along them must lead to an answer that
 * has ended and that every viewer has all of, else it could hang. */
#include "model.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STATES_MAX 60000000u /* more is a mistake in the model */

typedef struct {
    uint32_t parent; /* its number */
    uint8_t step, who;
} origin_t;

typedef struct {
    state_t *states;
    origin_t *origins; /* how each was reached first */
    uint32_t n, cap;
    uint32_t *table; /* number + 1 by hash; 0: free */
    uint64_t mask;
    uint32_t *edges; /* fair successors, state by state */
    uint64_t n_edges, cap_edges;
    uint64_t *first_edge; /* by state */
    uint64_t n_steps;
    uint32_t now; /* being expanded */
    const char *wrong;
    state_t wrong_state; /* the successor of `now` that is wrong */
    origin_t wrong_by;
} explorer_t;

static void
die(const char *why)
{
    fprintf(stderr, "explore: %s\n", why);
    exit(2);
}

static void *
grown(void *p, uint64_t n, size_t size)
{
    p = realloc(p, n * size);
    if (p == NULL)
        die("out of memory");
    return p;
}

static uint64_t
hash_of(const state_t *s)
{
    const unsigned char *p = (const unsigned char *)s;
    uint64_t h = 0x9e3779b97f4a7c15u, word;
    size_t at = 0;

    for (; at + 8 <= sizeof(*s); at += 8) {
        memcpy(&word, p + at, 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    for (; at < sizeof(*s); at++)
        h = (h ^ p[at]) * 0x100000001b3u;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

static void
make_room(explorer_t *self)
{
    self->cap = self->cap == 0 ? 1u << 16 : self->cap * 2;
    if (self->cap > 2 * STATES_MAX)
        die("too many states");
    self->states = grown(self->states, self->cap, sizeof(*self->states));
    self->origins = grown(self->origins, self->cap, sizeof(*self->origins));
    self->first_edge = grown(self->first_edge, self->cap + 1ull,
                             sizeof(*self->first_edge));
    self->mask = self->cap * 2ull - 1;
    free(self->table);
    self->table = calloc(self->mask + 1, sizeof(*self->table));
    if (self->table == NULL)
        die("out of memory");
    for (uint32_t i = 0; i < self->n; i++) {
        uint64_t at = hash_of(&self->states[i]) & self->mask;

        while (self->table[at] != 0)
            at = (at + 1) & self->mask;
        self->table[at] = i + 1;
    }
}

/* The number of a state, a new one if it was never seen. */
static uint32_t
number_of(explorer_t *self, const state_t *s, origin_t origin)
{
    uint64_t at;

    if (self->n == self->cap)
        make_room(self);
    at = hash_of(s) & self->mask;
    for (; self->table[at] != 0; at = (at + 1) & self->mask)
        if (memcmp(&self->states[self->table[at] - 1], s, sizeof(*s)) == 0)
            return self->table[at] - 1;
    self->table[at] = self->n + 1;
    self->states[self->n] = *s;
    self->origins[self->n] = origin;
    return self->n++;
}

static void
on_next(visit_t *visit, const state_t *next, unsigned step, unsigned who, bool is_fair)
{
    explorer_t *self = visit->arg;
    origin_t origin = {self->now, (uint8_t)step, (uint8_t)who};

    self->n_steps++;
    if (self->wrong != NULL)
        return;
    self->wrong = visit->broken;
    if (self->wrong == NULL)
        self->wrong = model_wrong_step(visit->from, next);
    if (self->wrong == NULL)
        self->wrong = model_wrong(next);
    if (self->wrong != NULL) {
        self->wrong_state = *next;
        self->wrong_by = origin;
        return;
    }
    uint32_t number = number_of(self, next, origin);
    if (!is_fair || number == self->now)
        return;
    if (self->n_edges == self->cap_edges) {
        self->cap_edges = self->cap_edges == 0 ? 1u << 18 : self->cap_edges * 2;
        self->edges = grown(self->edges, self->cap_edges, sizeof(*self->edges));
    }
    self->edges[self->n_edges++] = number;
}

static void
print_way(const explorer_t *self, uint32_t number)
{
    if (number == 0)
        return;
    print_way(self, self->origins[number].parent);
    model_print(self->origins[number].step, self->origins[number].who,
                &self->states[number]);
}

/* Marks every state from which the answer comes to its end by itself; gives one that is not, or n. */
static uint32_t
find_hanging(const explorer_t *self)
{
    uint8_t *good = grown(NULL, self->n, 1);
    uint32_t hanging = self->n;
    bool changed = true;

    for (uint32_t i = 0; i < self->n; i++)
        good[i] = model_is_over(&self->states[i]);
    while (changed) {
        changed = false;
        for (uint32_t i = self->n; i-- > 0;)
            for (uint64_t e = self->first_edge[i];
                 !good[i] && e < self->first_edge[i + 1]; e++)
                if (good[self->edges[e]])
                    good[i] = changed = true;
    }
    for (uint32_t i = 0; i < self->n && hanging == self->n; i++)
        if (!good[i])
            hanging = i;
    free(good);
    return hanging;
}

static void
walk(explorer_t *self, const rules_t *rules)
{
    state_t begin = model_begin();

    (void)number_of(self, &begin, (origin_t){0, 0, 0});
    for (self->now = 0; self->now < self->n && self->wrong == NULL; self->now++) {
        state_t from = self->states[self->now]; /* they move when there are more */
        visit_t visit = {.rules = rules, .from = &from, .fn = on_next, .arg = self};

        self->first_edge[self->now] = self->n_edges;
        model_next(&visit);
        self->first_edge[self->now + 1] = self->n_edges;
    }
}

/* Explores; prints what it has found, and gives it; NULL: nothing is wrong. */
static const char *
explore(const char *name, const rules_t *rules)
{
    explorer_t self = {0};
    clock_t begun = clock();
    uint32_t hanging;

    walk(&self, rules);
    hanging = self.wrong == NULL ? find_hanging(&self) : self.n;
    if (hanging < self.n)
        self.wrong = "an answer can hang: from here it does not end by itself";
    printf("%s: %u states, %llu steps, %.1f s: %s\n", name, self.n,
           (unsigned long long)self.n_steps, (double)(clock() - begun) / CLOCKS_PER_SEC,
           self.wrong == NULL ? "nothing is wrong" : self.wrong);
    if (hanging < self.n) {
        print_way(&self, hanging);
    } else if (self.wrong != NULL) {
        print_way(&self, self.wrong_by.parent);
        model_print(self.wrong_by.step, self.wrong_by.who, &self.wrong_state);
    }
    fflush(stdout);
    free(self.states);
    free(self.origins);
    free(self.table);
    free(self.edges);
    free(self.first_edge);
    return self.wrong;
}

/* What can be taken out, and what can be had smaller. */
// clang-format off
static const struct {
    const char *name;
    size_t at; /* of a bool in rules_t */
    const char *what;
} switches[] = {
    {"no-gate",     offsetof(rules_t, no_gate),     "llm-svc shows text before its journal has begun"},
    {"no-fence",    offsetof(rules_t, no_fence),    "frames, pieces, acks, tails and steps of another fence count"},
    {"no-term",     offsetof(rules_t, no_term),     "an owner that was replaced may still write and attach"},
    {"no-adopt",    offsetof(rules_t, no_adopt),    "a take-over whose reply is lost is not looked for"},
    {"stale-tells", offsetof(rules_t, stale_tells), "an owner whose lease is over still tells what it thinks"},
    {"row-counts",  offsetof(rules_t, row_counts),  "who has heard of the row only is shown what is not stored"},
    {"end-unloses", offsetof(rules_t, end_unloses), "after the tails were taken, `lost` is not told any more"},
    {"lost-shows",  offsetof(rules_t, lost_shows),  "what was held before a first status that says `lost` is shown"},
};
// clang-format on

enum { N_SWITCHES = sizeof(switches) / sizeof(switches[0]) };

static void
turn_on(rules_t *rules, size_t which)
{
    *(bool *)((char *)rules + switches[which].at) = true;
}

/* The rules as they are, then without each of them. Gives how many of these runs were as they must be. */
static unsigned
explore_all(void)
{
    unsigned good = 0;

    good += explore("all rules, 3 owners, 1 viewer",
                    &(rules_t){.terms = 3, .viewers = 1}) == NULL;
    good += explore("all rules, 2 owners, 2 viewers",
                    &(rules_t){.terms = 2, .viewers = 2}) == NULL;
    for (size_t k = 0; k < N_SWITCHES; k++) {
        rules_t rules = {.terms = 2, .viewers = 1};

        printf("\n%s, so this must be found:\n", switches[k].what);
        turn_on(&rules, k);
        good += explore(switches[k].name, &rules) != NULL;
    }
    return good;
}

int
main(int argc, char **argv)
{
    rules_t rules = {.terms = 2, .viewers = 1};

    if (argc == 1) {
        unsigned good = explore_all();

        printf("\n%u passed, %u failed\n", good, N_SWITCHES + 2 - good);
        return good == N_SWITCHES + 2 ? 0 : 1;
    }
    for (int i = 1; i < argc; i++) {
        size_t k = 0;

        while (k < N_SWITCHES && strcmp(argv[i], switches[k].name) != 0)
            k++;
        if (k < N_SWITCHES)
            turn_on(&rules, k);
        else if (strncmp(argv[i], "owners=", 7) == 0)
            rules.terms = (unsigned)atoi(argv[i] + 7);
        else if (strncmp(argv[i], "viewers=", 8) == 0)
            rules.viewers = (unsigned)atoi(argv[i] + 8);
        else
            die("switches are the names in its output, owners=1..3 and viewers=0..2");
    }
    return explore("so", &rules) == NULL ? 0 : 1;
}
