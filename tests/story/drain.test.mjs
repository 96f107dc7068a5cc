/* drain.test.mjs - SIGTERM while answers are being written: what can be finished within
 * server.drain_s is finished, the rest is kept as far as it came; all exit with 0. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { SERVICES, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { openAnswer } from '../support/held.mjs';
import { RawConnection } from '../support/raw.mjs';
import { pause, until } from '../support/deadline.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { server: { drain_s: 4 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const last = (user, id) => until(20_000, async () => {
    const m = (await user.messages(id)).at(-1);
    return m.state !== 'streaming' && m;
}, 'the answer has ended');

story('Ctrl-C for all: an answer that ends in time is complete', async () => {
    const user = await s.user();
    const { answer, id } = await openAnswer(provider, user, 'fake:drain', 'begun, ');
    const stopping = s.stopAll({ keepDir: true });
    await pause(500);
    await answer.piece('and ended');
    await answer.finish();
    await stopping;
    await s.startAll();
    const m = await last(user, id);
    assert.deepEqual([m.content, m.state], ['begun, and ended', 'complete']);
}, { deadline: 60_000 });

story('llm-svc alone gets SIGTERM: an answer that ends in time is complete', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:drain-llm', 'begun, ');
    const ending = s.kill('llm-svc', 'SIGTERM');
    await pause(500);
    await answer.piece('and ended');
    await answer.finish();
    assert.deepEqual(await ending, { code: 0, signal: null });
    expectAnswer(await stream.rest(), 'begun, and ended', { messageId: 2 });
    s.start('llm-svc');
    await s.ready();
    assert.equal((await last(user, id)).state, 'complete');
}, { deadline: 60_000 });

story('llm-svc alone gets SIGTERM: an answer that goes on for too long is interrupted with its text', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:drain-long', 'begun, ');
    const ending = s.kill('llm-svc', 'SIGTERM');
    await answer.piece('never ended');
    assert.deepEqual(await ending, { code: 0, signal: null });
    const got = await stream.rest();
    assert.equal(got.kinds.at(-1), 'error');
    assert.equal(got.text, 'begun, never ended');
    s.start('llm-svc');
    await s.ready();
    const m = await last(user, id);
    assert.deepEqual([m.content, m.state], ['begun, never ended', 'interrupted']);
}, { deadline: 60_000 });

story('the gateway gets SIGTERM: a stream ends after a whole event, the answer goes on', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:drain-gateway', 'begun, ');
    const ending = s.kill('gateway', 'SIGTERM');
    assert.deepEqual(await ending, { code: 0, signal: null });
    const got = await stream.rest();    /* the parser refuses half an event */
    assert.equal(got.done, undefined);
    await answer.piece('and ended');
    await answer.finish();
    s.start('gateway');
    await s.ready();
    const m = await last(user, id);
    assert.deepEqual([m.content, m.state], ['begun, and ended', 'complete']);
}, { deadline: 60_000 });

story('the gateway gets SIGTERM: a client that is behind, but reads on, gets whole events, too', async () => {
    const behind = [];
    for (const [model, size, ends] of [['fake:behind', 2_000_000, false], ['fake:behind-full', 180_000, true]]) {
        const user = await s.user();
        const hold = provider.hold(model);
        const id = await user.create(model);
        const connection = new RawConnection(s.port);
        connection.send(`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: 15\r\n\r\n{"message":"x"}`);
        const answer = await hold.next();
        await answer.piece('begun');
        await connection.until('begun');
        connection.socket.pause();
        for (let n = 0; n < size; n += 20_000)
            await answer.piece('x'.repeat(20_000));
        if (ends)
            await answer.finish();
        behind.push({ connection, answer, ends });
        await until(20_000, async () => (await user.messages(id)).at(-1).content.length > size, 'all of it is stored');
    }
    const logged = s.logs('gateway').length;
    const ending = s.kill('gateway', 'SIGTERM');
    await until(20_000, () => s.logs('gateway').slice(logged).includes('not finished within server.drain_s'), 'it stops');
    for (const { connection } of behind)
        connection.socket.resume();
    assert.deepEqual(await ending, { code: 0, signal: null });
    for (const { connection, answer, ends } of behind) {
        const text = await connection.untilClosed();
        assert.ok(text.endsWith('}\n\n\r\n0\r\n\r\n'), JSON.stringify(text.slice(-100)));
        if (text.includes('"event":"done"'))
            assert.ok(text.includes('"event":"full_response"'), 'the end of it is missing');
        connection.destroy();
        if (!ends)
            await answer.finish();
    }
    s.start('gateway');
    await s.ready();
}, { deadline: 60_000 });

story('the gateway gets SIGTERM: requests that had come by then are answered', async () => {
    const user = await s.user();
    const list = `GET /api/conversations/list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\n\r\n`;
    const connections = Array.from({ length: 20 }, () => new RawConnection(s.port));
    for (const connection of connections) {
        connection.send(list);
        await connection.until('\r\n\r\n[]');
        connection.received = Buffer.alloc(0);
    }
    s.freeze('gateway');
    await Promise.all(connections.map((c) => new Promise((sent) => {
        c.socket.write(list, sent);
    })));
    const ending = s.kill('gateway', 'SIGTERM');
    s.thaw('gateway');
    assert.deepEqual(await ending, { code: 0, signal: null });
    for (const connection of connections)
        assert.match(await connection.untilClosed(), /^HTTP\/1.1 200 OK\r\n[^]*\r\n\r\n\[\]$/);
    s.start('gateway');
    await s.ready();
}, { deadline: 60_000 });

story('a second SIGTERM ends every service at once', async () => {
    const patient = await start({ provider, config: { server: { drain_s: 25 } } });
    const { answer } = await openAnswer(provider, await patient.user(), 'fake:drain-twice', 'begun');
    const ends = SERVICES.map((name) => patient.kill(name, 'SIGTERM'));
    /* Two signals that wait are one: the second is sent when the first has been taken. */
    await until(10_000, () => SERVICES.every((name) => !patient.running(name) || patient.logs(name).includes('got SIGTERM')),
        'every service has heard the first SIGTERM');
    const began = Date.now();
    for (const name of SERVICES.filter((n) => patient.running(n)))
        patient.processes.get(name).kill('SIGTERM');
    await Promise.all(ends);
    assert.ok(Date.now() - began < 15_000, `it took ${Date.now() - began} ms`);
    answer.res.destroy();
    await patient.stopAll();
}, { deadline: 60_000 });
