/* main.c - the gateway: HTTP in, messages to the services out.
 *
 * Wiring only: svc_main reads options and configuration and waits for signals,
 * gateway.c starts the reactors. README.md says what the service owns, how its threads
 * share the work and how it fails. */
#include "gateway.h"

int
main(int argc, char **argv)
{
    static const svc_service_t service = {
        .name = "gateway",
        .summary =
            "the REST interface: checks tokens, asks the services, streams answers",
        .is_batch = true,
        .check_config = gateway_check_config,
        .print_config = gateway_print_config,
        .start = gateway_start,
        .reload = gateway_reload,
        .announce = gateway_announce,
        .drain = gateway_drain,
        .stop = gateway_stop,
    };

    return svc_main(&service, argc, argv);
}
