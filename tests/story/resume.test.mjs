/* resume.test.mjs - reading an answer on: after a lost connection, on another device, through another gateway. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError, expectText } from '../support/expect.mjs';
import { promised } from '../support/deadline.mjs';
import { asked, openAnswer } from '../support/held.mjs';

const NDJSON = 'application/x-ndjson';

let provider;
let s;
let other;   /* a client of the second gateway */
before(async () => {
    provider = await startProvider();
    s = await start({ provider, replicas: { gateway: 2 }, config: { gateway: { keepalive_s: 1, verify_stream_s: 1, verify_cache_s: 0 } } });
    other = s.at('gateway-2');
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const lastId = (stream) => stream.events.at(-1).id;
const bytesOf = (text) => Buffer.byteLength(text);
const raw = (stream) => Buffer.concat(stream.bytes).toString();

story('a stream begins with when to reconnect and an id to do it with', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:first', 'R');
    const block = /^retry: 1000\nid: ([0-9a-f]{32}):0\n\n/.exec(raw(stream));
    assert.ok(block, raw(stream).slice(0, 200));
    assert.equal(stream.headers['stream-id'], block[1]);
    const watching = await user.watch(id);
    await watching.shows('R');
    assert.ok(raw(watching).startsWith(block[0]), raw(watching).slice(0, 200));
    await answer.finish();
    expectAnswer(await watching.rest(), 'R', { messageId: 2 });
    await stream.rest();
});

story('a connection that is lost in mid-answer goes on through the other gateway, to the byte', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:tunnel', 'Grüße ');
    await answer.piece('你好 ');
    await stream.shows('你好 ');
    stream.leave();
    await answer.piece('aus dem ');
    const from = lastId(stream);
    const next = await user.watch(id, { at: other, lastEventId: from });
    await next.shows('aus dem ');
    assert.ok(raw(next).startsWith(`retry: 1000\nid: ${from}\n\n`), raw(next).slice(0, 200));
    next.leave();
    await answer.piece('Tunnel 😀');
    const last = await user.watch(id, { lastEventId: lastId(next) });
    await answer.finish();
    const got = await last.rest();
    assert.deepEqual(got.kinds.slice(-2), ['done', 'full_response']);
    expectText(stream.shown + next.shown + got.text, answer.record.sent, 'the three parts');
    expectText(got.full, answer.record.sent, 'full_response');
});

story('a finished answer is read on from any of its events', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const whole = await user.ask(id, 'zähle 字节 😀');
    expectAnswer(whole, answerFor('zähle 字节 😀'), { messageId: 2 });
    const all = [{ id: `${whole.headers['stream-id']}:0`, data: {} }, ...whole.events];
    for (const [i, event] of all.entries()) {
        const at = i % 2 === 0 ? s : other;
        const got = await (await user.watch(id, { at, lastEventId: event.id })).rest();
        if (event.id.endsWith(':e')) {
            assert.equal(got.status, 204);
            continue;
        }
        assert.equal(got.status, 200, `${event.id}: ${JSON.stringify(got.json)}`);
        const seen = bytesOf(whole.events.slice(0, i).filter((e) => e.data.event === 'message').map((e) => e.data.data).join(''));
        expectText(got.text, Buffer.from(whole.text).subarray(seen).toString(), `from ${event.id}`);
        assert.deepEqual(got.kinds.filter((k) => k !== 'message'), event.id.endsWith(':d') ? ['full_response'] : ['done', 'full_response']);
        assert.equal(lastId(got.stream), whole.events.at(-1).id);
    }
    expectAnswer(await (await user.watch(id, { at: other })).rest(), whole.text, { messageId: 2 });
});

story('a long answer is read on from far behind, and far ahead of what a gateway holds', async () => {
    const user = await s.user();
    const id = await user.create('fake:megabyte');
    const whole = await user.ask(id, 'go');
    const text = Buffer.from(whole.text);
    for (const from of [0, 2 * 131072, text.length - 3]) {
        let at = from;
        while ((text[at] & 0xc0) === 0x80)
            at++;
        const got = await (await user.watch(id, { at: other, lastEventId: `${whole.headers['stream-id']}:${at}` })).rest();
        expectText(got.text, text.subarray(at).toString(), `from ${at}`);
        expectText(got.full, whole.text, 'full_response');
    }
});

story('any number of devices read one answer, each from its own place', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:many', 'one ');
    const stream_id = stream.headers['stream-id'];
    const viewers = await Promise.all(Array.from({ length: 12 }, (_, i) =>
        user.watch(id, { at: i % 2 ? other : s, after: `${stream_id}:${i % 5}`, accept: i % 3 ? 'text/event-stream' : NDJSON })));
    for (const piece of ['two ', 'three ', '四'])
        await answer.piece(piece);
    await answer.finish();
    for (const [i, viewer] of viewers.entries()) {
        const got = await viewer.rest();
        expectText(got.text, answer.record.sent.slice(i % 5), `viewer ${i}`);
        expectText(got.full, answer.record.sent, 'full_response');
    }
    expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
});

