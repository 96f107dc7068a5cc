/* provider.test.mjs - every misbehaviour of the fake provider, compared byte by byte.
 *
 * The behaviours and what must come of them stand in support/fake_behaviours.mjs. Here are the
 * circumstances besides: time limits, refused and encrypted connections, the longest answer. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { providerEntry, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, groups } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectBroken, expectError } from '../support/expect.mjs';
import { makeCertificate } from '../support/tls.mjs';
import { freePorts } from '../support/ports.mjs';
import { promisedWithin, until, within } from '../support/deadline.mjs';

const MAX_ANSWER_BYTES = 2 * 1024 * 1024;

let dir;
let plain;
let secure;
let s;
before(async () => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-tls-'));
    const known = makeCertificate(dir, 'known');
    const other = makeCertificate(dir, 'other');
    plain = await startProvider();
    secure = await startProvider({ tls: known });
    const [closed] = await freePorts(1);
    s = await start({
        config: { llm: { max_answer_bytes: MAX_ANSWER_BYTES }, gateway: { headers_after_s: 6 } },   /* the errors before it come after 1 s */
        providers: [
            providerEntry(plain, { name: 'fidgety', models: ['fake:stall-not'], first_byte_s: 3, idle_s: 3 }),
            providerEntry(plain, { name: 'impatient', models: ['fake:stall*'], first_byte_s: 1, idle_s: 1 }),
            providerEntry(plain, { name: 'thoughtful', models: ['fake:late*'], first_byte_s: 20, idle_s: 20 }),
            providerEntry(plain),
            providerEntry(secure, { name: 'secure', models: ['tls*'], ca_file: known.caFile }),
            providerEntry(secure, { name: 'unknown-ca', models: ['noca*'] }),
            providerEntry(secure, { name: 'other-ca', models: ['badca*'], ca_file: other.caFile }),
            providerEntry(plain, { name: 'closed', models: ['closed*'], base_url: `http://127.0.0.1:${closed}/v1` }),
            providerEntry(plain, { name: 'nowhere', models: ['nowhere*'], base_url: 'http://no-such-host.invalid/v1' }),
        ],
    });
});
after(async () => {
    await s?.stopAll();
    await plain?.stop();
    await secure?.stop();
    fs.rmSync(dir, { recursive: true, force: true });
});

for (const [name, shape] of Object.entries(groups.shapes)) {
    story(`fake:${name} gives exactly its text`, async () => {
        const user = await s.user();
        const id = await user.create(`fake:${name}`);
        const text = shape.text ?? answerFor('question');
        expectAnswer(await user.ask(id, 'question'), text, { messageId: 2, finish: shape.finish ?? 'stop', usage: shape.usage });
        const messages = await user.messages(id);
        assert.equal(messages.length, 2);
        assert.equal(messages[1].state, 'complete');
        assert.ok(messages[1].content === text, 'the history holds another text');
    });
}

for (const [name, { error }] of Object.entries(groups.refusals)) {
    story(`fake:${name} is a ${error.status} ${error.code}`, async () => {
        const user = await s.user();
        const id = await user.create(`fake:${name}`);
        const got = await user.ask(id, 'question');
        expectError(got, error.status, { code: error.code, says: error.says });
        assert.equal(got.headers['retry-after'], error.retryAfter);
        const messages = await user.messages(id);
        assert.deepEqual(messages.map((m) => [m.content, m.state]), [['question', undefined], ['', 'interrupted']]);
    });
}

for (const [name, { late }] of Object.entries(groups.breaks)) {
    story(`fake:${name} shows its text and then an error event`, async () => {
        const user = await s.user();
        const id = await user.create(`fake:${name}`);
        expectBroken(await user.ask(id, 'question'), late.text, late.code);
        const messages = await user.messages(id);
        assert.deepEqual(messages.map((m) => [m.content, m.state]), [['question', undefined], [late.text, 'interrupted']]);
    });
}

story('a provider that redirects is not followed', async () => {
    assert.ok(!plain.requests.some((r) => r.path.startsWith('/stolen')), 'the key went to the redirect\'s target');
});

story('a provider that does not begin is a 504', async () => {
    const user = await s.user();
    for (const model of ['fake:stall-headers', 'fake:stall-early']) {
        const got = await user.ask(await user.create(model), 'question');
        expectError(got, 504, { code: 'upstream_timeout' });
        await until(5000, () => plain.last(model).closedEarly, 'the connection upstream is closed');
    }
    expectError(await user.ask(await user.create('fake:stall-headers'), 'q', { lang: 'zh' }), 504, { code: 'upstream_timeout', lang: 'zh' });
});

story('a provider that falls silent in mid-answer ends in an error event', async () => {
    const user = await s.user();
    const id = await user.create('fake:stall');
    expectBroken(await user.ask(id, 'question'), 'good so far', 'upstream_timeout');
    assert.deepEqual((await user.messages(id)).map((m) => m.state), [undefined, 'interrupted']);
});

