/* failures.mjs - what failed in the TAP output of a story file, in few words.
 *
 * Whoever reads a failed run may see a few kilobytes of it only: each failure is its name, where in the story it was
 * and the first lines of its error, of which the very first one says why.
 */
const LINE_MAX = 300;
const TEXT_MAX = 750;

const cut = (text, max) => (text.length > max ? `${text.slice(0, max)}…` : text);

/* The fields of one YAML block that are told: error (one line or several), failureType and stack. */
function fieldsOf(block) {
    const fields = {};
    let key = null;
    let indent = 0;
    for (const line of block) {
        const start = /^(\s*)(\w+): ?(.*)$/.exec(line);
        if (start && (key === null || start[1].length <= indent)) {
            indent = start[1].length;
            key = start[2];
            const quoted = /^'(.*)'$/.exec(start[3]);
            fields[key] = start[3] === '|-' ? [] : [quoted ? quoted[1].replaceAll("''", "'") : start[3]];
        } else if (key !== null) {
            fields[key].push(line.slice(indent + 2));
        }
    }
    return fields;
}

/** Every failed test of TAP output: {number, name, place (FILE:LINE of the story), lines (of its error)}. Groups that only have
 *  a failed test inside are left out. What stands outside of tests (a file that cannot be loaded) is one, too. */
export function failuresOf(output) {
    const found = [];
    const notes = [];
    const lines = output.split('\n');
    for (let i = 0; i < lines.length; i++) {
        const bad = /^\s*not ok (\d+) - (.*)$/.exec(lines[i]);
        if (!bad) {
            const note = /^# (?!Subtest|tests |suites |pass |fail |cancelled |skipped |todo |duration_ms )(.*\S.*)$/.exec(lines[i]);
            if (note && !/^\s+at /.test(note[1]))
                notes.push(note[1]);
            continue;
        }
        const block = [];
        if (/^\s*---$/.test(lines[i + 1] ?? '')) {
            for (i += 2; i < lines.length && !/^\s*\.\.\.$/.test(lines[i]); i++)
                block.push(lines[i]);
        }
        const { failureType = [''], error = ['failed'], stack = [] } = fieldsOf(block);
        if (failureType[0] === 'subtestsFailed')
            continue;
        const place = stack.map((line) => /([\w-]+\.test\.mjs:\d+)/.exec(line)?.[1]).find(Boolean) ?? '';
        const logs = error.findIndex((line) => line.startsWith('--- '));   /* of lastWords(): long, and in the kept output */
        const told = logs > 0 ? error.slice(0, logs) : error;
        found.push({ number: bad[1], name: bad[2], place, lines: told.filter((line) => line.trim() !== '') });
    }
    if (notes.length > 0)
        found.push({ number: 0, name: 'said beside the tests', place: '', lines: notes.slice(0, 12) });
    return found;
}

/** A failure as a few lines of text. */
export function tell(failure) {
    const text = failure.lines.map((line) => `  ${cut(line, LINE_MAX)}`).join('\n');
    return `not ok ${failure.number} - ${failure.name}${failure.place ? ` (${failure.place})` : ''}\n${cut(text, TEXT_MAX)}`;
}

/** A failure in one line; the line that an assertion begins with says nothing without the next ones. */
export function tellShortly(file, failure) {
    const n = /^Expected |^The expression evaluated/.test(failure.lines[0] ?? '') ? 8 : 1;
    return cut(`failed: ${file}: ${failure.name}: ${failure.lines.slice(0, n).map((l) => l.trim()).join(' ')}`, LINE_MAX);
}
