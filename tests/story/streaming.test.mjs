/* streaming.test.mjs - what the asker sees of an answer: framings, events, ids, headers, order. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectBroken, expectError, expectNumbered } from '../support/expect.mjs';
import { promisedWithin, until, within } from '../support/deadline.mjs';
import { asked } from '../support/held.mjs';
import { RawConnection, parseResponse } from '../support/raw.mjs';

const NDJSON = 'application/x-ndjson';

let provider;
let s;        /* default framing sse, keep-alive every second */
let bare;     /* server.default_framing: bare */
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { keepalive_s: 1 } } });
    bare = await start({ provider, config: { server: { default_framing: 'bare' } } });
});
after(async () => {
    await Promise.all([s?.stopAll(), bare?.stopAll()]);
    await provider?.stop();
});


story('an answer comes as server-sent events with the headers that proxies need', async () => {
    const user = await s.user();
    const got = await user.ask(await user.create('fake'), 'hello 你好');
    expectAnswer(got, answerFor('hello 你好'), { messageId: 2 });
    assert.match(got.headers['content-type'], /^text\/event-stream/);
    assert.equal(got.headers['cache-control'], 'no-cache');
    assert.equal(got.headers['x-accel-buffering'], 'no');
    for (const accept of ['text/event-stream', '*/*', 'text/html,*/*;q=0.8']) {
        const again = await user.ask(await user.create('fake'), 'x', { accept, framing: 'sse' });
        expectAnswer(again, answerFor('x'), { messageId: 2 });
    }
});

story('ids are <stream>:<offset> in bytes of the text, events are called what their object says', async () => {
    const user = await s.user();
    const text = answerFor('zähle 字节 😀');
    const got = await user.ask(await user.create('fake'), 'zähle 字节 😀');
    expectAnswer(got, text, { messageId: 2 });
    const streams = new Set();
    let bytes = 0;
    for (const event of got.events) {
        const match = /^([0-9a-f]{32}):(\d+)(:[de])?$/.exec(String(event.id));
        assert.ok(match, `id: ${event.id}`);
        assert.equal(match[3], { done: ':d', full_response: ':e' }[event.data.event]);
        streams.add(match[1]);
        if (event.data.event === 'message')
            bytes += Buffer.byteLength(event.data.data);
        assert.equal(Number(match[2]), bytes, `id ${event.id} after ${bytes} bytes`);
        assert.equal(event.name, event.data.event);
    }
    assert.equal(streams.size, 1);
    assert.equal(bytes, Buffer.byteLength(text));
});

story('application/x-ndjson gives the objects bare, one a line', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const got = await user.ask(id, 'line\nbreak', { accept: NDJSON });
    expectAnswer(got, answerFor('line\nbreak'), { messageId: 2 });
    assert.match(got.headers['content-type'], /^application\/x-ndjson/);
    const lines = Buffer.concat(got.stream.bytes).toString().trimEnd().split('\n');
    assert.equal(lines.filter((l) => l !== '').length, got.events.length);
});

story('default_framing bare is as the original wrote it, unless the client says what it wants', async () => {
    const user = await bare.user();
    const got = await user.ask(await user.create('echo'), 'old client', { framing: 'bare' });
    expectAnswer(got, 'old client', { messageId: 2 });
    assert.match(got.headers['content-type'], /^text\/event-stream/);
    const text = Buffer.concat(got.stream.bytes).toString();
    assert.ok(text.startsWith('{"event":"message","data":"'), text.slice(0, 80));
    assert.ok(!/^(id|event|data):/m.test(text), text.slice(0, 200));
    const any = await user.ask(await user.create('echo'), 'old client', { framing: 'bare', accept: '*/*' });
    expectAnswer(any, 'old client', { messageId: 2 });
    expectAnswer(await user.ask(await user.create('echo'), 'new client', { accept: 'text/event-stream', framing: 'sse' }), 'new client', { messageId: 2 });
    expectAnswer(await user.ask(await user.create('echo'), 'new client', { accept: NDJSON }), 'new client', { messageId: 2 });
});

story('echo answers with the question, word by word', async () => {
    const user = await s.user();
    const question = '  Is  anybody\tout there? 有人吗 😀\n';
    const got = await user.ask(await user.create('echo'), question);
    expectAnswer(got, question, { messageId: 2 });
    assert.equal(got.done.finish_reason, 'stop');
});

