/* A locked bus: with keys every process talks to its own kind only. Strangers in plain text, with keys of their own, in front of
 * a service or in its place get nothing, and are counted and told; a pair of keys is replaced while people chat. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { once } from 'node:events';
import { BIN_DIR, CLEAN_ENV, SERVICES, prepare, start } from '../support/stack.mjs';
import { demand, story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { slowly, whilePeopleChat } from '../support/rolling.mjs';
import { until } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';
import { makeKeys, runMakeKeys } from '../support/keys.mjs';
import { RawConnection } from '../support/raw.mjs';
import { greeting } from '../support/zmtp.mjs';
import { Network, hostsMissing } from '../support/hosts.mjs';

const run = promisify(execFile);
const BUS_CALL = path.join(BIN_DIR, 'tests/support/bus_call');

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, keys: true });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const portOf = { 'auth-svc': (x) => x.places.get('auth-svc').bus, 'convo-svc': (x) => x.places.get('convo-svc').bus,
    'llm-svc': (x) => x.places.get('llm-svc').bus, gateway: (x) => x.places.get('gateway').bus };

/** bus_call with these options: {code, body}. */
async function call(to, op, body, options, timeoutMs = 5000) {
    const args = [`tcp://127.0.0.1:${portOf[to](s)}`, op, JSON.stringify(body), '--timeout-ms', `${timeoutMs}`, ...options];
    const { code = 0, stdout, stderr } = await run(BUS_CALL, args).catch((e) => e);
    return { code, body: stdout.trim() ? JSON.parse(stdout.trim().split('\n').at(-1)).body : null, stderr };
}

const locked = (as, to) => ['--keys', s.keys, '--as', as, '--to', to];

/** A counter of a service, asked with the operators' key. */
async function counter(name, what) {
    const { body } = await call(name, 'svc.stats', {}, locked('tool', name));
    return body.counters.find((c) => c.name === what)?.value ?? 0;
}

async function isCounted(name, what, before) {
    await until(10_000, async () => await counter(name, what) > before, `${what} of ${name} goes up`);
}

async function allIsWell(stack = s) {
    const user = await stack.user();
    expectAnswer(await user.ask(await user.create('fake'), 'all well?'), answerFor('all well?'), { messageId: 2 });
    assert.deepEqual(stack.crashes, []);
}

story('a stack with keys answers, and operators ask it with theirs', async () => {
    await allIsWell();
    for (const name of SERVICES)
        assert.equal((await call(name, 'svc.stats', {}, locked('tool', name))).code, 0, name);
    assert.ok(await counter('llm-svc', 'tokens_published') > 0);
});

story('plain text gets no answer on any port, and is counted and told', async () => {
    const ports = SERVICES.map((name) => [name, portOf[name](s)]);
    for (const [name, port] of [...ports, ['llm-svc', s.places.get('llm-svc').tokens]]) {
        const before = await counter(name, 'bus_handshakes_refused');
        const connection = new RawConnection(port);
        connection.send(greeting());
        connection.send(Buffer.from('\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB', 'latin1'));
        connection.send(Buffer.from('\x00\x01\x01', 'latin1'));   /* subscribes to everything */
        await connection.untilClosed();
        assert.ok(connection.received.length <= 64, `${name} says more than its greeting`);
        await isCounted(name, 'bus_handshakes_refused', before);
        assert.match(s.logs(name), /refused a connection to \S+( from 127\.0\.0\.1:\d+)?: plain text/);
    }
    assert.equal((await call('auth-svc', 'auth.verify', { token: 'x' }, [], 500)).code, 1);
    await allIsWell();
});

story('a stranger with keys of its own gets no answer, and is counted and told', async () => {
    const own = makeKeys(path.join(s.dir, 'strangers-keys'));
    for (const name of SERVICES) {
        fs.copyFileSync(path.join(s.keys, `${name}.pub`), path.join(own, `${name}.pub`));   /* they are no secret */
        const before = await counter(name, 'bus_strangers');
        const as = name === 'convo-svc' ? 'tool' : 'convo-svc';
        fs.rmSync(path.join(own, `${as}.pub`));
        fs.writeFileSync(path.join(own, `${as}.pub`), fs.readFileSync(path.join(own, `${as}.key`), 'utf8').match(/^public .*$/m)[0]);
        const got = await call(name, 'svc.stats', {}, ['--keys', own, '--as', as, '--to', name], 500);
        assert.deepEqual([got.code, got.body], [1, null], got.stderr);
        await isCounted(name, 'bus_strangers', before);
        /* told by the thread that has counted it, a moment later */
        const told = /refused a connection from 127\.0\.0\.1: its public key \S+ is nobody's/;
        await until(10_000, () => told.test(s.logs(name)), `${name} says whom it has refused`);
    }
});

