/* refusal.c - sends the words of the gate, under an id.
 *
 * The peer of the line is who holds the connection: what a proxy says about its client stands in
 * headers that were not understood. Only the status is told of what was sent: bytes that are no
 * request have no place in a log. */
#include "refusal.h"

#include "proto/proto.h"
#include "svc/svc_text.h"

#include <sys/socket.h>

static void
log_refusal(const refusals_t *self, svc_str trace, gate_verdict why,
            const client_addr_t *peer)
{
    static const char *const statuses[] = {[GATE_NO_HTTP] = "400",
                                           [GATE_TOO_BIG] = "431",
                                           [GATE_BAD_HEADER] = "400",
                                           [GATE_BAD_LENGTH] = "400"};
    char client[CLIENT_ADDR_TEXT_BYTES];

    client_addr_text(peer, client);
    svc_log_request(self->log, &(svc_log_request_t){.trace = trace,
                                                    .op = "(refused)",
                                                    .status = statuses[why],
                                                    .peer = client});
}

void
refusal_send(refusals_t *self, int fd, gate_verdict why, const client_addr_t *peer)
{
    uint8_t trace[PROTO_TRACE_BYTES];
    const svc_str id = {(const char *)trace, sizeof trace};
    char hex[2 * PROTO_TRACE_BYTES + 1] = "", text[GATE_REFUSAL_BYTES];

    if (why != GATE_FULL) {
        svc_ids_next(&self->traces, trace);
        svc_hex(id.p, id.n, hex);
    }
    size_t n = gate_refusal(why, hex, text);
    if (send(fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        shutdown(fd, SHUT_WR);
    if (why != GATE_FULL)
        log_refusal(self, id, why, peer);
}
