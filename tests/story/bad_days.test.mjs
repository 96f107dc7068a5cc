/* bad_days.test.mjs - clocks that jump, connections that never speak, descriptors that have run out, a provider whose name nobody knows
 * any more: a clear error at most, nothing that was acknowledged is lost, and all is well when the cause is gone. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { BIN_DIR, SERVICES, providerEntry, start } from '../support/stack.mjs';
import { demand, story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { pause, promisedWithin, until } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';
import { RawConnection } from '../support/raw.mjs';

const HOUR_S = 3600;
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-bad-days-'));

let provider;
before(async () => {
    provider = await startProvider();
});
after(async () => {
    await provider?.stop();
    fs.rmSync(dir, { recursive: true, force: true });
});

/* --- clocks ---------------------------------------------------------------------------------- */

/** A wall clock that some services have: {prefix, set(seconds)}. */
function clock(name) {
    const file = path.join(dir, name);
    const set = (s) => {
        const bytes = Buffer.alloc(8);
        bytes.writeBigInt64LE(BigInt(s));
        fs.writeFileSync(file, bytes, { flag: fs.existsSync(file) ? 'r+' : 'w' });
    };
    set(0);
    const preload = path.join(BIN_DIR, 'tests/support/preload/clock_skew.so');
    return { set, prefix: ['env', `LD_PRELOAD=${preload}`, `CLOCK_SKEW_FILE=${file}`, `ASAN_OPTIONS=${process.env.ASAN_OPTIONS ?? ''}:verify_asan_link_order=0`] };
}

const hosts = (names, { prefix }) => Object.fromEntries(names.map((name) => [name, { address: '127.0.0.1', prefix }]));

/** Asks until somebody answers: what was in flight when the clock jumped may be refused once. */
const answered = (user, id, question) =>
    until(20_000, async () => (await user.ask(id, question)).full === answerFor(question), `"${question}" is answered`);

story('the clock jumps by an hour, forth and back, while answers are streamed: everybody goes on', async () => {
    const wall = clock('all');
    const s = await start({ provider, hosts: hosts(SERVICES, wall) });
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
    const { stream, answer } = await openAnswer(provider, user, 'fake:held', 'one ');
    let n = 0;
    for (const skew of [HOUR_S, 0, -HOUR_S, 0]) {
        wall.set(skew);
        await answer.piece(`${skew} `);
        await stream.shows(`${skew} `);
        await answered(user, id, `at ${++n}`);
        assert.equal((await s.login(user.name, user.password)).status, 200);
        const made = await user.call('POST', '/api/conversations/create', { title: 't', model: 'fake' });
        assert.equal(made.status, 200);
        assert.ok(Math.abs(made.json.created_time - Date.now() / 1000 - skew) < 300, 'the services have the clock of this test');
        await s.user();
    }
    await answer.finish();
    expectAnswer(await stream.rest(), `one ${HOUR_S} 0 ${-HOUR_S} 0 `, { messageId: 2 });
    const contents = (await user.messages(id)).map((m) => m.content);
    for (let i = 1; i <= n; i++)
        assert.ok(contents.includes(`at ${i}`) && contents.includes(answerFor(`at ${i}`)));
    await s.stopAll();
}, { deadline: 60_000 });

for (const [name, skew, who] of [['convo-svc', HOUR_S, 'convo-svc'], ['convo-svc', -HOUR_S, 'llm-svc'], ['gateway', -HOUR_S, 'auth-svc']]) {
    story(`the clock of ${name} alone is an hour ${skew > 0 ? 'ahead' : 'behind'}: ${who} says so, and all is well when it is right again`, async () => {
        const wall = clock(`${name}${skew}`);
        const s = await start({ provider, hosts: hosts([name], wall), config: { gateway: { verify_cache_s: 0 } } });
        const user = await s.user();
        const id = await user.create('fake');
        expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
        wall.set(skew);
        await until(20_000, async () => {
            const got = await user.list();
            assert.ok([200, 503, 504].includes(got.status), `${got.status} ${got.text}`);
            return /had expired 3\d{3} s before it came/.test(s.logs(who));
        }, `${who} says that the clocks differ`);
        wall.set(0);
        await answered(user, id, 'after');
        const contents = await until(20_000, async () => (await user.messages(id)).map((m) => m.content), 'the history can be read');
        assert.deepEqual(contents.slice(0, 2), ['before', answerFor('before')]);
        await s.stopAll();
    }, { deadline: 60_000 });
}

/* --- connections ------------------------------------------------------------------------------ */

/** Seconds of CPU that a process has used. */
function cpuOf(s, name) {
    const fields = fs.readFileSync(`/proc/${s.processes.get(name).pid}/stat`, 'utf8').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
}

const descriptorsOf = (s, name) => fs.readdirSync(`/proc/${s.processes.get(name).pid}/fd`).length;

