#!/usr/bin/env bash
# 07_model - the steps of the model (tests/model/model.c) name functions that the code has.
#
# In its table of steps stands "folder: function function; folder: function": each is looked for as a
# definition in that folder's C files.
set -uo pipefail
cd "$(dirname "$0")/../.."

awk -v file=tests/model/model.c '
FILENAME == file {
    if ($0 ~ /^static const step_t steps\[\]/) inside = 1
    if ($0 ~ /^};/) inside = 0
    if (inside && match($0, /"[a-z-]+: [^"]*"}/)) {
        n = split(substr($0, RSTART + 1, RLENGTH - 3), parts, "; ")
        for (i = 1; i <= n; i++) {
            split(parts[i], p, ": ")
            m = split(p[2], names, " ")
            for (k = 1; k <= m; k++) { wanted[p[1] "/" names[k]] = FNR; count++ }
        }
    }
    next
}
/^[a-z_][a-z0-9_]*\(/ { name = $0; sub(/\(.*/, "", name); folder = FILENAME; sub(/\/.*/, "", folder); there[folder "/" name] = 1 }
END {
    for (key in wanted) if (!(key in there)) {
        split(key, p, "/"); printf "%s:%d: %s has no function %s()\n", file, wanted[key], p[1], p[2]; bad = 1
    }
    if (count < 30) { print file ":1: only " count + 0 " functions are named: has the form of the table changed?"; bad = 1 }
    exit bad
}' tests/model/model.c gateway/*.c convo-svc/*.c llm-svc/*.c