story('reasoning and comments count as life, silence does not', async () => {
    const user = await s.user();
    plain.script('fake:stall-not', async (a) => {
        const beat = setInterval(() => a.raw(a.line(a.chunk({ reasoning_content: 'hm ' }))), 300);
        await new Promise((resolve) => {
            setTimeout(resolve, 6500);    /* twice as long as it may be silent: a busy machine may hold back some of the beats */
        });
        clearInterval(beat);
        await a.piece('thought through');
        await a.finish();
    });
    expectAnswer(await user.ask(await user.create('fake:stall-not'), 'question'), 'thought through', { messageId: 2 });
});

story('after headers_after_s the 200 goes out, and a later error is an event', async () => {
    const user = await s.user();
    const hold = plain.hold('fake:late-error');
    const opening = user.chat(await user.create('fake:late-error'), 'question');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    const stream = await promisedWithin(15_000, opening, 'the headers come before the first piece');
    assert.equal(stream.status, 200);
    assert.equal(stream.events.length, 0);
    answer.fail(429, { error: { message: 'too many at once' } }, { 'retry-after': '3' });
    const got = await stream.rest();
    expectBroken(got, '', 'upstream_rate_limited');
    assert.ok(got.error.data.includes('too many at once'));
});

story('after headers_after_s a late answer is shown as ever', async () => {
    const user = await s.user();
    const hold = plain.hold('fake:late-answer');
    const opening = user.chat(await user.create('fake:late-answer'), 'question');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    const stream = await promisedWithin(15_000, opening, 'the headers come before the first piece');
    await answer.piece('at last');
    await answer.finish();
    expectAnswer(await stream.rest(), 'at last', { messageId: 2 });
});

story('a provider nobody can reach is a 502', async () => {
    const user = await s.user();
    for (const model of ['closed', 'nowhere'])
        expectError(await user.ask(await user.create(model), 'question'), 502, { code: 'upstream_error' });
});

story('TLS with HTTP/2 and a ca_file of one\'s own works, many answers over few connections', async () => {
    const user = await s.user();
    secure.script('tls', async (a) => {
        await a.piece('over ');
        await a.piece(`HTTP/${a.record.httpVersion}: ${a.question}`);
        await a.finish();
    });
    const ids = await Promise.all(Array.from({ length: 20 }, () => user.create('tls')));
    const all = await Promise.all(ids.map((id, i) => user.ask(id, `q${i}`)));
    all.forEach((got, i) => expectAnswer(got, `over HTTP/2.0: q${i}`, { messageId: 2 }));
});

story('a certificate of an unknown authority is refused', async () => {
    const user = await s.user();
    const before = secure.requests.length;
    for (const model of ['noca', 'badca'])
        expectError(await user.ask(await user.create(model), 'question'), 502, { code: 'upstream_error' });
    assert.equal(secure.requests.length, before, 'the question went to somebody unknown');
});

story('an error on HTTP/2 in mid-answer is truthful', async () => {
    const user = await s.user();
    secure.script('tls:cut', async (a) => {
        await a.piece('good so far');
        await a.cut();
    });
    expectBroken(await user.ask(await user.create('tls:cut'), 'question'), 'good so far', 'upstream_error');
});

story('an answer that never ends is closed at the limit with finish_reason length', async () => {
    const user = await s.user();
    plain.script('fake:endless', async (a) => {
        const piece = '没完没了 '.repeat(200);
        while (!a.res.destroyed && a.record.sent.length < 64 * MAX_ANSWER_BYTES)
            await a.piece(piece);
        await a.closed;
    });
    const id = await user.create('fake:endless');
    const got = await user.ask(id, 'go on');
    const bytes = Buffer.byteLength(got.text);
    assert.ok(bytes <= MAX_ANSWER_BYTES && bytes > MAX_ANSWER_BYTES - 8192, `${bytes} bytes`);
    assert.ok(plain.last('fake:endless').sent.startsWith(got.text));
    expectAnswer(got, got.text, { messageId: 2, finish: 'length' });
    await until(5000, () => plain.last('fake:endless').closedEarly, 'the connection upstream is closed');
    assert.ok((await user.messages(id))[1].content === got.text);
});

story('connections to the provider are used again', async () => {
    const user = await s.user();
    const sockets = new Set();
    plain.script('fake:reuse', async (a) => {
        sockets.add(a.res.socket);
        await a.piece('ok');
        await a.finish();
    });
    const id = await user.create('fake:reuse');
    for (let i = 0; i < 10; i++)
        expectAnswer(await user.ask(id, `q${i}`), 'ok', { messageId: 2 * i + 2 });
    assert.ok(sockets.size <= 5, `${sockets.size} connections for ten answers in a row`);
});

story('a kept connection that the provider has closed meanwhile costs no answer', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    for (let i = 0; i < 5; i++) {
        plain.dropConnections();
        expectAnswer(await user.ask(id, `q${i}`), answerFor(`q${i}`), { messageId: 2 * i + 2 });
    }
});
