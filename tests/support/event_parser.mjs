/* event_parser.mjs - strict readers of the two framings of a chat stream.
 *
 * Server-sent events are parsed as the WHATWG HTML standard says, ndjson as one object a line,
 * bare as an object on a line of its own and a blank line. Strict: invalid UTF-8, unknown fields
 * and anything that is no JSON object throw, since a browser would silently do something else.
 */

/** Makes a parser: feed(bytes) gives the list of what has become complete,
 *  {id, name, data} for an event and {comment} for a comment line; end() checks the rest. */
export function eventParser(framing) {
    const decoder = new TextDecoder('utf-8', { fatal: true });
    const make = { sse: sseLines, ndjson: jsonLines, bare: bareLines }[framing];
    const onLine = make();
    let rest = '';
    let sawCr = false;
    let scanned = 0;

    function take(out, text) {
        rest += text;
        const any = framing === 'sse' ? /\r\n|\n|\r/g : /\n/g;
        any.lastIndex = scanned;
        let start = 0;
        for (let m; (m = any.exec(rest)) !== null; start = any.lastIndex) {
            if (m[0] === '\r' && any.lastIndex === rest.length) {
                sawCr = true;   /* its LF may still come */
                break;
            }
            onLine(rest.slice(start, m.index), out);
        }
        rest = rest.slice(start);
        scanned = sawCr ? rest.length - 1 : rest.length;
        sawCr = false;
        return out;
    }

    return {
        feed: (bytes) => take([], decoder.decode(bytes, { stream: true })),
        end() {
            decoder.decode();
            if (rest !== '')
                throw new Error(`the stream ends in the middle of a line: ${JSON.stringify(rest.slice(0, 200))}`);
            onLine(null, []);
        },
    };
}

function parseObject(text) {
    const value = JSON.parse(text);
    if (value === null || typeof value !== 'object' || typeof value.event !== 'string')
        throw new Error(`not an event object: ${text.slice(0, 200)}`);
    return value;
}

function sseLines() {
    let id;
    let name = '';
    let data = null;
    return (line, out) => {
        if (line === null) {
            if (data !== null)
                throw new Error('the stream ends in the middle of an event');
        } else if (line === '') {
            if (data !== null)
                out.push({ id, name: name || 'message', data: parseObject(data) });
            else if (name !== '')
                throw new Error('an event without data');
            name = '';
            data = null;
        } else if (line.startsWith(':')) {
            out.push({ comment: line.slice(1) });
        } else {
            const colon = line.indexOf(':');
            const field = colon < 0 ? line : line.slice(0, colon);
            const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
            if (field === 'data')
                data = data === null ? value : `${data}\n${value}`;
            else if (field === 'event')
                name = value;
            else if (field === 'id')
                id = value;
            else if (field !== 'retry')
                throw new Error(`unknown field: ${line.slice(0, 200)}`);
        }
    };
}

function jsonLines() {
    return (line, out) => {
        if (line === null)
            return;
        if (line === '')
            out.push({ comment: '' });   /* a keep-alive has to be something that is no object */
        else
            out.push({ data: parseObject(line) });
    };
}

function bareLines() {
    let pending = null;
    return (line, out) => {
        if (line === null) {
            if (pending)
                throw new Error('the last object has no blank line after it');
        } else if (line === '') {
            if (pending)
                out.push(pending);
            pending = null;
        } else if (line.startsWith(':')) {
            out.push({ comment: line.slice(1) });
        } else if (pending) {
            throw new Error('two objects without a blank line between them');
        } else {
            pending = { data: parseObject(line) };
        }
    };
}
