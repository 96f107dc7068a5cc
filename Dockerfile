# Dockerfile - the images of the four services, and the small one that makes the secrets of a compose stack.
#
#   docker build --target gateway -t llm-backend-api/gateway .      (auth-svc, convo-svc, llm-svc, secrets likewise)
#
# `make images` builds all of them. The first stage compiles the four services once; an image of a service
# is Debian slim, the packages of the libraries that ldd finds in its binary (and libpq5, which is loaded only for
# PostgreSQL), the binary and config.yaml.
# Behind a proxy: --build-arg http_proxy=…, which Docker knows by itself.
#
# Containers reach each other over the bus, so it needs keys: LLMB_BUS_KEYS names the folder that they are mounted at
# (docker-compose.yml and deploy/k8s do it), or LLMB_BUS_INSECURE=true does without, where nobody else is.
ARG BASE=debian:bookworm-slim

# --- everything is compiled here; nothing of this stage but the results is kept
FROM ${BASE} AS build
WORKDIR /src
COPY scripts/install-deps scripts/
RUN scripts/install-deps run && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY Makefile ./
COPY proto proto
COPY svc svc
COPY gateway gateway
COPY auth-svc auth-svc
COPY convo-svc convo-svc
COPY llm-svc llm-svc
ARG JOBS=
RUN make -j"${JOBS:-$(nproc)}" all
ARG VERSION=dev
# For each service: the binary without what only a debugger needs, and the packages of its libraries.
RUN set -eu; \
    echo "$VERSION" > VERSION; make all; mkdir -p /out; \
    for service in gateway auth-svc convo-svc llm-svc; do \
        strip -o "/out/$service" "build/release/$service"; \
        if ldd "/out/$service" | grep 'not found'; then exit 1; fi; \
        ldd "/out/$service" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p' | while read -r library; do \
            dpkg -S "*$(basename "$(readlink -f "$library")")" | sed 's/:.*//'; \
        done | sort -u > "/out/$service.packages"; \
        [ -s "/out/$service.packages" ]; \
        case $service in auth-svc|convo-svc) echo libpq5 >> "/out/$service.packages" ;; esac; \
    done

# --- what all images have: the user, the configuration, what to do with a signal
FROM ${BASE} AS runtime
RUN groupadd --gid 10001 llmb && \
    useradd --uid 10001 --gid llmb --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin llmb
# The default of --config is ./config.yaml: `<service> --probe ready` needs no option in a container.
WORKDIR /etc/llm-backend-api
# Where the services find each other: names of the network, the same in docker-compose and Kubernetes.
ENV LLMB_BUS_AUTH_CONNECT=tcp://auth-svc:7101 \
    LLMB_BUS_CONVO_CONNECT=tcp://convo-svc:7102 \
    LLMB_BUS_LLM_CONNECT=tcp://llm-svc:7103 \
    LLMB_BUS_TOKENS_CONNECT=tcp://llm-svc:7104 \
    LLMB_LOG_FORMAT=json
STOPSIGNAL SIGTERM
LABEL org.opencontainers.image.vendor="llm-backend-api" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"

# --- gateway: HTTP in, messages out
FROM runtime AS gateway
COPY --from=build /out/gateway.packages /usr/share/doc/llm-backend-api/packages
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade \
        $(cat /usr/share/doc/llm-backend-api/packages) && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*
COPY --from=build /out/gateway /usr/local/bin/
RUN ["/usr/local/bin/gateway", "--version"]
COPY --chown=10001:10001 config.yaml ./
ENV LLMB_BUS_GATEWAY_BIND=tcp://0.0.0.0:7100 LLMB_ADMIN_GATEWAY=0.0.0.0:7110
EXPOSE 8080 7100 7110
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/gateway", "--probe", "live"]
ENTRYPOINT ["/usr/local/bin/gateway", "--config", "/etc/llm-backend-api/config.yaml"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="gateway" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="llm-backend-api: HTTP in, messages out"

# --- auth-svc: users and tokens
FROM runtime AS auth-svc
COPY --from=build /out/auth-svc.packages /usr/share/doc/llm-backend-api/packages
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade \
        $(cat /usr/share/doc/llm-backend-api/packages) && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* && \
    install -d -m 700 -o llmb -g llmb /data
COPY --from=build /out/auth-svc /usr/local/bin/
RUN ["/usr/local/bin/auth-svc", "--version"]
COPY --chown=10001:10001 config.yaml ./
ENV LLMB_BUS_AUTH_BIND=tcp://0.0.0.0:7101 LLMB_ADMIN_AUTH=0.0.0.0:7111 LLMB_SQLITE_PATH=/data/llm_backend.db
EXPOSE 7101 7111
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/auth-svc", "--probe", "live"]
ENTRYPOINT ["/usr/local/bin/auth-svc", "--config", "/etc/llm-backend-api/config.yaml"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="auth-svc" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="llm-backend-api: users and tokens"

# --- convo-svc: conversations and the journal of answers
FROM runtime AS convo-svc
COPY --from=build /out/convo-svc.packages /usr/share/doc/llm-backend-api/packages
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade \
        $(cat /usr/share/doc/llm-backend-api/packages) && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* && \
    install -d -m 700 -o llmb -g llmb /data
COPY --from=build /out/convo-svc /usr/local/bin/
RUN ["/usr/local/bin/convo-svc", "--version"]
COPY --chown=10001:10001 config.yaml ./
ENV LLMB_BUS_CONVO_BIND=tcp://0.0.0.0:7102 LLMB_ADMIN_CONVO=0.0.0.0:7112 LLMB_SQLITE_PATH=/data/llm_backend.db
EXPOSE 7102 7112
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/convo-svc", "--probe", "live"]
ENTRYPOINT ["/usr/local/bin/convo-svc", "--config", "/etc/llm-backend-api/config.yaml"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="convo-svc" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="llm-backend-api: conversations and the journal of answers"

# --- llm-svc: live generations, the connections to providers (and the certificates that it trusts)
FROM runtime AS llm-svc
COPY --from=build /out/llm-svc.packages /usr/share/doc/llm-backend-api/packages
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-upgrade \
        ca-certificates $(cat /usr/share/doc/llm-backend-api/packages) && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*
COPY --from=build /out/llm-svc /usr/local/bin/
RUN ["/usr/local/bin/llm-svc", "--version"]
COPY --chown=10001:10001 config.yaml ./
ENV LLMB_BUS_LLM_BIND=tcp://0.0.0.0:7103 LLMB_BUS_TOKENS_BIND=tcp://0.0.0.0:7104 LLMB_ADMIN_LLM=0.0.0.0:7113
EXPOSE 7103 7104 7113
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/llm-svc", "--probe", "live"]
ENTRYPOINT ["/usr/local/bin/llm-svc", "--config", "/etc/llm-backend-api/config.yaml"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="llm-svc" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.description="llm-backend-api: live generations, the connections to providers"

# --- secrets: makes what is missing of a compose stack's secrets, then ends
# (on top of auth-svc's image, since the keys of the bus are made by a binary of the stack)
FROM auth-svc AS secrets
USER root
RUN install -d -m 755 -o 10001 -g 10001 /secrets /secrets-of/gateway /secrets-of/auth-svc /secrets-of/convo-svc /secrets-of/llm-svc
COPY deploy/make-secrets scripts/make-keys /usr/local/bin/
RUN chmod 755 /usr/local/bin/make-secrets /usr/local/bin/make-keys
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/make-secrets"]
ARG VERSION=dev
LABEL org.opencontainers.image.title="secrets" org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.vendor="llm-backend-api" org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.description="llm-backend-api: makes the secrets of a compose stack"
