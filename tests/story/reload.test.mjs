/* reload.test.mjs - SIGHUP: each key that may change does so at once, under load, and nobody's request is lost by it.
 *
 * Somebody chats and lists all the time; at the end none of that may have failed. Each story leaves the configuration
 * as it found it. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { providerEntry, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { pause, promised, until } from '../support/deadline.mjs';
import { merge } from '../support/yaml.mjs';
import { freePorts } from '../support/ports.mjs';
import { RawConnection } from '../support/raw.mjs';
import { openAnswer } from '../support/held.mjs';

const outer = Object.values(os.networkInterfaces()).flat().find((i) => i.family === 'IPv4' && !i.internal)?.address;

let first;
let second;
let keyFile;
let s;
const load = { runs: true, chats: 0, faults: [], done: null, gate: Promise.resolve(), isAtGate: false };
before(async () => {
    [first, second] = [await startProvider(), await startProvider()];
    const [port] = await freePorts(1);
    s = await start({
        provider: first, config: { server: { port: `0.0.0.0:${port}` }, log: { level: 'info' }, gateway: { request_timeout_s: 20 } }, httpPort: port,
    });
    keyFile = path.join(s.dir, 'provider.key');
    const user = await s.user();
    load.done = (async () => {
        const agent = s.keepAliveAgent();
        const id = await user.create('echo');
        for (; load.runs; load.chats++) {
            load.isAtGate = true;
            await load.gate;
            load.isAtGate = false;
            const text = `q ${load.chats}`;   /* shorter than any answer may be here */
            const got = await user.ask(id, text).catch((e) => ({ full: e.message }));
            const list = await user.list({ agent }).catch((e) => ({ status: e.message }));
            if (got.full !== text || list.status !== 200)
                load.faults.push(`${text}: ${got.full ?? JSON.stringify(got.json)}, ${list.status}`);
        }
    })();
});
after(async () => {
    load.runs = false;
    await load.done;
    await s?.stopAll();
    await Promise.all([first?.stop(), second?.stop()]);
    assert.deepEqual(load.faults, []);
    assert.ok(load.chats > 20, `${load.chats} chats`);
});

const WORDS = /the configuration (was read again|stays as it was): ([^\n]*)/g;
const saidOf = (name) => [...s.logs(name).matchAll(WORDS)].map((m) => m[0]);

/** A conversation with a model that llm-svc serves: each reactor of the gateway learns that for itself, within some seconds. */
const create = (user, model) => promised(10_000, () => user.create(model), `${model} is known`);

/** Writes a configuration and has every service read it; gives what each says. */
async function reload(config, names = s.names) {
    s.config = config;
    s.writeConfig();
    const before = new Map(names.map((n) => [n, saidOf(n).length]));
    for (const name of names)
        s.processes.get(name).kill('SIGHUP');
    await until(10_000, () => names.every((n) => saidOf(n).length > before.get(n)), 'every service has read its configuration');
    return new Map(names.map((n) => [n, saidOf(n).at(-1)]));
}

/** Runs fn under a configuration with these overrides; puts the old one back. */
async function under(over, fn) {
    const old = s.config;
    const said = await reload(merge(old, over));
    try {
        await fn(said);
    } finally {
        await reload(old);
    }
}

story('providers come and go: a new model is served, what runs ends as it began, what is gone is unknown', async () => {
    const user = await s.user();
    const running = await openAnswer(first, user, 'fake:running', 'begun ');
    expectError(await user.call('POST', '/api/conversations/create', { title: 't', model: 'new-model' }), 400, { code: 'unknown_model' });
    const entry = providerEntry(second, { name: 'newcomer', models: ['new*'], api_key: 'sk-of-the-newcomer' });
    await under({ providers: [entry] }, async (said) => {
        assert.match(said.get('llm-svc'), /changed: providers$/);
        const id = await create(user, 'new-model');
        second.script('new-model', async (a) => {
            await a.piece('from the newcomer');
            await a.finish();
        });
        expectAnswer(await user.ask(id, 'who are you?'), 'from the newcomer', { messageId: 2 });
        assert.equal(second.last('new-model').headers.authorization, 'Bearer sk-of-the-newcomer');
        await promised(10_000, async () => (await user.call('POST', '/api/conversations/create', { title: 't', model: 'fake' })).status === 400, 'the old models are gone');
        await running.answer.piece('and ended');
        await running.answer.finish();
        expectAnswer(await running.stream.rest(), 'begun and ended', { messageId: 2 });
        expectError(await user.ask(running.id, 'again?'), 400, { code: 'unknown_model' });
    });
    await create(user, 'fake');
}, { deadline: 60_000 });

