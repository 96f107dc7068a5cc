/* costs.test.mjs - what is over costs nothing: no descriptor and no memory is kept, and nobody turns
 * in circles while there is nothing to do, whatever state the connections are in. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { SERVICES, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, longText } from '../support/fake_behaviours.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { openAnswer } from '../support/held.mjs';
import { RawConnection } from '../support/raw.mjs';
import { pause, SLOW, until } from '../support/deadline.mjs';

const WATCHED_MS = 2000;
const SETTLED_MS = 500;
const CPU_SHARE = 0.15;          /* of one core, while nothing happens */
const TICK_MS = 10;              /* of /proc/PID/stat */
const GROWTH_MAX_KB = 24 * 1024;
const UNREAD_MAX_KB = 64 * 1024; /* of 150 MB that nobody reads */

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { headers_after_s: 2 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const pidOf = (name) => s.processes.get(name).pid;
const descriptors = (name) => fs.readdirSync(`/proc/${pidOf(name)}/fd`).length;

/** How many descriptors the gateway has when it has closed what others have left: the same number for a while. */
async function settled() {
    let n = -1;
    let since = 0;
    await until(15_000, () => {
        const now = descriptors('gateway');
        if (now !== n) {
            n = now;
            since = Date.now();
        }
        return Date.now() - since >= SETTLED_MS;
    }, 'the gateway has closed the connections of before');
    return n;
}

function cpuMs(name) {
    const fields = fs.readFileSync(`/proc/${pidOf(name)}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

function residentKb(name) {
    return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pidOf(name)}/status`, 'utf8'))[1]);
}

/** Nobody may use more than a trifle of the processor for a while. */
async function allAreQuiet(when) {
    const running = SERVICES.filter((name) => s.running(name));
    let shares;
    await until(15_000, async () => {
        const before = running.map(cpuMs);
        const began = Date.now();
        await pause(WATCHED_MS);
        const span = Date.now() - began;
        shares = running.map((name, i) => [name, (cpuMs(name) - before[i]) / span]);
        return shares.every(([, share]) => share < CPU_SHARE * SLOW);
    }, `all services are quiet ${when}`).catch((e) => {
        throw new Error(`${e.message}: ${shares.map(([name, share]) => `${name} ${(share * 100).toFixed(0)} %`).join(', ')}`);
    });
}

story('idle services are quiet', () => allAreQuiet('without clients'));

