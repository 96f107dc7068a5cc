/* fake_behaviours.mjs - the built-in misbehaviours of the fake provider, one row each.
 *
 * A row is {run, and what a client of the backend must see of it}:
 *   text     the exact text of the answer, when it ends well
 *   finish   its finish_reason ("stop" when left out)
 *   usage    usage that must arrive in `done`
 *   error    {status, code}: refused before the first piece
 *   late     {text, code}: text that was shown, then an error event
 * The table is read by fake_provider.mjs (to behave so) and by the provider story (to compare).
 * Bytes are written by hand here, since no JSON library would write them so badly.
 */

const USAGE = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 };
const MIXED = 'Grüße, 你好 😀 "quoted" back\\slash tab\t line\nend 𝄞.';

/** A long text in which every position is recognisable. */
export function longText(n) {
    let s = '';
    for (let i = 0; s.length < n; i++)
        s += `${i.toString(36)}·`;
    return s.slice(0, n);
}

/** The text that the model "fake" answers to a question: differs for every question. */
export function answerFor(question) {
    return `You said “${question}”. ` + Array.from({ length: 20 }, (_, i) => `${question}#${i}`).join(' ') + ' 完.';
}

/** Cuts a text into pieces at code points, n code points each. */
export function cut(text, n) {
    const points = [...text];
    const out = [];
    for (let i = 0; i < points.length; i += n)
        out.push(points.slice(i, i + n).join(''));
    return out;
}

async function wellBehaved(a, text = MIXED) {
    for (const piece of cut(text, 4))
        await a.piece(piece);
    await a.finish();
}

/** Writes bytes with a turn of the loop in between, so that each goes out as its own packet. */
async function trickle(a, bytes, step = 1) {
    a.head();
    a.res.socket?.setNoDelay?.(true);
    for (let i = 0; i < bytes.length; i += step) {
        await a.raw(bytes.subarray(i, i + step));
        await new Promise((resolve) => setImmediate(resolve));
    }
}

function wholeStream(a, text) {
    a.note(text);
    return Buffer.from(cut(text, 5).map((piece) => a.line(a.chunk({ content: piece }))).join('') +
        a.line(a.chunk({}, 'stop')) + a.line('[DONE]'));
}

/** Every UTF-16 unit as \uXXXX, as some JSON libraries write. */
function escaped(text) {
    let s = '';
    for (let i = 0; i < text.length; i++)
        s += `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`;
    return s;
}

function rawChunk(jsonString, finish = 'null') {
    return `{"choices":[{"index":0,"delta":{"content":"${jsonString}"},"finish_reason":${finish}}]}`;
}

const MEGABYTE = longText(1024 * 1024 / 2);   /* "·" takes two bytes, so about 700 KB … */
const BURST = Array.from({ length: 5000 }, (_, i) => `${i} `);

const ONE_MB_PIECE = MEGABYTE + 'x'.repeat(1024 * 1024 - Buffer.byteLength(MEGABYTE));   /* … filled to 1 MiB */

