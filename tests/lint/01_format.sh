#!/usr/bin/env bash
# 01_format - every C file looks as clang-format writes it (`make fmt` does), every script parses.
set -uo pipefail
cd "$(dirname "$0")/../.."

bad=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
mapfile -t files < <(git ls-files -co --exclude-standard '*.c' '*.h' | xargs -r ls 2>/dev/null)
[ ${#files[@]} -eq 0 ] || clang-format-14 -n --Werror --ferror-limit=3 "${files[@]}" >"$log" 2>&1 || {
    grep -E ': (error|warning):' "$log" || cat "$log"
    bad=1
}

while read -r script; do
    head -n 1 "$script" | grep -q '^#!.*bash' || continue
    bash -n "$script" || bad=1
done < <(git ls-files -co --exclude-standard scripts tests/support tests/lint .ci | grep -v '\.[a-z]*$\|\.sh$' ; ls tests/lint/*.sh)
exit $bad