story('one of ours may call what is its own business only, under its own name only', async () => {
    const cases = [
        ['convo-svc', 'auth-svc', 'auth.verify', { token: 'x' }], ['llm-svc', 'auth-svc', 'auth.login', { username: 'a', password: 'b', address: '::1' }],
        ['auth-svc', 'convo-svc', 'convo.list', { user: 1 }], ['llm-svc', 'convo-svc', 'convo.history', { user: 1, conversation: 1 }],
        ['gateway', 'llm-svc', 'llm.stop', { stream: 'hex:00000000000000000000000000000000', term: 1 }],
        ['convo-svc', 'llm-svc', 'llm.models', {}],
    ];
    for (const [as, to, op, body] of cases) {
        const before = await counter(to, 'bus_calls_refused');
        const got = await call(to, op, body, locked(as, to));
        assert.deepEqual([got.code, got.body?.code], [1, 'forbidden'], `${as} ${op} ${got.stderr}`);
        assert.equal(await counter(to, 'bus_calls_refused'), before + 1);
        assert.match(s.logs(to), new RegExp(`refused ${op} to ${as}`));
    }
    /* Its own key, another's name. */
    const pretends = path.join(s.dir, 'pretends');
    fs.cpSync(s.keys, pretends, { recursive: true });
    for (const suffix of ['.key', '.pub'])
        fs.copyFileSync(path.join(s.keys, `llm-svc${suffix}`), path.join(pretends, `gateway${suffix}`));
    fs.copyFileSync(path.join(s.keys, 'gateway.pub'), path.join(pretends, 'llm-svc.pub'));
    const got = await call('auth-svc', 'auth.verify', { token: 'x' }, ['--keys', pretends, '--as', 'gateway', '--to', 'auth-svc']);
    assert.equal(got.code, 1);
    assert.equal(got.body?.code, 'forbidden');
});

story('a flood of strangers fills no log', async () => {
    const before = await counter('llm-svc', 'bus_handshakes_refused');
    const lines = s.logs('llm-svc').split('refused a connection').length;
    for (let i = 0; i < 200; i++) {
        const connection = new RawConnection(portOf['llm-svc'](s));
        connection.send(greeting());
        await connection.untilClosed();
    }
    await until(10_000, async () => await counter('llm-svc', 'bus_handshakes_refused') >= before + 200, 'all are counted');
    assert.ok(s.logs('llm-svc').split('refused a connection').length - lines <= 10);
    await allIsWell();
});

