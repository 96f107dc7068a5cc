/* viewers.test.mjs - several people, or several devices, read one answer: through two gateways of which one
 * dies or is drained, and slowly, or not at all. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import tls from 'node:tls';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectText } from '../support/expect.mjs';
import { trust } from '../support/tls.mjs';
import { promised, SLOW, until } from '../support/deadline.mjs';
import { asked, openAnswer } from '../support/held.mjs';

const IDLE_S = 3;

let provider;
let s;
let second;   /* a client of the second gateway */
before(async () => {
    provider = await startProvider();
    s = await start({
        provider, replicas: { gateway: 2 },
        config: { server: { drain_s: 4 }, gateway: { viewer_idle_s: IDLE_S, viewer_backlog_kb: 64 } },
    });
    second = s.at('gateway-2');
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

/** The id that an EventSource would send when it reconnects: the beginning's, when nothing was shown yet. */
const lastId = (stream) => stream.events.at(-1)?.id ?? /^id: (\S+)$/m.exec(Buffer.concat(stream.bytes).toString())[1];

/** What a client has that has lost `before` and has read on with `rest`: every event once, in order. */
function expectJoined(before, rest, text) {
    expectText(before.shown + rest.text, text, 'pieces');
    expectText(rest.full, text, 'full_response');
    assert.equal(rest.kinds.filter((kind) => kind === 'done').length, 1);
}

story('three viewers through two gateways: one gateway is killed, its viewers read on through the other', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:three', 'eins ');
    const across = await user.watch(id, { at: second });
    await across.shows('eins ');
    const late = await user.watch(id, { lastEventId: lastId(across) });
    await answer.piece('zwei ');
    for (const viewer of [stream, across, late])
        await viewer.shows('zwei ');
    assert.equal(late.shown, 'zwei ');
    await s.kill('gateway');
    await answer.piece('drei ');
    await across.shows('drei ');
    const asker = await user.watch(id, { at: second, lastEventId: lastId(stream) });
    const other = await user.watch(id, { at: second, lastEventId: lastId(late) });
    await asker.shows('drei ');
    await answer.piece('vier 😀');
    await answer.finish();
    expectJoined(stream, await asker.rest(), answer.record.sent);
    expectAnswer(await across.rest(), answer.record.sent, { messageId: 2 });
    const rest = await other.rest();
    expectText(`eins ${late.shown}${rest.text}`, answer.record.sent, 'pieces');
    await s.bring('gateway');
}, { deadline: 60_000 });

story('a gateway is drained: its streams end after a whole event, also those with nothing to show, and go on elsewhere', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:drained', 'begun, ');
    const hold = provider.hold('fake:drained-early');
    const silentId = await user.create('fake:drained-early');
    const opening = user.chat(silentId, 'think first');
    const thinking = await asked(hold, opening);
    const quick = await openAnswer(provider, user, 'fake:drained-quick', 'short ');
    const ending = s.drain('gateway');
    await quick.answer.finish();    /* one that ends in time is whole */
    expectAnswer(await quick.stream.rest(), quick.answer.record.sent, { messageId: 2 });
    const got = await stream.rest();    /* the parser refuses half an event */
    assert.equal(got.cut, false);
    assert.equal(got.done, undefined);
    assert.equal(got.error, undefined);
    const silent = await opening;
    const nothing = await silent.rest();
    assert.deepEqual([nothing.cut, nothing.kinds], [false, []]);
    await ending;
    const next = await user.watch(id, { at: second, lastEventId: lastId(stream) });
    await answer.piece('and ended');
    await answer.finish();
    expectJoined(stream, await next.rest(), answer.record.sent);
    const nextSilent = await user.watch(silentId, { at: second, lastEventId: lastId(silent) });
    await thinking.piece('at last');
    await thinking.finish();
    expectJoined(silent, await nextSilent.rest(), 'at last');
    await s.bring('gateway');
}, { deadline: 60_000 });

story('what the only viewer was shown is stored, although it has left and llm-svc is killed at the same moment', async () => {
    const user = await s.user();
    for (let i = 0; i < 5; i++) {
        const { stream, answer, id } = await openAnswer(provider, user, `fake:left-${i}`, 'begun, ');
        for (let k = 0; k <= 2 * i; k++)
            await answer.piece(`piece ${k} `);
        await stream.shows(`piece ${2 * i} `);
        stream.leave();
        await s.kill('llm-svc');
        const m = await until(20_000, async () => {
            const last = (await user.messages(id)).at(-1);
            return last.state !== 'streaming' && last;
        }, 'the answer has ended');
        assert.deepEqual([m.content, m.state], [stream.shown, 'interrupted']);
        answer.res.destroy();
        await s.bring('llm-svc');
        await s.ready();
    }
}, { deadline: 90_000 });

story('a viewer that is a megabyte behind gets every byte, also from the other gateway', async () => {
    const user = await s.user();
    const id = await user.create('fake:megabyte');
    const stalled = await user.chat(id, 'all of it');
    stalled.res.pause();
    const across = await user.watch(id, { at: second });
    await across.when(10_000, () => across.shown.length > 0, 'the other gateway shows text');
    across.res.pause();
    await until(10_000, () => provider.last('fake:megabyte')?.finished, 'the provider has sent all');
    const text = provider.last('fake:megabyte').sent;
    const whole = await (await user.watch(id)).rest();    /* the same gateway, not behind */
    expectText(whole.text, text, 'pieces');
    stalled.res.resume();
    across.res.resume();
    expectAnswer(await stalled.rest(), text, { messageId: 2 });
    expectAnswer(await across.rest(), text, { messageId: 2 });
}, { deadline: 60_000 });