story('a new key reaches the provider, from the configuration and from its file', async () => {
    const user = await s.user();
    const id = await create(user, 'fake');
    const keyOf = async () => {
        await user.ask(id, 'hello');
        return first.last('fake').headers.authorization;
    };
    assert.equal(await keyOf(), 'Bearer sk-from-the-configuration');
    await under({ providers: [providerEntry(first, { api_key: 'sk-of-today' })] }, async () => assert.equal(await keyOf(), 'Bearer sk-of-today'));
    fs.writeFileSync(keyFile, 'sk-from-the-file\n');
    await under({ providers: [providerEntry(first, { api_key: undefined, api_key_file: keyFile })] }, async () => {
        assert.equal(await keyOf(), 'Bearer sk-from-the-file');
        fs.writeFileSync(keyFile, 'sk-of-tomorrow\n');
        const said = await reload(s.config);   /* the same configuration, another file */
        assert.match(said.get('llm-svc'), /changed: providers$/);
        assert.equal(await keyOf(), 'Bearer sk-of-tomorrow');
        fs.rmSync(keyFile);
        const refused = await reload(s.config, ['llm-svc']);
        assert.match(refused.get('llm-svc'), /stays as it was: provider "fake": api_key_file: .*No such file/);
        assert.equal(await keyOf(), 'Bearer sk-of-tomorrow');
        fs.writeFileSync(keyFile, 'sk-from-the-file\n');
    });
    assert.equal(await keyOf(), 'Bearer sk-from-the-configuration');
    for (const name of s.names)
        assert.ok(!/sk-of|sk-from/.test(s.logs(name)), `a key is in the log of ${name}`);
});

story('origins change', async () => {
    const allowed = async (origin) => (await s.api('GET', '/healthz', undefined, { headers: { origin } })).headers['access-control-allow-origin'];
    assert.equal(await allowed('https://one.example'), '*');
    await under({ server: { cors_origins: ['https://one.example'] } }, async () => {
        await until(5000, async () => (await allowed('https://one.example')) === 'https://one.example', 'the new origin counts');
        await until(5000, async () => (await allowed('https://two.example')) === undefined, 'no other one does, in any reactor');
    });
});

story('limits change: bodies, wrong passwords, the length of an answer', async () => {
    const user = await s.user();
    const body = { message: 'x'.repeat(5000) };
    const id = await user.create('echo');
    await under({ server: { max_body_bytes: 4096 }, auth: { guess_limit: 2, guess_window_s: 1000 }, llm: { max_answer_bytes: 12 } }, async (said) => {
        assert.match(said.get('auth-svc'), /changed: server.max_body_bytes, auth.guess_limit, auth.guess_window_s, llm.max_answer_bytes$/);
        await until(5000, async () => (await user.call('POST', `/api/chat/${id}`, body)).status === 413, 'a body is too large');
        const other = await s.user();
        expectError(await s.login(other.name, 'wrong'), 401, {});
        expectError(await s.login(other.name, 'wrong'), 401, {});
        expectError(await s.login(other.name, other.password), 429, { code: 'throttled' });
        expectAnswer(await user.ask(id, 'no more than twelve'), 'no more than', { messageId: 2, finish: 'length' });
    });
    await until(5000, async () => (await user.ask(id, body.message)).full === body.message, 'such a body is taken again');
});

