#!/usr/bin/env bash
# 09_hardening - the release binaries have what the Makefile's hardening flags promise, as readelf sees it.
#
#   PIE, full RELRO (relocations read-only, all bound at start), no stack or segment that is both writable and
#   executable, code on pages of its own, no relocations in code, stack protector, checked string functions;
#   and from the debug information: stack clash protection, control flow protection where the machine has it
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${OUT:-build/release}
[[ "$out" = */release ]] || exit 0

bad=0
complain() { echo "$1: $2"; bad=1; }

for service in gateway auth-svc convo-svc llm-svc; do
    binary=$out/$service
    header=$(readelf -hW "$binary") && segments=$(readelf -lW "$binary") && dynamic=$(readelf -dW "$binary") &&
        symbols=$(readelf --dyn-syms -W "$binary") || { complain "$binary" "readelf cannot read it"; continue; }
    grep -q 'Type: *DYN' <<<"$header" || complain "$binary" "is not position independent"
    grep -q 'GNU_RELRO' <<<"$segments" || complain "$binary" "has no RELRO"
    grep -q 'BIND_NOW\|Flags:.*NOW' <<<"$dynamic" || complain "$binary" "does not bind all symbols at start"
    grep -q 'TEXTREL' <<<"$dynamic" && complain "$binary" "has relocations in its code"
    grep -q 'RPATH\|RUNPATH' <<<"$dynamic" && complain "$binary" "looks for libraries in a place of its own"
    grep -qE 'GNU_STACK.* RW +0x' <<<"$segments" || complain "$binary" "has an executable stack"
    grep -qE '^ +LOAD.* RWE ' <<<"$segments" && complain "$binary" "has a segment that is writable and executable"
    grep -qE '^ +LOAD.* R E ' <<<"$segments" && grep -qE '^ +LOAD.* R +0x' <<<"$segments" ||
        complain "$binary" "has code and constants on the same pages"
    grep -q '__stack_chk_fail' <<<"$symbols" || complain "$binary" "has no stack protector"
    grep -q '__[a-z]*_chk@' <<<"$symbols" || complain "$binary" "has no checked string functions"
    flags=$(readelf -p .debug_str "$binary" 2>/dev/null | grep -m1 'GNU C11')
    [ -n "$flags" ] || continue # clang keeps none
    for flag in -fstack-clash-protection -fstack-protector-strong; do
        [[ "$flags" = *"$flag"* ]] || complain "$binary" "was compiled without $flag"
    done
    if [[ "$header" = *X86-64* ]]; then
        [[ "$flags" = *-fcf-protection* ]] || complain "$binary" "was compiled without -fcf-protection"
    fi
done
exit $bad