/** A client that takes `n` bytes each `ms`, none at all while `n` is 0. */
class SlowReader {
    constructor(port, request) {
        this.n = 0;
        this.taken = [];
        this.closed = false;
        const secure = trust(port);
        this.socket = (secure ? tls : net).connect({
            port, host: '127.0.0.1', ...secure,
            onread: { buffer: Buffer.alloc(4096), callback: (n, buffer) => this.take(Buffer.from(buffer.subarray(0, n))) },
        });
        this.socket.on('error', () => {});
        this.socket.once('close', () => {
            this.closed = true;
        });
        this.socket.write(request);
        this.left = 4096;   /* the headers */
    }

    take(bytes) {
        this.taken.push(bytes);
        this.left -= bytes.length;
        return this.left > 0;
    }

    /** Goes on with n bytes each ms. */
    read(n, ms) {
        clearInterval(this.timer);
        this.timer = setInterval(() => {
            this.left = n;
            this.socket.resume();
        }, ms);
    }

    get text() {
        return Buffer.concat(this.taken).toString();
    }

    stop() {
        clearInterval(this.timer);
        this.socket.destroy();
    }
}

const chatRequest = (user, id, more = '') => {
    const body = '{"message":"all of it"}';
    return `POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\nConnection: close\r\n` +
        `Authorization: Bearer ${user.token}\r\n${more}Content-Length: ${body.length}\r\n\r\n${body}`;
};

const isDone = (slow) => /\r\n0\r\n\r\n$/.test(slow.text.slice(-20));

function eventsOf(slow) {
    const body = slow.text.slice(slow.text.indexOf('\r\n\r\n') + 4).replace(/(^|\r\n)[0-9a-f]+\r\n/gi, '');
    return body.split('\n').filter((line) => line.trim() !== '').map((line) => JSON.parse(line));
}

story('one that reads slowly delays nobody and gets every byte; one that takes none is closed', async () => {
    const user = await s.user();
    const slow = new SlowReader(s.port, chatRequest(user, await user.create('fake:megabyte')));
    const dead = new SlowReader(s.port, chatRequest(user, await user.create('fake:megabyte'), 'X-Request-Id: takes-none\r\n'));
    slow.read(128 << 10, 250);
    for (let i = 0; i < 5; i++)
        expectAnswer(await user.ask(await user.create('fake'), `q${i}`), answerFor(`q${i}`), { messageId: 2 });
    assert.ok(!slow.text.includes('full_response'), 'the slow one is done already: it was not slow');
    const text = provider.last('fake:megabyte').sent;
    await until(40_000, () => isDone(slow), 'the slow one has all');
    const events = eventsOf(slow);
    expectText(events.filter((e) => e.event === 'message').map((e) => e.data).join(''), text, 'pieces');
    expectText(events.at(-1).data, text, 'full_response');
    await promised(40_000, () => s.logs('gateway').includes('takes-none'), 'the one that takes none is given up, too');
    dead.read(1 << 20, 50);     /* too late: only what stood in the sockets is left */
    await until(40_000, () => dead.closed, 'the one that took nothing is closed');
    assert.ok(!dead.text.includes('full_response'));
    slow.stop();
    dead.stop();
}, { deadline: 120_000 });

story('one that is far behind when the answer is deleted, or asked for anew, is told so', async () => {
    const user = await s.user();
    for (const code of ['deleted', 'superseded']) {
        const id = await user.create('fake:megabyte');
        const slow = new SlowReader(s.port, chatRequest(user, id));
        try {
            slow.read(24 << 10, 250);   /* ten seconds for the text; the kernel tells of room in steps of 64 KB */
            await until(20_000, () => slow.text.includes('"message"'), 'the first of it');
            await until(20_000, async () => (await user.messages(id)).length === 2, 'the answer is stored');
            const gone = code === 'deleted' ? await user.del(id) : await user.retry(id);
            assert.equal(gone.status, 200);
            slow.read(1 << 20, 50);
            await until(20_000, () => isDone(slow), `the end of what is ${code}`);
            const events = eventsOf(slow);
            const error = events.pop();
            assert.deepEqual([error.event, error.code], ['error', code]);
            const text = events.map((e) => e.data).join('');
            assert.ok(text.length > 0 && provider.last('fake:megabyte').sent.startsWith(text), `${text.length} bytes`);
        } finally {
            slow.stop();
        }
    }
}, { deadline: 60_000 });

story('a crowd that does not read costs little', async () => {
    const N = 100;
    const user = await s.user();
    const id = await user.create('fake:megabyte');
    expectText((await user.ask(id, 'all of it')).text, provider.last('fake:megabyte').sent, 'pieces');
    const rss = () => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${s.processes.get('gateway').pid}/status`, 'utf8'))[1]);
    const before = rss();
    const crowd = await Promise.all(Array.from({ length: N }, async () => {
        const stream = await user.watch(id);
        stream.res.pause();
        return stream;
    }));
    expectAnswer(await user.ask(await user.create('fake'), 'meanwhile'), answerFor('meanwhile'), { messageId: 2 });
    if (SLOW === 1)     /* sanitizers keep what was freed */
        assert.ok((rss() - before) / N < 100, `${(rss() - before) / N} KB a viewer`);
    for (const stream of crowd)
        stream.leave();
}, { deadline: 60_000 });
