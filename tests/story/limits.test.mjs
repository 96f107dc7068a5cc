/* limits.test.mjs - clients that hold on to connections: slow headers, slow bodies, idle ones, too many. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import os from 'node:os';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { longText } from '../support/fake_behaviours.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { RawConnection, parseResponse } from '../support/raw.mjs';
import { pause, promised, promisedWithin, SLOW, until, within } from '../support/deadline.mjs';
import { freePorts } from '../support/ports.mjs';

const TIMEOUT_S = 1;
const PATIENCE_MS = 10_000;

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: {
        server: { header_timeout_s: TIMEOUT_S, body_timeout_s: TIMEOUT_S, idle_timeout_s: TIMEOUT_S, max_connections: 200 },
        gateway: { keepalive_s: 5, viewer_idle_s: TIMEOUT_S },
    } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

/** Waits until the server closes; gives everything it sent. */
const closedInTime = (connection) => promisedWithin(PATIENCE_MS, connection.untilClosed(PATIENCE_MS), 'the server closes the connection');

/** Sends bytes one by one until the server has had enough; gives what it said and how long it took. */
async function drip(connection, bytes) {
    for (let i = 0; !connection.closed && Date.now() - connection.openedAt < PATIENCE_MS * SLOW; i++) {
        connection.send(bytes[i % bytes.length]);
        await pause(100);
    }
    const text = await promisedWithin(1000, connection.untilClosed(1000), 'the server closes the connection');
    connection.destroy();
    return { text, ms: Date.now() - connection.openedAt };
}

story('headers that come byte by byte are cut off after header_timeout_s', async () => {
    const connection = new RawConnection(s.port);
    connection.send('GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ');
    const { text, ms } = await drip(connection, 'a');
    assert.ok(ms >= TIMEOUT_S * 1000 - 200, `closed after ${ms} ms already`);
    if (text !== '')
        assert.equal(parseResponse(text).status, 408);
});

story('a connection that never says anything is cut off, too', async () => {
    const connection = new RawConnection(s.port);
    await closedInTime(connection);
    connection.destroy();
});

story('a body that comes byte by byte is cut off after body_timeout_s', async () => {
    const connection = new RawConnection(s.port);
    connection.send('POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n');
    const { text } = await drip(connection, ' ');
    if (text !== '')
        assert.equal(parseResponse(text).status, 408);
});

story('a keep-alive connection is closed after idle_timeout_s', async () => {
    const connection = new RawConnection(s.port);
    const began = Date.now();    /* before the server's clock for it begins, however late the answer is seen */
    connection.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    await connection.until('200 OK');
    await closedInTime(connection);
    assert.ok(Date.now() - began >= TIMEOUT_S * 1000 - 300, 'closed at once');
    connection.destroy();
});

story('a stream that is silent for longer than any of these timeouts is not cut', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:long');
    const opening = user.chat(await user.create('fake:long'), 'take your time');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    await pause(3 * TIMEOUT_S * 1000);    /* nor is a request whose answer has not begun */
    await answer.piece('one ');
    const stream = await opening;
    await stream.shows('one ');
    await pause(3 * TIMEOUT_S * 1000);
    await answer.piece('two');
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two', { messageId: 2 });
});

story('a client that takes no byte of its answer for viewer_idle_s is closed, one that takes some gets all of it', async () => {
    const user = await s.user();
    const text = longText(4 * 1024 * 1024);
    provider.script('fake:unread', async (a) => {
        for (let i = 0; i < text.length; i += 30_000)
            await a.piece(text.slice(i, i + 30_000));
        await a.finish();
    });
    const ids = [await user.create('fake:unread'), await user.create('fake:unread')];
    const [stuck, slow] = ids.map((id, i) => {
        const connection = new RawConnection(s.port);
        connection.socket.pause();
        connection.send(`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nConnection: close\r\n` +
            `X-Request-Id: ${['stuck', 'slow'][i]}-client\r\n` +
            'Content-Length: 17\r\n\r\n{"message":"all"}');
        return connection;
    });
    const dripping = setInterval(() => {    /* some KB, far more often than once in that time */
        slow.socket.once('data', () => slow.socket.pause());
        slow.socket.resume();
    }, 100);
    await promised(PATIENCE_MS, () => s.logs('gateway').includes('request_id=stuck-client'), 'the client that reads nothing is given up');
    clearInterval(dripping);
    slow.socket.resume();
    stuck.socket.resume();
    const whole = '\r\n0\r\n\r\n';
    assert.ok((await slow.untilClosed(30_000)).endsWith(whole), 'the slow client did not get all of its answer');
    assert.ok(!(await closedInTime(stuck)).endsWith(whole), 'a client that read nothing got a whole answer');
    slow.destroy();
    stuck.destroy();
});

story('a hundred slow connections hold nobody up', async () => {
    const slow = Array.from({ length: 100 }, () => {
        const connection = new RawConnection(s.port);
        connection.send('POST /api/chat/1 HTTP/1.1\r\nHost: x\r\n');
        return connection;
    });
    const user = await s.user();
    expectAnswer(await user.ask(await user.create('echo'), 'quick question'), 'quick question', { messageId: 2 });
    await Promise.all(slow.map(closedInTime));
    for (const connection of slow)
        connection.destroy();
});

story('past max_connections newcomers wait or are refused, and all is well afterwards', async () => {
    const many = Array.from({ length: 300 }, () => new RawConnection(s.port));
    await Promise.all(many.map((c) => c.opened.catch(() => {})));
    await until(20_000, async () => (await s.api('GET', '/healthz', undefined, { timeout: 1000 })).status === 200, 'the gateway answers again');
    for (const connection of many)
        connection.destroy();
    const user = await until(10_000, () => s.user(), 'newcomers are served: every reactor has found out that the many are gone');
    expectAnswer(await user.ask(await user.create('echo'), 'hello'), 'hello', { messageId: 2 });
});

const outer = Object.values(os.networkInterfaces()).flat().find((i) => i.family === 'IPv4' && !i.internal)?.address;

story('one address gets max_connections_per_address connections, loopback any number', async () => {
    const [port] = await freePorts(1);
    const few = await start({ config: { server: { port: `0.0.0.0:${port}`, max_connections_per_address: 5 } }, httpPort: port });
    const open = [];
    try {
        const connect = async (host) => {
            const connection = new RawConnection(few.port, host);
            open.push(connection);
            connection.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
            await connection.when(10_000, () => connection.closed || connection.text.includes('200 OK'), 'an answer or a refusal');
            return connection.text.includes('200 OK');
        };
        const local = [];
        for (let i = 0; i < 12; i++)
            local.push(await connect('127.0.0.1'));
        assert.ok(local.every((ok) => ok), 'loopback was counted');
        const far = [];
        for (let i = 0; i < 12; i++)
            far.push(await connect(outer));
        assert.equal(far.filter((ok) => ok).length, 5);
        open.forEach((c) => c.destroy());
        await until(10_000, () => connect(outer), 'a place is free again');
    } finally {
        open.forEach((c) => c.destroy());
        await few.stopAll();
    }
}, { skip: outer ? false : 'no address but loopback here' });
