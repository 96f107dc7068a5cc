/* provider_openai.h - a provider that speaks OpenAI's POST …/chat/completions, over the relay.
 *
 * Which one (address, key, certificates, time-outs) is a row of the configuration.
 * Answers come as an event stream, or whole from those that do not stream. Whatever goes
 * wrong becomes one ending: a result code and one sentence, the provider's own where it
 * has one, never a key. Thread: the loop's. */
#ifndef LLM_SVC_PROVIDER_OPENAI_H
#define LLM_SVC_PROVIDER_OPENAI_H

#include "provider.h"
#include "relay.h"

/* Gives the provider. Keeps relay and config (both outlive it). plain: tests only, every chunk is parsed. */
provider_t *provider_openai_new(relay_t *relay, const svc_provider_t *config, bool plain);

#endif
