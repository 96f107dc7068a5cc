# Makefile - builds, runs and tests everything; `make help` lists the targets.
#
# One file, out of source: objects and binaries of a build go to $(O)/$(BUILD), so builds never mix.
# The sources are found by wildcard: a folder of the tree is an archive, main.c makes it a program.
#   proto/ -> libproto.a   svc/ -> libsvc.a   <service>/ -> lib<service>.a + main.c = <service>
#   tests/unit/<folder>/test_*.c, tests/fuzz/fuzz_*.c, tests/support/*.c -> one binary each
O     ?= build
BUILD ?= release
OUT   := $(O)/$(BUILD)
JOBS  ?= $(shell nproc)

SERVICES := gateway auth-svc convo-svc llm-svc
FOLDERS  := proto svc $(SERVICES)

.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory
# A make inside this one runs in parallel, unless the caller has already said how many jobs.
PAR = $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

# --- libraries (asked for when first used: on a fresh machine pkg-config comes with install-deps) ---
# libpq's header is used by all, the library is loaded by who needs it (svc_pg_lib.c); tests that speak to a server
# themselves are linked with it.
PKGS := libzmq msgpack libmicrohttpd gnutls libcurl json-c sqlite3 hiredis libjwt libcrypt yaml-0.1 \
        libsodium
PKG_CFLAGS = $(eval PKG_CFLAGS := $$(patsubst -I%,-isystem %,$$(shell pkg-config --cflags $(PKGS) libpq)))$(PKG_CFLAGS)
PKG_LIBS   = $(eval PKG_LIBS := $$(shell pkg-config --libs $(PKGS)))$(PKG_LIBS)
LDLIBS     = -Wl,--as-needed $(PKG_LIBS) -lpthread -ldl -lm

# --- compiler and flags -----------------------------------------------------------------------------
ifeq ($(BUILD),fuzz)
CC := clang
endif
ifeq ($(origin CC),default)
CC := gcc
endif

WARN   := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wvla
SAN_AU := address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

# What makes a hole harder to use; tests/lint/09_hardening.sh looks whether the binaries have it.
MACHINE = $(eval MACHINE := $$(shell $(CC) -dumpmachine))$(MACHINE)
BRANCHES = $(if $(filter x86_64%,$(MACHINE)),-fcf-protection)$(if $(filter aarch64%,$(MACHINE)),-mbranch-protection=standard)
CFLAGS_release   = -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fstack-clash-protection $(BRANCHES) -fPIE
LDFLAGS_release := -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
CFLAGS_debug    := -O1 -g -fno-omit-frame-pointer
LDFLAGS_debug   :=
CFLAGS_asan     := -O1 -g -fsanitize=$(SAN_AU)
LDFLAGS_asan    := -fsanitize=$(SAN_AU)
CFLAGS_tsan     := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
LDFLAGS_tsan    := -fsanitize=thread
CFLAGS_fuzz     := -O1 -g -fsanitize=fuzzer-no-link,$(SAN_AU)
LDFLAGS_fuzz    := -fsanitize=fuzzer,$(SAN_AU)
CFLAGS_cov      := -O0 -g --coverage
LDFLAGS_cov     := --coverage
ifeq ($(filter $(BUILD),release debug asan tsan fuzz cov),)
$(error BUILD is one of release debug asan tsan fuzz cov, not '$(BUILD)')
endif

ALL_CFLAGS = -std=c11 -D_GNU_SOURCE $(WARN) -I. $(PKG_CFLAGS) $(CFLAGS_$(BUILD)) -pthread $(CFLAGS)
ALL_LDFLAGS = $(LDFLAGS_$(BUILD)) -pthread $(LDFLAGS)

