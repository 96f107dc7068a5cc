#!/usr/bin/env bash
# 05_protocol - proto/PROTOCOL.md and the code say the same.
#
# Compared, each difference as file:line: operations (proto.h), messages and their fields with
# type, bound and presence (proto_*.c), errors with HTTP status and retry (base.c), limits
# (proto.h), what is safe to ask again (proto_ops.c), and who may call an operation, what it takes and gives (the tables in *_ops.c).
set -uo pipefail
cd "$(dirname "$0")/../.."

mapfile -t tables < <(ls {auth-svc,convo-svc,llm-svc}/*_ops.c 2>/dev/null)
awk '
# A fact is a key and a value, as the code and as the document state it.
function code(key, value) { in_code[key] = value; code_at[key] = FILENAME ":" FNR }
function doc(key, value) { in_doc[key] = value; doc_at[key] = FILENAME ":" FNR }
function trim(s) { gsub(/^[ \t]+|[ \t]+$/, "", s); return s }

# The number behind a constant or an expression of the form 48u << 20.
function number(s,    p) {
    s = trim(s); gsub(/[()]/, "", s)
    if (s in constant) return constant[s]
    if (s ~ /<</) { split(s, p, "<<"); return number(p[1]) * 2 ^ number(p[2]) }
    if (s == "UINT64_MAX") return "2^64-1"
    sub(/[uUlL]+$/, "", s)
    return s == "9007199254740991" ? "2^53-1" : s
}
function constants(line,    p) {
    if (line ~ /^#define PROTO_[A-Z_]+ /) {
        split(line, p, " "); sub(/^#define [A-Z_]+ +/, "", line); sub(/ *\/\*.*/, "", line)
        constant[p[2]] = number(line)
    } else if (line ~ /^ +[A-Z]+ = PROTO_[A-Z_]+,/) {
        split(line, p, /[ =,]+/); constant[p[2]] = number(p[3])
    }
}

