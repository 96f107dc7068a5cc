#!/usr/bin/env bash
# 02_house - the house rules that a script can see, each as file:line: what is wrong.
#
#   floors      services stand on svc, svc on proto, proto on nothing of ours; no service
#               includes another one's headers
#   size        no C file over 800 lines, no function over 60; a function is free of that when the
#               comment above it says `lint: state machine`
#   comments    every file begins with `/* name - what it is`, 5 to 15 lines (tests: 3 to 15);
#               every function that a header declares is documented; nothing is left to be done later
set -uo pipefail
cd "$(dirname "$0")/../.."

mapfile -t files < <(git ls-files -co --exclude-standard '*.c' '*.h' | xargs -r ls 2>/dev/null)
[ ${#files[@]} -eq 0 ] && exit 0

words='TO''DO|FIX''ME|XX''X|HA''CK'
bad=0
git ls-files -co --exclude-standard '*.c' '*.h' '*.mjs' '*.sh' Makefile scripts tests/support .ci |
    xargs -r grep -nIwE "$words" /dev/null && bad=1

awk -v MAX_FILE=800 -v MAX_FUNCTION=60 '
function complain(line, text) { printf "%s:%d: %s\n", FILENAME, line, text; bad = 1 }

# The folder whose floor a file is bound to: tests belong to the folder they test.
function folder_of(path,    p) {
    split(path, p, "/")
    if (p[1] == "tests") return p[2] == "unit" ? p[3] : "tests"
    return p[1]
}

function may_include(folder, target) {
    if (target == "proto" || target == folder) return 1
    if (target == "tests") return FILENAME ~ /^tests\//
    return target == "svc" ? folder != "proto" : folder == "tests"
}

function end_of_file() {
    if (lines > MAX_FILE) { printf "%s:%d: %d lines, at most %d\n", last_file, lines, lines, MAX_FILE; bad = 1 }
    if (in_header_comment) { printf "%s:1: the comment at the top does not end\n", last_file; bad = 1 }
}

FNR == 1 {
    if (NR > 1) end_of_file()
    last_file = FILENAME
    folder = folder_of(FILENAME)
    is_header = FILENAME ~ /\.h$/
    is_test = FILENAME ~ /^tests\//
    header_min = is_test ? 3 : 5
    in_header_comment = 0; header_seen = 0; in_function = 0; excused = -100
    in_comment = 0; depth = 0; statement = ""; documented = 0
    base = FILENAME; sub(/^.*\//, "", base)
    stem = base; sub(/\.[ch]$/, "", stem)
}
{ lines = FNR }

# --- the comment at the top
!header_seen && /^\/\* links: [a-z -]*\*\/$/ { next }
!header_seen {
    header_seen = 1; header_from = FNR; in_header_comment = 1
    if (index($0, "/* " base " - ") != 1 && index($0, "/* " stem " - ") != 1) {
        complain(FNR, "the first line must be \"/* " base " - what it is\"")
        in_header_comment = 0
    }
}
in_header_comment && /\*\// {
    in_header_comment = 0
    n = FNR - header_from + 1
    if (n < header_min || n > 15) complain(header_from, "the comment at the top has " n " lines, not " header_min " to 15")
}

# --- includes
/^#include "/ {
    split($0, q, "\"")
    n = split(q[2], p, "/")
    if (n == 1) {
        dir = FILENAME; sub(/[^\/]*$/, "", dir)
        if ((getline junk < (dir q[2])) < 0) complain(FNR, "\"" q[2] "\" is not in this folder: write it from the root")
        else close(dir q[2])
    } else if (!may_include(folder, p[1])) complain(FNR, folder " may not include \"" q[2] "\"")
}

# --- length of functions: `{` and `}` in the first column, the name in the line before
/lint: state machine/ { excused = FNR }
/^[a-z_][A-Za-z0-9_]*\(/ && !in_function { name = $0; sub(/\(.*/, "", name); name_line = FNR }
/^\{/ && !in_function { in_function = 1; from = name_line }
/^\}/ && in_function {
    in_function = 0
    if (FNR - from + 1 > MAX_FUNCTION && from - excused > 15)
        complain(from, name "() has " FNR - from + 1 " lines, at most " MAX_FUNCTION)
}

# --- headers: a comment ends in the line before a declaration, or before its neighbours
is_header {
    text = $0
    if (in_comment) {
        if (text !~ /\*\//) next
        in_comment = 0; documented = 1; sub(/^.*\*\//, "", text)
        if (text ~ /^[ \t]*$/) next
    }
    trailing = text ~ /;.*\/\*/
    gsub(/\/\*([^*]|\*[^\/])*\*\//, "", text)
    if (text ~ /\/\*/) { in_comment = 1; sub(/\/\*.*/, "", text) }
    if (text ~ /^[ \t]*$/) { if (in_comment) next; if ($0 ~ /\*\/[ \t]*$/) documented = 1; else if (statement == "") documented = 0; next }
    if (text ~ /^#/ || continued) { continued = text ~ /\\$/; next }
    if (depth == 0) {
        if (statement == "") { statement_line = FNR; statement_documented = documented }
        statement = statement " " text
    }
    n = gsub(/\{/, "{", text); depth += n
    n = gsub(/\}/, "}", text); depth -= n
    if (depth < 0) depth = 0
    if (depth == 0 && (statement ~ /;[ \t]*$/ || text ~ /^\}/)) {
        head = statement; sub(/\{.*/, "", head); sub(/__attribute__.*/, "", head)
        if (!is_test && head ~ /[a-z_0-9]\(/ && head !~ /^ *(typedef|struct|enum|extern "C"|_Static_assert)/ && !statement_documented && !trailing)
            complain(statement_line, "no comment says what this function does")
        if (head ~ /^ *(typedef|struct|enum)/ && text ~ /^\}/) documented = 0
        statement = ""
    }
}
END { end_of_file(); exit bad }
' "${files[@]}" || bad=1
exit $bad