story('silent streams, half-closed, vanished and stuck clients keep nobody busy', async () => {
    const user = await s.user();
    const open = await Promise.all(Array.from({ length: 10 }, (_, i) => openAnswer(provider, user, `fake:silent-${i}`, 'one ')));
    provider.script('fake:flood', async (a) => {
        for (let i = 0; i < 200; i++)
            await a.piece('x'.repeat(30_000));
        await a.closed;
    });
    const stuck = await user.chat(await user.create('fake:flood'), 'more than the sockets hold');
    stuck.res.pause();
    const raw = Array.from({ length: 6 }, () => new RawConnection(s.port));
    const body = '{"message":"m"}';
    const request = (id) => `POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const held = provider.hold('fake:raw');
    for (const connection of raw) {
        connection.socket.allowHalfOpen = true;
        connection.send(request(await user.create('fake:raw')));
        await (await held.next()).piece('one ');
        await connection.until('one ');
    }
    raw[0].socket.end();
    raw[1].socket.end();
    raw[2].destroy();
    raw[3].reset();
    raw[4].socket.pause();
    const idle = Array.from({ length: 20 }, () => new RawConnection(s.port));
    idle[0].send('GET /hea');
    await allAreQuiet('with twenty silent clients');
    for (const connection of [...raw, ...idle])
        connection.destroy();
    stuck.leave();
    for (const { answer, stream } of open) {
        await answer.finish();
        expectAnswer(await stream.rest(), 'one ', { messageId: 2 });
    }
}, { deadline: 60_000 });

story('clients that vanish are forgotten at once, although idle connections older than theirs stay open', async () => {
    const user = await s.user();
    const agents = Array.from({ length: 6 }, () => s.keepAliveAgent({ maxSockets: 1 }));
    await Promise.all(agents.map((agent) => user.list({ agent })));
    const fds = await settled();
    const open = await Promise.all(Array.from({ length: 8 }, (_, i) => openAnswer(provider, user, `fake:left-${i}`, 'one ')));
    assert.ok(descriptors('gateway') >= fds + 8);
    for (const { stream } of open)
        stream.leave();
    await until(5000, () => descriptors('gateway') <= fds, 'the gateway has closed their connections');
    await allAreQuiet('after clients have vanished');
    await Promise.all(agents.map((agent) => user.list({ agent })));
    for (const { answer } of open)
        await answer.finish();
});

story('so are clients that vanish before there is an answer, and in the middle of a large one', async () => {
    const user = await s.user();
    const agents = Array.from({ length: 6 }, () => s.keepAliveAgent({ maxSockets: 1 }));
    const long = await user.create('fake:megabyte');
    for (let i = 0; i < 6; i++)
        assert.equal((await user.ask(long, 'more')).status, 200);
    await Promise.all(agents.map((agent) => user.list({ agent })));
    const fds = await settled();
    const send = (bytes) => {
        const connection = new RawConnection(s.port);
        connection.send(bytes);
        return connection;
    };
    const auth = `Host: x\r\nAuthorization: Bearer ${user.token}\r\n`;
    const hold = provider.hold('fake:never');
    const waiting = [];
    for (let i = 0; i < 6; i++)
        waiting.push(send(`POST /api/chat/${await user.create('fake:never')} HTTP/1.1\r\n${auth}Content-Length: 15\r\n\r\n{"message":"m"}`));
    const answers = await Promise.all(waiting.map(() => hold.next()));
    const reading = Array.from({ length: 6 }, () => send(`GET /api/conversations/history/${long} HTTP/1.1\r\n${auth}\r\n`));
    for (const connection of reading) {
        await connection.until('HTTP/1.1 200');
        connection.socket.pause();
    }
    const sending = Array.from({ length: 6 }, () => send(`POST /api/users/login HTTP/1.1\r\n${auth}Content-Length: 500\r\n\r\n{"user`));
    await until(5000, () => descriptors('gateway') >= fds + 18, 'all are connected');
    for (const connection of [...waiting, ...reading, ...sending])
        connection.destroy();
    /* one that has only closed its sending side looks the same, until headers_after_s makes us write to it */
    await until(10_000, () => descriptors('gateway') <= fds, 'the gateway has closed their connections');
    await allAreQuiet('after clients have vanished early');
    await Promise.all(agents.map((agent) => user.list({ agent })));
    for (const answer of answers)
        await answer.finish();
}, { deadline: 60_000 });

story('twenty clients that do not read their four megabytes cost no memory to speak of, and get them later', async () => {
    const user = await s.user();
    const text = longText(4 * 1024 * 1024);
    provider.script('fake:unread', async (a) => {
        for (let i = 0; i < text.length; i += 30_000)
            await a.piece(text.slice(i, i + 30_000));
        await a.finish();
    });
    const ids = await Promise.all(Array.from({ length: 20 }, () => user.create('fake:unread')));
    const before = SERVICES.map(residentKb);
    const streams = await Promise.all(ids.map(async (id) => {
        const stream = await user.chat(id, 'go');
        stream.res.pause();
        return stream;
    }));
    let peak = before;
    await until(60_000, () => {
        peak = SERVICES.map((name, i) => Math.max(peak[i], residentKb(name)));
        return provider.of('fake:unread').every((r) => r.finished && r.closedAt > 0);
    }, 'the provider has sent everything');
    if (SLOW === 1) {
        for (const [i, name] of SERVICES.entries()) {
            if (name !== 'llm-svc')    /* it holds what the journal has not taken yet: the provider is faster than a disk */
                assert.ok(peak[i] - before[i] < UNREAD_MAX_KB, `${name} grew from ${before[i]} to ${peak[i]} KB`);
        }
    }
    for (const [i, stream] of streams.entries()) {
        stream.res.resume();
        expectAnswer(await stream.rest(60_000), text, { messageId: 2 });
        assert.equal((await user.del(ids[i])).status, 200);
    }
}, { deadline: 180_000 });

story('with a service away the others wait quietly', async () => {
    for (const name of ['convo-svc', 'llm-svc', 'auth-svc']) {
        await s.kill(name);
        await allAreQuiet(`without ${name}`);
        s.start(name);
        await s.ready();
    }
}, { deadline: 90_000 });

story('hundreds of answers, heard and unheard, leave no descriptor and no memory behind', async () => {
    const user = await s.user();
    const round = async (n) => {
        const ids = await Promise.all(Array.from({ length: 20 }, () => user.create('fake')));
        for (let i = 0; i < n; i++) {
            await Promise.all(ids.map(async (id, k) => {
                const stream = await user.chat(id, `round ${i}`);
                if (stream.status === 200 && k % 3 === 0)
                    stream.leave();
                else if (stream.status === 200)
                    expectAnswer(await stream.rest(), answerFor(`round ${i}`));
            }));
        }
        await Promise.all(ids.map((id) => user.del(id)));
    };
    await round(5);
    await pause(1000);
    const before = SERVICES.map((name) => ({ name, fds: descriptors(name), kb: residentKb(name) }));
    await round(30);
    for (const { name, fds } of before)
        await until(15_000, () => descriptors(name) <= fds + 8, `${name} has closed what it opened (${fds} descriptors before)`);
    if (SLOW > 1)
        return;    /* a sanitizer keeps freed memory on purpose */
    for (const { name, kb } of before)
        assert.ok(residentKb(name) - kb < GROWTH_MAX_KB, `${name} grew from ${kb} to ${residentKb(name)} KB`);
}, { deadline: 90_000 });