/** How many of n connections get an answer while all are kept; destroys them. */
async function admitted(n, host) {
    const open = Array.from({ length: n }, () => new RawConnection(s.port, host));
    try {
        await Promise.all(open.map((c) => {
            c.send('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
            return c.when(10_000, () => c.closed || c.text.includes(' 200 OK') || c.text.includes(' 503 '), 'an answer or a refusal');
        }));
        return open.filter((c) => c.text.includes(' 200 OK')).length;
    } finally {
        open.forEach((c) => c.destroy());
    }
}

story('limits change: connections of one address', async () => {
    assert.equal(await admitted(12, outer), 12);
    await under({ server: { max_connections_per_address: 5 } }, async () => {
        await until(10_000, async () => (await admitted(12, outer)) === 5, 'one address gets five');
        assert.equal(await admitted(12, '127.0.0.1'), 12);
    });
    assert.equal(await admitted(12, outer), 12);
}, { skip: outer ? false : 'no address but loopback here' });

story('limits change: connections of all', async () => {
    let open;
    load.gate = new Promise((resolve) => {   /* whoever comes while all places are taken is refused: that is the point */
        open = resolve;
    });
    try {
        load.isAtGate = false;
        await until(20_000, () => load.isAtGate, 'what is under way has ended');
        await under({ server: { max_connections: 80 } }, async () => {
            await until(10_000, async () => (await admitted(160, '127.0.0.1')) <= 80, 'no more than eighty');
        });
        await until(10_000, async () => (await admitted(160, '127.0.0.1')) === 160, 'as many as before');
    } finally {
        open();
    }
});

story('the log level changes', async () => {
    const size = () => s.names.reduce((n, name) => n + s.logs(name).split('op=llm.ack').length - 1, 0);
    const user = await s.user();
    const id = await user.create('echo');
    await user.ask(id, 'quietly');
    assert.equal(size(), 0);
    await under({ log: { level: 'debug' } }, async () => {
        await user.ask(id, 'aloud');
        await until(5000, () => size() > 0, 'what is routine is logged');
    });
    const old = s.config;
    s.config = merge(old, { log: { level: 'error' } });
    s.writeConfig();
    s.processes.get('gateway').kill('SIGHUP');
    await until(10_000, async () => {
        const before = s.logs('gateway').length;
        await user.list();
        await pause(100);   /* a line may come 5 ms after its answer */
        return s.logs('gateway').length === before;
    }, 'the gateway says nothing more');
    s.config = old;
    s.writeConfig();
    s.processes.get('gateway').kill('SIGHUP');
    await until(5000, async () => {
        const before = s.logs('gateway').length;
        await user.list();
        return s.logs('gateway').length > before;
    }, 'the gateway speaks again');
});

story('a bad file is refused in one line and changes nothing; keys that need a restart are named', async () => {
    const user = await s.user();
    const bad = await reload(merge(s.config, { log: { level: 'debug' }, server: { max_body_bytes: 4096 }, auth: { guess_limit: 'many' } }));
    for (const said of bad.values())
        assert.match(said, /stays as it was: \S*config\.yaml:\d+: auth\.guess_limit: expected a number from 1 to 1000/);
    s.config = merge(s.config, { log: { level: 'info' }, server: { max_body_bytes: undefined }, auth: { guess_limit: undefined } });
    const id = await user.create('echo');
    assert.equal((await user.ask(id, 'y'.repeat(5000))).full.length, 5000);
    const ca = await reload(merge(s.config, { providers: [providerEntry(first, { ca_file: '/nonexistent/ca.pem' })] }), ['llm-svc']);
    assert.match(ca.get('llm-svc'), /stays as it was: provider fake: ca_file \/nonexistent\/ca\.pem: No such file/);
    s.config = merge(s.config, { providers: [providerEntry(first)] });
    assert.ok((await user.ask(await create(user, 'fake'), 'still there?')).full.length > 0);
    await under({ jwt: { secret: 'another secret of sufficient length' }, gateway: { workers: 3 } }, async (said) => {
        for (const [name, words] of said) {
            assert.match(words, /read again: nothing has changed$/);
            await until(5000, () => /warn  \S+ needs a restart to change: gateway.workers, jwt.secret\n/.test(s.logs(name)), `${name} names the keys`);
            assert.ok(!s.logs(name).includes('another secret'), 'a secret is in a log');
        }
        assert.equal((await user.list()).status, 200);
    });
});
