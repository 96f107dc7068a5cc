/* client_socket.h - what is set and asked at the TCP socket of a client.
 *
 * Failures are not told: each of it makes things better where it works. All that is kept
 * is in the kernel.
 * Reentrant. */
#ifndef GATEWAY_CLIENT_SOCKET_H
#define GATEWAY_CLIENT_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For every client: what is written leaves at once, and who has vanished is noticed some day. */
void client_socket_welcome(int fd);

/* For streams: bounds what the kernel holds for a client that does not read to `backlog` bytes, its own
 * overhead included, and lets it ask a silent client whether it is still there, so that one that vanished
 * is noticed within `silence_s`. */
void client_socket_prepare_stream(int fd, uint32_t silence_s, size_t backlog);

/* Bytes that the client has not acknowledged. */
int client_socket_unsent(int fd);

/* True when something is in flight to the client and it has acknowledged nothing for `silence_s`. Nothing is in
 * flight to one whose receive buffer is full. */
bool client_socket_is_silent(int fd, uint32_t silence_s);

#endif
