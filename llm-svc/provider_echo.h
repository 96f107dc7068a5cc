/* provider_echo.h - the built-in model "echo": answers with the question, word by word.
 *
 * So that the whole path can be tried with no key and no network. The pieces together
 * are the last user message exactly, white space and all (U+0000 becomes U+FFFD, as
 * everywhere); a word comes every few milliseconds, long texts in larger pieces, so that
 * streaming is visible and a huge question does not take for ever. Thread: the loop's. */
#ifndef LLM_SVC_PROVIDER_ECHO_H
#define LLM_SVC_PROVIDER_ECHO_H

#include "provider.h"
#include "svc/svc_loop.h"

#define PROVIDER_ECHO_MODEL     "echo"
#define PROVIDER_ECHO_STEP_MS   15  /* what llm-svc takes between two pieces */
#define PROVIDER_ECHO_STEPS_MAX 200 /* pieces of one answer: 3 s, or longer pieces */

/* Gives the provider, which takes `step_ms` between two pieces. Keeps `loop`. */
provider_t *provider_echo_new(svc_loop_t *loop, uint64_t step_ms);

#endif
