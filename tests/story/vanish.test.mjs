/* vanish.test.mjs - a client that goes away does not lose its answer, and costs nothing after it. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectNumbered } from '../support/expect.mjs';
import fs from 'node:fs';
import { promised, until, within } from '../support/deadline.mjs';
import { asked } from '../support/held.mjs';
import { slowly } from '../support/rolling.mjs';
import { RawConnection } from '../support/raw.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { keepalive_s: 1, headers_after_s: 60 }, server: { header_timeout_s: 3, body_timeout_s: 1 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const complete = (user, id, ms = 10_000) => until(ms, async () => (await user.messages(id)).at(-1)?.state === 'complete', 'the answer is stored');

/** True while the gateway has a socket for this client port. */
function holdsSocketOf(port) {
    const ofGateway = new Set(fs.readdirSync(`/proc/${s.processes.get('gateway').pid}/fd`).map((fd) => {
        try {
            return /^socket:\[(\d+)\]$/.exec(fs.readlinkSync(`/proc/${s.processes.get('gateway').pid}/fd/${fd}`))?.[1];
        } catch {
            return undefined;    /* closed meanwhile */
        }
    }));
    const remote = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
    return fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/))
        .some((f) => f[2]?.endsWith(remote) && ofGateway.has(f[9]));
}

/** Sends a question on a raw connection. */
function question(user, id, text) {
    const connection = new RawConnection(s.port);
    const body = JSON.stringify({ message: text });
    connection.send(`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    return connection;
}

story('a client that leaves in mid-answer finds it complete in the history', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:left');
    const id = await user.create('fake:left');
    const opening = user.chat(id, 'tell me');
    const answer = await asked(hold, opening);
    await answer.piece('before, ');
    const stream = await opening;
    await stream.shows('before, ');
    stream.leave();
    for (let i = 0; i < 20; i++)
        await answer.piece(`after ${i}, `);
    await answer.finish();
    await complete(user, id);
    assert.equal((await user.messages(id))[1].content, answer.record.sent);
    assert.equal(answer.record.closedEarly, false, 'the provider was hung up on');
});

story('a client that leaves before the first piece finds its answer, too', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:left-early');
    const id = await user.create('fake:left-early');
    const connection = question(user, id, 'tell me');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    connection.destroy();
    await answer.piece('nobody hears this');
    await answer.finish();
    await complete(user, id);
    assert.equal((await user.messages(id))[1].content, 'nobody hears this');
});

story('a client that leaves before the first piece is noticed at once, not when the headers are due', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:unheard');
    for (const when of ['before it is asked', 'after it was asked']) {
        const id = await user.create('fake:unheard');
        const connection = question(user, id, 'tell me');
        await connection.opened;
        const port = connection.socket.localPort;
        if (when === 'before it is asked')
            connection.socket.destroySoon();    /* its FIN comes with the question */
        const answer = await within(10_000, hold.next(), 'the provider is asked');
        if (when === 'after it was asked') {
            assert.ok(holdsSocketOf(port), 'the socket is not found');
            connection.destroy();
        }
        await promised(5_000, () => !holdsSocketOf(port), `the client that left ${when} is let go`);
        await answer.piece('nobody hears this');
        await answer.finish();
        await complete(user, id);
        assert.equal((await user.messages(id))[1].content, 'nobody hears this');
        expectNumbered(await user.messages(id));
    }
});

story('a client that only stops sending before the first piece hears the whole answer', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:listens');
    const others = Array.from({ length: 4 }, () => new RawConnection(s.port));    /* older than the asker, and idle */
    for (const other of others) {
        other.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
        await other.until('200 OK');
    }
    for (const when of ['before', 'after']) {
        const id = await user.create('fake:listens');
        const connection = question(user, id, 'tell me');
        await connection.opened;
        if (when === 'before')
            connection.socket.end();
        const answer = await within(10_000, hold.next(), 'the provider is asked');
        if (when === 'after')
            connection.socket.end();
        await connection.until(': ');    /* the comment that asks whether it is there */
        await answer.piece('one ');
        await connection.until('one ');
        await answer.piece('two');
        await answer.finish();
        const text = await connection.untilClosed();
        assert.match(text, /"event":"full_response","data":"one two"/);
        assert.ok(text.endsWith('\r\n0\r\n\r\n'), text.slice(-100));
        await complete(user, id);
    }
    for (const other of others)
        other.destroy();
});

story('a client that resets its connection finds its answer, too', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:reset');
    const id = await user.create('fake:reset');
    const connection = question(user, id, 'tell me');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    await answer.piece('one ');
    await connection.until('one ');
    connection.reset();
    await answer.piece('two');
    await answer.finish();
    await complete(user, id);
    assert.equal((await user.messages(id))[1].content, 'one two');
});

story('a client that leaves in the middle of its own request leaves no trace', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    for (const head of ['POST /api/chat/', `POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\n`,
        `POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: 30\r\n\r\n{"message":"ha`]) {
        const connection = new RawConnection(s.port);
        await connection.opened;
        connection.send(head);
        connection.socket.end();
        await connection.untilClosed(15_000);
        connection.destroy();
    }
    assert.deepEqual(await user.messages(id), []);
});

story('the next question waits for the answer that nobody listens to', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:queue');
    const id = await user.create('fake:queue');
    const opening = user.chat(id, 'first');
    const answer = await asked(hold, opening);
    await answer.piece('x');
    (await opening).leave();
    assert.equal((await user.ask(id, 'second')).status, 409);
    await answer.finish();
    await complete(user, id);
    provider.script('fake:queue', async (a) => {
        await a.piece('y');
        await a.finish();
    });
    expectAnswer(await user.ask(id, 'second'), 'y', { messageId: 4 });
});

story('a hundred clients that come and go cost nobody anything', async () => {
    const user = await s.user();
    provider.script('fake:hundred', slowly);   /* the provider lives in this process: a packet for each byte would be all it does */
    const ids = await Promise.all(Array.from({ length: 100 }, () => user.create('fake:hundred')));
    const streams = await Promise.all(ids.map((id) => user.chat(id, 'q')));
    for (const stream of streams)
        stream.leave();
    expectAnswer(await user.ask(await user.create('fake'), 'still there?'), answerFor('still there?'), { messageId: 2 });
    for (const id of ids) {
        await complete(user, id, 30_000);   /* the first one waits for all: they come side by side */
        expectNumbered(await user.messages(id));
    }
}, { deadline: 60_000 });