story('a thousand connections that never say anything whole, to clients\' port and to the bus, hold nobody up and are gone afterwards', async () => {
    const s = await start({ provider, config: { server: { header_timeout_s: 2, body_timeout_s: 2 } } });
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
    const before = new Map(SERVICES.map((name) => [name, descriptorsOf(s, name)]));
    const halves = ['', 'POST /api/chat/1 HTTP/1.1\r\nHost: x\r\n', 'POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{'];
    const [, ...bus] = s.ports;
    const mute = Array.from({ length: 1000 }, (_, i) => {
        const connection = new RawConnection(i % 2 === 0 ? s.port : bus[(i >> 1) % bus.length]);
        if (i % 2 === 0)
            connection.send(halves[(i >> 1) % halves.length]);
        return connection;
    });
    await Promise.all(mute.map((connection) => connection.opened));
    for (let i = 0; i < 5; i++) {
        const question = `while they wait ${i}`;
        expectAnswer(await user.ask(id, question), answerFor(question));
    }
    assert.equal((await s.login(user.name, user.password)).status, 200);
    await promisedWithin(30_000, Promise.all(mute.filter((_, i) => i % 2 === 0).map((connection) => connection.untilClosed(30_000))), 'all are closed');
    for (const connection of mute)
        connection.destroy();
    await until(20_000, () => SERVICES.every((name) => descriptorsOf(s, name) < before.get(name) + 20), 'their descriptors are closed');
    expectAnswer(await user.ask(id, 'after'), answerFor('after'));
    await s.stopAll();
}, { deadline: 60_000 });

/* Descriptors that each service has when nobody is there, and some more. */
for (const name of SERVICES) {
    story(`${name} has no descriptor left: it does not spin, what it refuses is refused, and all is well afterwards`, async () => {
        const s = await start({ provider, config: { gateway: { request_timeout_s: 3 } } });
        const user = await s.user();
        const id = await user.create('fake');
        expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
        const { stream, answer } = await openAnswer(provider, user, 'fake:held', 'one ');
        const limit = (n) => assert.equal(spawnSync('prlimit', ['--pid', String(s.processes.get(name).pid), `--nofile=${n}:`]).status, 0);
        limit(descriptorsOf(s, name));

        const port = name === 'gateway' ? s.port : s.places.get(name).bus;
        const many = Array.from({ length: 50 }, () => new RawConnection(port));
        await Promise.all(many.map((connection) => connection.opened));    /* by the kernel: nobody accepts them */
        const begun = cpuOf(s, name);
        await pause(1000);
        const used = cpuOf(s, name) - begun;
        assert.ok(used < 0.5, `${name} used ${used} s of CPU in 1 s`);
        assert.ok(s.running(name));
        if (name === 'gateway')    /* each of its two workers says it, not each time that it looks */
            assert.ok([1, 2].includes(s.logs(name).split('cannot accept a connection: Too many open files').length - 1));
        await answer.piece('two ');
        await stream.shows('two ');

        limit(1024);
        for (const connection of many)
            connection.destroy();
        await answer.finish();
        expectAnswer(await stream.rest(), 'one two ', { messageId: 2 });
        await answered(user, id, 'after');
        assert.deepEqual((await user.messages(id)).slice(0, 2).map((m) => m.content), ['before', answerFor('before')]);
        await s.stopAll();
    }, { deadline: 60_000 });
}

/* --- names ------------------------------------------------------------------------------------ */

function namesMissing() {
    const probe = spawnSync('unshare', ['-m', 'sh', '-c', 'mount --bind /dev/null /etc/resolv.conf'], { encoding: 'utf8' });
    return probe.status === 0 ? false : `needs mount namespaces (${(probe.stderr ?? '').trim()})`;
}

story('a provider whose name nobody knows any more is a 502 that says so, and is asked again when it is known', async () => {
    const names = path.join(dir, 'hosts');
    const know = (line) => fs.writeFileSync(names, `127.0.0.1 localhost\n${line}\n`);
    know('127.0.0.1 provider.example');
    const s = await start({
        hosts: { 'llm-svc': {
            address: '127.0.0.1', prefix: ['unshare', '-m', 'sh', '-c',
                `mount --bind ${names} /etc/hosts && mount --bind /dev/null /etc/resolv.conf && exec "$0" "$@"`],
        } },
        providers: [providerEntry(provider, { base_url: provider.url.replace('127.0.0.1', 'provider.example') })],
    });
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
    know('');
    await s.kill('llm-svc');    /* what it has resolved it knows for a minute, and its connections for longer */
    s.start('llm-svc');
    await s.ready();
    const refused = await until(20_000, async () => {
        const got = await user.chat(id, 'who is there?');
        return got.status === 502 && got;
    }, 'the provider cannot be found');
    expectError(refused, 502, { code: 'upstream_error', says: 'resolve' });
    know('127.0.0.1 provider.example');
    await until(20_000, async () => (await user.ask(id, 'after')).full === answerFor('after'), 'the provider is found again');
    assert.deepEqual((await user.messages(id)).slice(0, 2).map((m) => m.content), ['before', answerFor('before')]);
    await s.stopAll();
}, { skip: demand(namesMissing()), deadline: 60_000 });
