#!/usr/bin/env bash
# protocol.sh - PROTOCOL.md and the code must say the same.
#
# Fields, bounds, errors, limits and examples are compared by a unit test, from the tables that the
# codec itself uses. Here: no operation and no schema of proto.h is missing there, and the tables of
# operations in the services use the messages that PROTOCOL.md promises.
set -uo pipefail
cd "$(dirname "$0")/../.."
OUT=${OUT:-build/release}
bad=0

complain() { # message
    echo "protocol: $1"
    bad=1
}

same() { # what, list in proto.h, list in PROTOCOL.md
    local difference
    difference=$(diff <(sort -u <<<"$2") <(sort -u <<<"$3") | sed -n 's/^</  only in proto.h:/p; s/^>/  only in PROTOCOL.md:/p')
    [ -z "$difference" ] || complain "$1 differ"$'\n'"$difference"
}

same operations "$(sed -n 's/^#define OP_[A-Z_]* *"\([a-z._]*\)".*/\1/p' proto/proto.h)" \
    "$(sed -n 's/^### \([a-z._]*\)$/\1/p' proto/PROTOCOL.md)"
same schemas "$(tr '\n' ' ' <proto/proto.h | grep -o 'extern const proto_schema_t [^;]*;' | grep -o '[a-z_]*_schema\b' | sed 's/_schema$//')" \
    "$(sed -n 's/^\*\*\([a-z_]*\)\*\*.*/\1/p' proto/PROTOCOL.md)"

# {OP_X, &req_schema, &rep_schema, ...} in a service, against "Request: `req`. Reply: `rep`."
while read -r file op req rep; do
    name=$(sed -n "s/^#define $op *\"\([a-z._]*\)\".*/\1/p" proto/proto.h)
    says=$(awk -v h="### $name" '$0 == h {on = 1; next} /^### / {on = 0} on && /^Callers: /' proto/PROTOCOL.md)
    want_req=$(sed -n 's/.*Request: `\([a-z_]*\)`.*/\1/p' <<<"$says")
    want_rep=$(sed -n 's/.*Reply: `*\([a-z_]*\)`*\..*/\1/p' <<<"$says")
    [ "$want_rep" = none ] && want_rep=empty
    [ "$req $rep" = "$want_req $want_rep" ] ||
        complain "$file: $name uses $req and $rep, PROTOCOL.md says ${want_req:-nothing} and ${want_rep:-nothing}"
done < <(for file in svc/*.c */*_ops.c; do
    [ -e "$file" ] && tr '\n' ' ' <"$file" |
        grep -oE '\{ *OP_[A-Z_]+, *&[a-z_]+_schema, *&[a-z_]+_schema' |
        sed -E "s|.*(OP_[A-Z_]+), *&([a-z_]+)_schema, *&([a-z_]+)_schema|$file \1 \2 \3|"
done)

test="$OUT/tests/unit/proto/test_protocol_md"
make O="$(dirname "$OUT")" BUILD="$(basename "$OUT")" "$test" >/dev/null || complain "$test does not build"
"$test" >/tmp/protocol.$$ 2>&1 || { complain "PROTOCOL.md is not what the tables say"; cat /tmp/protocol.$$; }
rm -f /tmp/protocol.$$
exit $bad
