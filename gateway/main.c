/* main.c - the gateway: HTTP in, messages to the services out.
 *
 * Wiring only; see gateway.h for the service and README.md for what it does. */
#include "gateway.h"

int
main(int argc, char **argv)
{
    static const svc_service_t service = {
        .name = "gateway",
        .summary = "the REST interface: checks tokens, asks the services, streams answers",
        .print_config = gateway_print_config,
        .start = gateway_start,
        .drain = gateway_drain,
        .stop = gateway_stop,
    };

    return svc_main(&service, argc, argv);
}