FILENAME ~ /proto\.h$/ {
    constants($0)
    if ($1 == "#define" && $2 ~ /^OP_/) { op = $3; gsub(/"/, "", op); op_name[$2] = op; code("operation " op, "") }
    next
}
FILENAME ~ /base\.c$/ {
    if ($0 ~ /^ +\[RC_[A-Z_]+\] += \{"/ && $1 != "[RC_LATER]") {
        row = $0; gsub(/.*\{|\}.*|"| /, "", row); split(row, p, ",")
        code("error " p[1], p[2] " " (p[3] == "true" ? "yes" : "no"))
    }
    next
}
FILENAME ~ /proto_ops\.c$/ {
    if ($0 ~ /^ +\{OP_/) {
        row = $0; gsub(/[{} ]/, "", row); split(row, p, ",")
        code("row in proto_ops.c for " op_name[p[1]], p[2] == "true" ? "safe to ask again" : "not safe to ask again")
    }
    next
}
FILENAME ~ /_ops\.c$/ {
    if ($0 ~ /^ +\{OP_/) {
        row = $0; gsub(/[{& ]/, "", row); split(row, p, ","); sub(/_schema$/, "", p[2]); sub(/_schema$/, "", p[3])
        gsub(/\|?SVC_TOOL\|?/, "", p[5])
        used[op_name[p[1]]] = p[2] " " p[3]; called_by[op_name[p[1]]] = p[5]; used_at[op_name[p[1]]] = FILENAME ":" FNR
    }
    next
}
FILENAME ~ /\.c$/ {
    constants($0)
    # names of an enum, maybe over several lines
    if ($0 ~ /^const char \*const [a-z_]+\[\] = \{/) { list = $4; sub(/\[\].*/, "", list); sub(/^\*const /, "", list); text = ""; open = 1 }
    if (open) {
        text = text $0
        if ($0 ~ /NULL/) {
            open = 0; sub(/.*\{/, "", text); sub(/, *NULL.*/, "", text); gsub(/"/, "", text); gsub(/, */, ", ", text)
            names[list] = text
        }
        next
    }
    if ($0 ~ /^static const proto_field_t [a-z_]+_fields\[\]/) { message = $4; sub(/_fields.*/, "", message); code("message " message, "") }
    if ($0 ~ /^const proto_schema_t .*\{"[a-z_]+", NULL/) { message = $3; sub(/_schema$/, "", message); code("message " message, "") }
    if ($0 ~ /^ +\{"[a-z_]+", +PROTO_/) {
        row = $0; sub(/^ +\{/, "", row); gsub(/"/, "", row); n = split(row, p, ",")
        type = tolower(trim(p[2])); sub(/^proto_/, "", type); min = number(p[4]); max = number(p[5])
        sub_name = p[n] == "" ? p[n - 1] : p[n]; sub_name = trim(sub_name); gsub(/[&}]/, "", sub_name); sub(/_schema$/, "", sub_name)
        if (type == "bool") bound = "-"
        else if (type == "u64") bound = min ".." max
        else if (type == "enum") bound = names[sub_name]
        else if (type == "list") { bound = min ".." max " items"; type = "list of " sub_name }
        else bound = (min == max ? min : min ".." max) " bytes"
        code("field " message "." trim(p[1]), type ", " bound ", " (trim(p[3]) == "true" ? "required" : "optional"))
    }
    next
}

# --- the document
/^## / { part = $2 + 0; message = "" }
part == 2 && /^\| PROTO_/ { split($0, p, "|"); doc("limit " trim(p[2]), trim(p[3])) }
part == 4 && /^### / { op = $2; doc("operation " op, "") }
part == 4 && /^Callers: / {
    if (match($0, /Request: `[a-z_]+`/)) request = substr($0, RSTART + 10, RLENGTH - 11)
    reply = match($0, /Reply: `[a-z_]+`/) ? substr($0, RSTART + 8, RLENGTH - 9) : ""
    callers = $0; sub(/^Callers: /, "", callers); sub(/\..*/, "", callers); gsub(/, /, "|", callers)
    gsub(/gateway/, "SVC_GATEWAY", callers); gsub(/convo-svc/, "SVC_CONVO", callers); gsub(/anyone/, "SVC_ANYONE", callers)
    doc("row in proto_ops.c for " op, /Safe to ask again\./ ? "safe to ask again" : "not safe to ask again")
    may_call[op] = callers; takes[op] = request; gives[op] = reply; takes_at[op] = FILENAME ":" FNR
}
part == 4 && /^\*\*[a-z_]+\*\*/ { message = $1; gsub(/\*/, "", message); doc("message " message, "") }
part == 4 && /^\| [a-z_]+ \| (bool|u64|str|bin|enum|list)/ {
    split($0, p, "|")
    doc("field " message "." trim(p[2]), trim(p[3]) ", " trim(p[4]) ", " (trim(p[5]) == "yes" ? "required" : "optional"))
}
part == 5 && /^\| [a-z_]+ \| [0-9]+ \|/ { split($0, p, "|"); doc("error " trim(p[2]), trim(p[3]) " " trim(p[4])) }

END {
    for (name in constant) if (("limit " name) in in_doc) in_code["limit " name] = constant[name]
    for (key in in_code) {
        if (!(key in in_doc)) { print code_at[key] ": " key " is not in PROTOCOL.md"; bad = 1 }
        else if (in_code[key] "" != in_doc[key] "") {
            print doc_at[key] ": " key " is (" in_doc[key] ") here, (" in_code[key] ") in the code"; bad = 1
        }
        facts++
    }
    for (key in in_doc) if (!(key in in_code)) { print doc_at[key] ": " key " is not in the code"; bad = 1 }
    for (op in used) if (op in takes) {
        split(used[op], p, " ")
        if (takes[op] != p[1] || (gives[op] != "" && gives[op] != p[2])) {
            print used_at[op] ": " op " takes " p[1] " and gives " p[2] ", not as PROTOCOL.md says (" takes[op] ", " gives[op] ")"; bad = 1
        }
    }
    for (op in called_by) if (op in may_call && called_by[op] != "" && called_by[op] != may_call[op]) {
        print used_at[op] ": " op " may be called by " called_by[op] ", not as PROTOCOL.md says (" may_call[op] ")"; bad = 1
    }
    if (facts < 100) { print "proto/PROTOCOL.md:1: only " facts " facts found: has the form of the tables changed?"; bad = 1 }
    exit bad
}' proto/proto.h proto/base.c "${tables[@]}" proto/proto_*.c proto/PROTOCOL.md
