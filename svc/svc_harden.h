/* svc_harden.h - what a process gives up at its start, so that whoever takes it over gets less.
 *
 * No program can be started from it and no other process looked into (a filter of system calls, which
 * denies what no service ever needs and nothing else), no privilege can come back, and what
 * is in its memory, secrets included, is written to no core file and shown to no debugger of the
 * same user. Thread: main, before there is another one: all that it makes inherit it. */
#ifndef SVC_SVC_HARDEN_H
#define SVC_SVC_HARDEN_H

#include "proto/base.h"

/* Does all of that. is_debuggable: but core files and debuggers. NULL, or a sentence to warn with: what this kernel would not do (the
 * process runs all the same). */
const char *svc_harden(bool is_debuggable);

/* True when the system call filter is part of this build: not with sanitizers, which trace themselves. */
bool svc_harden_has_filter(void);

#endif