# --- what there is ----------------------------------------------------------------------------------
obj      = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
sources  = $(sort $(filter-out %/main.c,$(wildcard $(1)/*.c)))
PROGRAMS := $(foreach s,$(SERVICES),$(if $(wildcard $(s)/main.c),$(OUT)/$(s)))
BASE     := $(OUT)/libsvc.a $(OUT)/libproto.a
UNITS    := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard tests/unit/*/test_*.c)))
FUZZERS  := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
TOOLS    := $(patsubst %.c,$(OUT)/%,$(sort $(wildcard tests/support/*.c)))
PRELOADS := $(patsubst %.c,$(OUT)/%.so,$(sort $(wildcard tests/support/preload/*.c)))
MODEL    := $(OUT)/tests/model/explore
BENCH    := $(OUT)/tests/bench/bench_provider $(OUT)/tests/bench/bench_load
SOURCES  := $(sort $(foreach f,$(FOLDERS),$(wildcard $(f)/*.c)) $(wildcard tests/unit/*/*.c \
              tests/fuzz/*.c tests/support/*.c tests/support/preload/*.c tests/bench/*.c tests/model/*.c))

# --- rules ------------------------------------------------------------------------------------------
# One short line a file; V=1 shows the commands.
ifneq ($(V),1)
Q = @printf '%-5s %s\n' $(1) $(patsubst $(OUT)/%,%,$(2));
endif

.PHONY: all
all: $(PROGRAMS) ## build the four services into build/release (BUILD=debug|release|asan|tsan|fuzz|cov, CC=clang)

$(OUT)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call Q,CC,$<)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

define archive
$(OUT)/lib$(1).a: $(call obj,$(call sources,$(1)))
	@mkdir -p $$(@D)
	@rm -f $$@
	$$(call Q,AR,$$@)ar rcs $$@ $$^
endef
$(foreach f,$(FOLDERS),$(eval $(call archive,$(f))))

define program
$(OUT)/$(1): $(OUT)/obj/$(1)/main.o $(OUT)/lib$(1).a $(BASE)
	$$(call Q,LINK,$$@)$$(CC) $$(ALL_LDFLAGS) $$^ $$(LDLIBS) -o $$@
endef
$(foreach s,$(SERVICES),$(eval $(call program,$(s))))

# A unit test stands on its own folder's archive and on what is below it.
define unit
$(OUT)/$(basename $(1)): $(call obj,$(1)) $(if $(filter $(2),$(SERVICES)),$(OUT)/lib$(2).a) $(BASE)
	@mkdir -p $$(@D)
	$$(call Q,LINK,$$@)$$(CC) $$(ALL_LDFLAGS) $$^ $$(LDLIBS) -lpq -lcmocka -o $$@
endef
$(foreach t,$(wildcard tests/unit/*/test_*.c),$(eval $(call unit,$(t),$(notdir $(patsubst %/,%,$(dir $(t)))))))

# A fuzz target names the service folders that it needs in a comment: `links: gateway`.
define fuzzer
$(OUT)/$(basename $(1)): $(call obj,$(1)) \
  $(patsubst %,$(OUT)/lib%.a,$(filter $(SERVICES),$(shell sed -n '1,15s/.*links: *\([a-z -]*\).*/\1/p' $(1)))) $(BASE)
	@mkdir -p $$(@D)
	$$(call Q,LINK,$$@)$$(CC) $$(ALL_LDFLAGS) $$^ $$(LDLIBS) -o $$@
endef
$(foreach t,$(wildcard tests/fuzz/fuzz_*.c),$(eval $(call fuzzer,$(t))))

$(TOOLS): $(OUT)/tests/support/%: $(OUT)/obj/tests/support/%.o $(BASE)
	@mkdir -p $(@D)
	$(call Q,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ $(LDLIBS) -o $@

# What a story loads into a service from outside: a library that stands on nothing.
$(PRELOADS): $(OUT)/%.so: %.c
	@mkdir -p $(@D)
	$(call Q,LINK,$@)$(CC) -std=c11 -D_GNU_SOURCE $(WARN) -O2 -shared -fPIC $< -o $@

# The bench's own two programs stand on nothing of ours, so that what it measures cannot bend it.
bench_obj = $(patsubst %,$(OUT)/obj/tests/bench/bench_%.o,$(1))
$(OUT)/tests/bench/bench_provider: $(call bench_obj,provider text)
$(OUT)/tests/bench/bench_load: $(call bench_obj,load run chat http hist text)
$(BENCH):
	@mkdir -p $(@D)
	$(call Q,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ -lcrypt -lpthread -o $@

# Neither does the model; its states are made of counters that never leave a byte.
$(OUT)/obj/tests/model/%.o: ALL_CFLAGS += -Wno-conversion
$(MODEL): $(call obj,$(wildcard tests/model/*.c))
	@mkdir -p $(@D)
	$(call Q,LINK,$@)$(CC) $(ALL_LDFLAGS) $^ -o $@

# The version is known to one file only; its stamp changes when `git describe` says something else.
VERSION = $(shell GIT_OPTIONAL_LOCKS=0 git describe --always --dirty 2>/dev/null || cat VERSION 2>/dev/null || echo dev)
$(OUT)/obj/svc/svc_main.o: $(OUT)/version
$(OUT)/obj/svc/svc_main.o: ALL_CFLAGS += -DSVC_VERSION='"$(shell cat $(OUT)/version)"'
$(OUT)/version: FORCE
	@mkdir -p $(@D)
	@v='$(VERSION)'; [ "$$v" = "$$(cat $@ 2>/dev/null)" ] || echo "$$v" > $@
.PHONY: FORCE
FORCE:

-include $(patsubst %.c,$(OUT)/obj/%.d,$(SOURCES))

# --- run and test -----------------------------------------------------------------------------------
.PHONY: run test
run: ## install what is missing, build, start the four services (CONFIG=path/to/config.yaml)
	@scripts/install-deps run
	@mkdir -p $(O)
	@flock $(O)/.building $(MAKE) $(PAR) all # another stack may be starting from this folder
	@exec scripts/run-local --bin $(OUT) $(CONFIG)

.PHONY: backup restore
backup: ## write users, conversations and secrets to a new folder, also while the services run (DIR=, CONFIG=)
	@scripts/backup --bin $(OUT) $(if $(CONFIG),--config '$(CONFIG)') $(if $(DIR),'$(DIR)')

restore: ## put a backup in its place again, while the services do not run (FROM=the folder, CONFIG=)
	@scripts/restore --bin $(OUT) $(if $(CONFIG),--config '$(CONFIG)') '$(FROM)'

test: ## install what is missing, build, run every test; the last line is `N passed, N failed`
	@scripts/install-deps test
	@$(MAKE) $(PAR) all units tools
	@tests/support/run_tests $(OUT) units stories

.PHONY: units tools fuzzers check check-story check-plain check-asan check-tsan fuzz-short
units: $(UNITS)
tools: $(TOOLS) $(PRELOADS)
fuzzers: $(FUZZERS)

check: ## the unit tests (some of them: UNIT=svc/test_svc_buf, UNIT=proto/)
	@$(MAKE) $(PAR) units
	@tests/support/run_tests $(OUT) units $(UNIT)

check-story: ## the story tests: the whole system, black box (one of them: STORY=chat)
	@$(MAKE) $(PAR) all tools
	@tests/support/run_tests $(OUT) stories $(STORY)

check-plain: ## the stories with every special fast path switched off
	@$(MAKE) $(PAR) all tools
	@LLMB_STORY_PLAIN=1 tests/support/run_tests $(OUT) stories $(STORY)

check-asan: ## units and stories with the address, undefined behaviour and leak sanitizers
	@$(MAKE) $(PAR) BUILD=asan all units tools
	@tests/support/run_tests $(O)/asan units stories

check-tsan: ## units and the concurrency story with the thread sanitizer
	@$(MAKE) $(PAR) BUILD=tsan all units tools
	@tests/support/run_tests $(O)/tsan units stories concurrency

fuzz-short: ## every fuzz target for 20 s (FUZZ_SECONDS) from its corpus
	@$(MAKE) $(PAR) BUILD=fuzz fuzzers
	@tests/support/run_fuzz $(O)/fuzz

.PHONY: model
model: ## every state that the stream protocol can get into, and what goes wrong without each of its rules
	@$(MAKE) $(PAR) $(MODEL)
	@$(MODEL)

.PHONY: k8s-test
k8s-test: ## the manifests of deploy/k8s, rendered and checked without a cluster
	@scripts/install-deps k8s
	@$(MAKE) $(PAR) all
	@LLMB_BIN_DIR=$(OUT) tests/k8s/run

.PHONY: compose-test
compose-test: ## the stack of docker-compose.yml on a real engine: stories, kills, scaling, rolling updates (LLMB_VERSION= images that are there)
	@scripts/install-deps compose
	@LLMB_VERSION='$(LLMB_VERSION)' tests/compose/run

.PHONY: bench bench-quick
bench: ## speed, in five rounds beside a bare nginx: a table, and build/bench.json
	@scripts/install-deps all
	@$(MAKE) $(PAR) all $(BENCH)
	@tests/bench/run_bench $(OUT)

bench-quick: ## the same in under a minute; fails only when a byte is wrong
	@scripts/install-deps all
	@$(MAKE) $(PAR) all $(BENCH)
	@tests/bench/run_bench $(OUT) --quick

.PHONY: chaos chaos-short
CHAOS = node --max-old-space-size=4096 tests/chaos/chaos.mjs
chaos: ## 10 minutes of kills, freezes, drains and outages under load, every byte compared (SEED=, DURATION= in s, CLIENTS=)
	@scripts/install-deps test
	@$(MAKE) $(PAR) all
	@LLMB_BIN_DIR=$(OUT) SEED=$(SEED) DURATION=$(DURATION) CLIENTS=$(CLIENTS) $(CHAOS)

chaos-short: ## the same, in at most 5 minutes
	@scripts/install-deps test
	@$(MAKE) $(PAR) all
	@LLMB_BIN_DIR=$(OUT) SEED=$(or $(SEED),1) DURATION=$(or $(DURATION),100) CLIENTS=$(or $(CLIENTS),150) GAP=1200 $(CHAOS)

.PHONY: images
images: ## container images of the services (LLMB_VERSION= the tag, IMAGE_BUILD_ARGS= more for each docker build)
	@LLMB_VERSION='$(LLMB_VERSION)' IMAGE_BUILD_ARGS='$(IMAGE_BUILD_ARGS)' scripts/build-images

# --- house keeping ----------------------------------------------------------------------------------
C_FILES := $(sort $(foreach f,$(FOLDERS),$(wildcard $(f)/*.[ch])) \
             $(wildcard tests/unit/*/*.[ch] tests/fuzz/*.[ch] tests/support/*.[ch] tests/support/preload/*.c tests/bench/*.[ch] \
             tests/model/*.[ch]))

.PHONY: lint fmt cov compile_commands.json clean help
lint: ## formatting, static analysis and the house rules
	@$(MAKE) $(PAR) all
	@for s in tests/lint/*.sh; do OUT=$(OUT) JOBS=$(JOBS) $$s || bad=1; done; [ -z "$$bad" ]

fmt: ## format every C file, write the configuration table into the README
	@clang-format-14 -i $(C_FILES)
	@$(MAKE) $(PAR) all
	@OUT=$(OUT) tests/lint/04_config_table.sh --write

cov: ## line coverage of the unit and story tests, one line a file
	@$(MAKE) $(PAR) BUILD=cov all units tools
	@find $(O)/cov -name '*.gcda' -delete
	@tests/support/run_tests $(O)/cov units stories
	@tests/support/coverage $(O)/cov

compile_commands.json: ## the compilation database for editors and clang-tidy
	@{ echo '['; sep=''; for f in $(SOURCES); do \
	    printf '%s{"directory": "%s", "file": "%s", "command": "%s"}' "$$sep" '$(CURDIR)' "$$f" \
	      '$(CC) $(ALL_CFLAGS) -c '"$$f"; sep=$$(printf ',\nx'); sep=$${sep%x}; done; echo; echo ']'; } > $@

clean: ## remove everything that was built
	rm -rf $(O) compile_commands.json

help: ## this list
	@awk -F ':.*## ' '/^[a-z_.-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
