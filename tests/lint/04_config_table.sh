#!/usr/bin/env bash
# 04_config_table - the READMEs' tables of the configuration are what the binary prints.
#
#   tests/lint/04_config_table.sh            compare, as file:line
#   tests/lint/04_config_table.sh --write    put the binary's table into README.md
#
# The table stands between <!-- config:begin --> and <!-- config:end -->. The Chinese README
# translates the last column, so there only key, default and bounds are compared.
set -uo pipefail
cd "$(dirname "$0")/../.."

gateway=${OUT:-build/release}/gateway
if [ ! -x "$gateway" ]; then
    echo "$gateway:1: not built, so the configuration tables cannot be compared"
    exit 1
fi
wanted=$("$gateway" --config-table) || exit 1

between() { sed -n '/<!-- config:begin -->/,/<!-- config:end -->/p' "$1" | sed '1d;$d'; }
names() { sed 's/^\(|[^|]*|[^|]*|[^|]*|\).*/\1/' | tail -n +3; } # the first three columns, without the head

if [ "${1:-}" = --write ]; then
    awk -v table="$wanted" '/<!-- config:end -->/ {skip = 0} !skip {print}
        /<!-- config:begin -->/ {print table; skip = 1}' README.md >README.md.new && mv README.md.new README.md
    exit
fi

bad=0
compare() { # file filter
    local at
    at=$(grep -n '<!-- config:begin -->' "$1" | cut -d: -f1)
    if [ -z "$at" ]; then
        echo "$1:1: the table of the configuration is missing"
        bad=1
    elif ! changes=$(diff <(between "$1" | $2) <($2 <<<"$wanted")); then
        echo "$1:$at: the table of the configuration is not what the binary prints (< here, > there):"
        grep '^[<>]' <<<"$changes" | head -n 10
        bad=1
    fi
}
compare README.md cat
compare README_zh-CN.md names
exit $bad
