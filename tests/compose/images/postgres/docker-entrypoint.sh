#!/bin/bash
# docker-entrypoint.sh - what the public postgres image does before its server starts.
#
# Understands POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_INITDB_ARGS (each also with _FILE),
# POSTGRES_HOST_AUTH_METHOD and PGDATA, runs /docker-entrypoint-initdb.d/*.{sh,sql} once. The server of the set-up listens
# on its Unix socket only, so nobody meets it from outside.
set -euo pipefail

from_file() { # name default: the variable, or what the file behind <name>_FILE says
    local file=${1}_FILE
    if [ -n "${!file:-}" ]; then
        [ -z "${!1:-}" ] || { echo "error: both $1 and $file are set" >&2; exit 1; }
        export "$1=$(<"${!file}")"
    else
        export "$1=${!1:-$2}"
    fi
    unset "$file"
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown -R postgres "$PGDATA"
    chown postgres /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "${BASH_SOURCE[0]}" "$@"
fi
mkdir -p "$PGDATA"
chmod 700 "$PGDATA" 2>/dev/null || true

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    from_file POSTGRES_PASSWORD ''
    from_file POSTGRES_USER postgres
    from_file POSTGRES_DB "$POSTGRES_USER"
    from_file POSTGRES_INITDB_ARGS ''
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$POSTGRES_PASSWORD" ] && [ "$method" != trust ]; then
        echo 'error: database is uninitialized and superuser password is not specified' >&2
        exit 1
    fi
    eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") $POSTGRES_INITDB_ARGS"
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -o "-c listen_addresses=''" -w start
    sql=(psql -v ON_ERROR_STOP=1 --no-psqlrc --username "$POSTGRES_USER" --no-password)
    export PGPASSWORD=$POSTGRES_PASSWORD
    [ "$POSTGRES_DB" = postgres ] ||
        "${sql[@]}" --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    for f in /docker-entrypoint-initdb.d/*; do
        case "$f" in
        *.sh) . "$f" ;;
        *.sql) "${sql[@]}" --dbname "$POSTGRES_DB" -f "$f" ;;
        esac
    done
    unset PGPASSWORD POSTGRES_PASSWORD
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" -m fast -w stop
    echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "$@"