story('lines are resumed by counting the bytes of their text', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:lines');
    const id = await user.create('fake:lines');
    const opening = user.chat(id, 'question', { accept: NDJSON });
    const answer = await asked(hold, opening);
    await answer.piece('né 😀 ');
    const stream = await opening;
    await stream.shows('né 😀 ');
    stream.leave();
    await answer.piece('weiter');
    const afterId = `${stream.headers['stream-id']}:${bytesOf(stream.shown)}`;
    const next = await user.watch(id, { at: other, after: afterId, accept: NDJSON });
    assert.match(next.headers['content-type'], /^application\/x-ndjson/);
    await answer.finish();
    const got = await next.rest();
    expectText(got.text, 'weiter', 'the rest');
    expectText(got.full, 'né 😀 weiter', 'full_response');
    const again = await (await user.watch(id, { after: `${stream.headers['stream-id']}:${bytesOf(got.full)}:d`, accept: NDJSON })).rest();
    assert.deepEqual(again.kinds, ['full_response']);
});

story('an answer that has not begun is waited for', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:early');
    const id = await user.create('fake:early');
    const opening = user.chat(id, 'question');
    const answer = await asked(hold, opening);
    const watching = await user.watch(id, { at: other });   /* headers at once */
    assert.equal(watching.status, 200);
    await answer.piece('at last');
    await watching.shows('at last');
    await answer.finish();
    expectAnswer(await watching.rest(), 'at last', { messageId: 2 });
    expectAnswer(await (await opening).rest(), 'at last', { messageId: 2 });
});

story('nothing to read is 204, what is no id 400, another answer\'s 410, another\'s conversation 404', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    assert.equal((await user.watch(id)).status, 204);
    const first = await user.ask(id, 'one');
    await user.ask(id, 'two');
    expectError(await user.watch(id, { lastEventId: lastId(first.stream) }), 410, { code: 'superseded' });
    for (const bad of ['x', '1', `${first.headers['stream-id']}`, `${first.headers['stream-id']}:01`, `${first.headers['stream-id']}:1:f`])
        expectError(await user.watch(id, { lastEventId: bad }), 400, { code: 'invalid' });
    expectError(await user.watch(id, { after: 'zz', lang: 'zh' }), 400, { code: 'invalid', lang: 'zh' });
    expectError(await user.watch(id, { after: `${'0'.repeat(32)}:0` }), 410, { code: 'superseded' });
    const stranger = await other.user();
    expectError(await stranger.watch(id, { lastEventId: lastId(first.stream) }), 404, { code: 'not_found' });
    expectError(await s.watch(undefined, id), 401);
    expectError(await user.watch('x'), 400);
});

story('an id that points into a character ends the stream for good, while the answer is written and after', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:inside', 'é and more');
    const inside = `${stream.headers['stream-id']}:1`;
    for (const at of [s, other, s]) {
        const got = await (await user.watch(id, { at, lastEventId: inside })).rest();
        assert.deepEqual(got.kinds, ['error']);
        assert.equal(got.error.code, 'invalid');
        assert.equal(lastId(got.stream), `${inside}:e`);
        assert.equal((await user.watch(id, { at, lastEventId: lastId(got.stream) })).status, 204);
        if (at === other) {
            await answer.finish();
            expectAnswer(await stream.rest(), 'é and more', { messageId: 2 });
        }
    }
});

story('what the interrupted answer did not store is told', async () => {
    const user = await s.user();
    const id = await user.create('fake:cut');
    const broken = await user.ask(id, 'go');
    assert.equal(broken.kinds.at(-1), 'error');
    const stream = broken.headers['stream-id'];
    const stored = bytesOf(broken.text);
    assert.equal(lastId(broken.stream), `${stream}:${stored}:e`);
    const beyond = await (await user.watch(id, { at: other, lastEventId: `${stream}:${stored + 9}` })).rest();
    assert.deepEqual(beyond.kinds, ['error']);
    assert.equal(beyond.error.stored, stored);
    const same = await (await user.watch(id, { lastEventId: `${stream}:4` })).rest();
    expectText(same.text, broken.text.slice(4), 'the rest');
    assert.equal(same.error.code, broken.error.code);
    assert.equal(same.error.stored, undefined);
    assert.equal((await user.watch(id, { lastEventId: `${stream}:${stored}:e` })).status, 204);
});

story('a browser of any origin may read it', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const headers = { origin: 'http://somewhere.example' };
    assert.equal((await user.watch(id, { headers })).headers['access-control-allow-origin'], '*');
    await user.ask(id, 'hello');
    const got = await user.watch(id, { headers });
    assert.equal(got.headers['access-control-allow-origin'], '*');
    assert.match(got.headers['access-control-expose-headers'], /Stream-Id/);
    await got.rest();
    const asked = await s.api('OPTIONS', `/api/chat/${id}/stream`, undefined, { headers });
    assert.equal(asked.status, 204);
    assert.match(asked.headers['access-control-allow-headers'], /Last-Event-ID/);
    const head = await s.api('HEAD', `/api/chat/${id}/stream`, undefined, { token: user.token });
    assert.equal(head.status, 200);
});

story('a gateway that is killed costs nothing but a reconnect', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:dies', 'before ');
    const watching = await user.watch(id, { at: other });
    await watching.shows('before ');
    await s.kill('gateway-2');
    await promised(5000, () => watching.ended, 'the viewer sees that its gateway is gone');
    await answer.piece('after');
    const next = await user.watch(id, { lastEventId: lastId(watching) });
    await answer.finish();
    const got = await next.rest();
    expectText(watching.shown + got.text, 'before after', 'both parts');
    expectAnswer(await stream.rest(), 'before after', { messageId: 2 });
    await s.bring('gateway-2');
});