const shapes = {
    plain: {
        async run(a) {
            await wellBehaved(a, answerFor(a.question));
        },
    },
    mixed: { text: MIXED, run: (a) => wellBehaved(a) },
    crlf: {
        text: MIXED,
        async run(a) {
            a.eol = '\r\n';
            await wellBehaved(a);
        },
    },
    cr: {
        text: MIXED,
        async run(a) {
            a.eol = '\r';
            await wellBehaved(a);
        },
    },
    nospace: {
        text: MIXED,
        async run(a) {
            a.prefix = 'data:';
            await wellBehaved(a);
        },
    },
    comments: {
        text: MIXED,
        async run(a) {
            await a.raw(': OPENROUTER PROCESSING\n\n:\n\nretry: 100\n\n');
            for (const piece of cut(MIXED, 4)) {
                await a.raw(': data: {"choices":[{"delta":{"content":"not me"}}]}\nevent: message\nid: 7\n');
                await a.piece(piece);
                await a.raw(':ping\n\nevent: ping\n\n');
            }
            await a.finish();
        },
    },
    bom: {
        text: MIXED,
        async run(a) {
            await a.raw(Buffer.from([0xef, 0xbb, 0xbf]));
            await wellBehaved(a);
        },
    },
    bytes: {
        text: MIXED.slice(0, 24),
        run: async (a) => {
            await trickle(a, wholeStream(a, MIXED.slice(0, 24)));
            a.end();
        },
    },
    threes: {
        text: MIXED,
        run: async (a) => {
            a.eol = '\r\n';
            await trickle(a, wholeStream(a, MIXED), 3);
            a.end();
        },
    },
    escapes: {
        text: MIXED,
        async run(a) {
            /* every escape is cut after each of its characters, surrogate pairs too */
            a.note(MIXED);
            await trickle(a, Buffer.from(a.line(rawChunk(escaped(MIXED)))));
            await a.finish();
        },
    },
    'surrogate-halves': {
        text: 'a😀b𝄞c',
        async run(a) {
            /* the two halves of a pair come in two pieces */
            a.note('a😀b𝄞c');
            await a.raw(a.line(rawChunk('a\\ud83d')));
            await a.raw(a.line(rawChunk('\\ude00b\\uD834')));
            await a.raw(a.line(rawChunk('\\uDD1Ec')));
            await a.finish();
        },
    },
    'utf8-halves': {
        text: 'a你b😀c',
        async run(a) {
            /* raw UTF-8 bytes of one character in two network reads */
            a.note('a你b😀c');
            const bytes = Buffer.from(a.line(rawChunk('a你b😀c')));
            const ni = bytes.indexOf(Buffer.from('你'));
            const smile = bytes.indexOf(Buffer.from('😀'));
            for (const [from, to] of [[0, ni + 1], [ni + 1, ni + 2], [ni + 2, smile + 3], [smile + 3, bytes.length]]) {
                await a.raw(bytes.subarray(from, to));
                await new Promise((resolve) => setImmediate(resolve));
            }
            await a.finish();
        },
    },
    'lone-surrogate': {
        text: 'x\ufffdy\ufffd',
        async run(a) {
            await a.raw(a.line(rawChunk('x\\udc00y')));
            await a.raw(a.line(rawChunk('\\ud83d')));
            await a.finish();
        },
    },
    nul: {
        text: 'x\ufffdy',
        async run(a) {
            await a.raw(a.line(rawChunk('x\\u0000y')));
            await a.finish();
        },
    },
    usage: {
        text: 'counted', usage: USAGE,
        async run(a) {
            await a.piece('coun');
            await a.piece('ted');
            await a.finish('stop', USAGE);
        },
    },
    'usage-inline': {
        text: 'counted', usage: USAGE,
        async run(a) {
            await a.piece('counted');
            await a.raw(a.line(a.chunk({ content: '' }, 'stop', { usage: USAGE })));
            await a.raw(a.line('[DONE]'));
            a.end();
        },
    },
    'no-choices': {
        text: 'still here',
        async run(a) {
            await a.raw(a.line({ ...a.chunk({}), choices: [], prompt_filter_results: [{ content_filter_results: {} }] }));
            await a.raw(a.line({ id: 'x', object: 'chat.completion.chunk' }));
            await a.piece('still ');
            await a.raw(a.line({ ...a.chunk({}), choices: [] }));
            await a.piece('here');
            await a.finish();
        },
    },
    'null-content': {
        text: 'after null',
        async run(a) {
            await a.raw(a.line(a.chunk({ role: 'assistant', content: null, refusal: null, tool_calls: null })));
            await a.raw(a.line(a.chunk({ content: '' })));
            await a.piece('after ');
            await a.raw(a.line(a.chunk({ content: null })));
            await a.piece('null');
            await a.raw(a.line(a.chunk({ content: null }, 'stop')));
            await a.raw(a.line('[DONE]'));
            a.end();
        },
    },
    reasoning: {
        text: 'The answer is 4.',
        async run(a) {
            await a.raw(a.line(a.chunk({ role: 'assistant', content: null, reasoning_content: 'Let me think' })));
            await a.raw(a.line(a.chunk({ reasoning_content: ' about 2+2', content: '' })));
            await a.raw(a.line(a.chunk({ reasoning: 'another dialect' })));
            await a.piece('The answer');
            await a.piece(' is 4.');
            await a.finish();
        },
    },
    decoys: {
        text: 'real',
        async run(a) {
            a.note('real');
            const logprobs = '{"content":[{"token":"decoy","logprob":-0.1,"bytes":[100],' +
                '"top_logprobs":[{"token":"content","delta":{"content":"decoy"}}]}]}';
            await a.raw(a.line(`{"content":"decoy","delta":{"content":"decoy"},"x":"\\"content\\":\\"decoy\\"",` +
                `"choices":[{"logprobs":${logprobs},"finish_reason":null,"message":null,` +
                '"delta":{"annotations":[{"content":"decoy"}],"content":"re","role":"assistant"},"index":0}],"id":"1"}'));
            await a.raw(a.line(`{"usage":null,"choices":[ { "index" : 0 , "delta" : { "content" : "al" , ` +
                `"extra":{"content":"decoy"}} , "logprobs":${logprobs} , "finish_reason" : null } ]  }`));
            await a.raw(a.line('{"choices":[{"finish_reason":"stop","index":0,"delta":{"x":{"content":"decoy"}}}]}'));
            await a.raw(a.line('[DONE]'));
            a.end();
        },
    },
    megabyte: {
        text: ONE_MB_PIECE,
        async run(a) {
            await a.piece(ONE_MB_PIECE);
            await a.finish();
        },
    },
    burst: {
        text: BURST.join(''),
        async run(a) {
            a.note(BURST.join(''));
            await a.raw(BURST.map((piece) => a.line(a.chunk({ content: piece }))).join(''));
            await a.finish();
        },
    },
    empty: {
        text: '',
        run: (a) => a.finish(),
    },
    'no-done': {
        text: 'finished by reason',
        async run(a) {
            await a.piece('finished by ');
            await a.piece('reason');
            await a.raw(a.line(a.chunk({}, 'stop')));
            a.end();
        },
    },
    'no-done-no-eol': {
        text: 'last line unended',
        async run(a) {
            await a.piece('last line ');
            await a.piece('unended');
            a.end(a.line(a.chunk({}, 'stop')).trimEnd());
        },
    },
    'done-only': {
        text: 'done only',
        async run(a) {
            await a.piece('done ');
            await a.piece('only');
            a.end(a.line('[DONE]'));
        },
    },
    length: {
        text: 'cut off by', finish: 'length',
        async run(a) {
            await a.piece('cut off by');
            await a.finish('length');
        },
    },
    'after-done': {
        text: 'nothing follows',
        async run(a) {
            await a.piece('nothing follows');
            await a.raw(a.line(a.chunk({}, 'stop')) + a.line('[DONE]') + a.line(a.chunk({ content: ' but this' })));
            a.end();
        },
    },
    'not-a-stream': {
        text: MIXED, usage: USAGE,
        async run(a) {
            a.note(MIXED);
            a.head(200, { 'content-type': 'application/json' });
            a.end(JSON.stringify({
                id: 'chatcmpl-fake', object: 'chat.completion', created: 1, model: a.model,
                choices: [{ index: 0, logprobs: null, message: { role: 'assistant', content: MIXED }, finish_reason: 'stop' }],
                usage: USAGE,
            }));
        },
    },
};

