#!/usr/bin/env bash
# 03_cppcheck - static analysis of everything that is shipped. What it gets wrong is excused in
# place by `// cppcheck-suppress <id> ; why`.
set -uo pipefail
cd "$(dirname "$0")/../.."

mapfile -t files < <(ls {proto,svc,gateway,auth-svc,convo-svc,llm-svc}/*.c 2>/dev/null)
[ ${#files[@]} -eq 0 ] && exit 0
cache=${OUT:-build/release}/cppcheck
mkdir -p "$cache"
cppcheck -q -j "${JOBS:-2}" --std=c11 --language=c --enable=warning,performance,portability --inline-suppr \
    --error-exitcode=1 --cppcheck-build-dir="$cache" --suppress=missingInclude --suppress=missingIncludeSystem \
    --suppress=normalCheckLevelMaxBranches --template='{file}:{line}: {severity}: {message} [{id}]' \
    -I. -D_GNU_SOURCE -DSVC_VERSION='""' "${files[@]}"
