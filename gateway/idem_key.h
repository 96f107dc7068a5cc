/* idem_key.h - what a client's Idempotency-Key becomes on the bus.
 *
 * A client that does not know whether its request has arrived sends it again under the
 * same key and gets the same result. The key is the client's to choose, 1 to 255 visible
 * ASCII characters; services get a hash of it, so that it is short and says nothing, and
 * so that one key means different things to different operations. Services know it per
 * user. Reentrant. */
#ifndef GATEWAY_IDEM_KEY_H
#define GATEWAY_IDEM_KEY_H

#include "proto/base.h"

#define IDEM_KEY_BYTES        32  /* of the hash: PROTO_KEY_MAX_BYTES */
#define IDEM_KEY_TEXT_MAX     255 /* of the header: enough for any id that people make */
#define IDEM_KEY_RANDOM_BYTES 16  /* of a key that we make ourselves */

typedef enum { IDEM_CHAT, IDEM_RETRY, IDEM_CREATE } idem_purpose;

/* Hashes a key for an operation. False: it is none, `out` is unchanged. */
bool idem_key_make(svc_str text, idem_purpose purpose,
                   uint8_t out[IDEM_KEY_BYTES]) SVC_MUST_CHECK;

#endif
