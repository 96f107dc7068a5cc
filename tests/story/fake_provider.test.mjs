/* fake_provider.test.mjs - the stories' own tools: the fake provider and the event parsers.
 *
 * A small and patient reader of provider streams checks that every behaviour really carries the
 * text that its row promises; needs none of the services. */
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http2 from 'node:http2';
import os from 'node:os';
import path from 'node:path';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, behaviours, groups } from '../support/fake_behaviours.mjs';
import { eventParser } from '../support/event_parser.mjs';
import { makeCertificate } from '../support/tls.mjs';
import { until } from '../support/deadline.mjs';
import { merge, toYaml } from '../support/yaml.mjs';

let provider;
before(async () => {
    provider = await startProvider();
});
after(() => provider?.stop());

function ask(model, signal) {
    return fetch(`${provider.url}/chat/completions`, {
        method: 'POST', signal, redirect: 'manual',
        body: JSON.stringify({ model, messages: [{ role: 'user', content: 'question' }] }),
    });
}

/** All text of a provider's body, read in one go. */
function textOf(body) {
    if (body.startsWith('{'))
        return JSON.parse(body).choices[0].message.content;
    const text = body.replace(/^\ufeff/, '').split(/\r\n|\n|\r/).filter((l) => l.startsWith('data:')).map((l) => l.slice(5).trim())
        .filter((l) => l !== '' && l !== '[DONE]').map((l) => JSON.parse(l).choices?.[0]?.delta?.content ?? '').join('');
    return text.replaceAll('\u0000', '\ufffd');
}

for (const [name, shape] of Object.entries(groups.shapes)) {
    test(`fake:${name} carries the text that its row promises`, async () => {
        const body = await (await ask(`fake:${name}`)).text();
        const got = textOf(body.split('[DONE]')[0] || body);
        assert.ok(got === (shape.text ?? answerFor('question')) || name === 'lone-surrogate', got.slice(0, 200));
        assert.equal(provider.last(`fake:${name}`).closedEarly, false);
    });
}

test('refusals have their status and body', async () => {
    for (const name of Object.keys(groups.refusals).filter((n) => /^\d+$/.test(n))) {
        const res = await ask(`fake:${name}`);
        assert.equal(res.status, Number(name));
        await res.text();
    }
    assert.equal((await ask('fake:429')).headers.get('retry-after'), '7');
});

test('a cut answer is cut, a stalled one stalls until the client goes', async () => {
    await assert.rejects((await ask('fake:cut')).text());
    const abort = new AbortController();
    const res = await ask('fake:stall', abort.signal);
    const reader = res.body.getReader();
    await reader.read();
    abort.abort();
    await until(5000, () => provider.last('fake:stall').closedEarly, 'the request is recorded as closed early');
});

test('a held answer is written by the test', async () => {
    const hold = provider.hold('fake:held');
    const asking = ask('fake:held');
    const answer = await hold.next();
    assert.equal(answer.question, 'question');
    await answer.piece('one ');
    await answer.piece('two');
    await answer.finish();
    assert.equal(textOf(await (await asking).text()), 'one two');
    assert.equal(provider.last('fake:held').sent, 'one two');
});

test('TLS speaks HTTP/2', async () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-tls-'));
    const tls = makeCertificate(dir);
    const secure = await startProvider({ tls });
    const session = http2.connect(`https://127.0.0.1:${secure.port}`, { ca: fs.readFileSync(tls.caFile) });
    const req = session.request({ ':method': 'POST', ':path': '/v1/chat/completions' });
    req.end(JSON.stringify({ model: 'fake:usage', messages: [] }));
    let body = '';
    for await (const part of req.setEncoding('utf8'))
        body += part;
    assert.equal(textOf(body), 'counted');
    assert.equal(secure.last('fake:usage').httpVersion, '2.0');
    session.destroy();
    await secure.stop();
    fs.rmSync(dir, { recursive: true });
});

const OBJECT = '{"event":"message","data":"R 你"}';

test('the SSE parser reads any line end, split anywhere', () => {
    for (const eol of ['\n', '\r\n', '\r']) {
        const bytes = Buffer.from(['id: a:1', 'event: message', `data: ${OBJECT}`, '', ': ka', 'data:{"event":"x"}', '', ''].join(eol));
        for (const step of [1, 2, 3, 1000]) {
            const parser = eventParser('sse');
            const got = [];
            for (let i = 0; i < bytes.length; i += step)
                got.push(...parser.feed(bytes.subarray(i, i + step)));
            got.push(...parser.feed(Buffer.from(': end\n')));
            assert.deepEqual(got, [{ id: 'a:1', name: 'message', data: JSON.parse(OBJECT) }, { comment: ' ka' },
                { id: 'a:1', name: 'message', data: { event: 'x' } }, { comment: ' end' }]);
            parser.end();
        }
    }
});

test('the parsers refuse what a browser would swallow', () => {
    const feed = (framing, bytes) => () => {
        const parser = eventParser(framing);
        parser.feed(Buffer.from(bytes));
        parser.end();
    };
    assert.throws(feed('sse', `${OBJECT}\n\n`));
    assert.throws(feed('sse', `data: ${OBJECT}\n`));
    assert.throws(feed('sse', 'data: {"event":"half\n\n'));
    assert.throws(feed('sse', [0x64, 0x61, 0x74, 0x61, 0x3a, 0xe4, 0xbd, 0x0a]));
    assert.throws(feed('ndjson', `data: ${OBJECT}\n`));
    assert.throws(feed('ndjson', OBJECT));
    assert.throws(feed('bare', `${OBJECT}\n${OBJECT}\n`));
    feed('ndjson', `${OBJECT}\n${OBJECT}\n`)();
    feed('bare', `${OBJECT}\n\n${OBJECT}\n\n`)();
});

test('every behaviour says what must come of it', () => {
    for (const [name, row] of Object.entries(behaviours))
        assert.ok(row.run, name);
    assert.equal(Buffer.byteLength(behaviours.megabyte.text), 1024 * 1024);
});

test('the configuration writer writes maps, lists and lists of maps', () => {
    const config = merge({ a: { b: 1, c: 'x: "y"' } }, { a: { b: true }, d: ['p', 2], e: [{ name: 'n', models: ['m*'] }, { name: 'o' }] });
    assert.equal(toYaml(config), 'a:\n  b: true\n  c: "x: \\"y\\""\nd: ["p", 2]\ne:\n  - name: "n"\n    models: ["m*"]\n  - name: "o"\n');
});