const refusals = {
    401: {
        error: { status: 502, code: 'upstream_auth', says: 'Incorrect API key' },
        run: (a) => a.fail(401, {
            error: { message: `Incorrect API key provided: ${a.record.headers.authorization?.slice(7)}`, code: 'invalid_api_key' },
        }),
    },
    403: {
        error: { status: 502, code: 'upstream_auth' },
        run: (a) => a.fail(403, { error: { message: 'Country not supported' } }),
    },
    404: {
        error: { status: 502, code: 'upstream_not_found', says: 'does not exist' },
        run: (a) => a.fail(404, { error: { message: 'The model `x` does not exist', code: 'model_not_found' } }),
    },
    429: {
        error: { status: 502, code: 'upstream_rate_limited', says: 'Rate limit reached', retryAfter: '7' },
        run: (a) => a.fail(429, { error: { message: 'Rate limit reached for requests' } }, { 'retry-after': '7' }),
    },
    400: {
        error: { status: 502, code: 'upstream_error', says: 'context length' },
        run: (a) => a.fail(400, { error: { message: 'maximum context length is 5 tokens' } }),
    },
    500: {
        error: { status: 502, code: 'upstream_error', says: 'server had an error' },
        run: (a) => a.fail(500, { error: { message: 'The server had an error' } }),
    },
    503: {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.fail(503, 'overloaded', { 'content-type': 'text/plain' }),
    },
    html: {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.fail(200, '<!DOCTYPE html><html><body>Sign in to the wifi</body></html>', { 'content-type': 'text/html' }),
    },
    'html-502': {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.fail(502, '<html><head><title>502 Bad Gateway</title></head></html>', { 'content-type': 'text/html' }),
    },
    redirect: {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.fail(302, '', { location: `http://127.0.0.1:${a.provider.port}/stolen/chat/completions` }),
    },
    'error-200': {
        error: { status: 502, code: 'upstream_error', says: 'engine is overloaded' },
        async run(a) {
            await a.raw(a.line({ error: { message: 'the engine is overloaded', type: 'server_error', code: null } }));
            await a.raw(a.line('[DONE]'));
            a.end();
        },
    },
    'error-200-json': {
        error: { status: 502, code: 'upstream_error', says: 'engine is overloaded' },
        run: (a) => a.fail(200, { error: { message: 'the engine is overloaded', code: '1234' } }),
    },
    'error-200-string': {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.fail(200, { error: 'just a string' }),
    },
    'cut-early': {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.cut(),
    },
    'nothing-at-all': {
        error: { status: 502, code: 'upstream_error' },
        run: (a) => a.end(),
    },
    'broken-first': {
        error: { status: 502, code: 'upstream_error' },
        async run(a) {
            await a.raw('data: {"choices":[{"delta":{"content":"x"\n\n');
            a.end();
        },
    },
};