story('pieces are shown while the answer is being written', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:live');
    const opening = user.chat(await user.create('fake:live'), 'go');
    const answer = await asked(hold, opening);
    await answer.piece('> ');
    const stream = await opening;
    for (const piece of ['R', 'ust ', '是', '😀', '\u0001\u001f"\\/', '\u2028</script>']) {
        await answer.piece(piece);
        await stream.shows(piece);
    }
    assert.equal(stream.ended, false);
    await answer.finish();
    expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
});

story('the 200 comes with the first piece', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:first');
    let opened = false;
    const opening = user.chat(await user.create('fake:first'), 'go').then((c) => {
        opened = true;
        return c;
    });
    const answer = await asked(hold, opening);
    answer.head();
    assert.equal(opened, false, 'headers went out before there was anything to show');
    await answer.piece('now');
    const stream = await within(10_000, opening, 'the stream opens');
    await answer.finish();
    expectAnswer(await stream.rest(), 'now', { messageId: 2 });
});

story('done carries message_id, finish_reason and usage, in both framings', async () => {
    const user = await s.user();
    const usage = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 };
    for (const accept of [undefined, NDJSON]) {
        const id = await user.create('fake:usage');
        expectAnswer(await user.ask(id, 'a', { accept }), 'counted', { messageId: 2, usage });
        expectAnswer(await user.ask(id, 'b', { accept }), 'counted', { messageId: 4, usage });
    }
    const none = await user.ask(await user.create('fake'), 'c');
    assert.equal(none.done.usage, undefined);
    const length = await user.ask(await user.create('fake:length'), 'd');
    expectAnswer(length, 'cut off by', { finish: 'length' });
});

story('a comment line goes out when nothing else does', async () => {
    const user = await s.user();
    for (const [framing, accept] of [['sse', undefined], ['ndjson', NDJSON]]) {
        const hold = provider.hold('fake:quiet');
        const opening = user.chat(await user.create('fake:quiet'), 'go', { accept });
        const answer = await asked(hold, opening);
        await answer.piece('first');
        const stream = await opening;
        await stream.shows('first');
        await promisedWithin(10_000, stream.when(10_000, () => stream.comments.length >= 2, 'comments'), `two keep-alive lines (${framing})`);
        await answer.piece(' last');
        await answer.finish();
        expectAnswer(await stream.rest(), 'first last', { messageId: 2 });
    }
});

story('a second question while the first is being answered gets 409', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:busy');
    const id = await user.create('fake:busy');
    const opening = user.chat(id, 'first');
    const answer = await asked(hold, opening);
    expectError(await user.ask(id, 'too early'), 409, { code: 'answering' });
    await answer.piece('one');
    const stream = await opening;
    await stream.shows('one');
    expectError(await user.ask(id, 'second'), 409, { code: 'answering' });
    expectError(await user.ask(id, 'second', { lang: 'zh' }), 409, { code: 'answering', lang: 'zh' });
    const other = await user.create('fake');
    expectAnswer(await user.ask(other, 'elsewhere'), answerFor('elsewhere'), { messageId: 2 });
    await answer.finish();
    expectAnswer(await stream.rest(), 'one', { messageId: 2 });
    const next = user.chat(id, 'third');
    const second = await asked(hold, next);
    await second.piece('three');
    await second.finish();
    expectAnswer(await (await next).rest(), 'three', { messageId: 4 });
    assert.deepEqual((await user.messages(id)).map((m) => m.content), ['first', 'one', 'third', 'three']);
});

story('of many questions at the same moment exactly one is taken', async () => {
    const user = await s.user();
    const id = await user.create('fake:once');
    const hold = provider.hold('fake:once');
    const all = Array.from({ length: 10 }, (_, i) => user.chat(id, `question ${i}`));
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    const refused = [];
    for (const one of all)
        one.then((c) => c.status === 409 && refused.push(c));
    await until(10_000, () => refused.length === 9, 'nine are refused');
    await answer.piece('yes');
    await answer.finish();
    const streams = await Promise.all(all);
    const good = streams.filter((c) => c.status === 200);
    assert.equal(good.length, 1);
    expectAnswer(await good[0].rest(), 'yes', { messageId: 2 });
    expectNumbered(await user.messages(id));
});

story('history shows the question at once and the answer\'s state while it runs', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:state');
    const id = await user.create('fake:state');
    const opening = user.chat(id, 'how are you?');
    const answer = await asked(hold, opening);
    const waiting = await user.messages(id);
    assert.deepEqual(waiting[0], { role: 'user', content: 'how are you?', message_id: 1 });
    assert.deepEqual(waiting[1], { role: 'assistant', content: '', message_id: 2, state: 'streaming' });
    await answer.piece('half');
    const stream = await opening;
    await stream.shows('half');
    const during = await until(10_000, async () => (await user.messages(id)).find((m) => m.content === 'half'), 'history shows the text so far');
    assert.deepEqual(during, { role: 'assistant', content: 'half', message_id: 2, state: 'streaming' });
    await answer.piece(' whole');
    await answer.finish();
    expectAnswer(await stream.rest(), 'half whole', { messageId: 2 });
    const done = (await user.messages(id))[1];
    assert.deepEqual(done, { role: 'assistant', content: 'half whole', message_id: 2, state: 'complete' });
});

