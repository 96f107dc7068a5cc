/* trace.test.mjs - one id from the HTTP request through the log lines of every service, and the timeline of it.
 *
 * Logs are JSON at level info, as an operator has them. Lines are waited for: a service logs a request after it
 * has answered it. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { SERVICES, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { until, within } from '../support/deadline.mjs';
import { rawRequest } from '../support/raw.mjs';
import { asked } from '../support/held.mjs';

const SCRIPT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../scripts/trace');

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { log: { format: 'json', level: 'info' }, gateway: { verify_cache_s: 0 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const fresh = () => randomBytes(16).toString('hex');
const parent = (trace) => ({ headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` } });

/** The lines of one service that have this trace. */
function lines(name, trace) {
    return s.logs(name).trimEnd().split('\n').filter((l) => l.startsWith('{')).map((l) => JSON.parse(l)).filter((l) => l.trace === trace);
}

/** Waits until some line of a service has this trace and matches. */
function told(name, trace, test, what) {
    return until(10_000, () => lines(name, trace).find(test), `${name} logs ${what}`);
}

/** What scripts/trace prints for an id: {code, text, said}. */
function timeline(id, { files = s.names.map((n) => s.logFile(n)), input } = {}) {
    return new Promise((resolve) => {
        const child = execFile(SCRIPT, [id, ...(input === undefined ? files : [])], (error, text, said) => resolve({ code: error?.code ?? 0, text, said }));
        child.stdin.on('error', () => {});  /* it need not read what it does not need */
        child.stdin.end(input ?? '');
    });
}

const isGateway = (l) => l.op === 'POST /api/chat/:id';
const isStored = (l) => l.message.startsWith('the answer is stored');

story('the trace of a question stands in every service\'s log, goes on to the provider and comes back', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const trace = fresh();
    const stream = await user.chat(id, 'which way did it go?', parent(trace));
    assert.equal(stream.headers['x-request-id'], trace);
    await stream.rest();
    assert.match(provider.last('fake').headers.traceparent, new RegExp(`^00-${trace}-[0-9a-f]{16}-00$`));
    assert.equal(provider.last('fake').headers['x-request-id'], trace);
    await told('gateway', trace, (l) => isGateway(l) && l.status === '200', 'the request');
    await told('auth-svc', trace, (l) => l.op === 'auth.verify', 'the look at the token');
    await told('convo-svc', trace, (l) => l.op === 'convo.ask', 'the question');
    await told('convo-svc', trace, isStored, 'the end');
    await told('llm-svc', trace, (l) => l.op === 'llm.generate' && l.status === 'ok', 'the generation');
    for (const name of SERVICES)
        assert.ok(lines(name, trace).every((l) => l.level === 'info' && !/^(llm.ack|convo.watch|svc\.)/.test(l.op ?? '')), `${name} logs what is routine`);
    const { code, text } = await timeline(trace);
    assert.equal(code, 0);
    const rows = text.trimEnd().split('\n');
    const times = rows.map((row) => row.split(' ')[0]);
    assert.deepEqual(times, [...times].sort(), text);
    for (const row of [/ gateway +POST \/api\/chat\/:id -> 200 +\(\d+\.\d+ ms\)/, / auth-svc +auth\.verify -> ok/, / convo-svc +the answer is stored: complete, \d+ bytes/,
        / llm-svc +generation by fake begins: attempt 1/])
        assert.match(text, row);
    assert.ok(!s.names.some((n) => s.logs(n).includes('which way did it go')), 'a question is in a log');
});

story('every answer has an X-Request-Id, and that is a trace in the log', async () => {
    const user = await s.user();
    const big = Array.from({ length: 200 }, (_, i) => `X-${i}: ${'y'.repeat(80)}\r\n`).join('');
    const answers = {
        200: await s.api('GET', '/healthz'), 204: await s.api('OPTIONS', '/api/chat/1'), 404: await s.api('GET', '/nowhere'), 401: await s.api('GET', '/api/conversations/list'),
        405: await s.api('PUT', '/healthz'), 400: await user.call('POST', '/api/conversations/create', '{'), 413: await user.call('POST', '/api/conversations/create', 'x'.repeat(1100000)),
        431: await rawRequest(s.port, `GET /healthz HTTP/1.1\r\nHost: x\r\n${big}\r\n`), '400 of no HTTP': await rawRequest(s.port, 'this is none\r\n\r\n'),
    };
    for (const [what, answer] of Object.entries(answers)) {
        assert.equal(answer.status, Number.parseInt(what, 10));
        assert.match(answer.headers['x-request-id'] ?? '', /^[0-9a-f]{32}$/, what);
        await told('gateway', answer.headers['x-request-id'], (l) => l.status === String(answer.status), what);
    }
    assert.match(answers[200].headers['access-control-expose-headers'], /X-Request-Id/);
    assert.match(answers[204].headers['access-control-allow-headers'], /traceparent/);
});

story('a traceparent that is none is not believed; what a client calls its request is repeated and found', async () => {
    for (const value of ['00-0', `00-${'0'.repeat(32)}-00f067aa0ba902b7-01`, `ff-${fresh()}-00f067aa0ba902b7-01`, `00-${fresh().toUpperCase().replace(/^./, 'F')}-00f067aa0ba902b7-01`]) {
        const got = await s.api('GET', '/healthz', undefined, { headers: { traceparent: value } });
        assert.match(got.headers['x-request-id'], /^[0-9a-f]{32}$/);
        assert.ok(!value.toLowerCase().includes(got.headers['x-request-id']), value);
    }
    const user = await s.user();
    const mine = `order-${fresh()}`;
    const got = await user.list({ headers: { 'x-request-id': mine } });
    assert.equal(got.headers['x-request-id'], mine);
    await until(10_000, async () => / convo-svc +convo\.list -> ok/.test((await timeline(mine)).text), 'what the client called it leads to all services');
    const unsafe = await user.list({ headers: { 'x-request-id': 'two words' } });
    assert.match(unsafe.headers['x-request-id'], /^[0-9a-f]{32}$/);
    const nothing = await timeline('nobody-called-it-so');
    assert.deepEqual([nothing.code, nothing.text, nothing.said], [1, '', 'trace: no line belongs to nobody-called-it-so\n']);
});