/** Shows two pieces, then something goes wrong. */
function late(wrong) {
    return async (a) => {
        await a.piece('good so ');
        await a.piece('far');
        await wrong(a);
    };
}

const breaks = {
    cut: { late: { text: 'good so far', code: 'upstream_error' }, run: late((a) => a.cut()) },
    truncated: { late: { text: 'good so far', code: 'upstream_error' }, run: late((a) => a.end()) },
    'broken-json': {
        late: { text: 'good so far', code: 'upstream_error' },
        run: late(async (a) => {
            await a.raw('data: {"choices":[{"index":0,"delta":{"content":"lost\n\n');
            a.end();
        }),
    },
    'error-late': {
        late: { text: 'good so far', code: 'upstream_error' },
        run: late(async (a) => {
            await a.raw(a.line({ error: { message: 'the engine fell over', type: 'server_error' } }));
            a.end();
        }),
    },
};

/** Sends two pieces and then nothing, with the connection open, until the client gives up. */
const stalls = {
    stall: {
        run: late((a) => a.closed),
    },
    'stall-early': {
        run: (a) => {
            a.head();
            return a.closed;
        },
    },
    'stall-headers': {
        run: (a) => a.closed,
    },
};

/** Grouped for the provider story. */
export const groups = { shapes, refusals, breaks, stalls };
/** All by name, for the provider. */
export const behaviours = { ...shapes, ...refusals, ...breaks, ...stalls };
