#!/usr/bin/env bash
# 06_architecture - ARCHITECTURE.md lists every source file of the services, and none that is gone.
#
# A module stands there as `name.{h,c}`, a single file as `name.c` or `name.h`, below the heading
# of its folder.
set -uo pipefail
cd "$(dirname "$0")/../.."

bad=0
for folder in proto svc gateway auth-svc convo-svc llm-svc; do
    listed=$(awk -v f="### $folder/ " 'index($0, "### ") == 1 {on = index($0, f) == 1} on' ARCHITECTURE.md |
        grep -o '`[a-z0-9_]*\.[^` ]*`' | tr -d '`' | sed 's/\(.*\)\.{h,c}$/\1.h\n\1.c/' | grep '\.[ch]$' | sort -u)
    there=$(git ls-files -co --exclude-standard "$folder" | grep '\.[ch]$' | sed 's,.*/,,' | sort -u)
    while read -r mark name; do
        case $mark in
        '<') echo "ARCHITECTURE.md:1: $folder/$name is listed but not there"; bad=1 ;;
        '>') echo "ARCHITECTURE.md:1: $folder/$name is not listed"; bad=1 ;;
        esac
    done < <(diff <(echo "$listed") <(echo "$there") | grep '^[<>]')
done
exit $bad
