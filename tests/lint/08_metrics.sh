#!/usr/bin/env bash
# 08_metrics - what is said of metrics anywhere is what the services have.
#
#   tests/lint/08_metrics.sh            compare, as file:line
#   tests/lint/08_metrics.sh --write    put the binary's table into deploy/prometheus/README.md
#
# The table of metrics there is what the binary prints; each metric that the dashboard, the alerts or a manual names
# exists; each alert says what is wrong and what to do, and has a section in that README, and each section an alert.
set -uo pipefail
cd "$(dirname "$0")/../.."

gateway=${OUT:-build/release}/gateway
readme=deploy/prometheus/README.md
alerts=deploy/prometheus/alerts.yml
if [ ! -x "$gateway" ]; then
    echo "$gateway:1: not built, so the metrics cannot be compared"
    exit 1
fi
wanted=$("$gateway" --metrics-table) || exit 1

if [ "${1:-}" = --write ]; then
    awk -v table="$wanted" '/<!-- metrics:end -->/ {skip = 0} !skip {print}
        /<!-- metrics:begin -->/ {print table; skip = 1}' "$readme" >"$readme.new" && mv "$readme.new" "$readme"
    exit
fi

bad=0
at=$(grep -n '<!-- metrics:begin -->' "$readme" | cut -d: -f1)
if ! changes=$(diff <(sed -n '/<!-- metrics:begin -->/,/<!-- metrics:end -->/p' "$readme" | sed '1d;$d') <(echo "$wanted")); then
    echo "$readme:${at:-1}: the table of metrics is not what the binary prints (< here, > there); $0 --write"
    grep '^[<>]' <<<"$changes" | head -n 10
    bad=1
fi

# Every name that looks like a metric of ours, and is none.
known=$(awk -F'[`|]' '$3 ~ /^[a-z_]+$/ {
    kind = $5; gsub(/ /, "", kind); print $3
    if (kind == "histogram") { print $3 "_bucket"; print $3 "_sum"; print $3 "_count" } }' <<<"$wanted")
mapfile -t files < <(git ls-files -co --exclude-standard 'deploy/grafana/*.json' 'deploy/prometheus/*' 'deploy/k8s/*' '*.md')
while IFS=: read -r file line name; do
    grep -qxF "$name" <<<"$known" && continue
    case $name in llmb_backend | process_title | llmb_users | llmb_writer | llmb_rw) continue ;; esac # no metrics: databases and such
    echo "$file:$line: no service has a metric $name"
    bad=1
done < <(grep -noE '\b(llmb|process)_[a-z_]*[a-z]\b' "${files[@]}" | grep -E ':(llmb_|process_(cpu|resident|virtual|open|max|start|threads))')

# Alerts and their sections.
while read -r name; do
    grep -qxF "### $name" "$readme" || { echo "$readme:1: no section for the alert $name"; bad=1; }
done < <(sed -n 's/^ *- alert: //p' "$alerts")
while IFS=: read -r line title; do
    grep -qE "^ *- alert: ${title#\#\#\# }\$" "$alerts" || { echo "$readme:$line: there is no such alert"; bad=1; }
done < <(grep -n '^### Llmb' "$readme")
awk '/- alert:/ { name = $3; n++; line = NR } /summary:/ { s++ } /description:/ { d++ }
    /runbook:/ { want = "#" tolower(name) "\""; if (substr($0, length($0) - length(want) + 1) != want) { printf "%s:%d: the runbook of %s leads elsewhere\n", FILENAME, NR, name; bad = 1 } r++ }
    /severity:/ { v++ }
    END { if (n == 0 || s != n || d != n || r != n || v != n) { printf "%s:1: %d alerts, %d summaries, %d descriptions, %d runbooks, %d severities\n", FILENAME, n, s, d, r, v; bad = 1 } exit bad }' "$alerts" || bad=1
exit $bad