story('an llm-svc that dies in mid-answer is told in the trace, from the first word to what is stored', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:die');
    const id = await user.create('fake:die');
    const trace = fresh();
    const opening = user.chat(id, 'question', parent(trace));
    const answer = await asked(hold, opening);
    await answer.piece('half an ');
    const stream = await opening;
    await stream.shows('half an ');
    await told('llm-svc', trace, (l) => l.message === 'generation by fake begins: attempt 1', 'the first attempt');
    await s.kill('llm-svc');    /* what it had not yet written is lost with it */
    s.start('llm-svc');
    await stream.rest();
    await told('convo-svc', trace, (l) => l.level === 'warn' && /llm-svc that wrote the answer is lost/.test(l.message), 'the loss');
    await told('convo-svc', trace, (l) => /^the answer is stored: interrupted, 8 bytes/.test(l.message), 'what is left');
    await told('gateway', trace, isGateway, 'the end of the request');
    const composed = s.names.flatMap((n) => s.logs(n).trimEnd().split('\n').map((l) => `\u001b[36m${n}-1  | \u001b[0m${l}`)).join('\n');
    for (const got of [await timeline(trace), await timeline(`00-${trace}-00f067aa0ba902b7-01`, { input: composed }), await timeline(stream.headers['stream-id'])]) {
        assert.equal(got.code, 0);
        const begun = got.text.indexOf('generation by fake begins: attempt 1');
        const lost = got.text.indexOf('warn: the llm-svc that wrote the answer is lost, 8 bytes are stored');
        const stored = got.text.indexOf('the answer is stored: interrupted, 8 bytes');
        assert.ok(begun >= 0 && begun < lost && lost < stored, got.text);
    }
    assert.match((await timeline(trace, { input: composed })).text, / llm-svc-1 +generation by fake begins/);
    await s.ready();
});

story('an answer of which nothing was shown begins anew under the same trace', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:again');
    const id = await user.create('fake:again');
    const trace = fresh();
    const opening = user.chat(id, 'question', parent(trace));
    await asked(hold, opening);
    await s.kill('llm-svc');
    s.start('llm-svc');
    const second = await within(20_000, hold.next(), 'the provider is asked again');
    await second.piece('at last');
    await second.finish();
    expectAnswer(await (await opening).rest(), 'at last', { messageId: 2 });
    await told('convo-svc', trace, (l) => /attempt 2 follows/.test(l.message), 'that it begins anew');
    await told('llm-svc', trace, (l) => l.message === 'generation by fake begins: attempt 2', 'the second attempt');
    await told('convo-svc', trace, (l) => /^the answer is stored: complete, 7 bytes/.test(l.message), 'the end');
    await s.ready();    /* each reactor of the gateway finds the llm-svc again for itself */
}, { deadline: 60_000 });

story('a convo-svc that takes an answer over learns its trace from the llm-svc', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:over');
    const id = await user.create('fake:over');
    const trace = fresh();
    const opening = user.chat(id, 'question', parent(trace));
    const answer = await asked(hold, opening);
    await answer.piece('before ');
    const stream = await opening;
    await stream.shows('before ');
    await s.kill('convo-svc');
    s.start('convo-svc');
    await told('llm-svc', trace, (l) => /taken over by another convo-svc/.test(l.message), 'who goes on');
    await answer.piece('and after');
    await answer.finish();
    expectAnswer(await stream.rest(20_000), 'before and after', { messageId: 2 });
    await told('convo-svc', trace, (l) => /^the answer is stored: complete, 16 bytes/.test(l.message), 'the end');
    /* the lines of requests come a few ms later, and this one has a trace of its own: only the timeline finds it */
    const text = await until(10_000, async () => {
        const got = await timeline(trace);
        return /llm\.attach -> ok/.test(got.text) && got.text;
    }, 'the timeline has how it was taken over');
    assert.match(text, /an unfinished answer is taken over here: streaming, 7 bytes are stored, term 2/);
}, { deadline: 60_000 });

story('a timeline is made of text lines, too', async () => {
    const plain = await start({ provider, config: { log: { format: 'text', level: 'info' } } });
    try {
        const user = await plain.user();
        const trace = fresh();
        await user.ask(await user.create('echo'), 'hello', parent(trace));
        const file = path.join(plain.dir, 'all.log');
        const whole = await until(10_000, async () => {
            fs.writeFileSync(file, plain.names.map((n) => plain.logs(n)).join(''));
            const got = await timeline(trace, { files: [file] });
            const parts = [/ gateway +POST \/api\/chat\/:id -> 200 +\(/, / convo-svc +the answer is stored/, / llm-svc +generation by echo begins/];
            return parts.every((part) => part.test(got.text)) && got.text;
        }, 'the timeline has the request, its generation and what is stored');
        assert.match(whole, / convo-svc +the answer is stored: complete, 5 bytes\n/);
        assert.match(whole, / llm-svc +generation by echo begins: attempt 1\n/);
    } finally {
        await plain.stopAll();
    }
});