story('an answer that failed stays with its text and state; prompts leave out empty answers', async () => {
    const user = await s.user();
    const id = await user.create('fake:moody');
    provider.script('fake:moody', (a) => a.fail(500, { error: { message: 'in a bad mood' } }));
    expectError(await user.ask(id, 'one'), 502, { code: 'upstream_error', says: 'in a bad mood' });
    provider.script('fake:moody', async (a) => {
        await a.piece('half an ans');
        await a.cut();
    });
    expectBroken(await user.ask(id, 'two'), 'half an ans', 'upstream_error');
    provider.script('fake:moody', async (a) => {
        await a.piece('fine');
        await a.finish();
    });
    expectAnswer(await user.ask(id, 'three'), 'fine', { messageId: 6 });
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.deepEqual(messages.map((m) => [m.content, m.state]), [['one', undefined], ['', 'interrupted'], ['two', undefined],
        ['half an ans', 'interrupted'], ['three', undefined], ['fine', 'complete']]);
    assert.deepEqual(provider.last('fake:moody').body.messages.slice(1), [
        { role: 'user', content: 'two' }, { role: 'assistant', content: 'half an ans' }, { role: 'user', content: 'three' }]);
});

story('a connection is used again after streams of both framings', async () => {
    const agent = s.keepAliveAgent({ maxSockets: 1 });
    const user = await s.user();
    const id = await user.create('fake');
    const sockets = new Set();
    for (let i = 0; i < 6; i++) {
        const stream = await user.chat(id, `q${i}`, { agent, accept: i % 2 ? NDJSON : undefined });
        sockets.add(stream.res.socket);
        expectAnswer(await stream.rest(), answerFor(`q${i}`), { messageId: 2 * i + 2 });
        const list = await user.list({ agent });
        assert.equal(list.status, 200);
        assert.equal(list.json.length, 1);
    }
    assert.equal(sockets.size, 1, 'the connection was not kept');
});

story('a request sent right behind a chat request waits for the stream\'s end', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const connection = new RawConnection(s.port);
    const auth = `Host: x\r\nAuthorization: Bearer ${user.token}\r\n`;
    const body = '{"message":"one two three"}';
    connection.send(`POST /api/chat/${id} HTTP/1.1\r\n${auth}Content-Length: ${body.length}\r\n\r\n${body}` +
        `GET /api/conversations/list HTTP/1.1\r\n${auth}Connection: close\r\n\r\n`);
    const text = await connection.untilClosed();
    const [stream, list] = text.split(/(?<=\r\n0\r\n\r\n)/);
    assert.match(stream, /full_response/);
    assert.equal(parseResponse(list).status, 200);
    connection.destroy();
});

story('an HTTP/1.0 client gets the stream without chunks', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const body = '{"message":"back in the nineties"}';
    const connection = new RawConnection(s.port);
    connection.send(`POST /api/chat/${id} HTTP/1.0\r\nAuthorization: Bearer ${user.token}\r\nAccept: ${NDJSON}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    const res = parseResponse(await connection.untilClosed());
    assert.equal(res.status, 200);
    assert.equal(res.headers['transfer-encoding'], undefined);
    const events = res.text.trimEnd().split('\n').filter((l) => l !== '').map((l) => JSON.parse(l));
    assert.deepEqual(events.at(-1), { event: 'full_response', data: 'back in the nineties' });
    assert.equal(events.filter((e) => e.event === 'message').map((e) => e.data).join(''), 'back in the nineties');
    connection.destroy();
});

story('a client that reads slowly gets every byte', async () => {
    const user = await s.user();
    const stream = await user.chat(await user.create('fake:megabyte'), 'all of it');
    stream.res.pause();
    await until(10_000, async () => provider.last('fake:megabyte')?.finished, 'the provider has sent all');
    const other = await user.ask(await user.create('fake'), 'meanwhile');
    expectAnswer(other, answerFor('meanwhile'), { messageId: 2 });
    stream.res.resume();
    expectAnswer(await stream.rest(), provider.last('fake:megabyte').sent, { messageId: 2 });
});