/** Passes every connection on to a port, and keeps all bytes. */
async function tap(port) {
    const seen = [];
    const sockets = new Set();
    const server = net.createServer((client) => {
        const there = net.connect(port, '127.0.0.1');
        for (const [from, to] of [[client, there], [there, client]]) {
            sockets.add(from);
            from.on('data', (bytes) => {
                seen.push(bytes);
                to.write(bytes);
            });
            from.on('error', () => {});
            from.on('close', () => to.destroy());
        }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return {
        port: server.address().port,
        bytes: () => Buffer.concat(seen),
        close() {
            server.close();
            for (const socket of sockets)
                socket.destroy();
        },
    };
}

story('who sits on the wire reads neither questions nor tokens; without keys it would', async (t) => {
    for (const keys of [true, false]) {
        const x = await prepare({ provider, keys });
        const { bus, tokens } = x.places.get('llm-svc');
        const taps = [await tap(bus), await tap(tokens), await tap(portOf['convo-svc'](x))];
        t.after(() => taps.forEach((one) => one.close()));
        x.own = { gateway: { bus: { tokens: { connect: `tcp://127.0.0.1:${taps[1].port}` }, convo: { connect: `tcp://127.0.0.1:${taps[2].port}` } } },
            'convo-svc': { bus: { llm: { connect: `tcp://127.0.0.1:${taps[0].port}` } } } };
        x.writeConfig();
        t.after(() => x.stopAll());
        await x.startAll();
        const question = 'is anybody listening?';
        const { stream, answer } = await openAnswer(provider, await x.user(), 'fake:tapped', 'begun ', { body: { message: question } });
        const words = [];
        const say = async () => {
            words.push(`heard-on-the-wire-${words.length}`);
            await answer.piece(`${words.at(-1)} `);
            await stream.shows(words.at(-1));
        };
        const isHeard = () => words.some((word) => taps[1].bytes().includes(word)) && taps[2].bytes().includes(question);
        for (let i = 0; i < 5; i++)
            await say();
        if (!keys)   /* the proof that this would be seen; what came before a subscription comes another way */
            await until(10_000, async () => isHeard() || await say(), 'question and answer are on the wire');
        await answer.finish();
        expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
        for (const one of taps) {
            assert.ok(one.bytes().length > 500);
            for (const text of [question, ...words])
                assert.ok(!(keys && one.bytes().includes(text)), `"${text}" is on the wire`);
        }
    }
});

story('who takes the place of a service is told nothing', async (t) => {
    const x = await start({ provider, keys: true });
    t.after(() => x.stopAll());
    const { bus, tokens } = x.places.get('llm-svc');
    await x.drain('llm-svc');
    const heard = [];
    const servers = [];
    for (const port of [bus, tokens]) {
        const server = net.createServer((client) => {
            const mine = { port, bytes: Buffer.alloc(0) };
            heard.push(mine);
            client.on('error', () => {});
            client.on('data', (bytes) => {
                mine.bytes = Buffer.concat([mine.bytes, bytes]);
            });
            client.write(greeting());
        });
        server.listen(port, '127.0.0.1');
        await once(server, 'listening');
        servers.push(server);
    }
    t.after(() => servers.forEach((server) => server.close()));
    await until(15_000, () => [bus, tokens].every((port) => heard.some((one) => one.port === port && one.bytes.length >= 10)),
        'callers come to the one in its place');
    servers.forEach((server) => server.close());
    assert.ok(heard.every((one) => one.bytes.length <= 64), 'nothing but greetings: no hello, no subscription');
    await x.bring('llm-svc', 15_000);
    await until(15_000, () => x.answers(), 'the right one is found again');
});

story('off loopback a service starts with keys, or not at all', async (t) => {
    const places = { auth: 'auth-svc', convo: 'convo-svc', llm: 'llm-svc', gateway: 'gateway' };
    for (const [bus, name] of Object.entries(places)) {
        const x = await prepare({ keys: false, config: { bus: { [bus]: { bind: 'tcp://0.0.0.0:17999' } } } });
        t.after(() => x.removeDir());
        const got = spawnSync(path.join(BIN_DIR, name), ['--config', x.configFile], { encoding: 'utf8', env: CLEAN_ENV, cwd: x.dir });
        assert.equal(got.status, 1);
        assert.match(got.stderr, /^\S+: \S+: bus\.\w+\.bind: expected .*bus\.keys.*bus\.insecure.*\n$/);
    }
});

story('keys that are missing, readable by others or mixed up are refused in one line that names the file', async (t) => {
    const x = await prepare({ keys: true });
    t.after(() => x.removeDir());
    const key = (name) => path.join(x.keys, name);
    const faults = [
        [() => fs.chmodSync(key('gateway.key'), 0o644), /gateway\.key: others may read it/, 'gateway'],
        [() => fs.rmSync(key('llm-svc.pub')), /llm-svc\.pub: cannot be read: No such file/, 'convo-svc'],
        [() => fs.writeFileSync(key('auth-svc.key'), 'nonsense\n', { mode: 0o600 }), /auth-svc\.key:1: expected/, 'auth-svc'],
        [() => fs.copyFileSync(key('convo-svc.key'), key('llm-svc.key')), /llm-svc\.key: its public key does not stand in llm-svc\.pub/, 'llm-svc'],
        [() => fs.rmSync(x.keys, { recursive: true }), /gateway\.key: cannot be read/, 'gateway'],
    ];
    for (const [spoil, expected, name] of faults) {
        fs.rmSync(x.keys, { recursive: true, force: true });
        makeKeys(x.keys);
        spoil();
        const got = spawnSync(path.join(BIN_DIR, name), ['--config', x.configOf(name)], { encoding: 'utf8', env: CLEAN_ENV, cwd: x.dir });
        assert.equal(got.status, 1, got.stderr);
        assert.match(got.stderr, expected);
        assert.equal(got.stderr.trim().split('\n').length, 1, got.stderr);
        assert.ok(!/secret \S/.test(got.stderr));
    }
    makeKeys(x.keys);
    fs.writeFileSync(key('tool.key'), 'nonsense\n');
    fs.rmSync(key('tool.pub'));
    assert.throws(() => makeKeys(x.keys), /tool\.key has no public key/);
    assert.ok(!fs.existsSync(key('tool.pub')));
});

story('services on hosts of their own find each other with keys', async (t) => {
    const network = new Network();
    const provider = await startProvider({ host: '0.0.0.0' });
    const [a, b] = ['a', 'b'].map((name) => network.host(name));
    const url = `http://${network.here}:${provider.port}/v1`;
    const x = await prepare({
        keys: true, hosts: { gateway: a, 'auth-svc': a, 'convo-svc': b, 'llm-svc': b },
        providers: [{ name: 'fake', models: ['fake*'], base_url: url, api_key: 'sk-fake' }],
    });
    t.after(async () => {
        await x.stopAll();
        await provider.stop();
        await network.remove();
    });
    assert.equal(x.config.bus.insecure, undefined);
    await x.startAll();
    await allIsWell(x);
}, { skip: demand(hostsMissing()) });

/* As deploy/README.md says it, for the key of a service that is called and of one that calls, at the same time. */
story('two pairs of keys are replaced under load: no request fails', async (t) => {
    const provider = await startProvider();
    const postgres = await startPostgres();
    provider.script('fake:slow', slowly);
    const x = await prepare({
        provider, postgres, admin: true, keys: true, replicas: Object.fromEntries(SERVICES.map((name) => [name, 2])),
        config: { server: { lame_duck_s: 1, drain_s: 4 }, log: { level: 'info' } },
    });
    t.after(async () => {
        await x.stopAll();
        await postgres.remove();
        await provider.stop();
    });
    await x.startAll();
    /* Every caller has found whoever came back: who ends the other one before has ended both. */
    const isWhole = async (name) => {
        const { text } = await x.admin(name).api('GET', '/metrics', undefined, { timeout: 5000 });
        const of = (what) => [...text.matchAll(new RegExp(`^${what}\\{.*\\} \\d+$`, 'gm'))].map(([line]) => line.slice(what.length));
        return of('llmb_peers').length > 0 && of('llmb_peers').join() === of('llmb_peers_up').join();
    };
    const callers = x.names.filter((name) => /^(gateway|convo-svc)/.test(name));
    /* One replica of each at a time. */
    const restart = async (services) => {
        for (const half of [(name) => name.endsWith('-2'), (name) => !name.endsWith('-2')]) {
            await Promise.all(x.names.filter((name) => services.includes(name.replace(/-2$/, '')) && half(name)).map(async (name) => {
                await x.drain(name, 15_000);
                await x.bring(name);
            }));
            await until(15_000, async () => (await Promise.all(callers.map(isWhole))).every(Boolean), 'all find each other again');
        }
    };
    const fileOf = (name) => fs.readFileSync(path.join(x.keys, name), 'utf8');
    const before = fileOf('llm-svc.key');
    await whilePeopleChat(x, async () => {
        const replaced = ['llm-svc', 'gateway'];
        replaced.forEach((name) => runMakeKeys(x.keys, '--new', name));
        await restart(SERVICES);
        replaced.forEach((name) => runMakeKeys(x.keys, '--use', name));
        await restart(replaced);
        replaced.forEach((name) => runMakeKeys(x.keys, '--drop', name));
        await restart(SERVICES);
    }, { clients: 8 });
    assert.notEqual(fileOf('llm-svc.key'), before);
    assert.equal(fileOf('llm-svc.pub').match(/^public /gm).length, 1);
    await allIsWell(x);
}, { skip: demand(!havePostgres && 'needs PostgreSQL'), deadline: 120_000 });
