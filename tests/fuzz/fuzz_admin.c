/* fuzz_admin.c - any bytes as a request to an admin port: one whole response, whatever it is.
 *
 * (Bytes that do not fit into the port's buffer never come that far.) */
#include "svc/svc_admin.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    static const char head[] = "HTTP/1.1 ";
    svc_health_t *health = svc_health_new(SVC_HEALTH_STUCK_MS);
    svc_metrics_t *metrics = svc_metrics_new();
    const svc_metrics_about_t about = {metrics, health, "gateway", "fuzz"};
    svc_buf_t out;

    svc_buf_init(&out, SVC_ADMIN_RESPONSE_MAX_BYTES);
    svc_admin_respond(&about, (svc_str){(const char *)bytes, n}, n % 2 != 0, &out);
    SVC_ASSERT(out.n > strlen(head) && memcmp(out.p, head, strlen(head)) == 0 &&
               memmem(out.p, out.n, "\r\n\r\n", 4) != NULL);
    svc_buf_fini(&out);
    svc_health_destroy(&health);
    svc_metrics_destroy(&metrics);
    return 0;
}
