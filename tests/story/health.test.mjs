/* health.test.mjs - the admin ports: alive, ready, what is missing, and what --probe makes of it. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { BIN_DIR, CLEAN_ENV, prepare, SERVICES, serviceOf, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { haveRedis, startRedis } from '../support/redis.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { promisedWithin, until, within } from '../support/deadline.mjs';

let s;
before(async () => {
    s = await start({ admin: true, config: { server: { drain_s: 10, lame_duck_s: 5 } } });
});
after(() => s?.stopAll());

/** What a path of an admin port says: {status, json}. */
async function ask(stack, name, where) {
    const { status, json } = await stack.admin(name).api('GET', where);
    return { status, json };
}

/** Runs `<service> --probe what` on a process's configuration: {code, out}. */
async function probe(stack, name, what) {
    const child = spawn(path.join(BIN_DIR, serviceOf(name)), ['--config', stack.configOf(name), '--probe', what],
        { env: CLEAN_ENV, stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    child.stdout.on('data', (d) => { out += d; });
    child.stderr.on('data', (d) => { out += d; });
    const code = await within(20_000, new Promise((resolve) => child.once('close', resolve)), `--probe ${what} ends`);
    return { code, out };
}

async function becomes(stack, name, wanted, ms = 20_000) {
    let last;
    await until(ms, async () => {
        last = await ask(stack, name, '/readyz').catch((e) => ({ status: e.code }));
        return JSON.stringify(last) === JSON.stringify(wanted);
    }, () => `${name} says ${JSON.stringify(wanted)}, not ${JSON.stringify(last)}`);
}

/** What a process that must not start says on stderr. */
async function refusal(name, stack, { env = {}, args = [], code = 1 } = {}) {
    const child = spawn(path.join(BIN_DIR, name), ['--config', stack.configFile, ...args],
        { env: { ...CLEAN_ENV, ...env }, cwd: stack.dir, stdio: ['ignore', 'ignore', 'pipe'] });
    let text = '';
    child.stderr.on('data', (d) => { text += d; });
    assert.equal(await within(20_000, new Promise((resolve) => child.once('close', resolve)), `${name} refuses`), code, text);
    return text;
}

const OK = { status: 200, json: { status: 'ok' } };
const missing = (...names) => ({ status: 503, json: { status: 'unavailable', missing: names } });

story('every service says that it is alive and ready, and --probe agrees', async () => {
    for (const name of SERVICES) {
        assert.deepEqual(await ask(s, name, '/healthz'), OK, name);
        await becomes(s, name, OK);
        for (const what of ['live', 'ready'])
            assert.deepEqual(await probe(s, name, what), { code: 0, out: '{"status":"ok"}\n' }, `${name} ${what}`);
    }
    assert.equal((await s.admin('convo-svc').api('POST', '/healthz')).status, 405);
    assert.equal((await s.admin('convo-svc').api('GET', '/api/conversations/list')).status, 404);
});

story('what is missing is named, and found again', async () => {
    await s.kill('convo-svc');
    await becomes(s, 'gateway', missing('convo-svc'));
    const { code, out } = await probe(s, 'gateway', 'ready');
    assert.deepEqual([code, JSON.parse(out)], [1, missing('convo-svc').json]);
    assert.equal((await probe(s, 'gateway', 'live')).code, 0, 'restarting it would help nobody');
    await s.kill('llm-svc');
    await becomes(s, 'gateway', missing('convo-svc', 'llm-svc'));
    s.start('convo-svc');
    await becomes(s, 'gateway', missing('llm-svc'));
    await becomes(s, 'convo-svc', { status: 200, json: { status: 'ok', degraded: ['llm-svc'] } });
    s.start('llm-svc');
    await becomes(s, 'gateway', OK);
    await becomes(s, 'convo-svc', OK);
});

story('a process that is frozen or gone answers no probe', async () => {
    s.freeze('llm-svc');
    try {
        const { code, out } = await probe(s, 'llm-svc', 'live');
        assert.equal(code, 1);
        assert.match(out, /does not answer/);
    } finally {
        s.thaw('llm-svc');
    }
    await until(20_000, async () => (await probe(s, 'llm-svc', 'live')).code === 0, 'it is alive again');
});

story('SIGTERM: not ready from then on, and still serving', async () => {
    const user = await s.user();
    const gone = s.drain('gateway');
    await becomes(s, 'gateway', { status: 503, json: { status: 'draining' } }, 4000);
    assert.deepEqual(await ask(s, 'gateway', '/healthz'), OK);
    assert.equal((await user.list()).status, 200);
    await gone;
    assert.equal((await probe(s, 'gateway', 'live')).code, 1);
    s.start('gateway');
    await becomes(s, 'gateway', OK);
});

story('a thread that hangs is found and named, though the process goes on', async () => {
    /* One question, which each of them gets to before it hangs. */
    const points = { 'llm-svc': 'generate.after_piece', 'convo-svc': 'journal.received', gateway: 'gateway.ask_sent' };
    const stack = await start({ admin: true });
    try {
        const user = await stack.user();
        const id = await user.create('echo');
        for (const [name, point] of Object.entries(points)) {
            await stack.kill(name);
            stack.own[name] = { test: { hang_at: point } };
            stack.writeConfig();
            stack.start(name);
        }
        for (const name of SERVICES)
            await becomes(stack, name, OK);
        const asked = user.ask(id, 'is anybody there?').catch(() => null);
        for (const name of Object.keys(points)) {
            let last;
            await until(60_000, async () => (last = await ask(stack, name, '/healthz')).status === 503, `${name} is not alive`);
            assert.equal(last.json.status, 'stuck');
            assert.equal(last.json.loops.length, 1, name);
            assert.match(last.json.loops[0], name === 'gateway' ? /^reactor \d+$/ : /^main$/);
            assert.deepEqual(await ask(stack, name, '/readyz'), last, 'nor is it ready');
            assert.deepEqual(await probe(stack, name, 'live'), { code: 1, out: `${JSON.stringify(last.json)}\n` });
        }
        assert.deepEqual(await ask(stack, 'auth-svc', '/healthz'), OK);
        for (const name of Object.keys(points))
            await stack.kill(name);
        assert.equal(await asked, null);
    } finally {
        await stack.stopAll();
    }
}, { deadline: 120_000 });

story('rubbish and a crowd at the admin port harm nobody', async () => {
    const { admin: port, address } = s.places.get('auth-svc');
    const sockets = [];
    const open = () => new Promise((resolve) => {
        const socket = net.connect(port, address, () => resolve(socket));
        socket.on('error', () => resolve(socket));
        sockets.push(socket);
    });
    try {
        for (const bytes of ['\0\0\0\0', 'GET\r\n\r\n', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\n\r\n`, 'POST /healthz HTTP/1.1\r\nContent-Length: -1\r\n\r\n'])
            (await open()).end(bytes);
        for (let i = 0; i < 100; i++)
            await open();
        assert.equal((await s.user()).token !== undefined, true, 'it still logs people in');
    } finally {
        sockets.forEach((socket) => socket.destroy());
    }
    await until(20_000, async () => (await probe(s, 'auth-svc', 'live')).code === 0, 'the port answers again');
});

story('a port that is taken is refused with one line that says what to set', async () => {
    const other = await prepare({ config: { admin: { auth: `127.0.0.1:${s.places.get('auth-svc').admin}` } } });
    try {
        assert.match(await refusal('auth-svc', other),
            /^auth-svc: the admin port: 127\.0\.0\.1:\d+ is in use; admin\.auth \(LLMB_ADMIN_AUTH in the environment\) sets another one, or none\n$/);
    } finally {
        other.removeDir();
    }
});

story('without libpq, a service starts on SQLite, and says what PostgreSQL needs', async () => {
    const secret = '0123456789abcdef'.repeat(4);
    const other = await prepare({
        config: {
            storage: { driver: 'postgresql', postgresql: { url: 'postgresql://nobody@127.0.0.1:1/none' } },
            jwt: { secret }, convo: { seal_key: secret },
        },
    });
    const wrong = path.join(other.dir, 'wrong');
    fs.mkdirSync(wrong);
    fs.writeFileSync(path.join(wrong, 'libpq.so.5'), 'no library');
    const env = { LD_LIBRARY_PATH: wrong };
    try {
        for (const name of ['auth-svc', 'convo-svc']) {
            for (const args of [[], ['--check-config']])
                assert.match(await refusal(name, other, { env, args }), new RegExp(`^${name}: storage\\.driver: postgresql needs libpq5: .*libpq\\.so\\.5.*\n$`));
            assert.equal(await refusal(name, other, { env: { ...env, LLMB_STORAGE_DRIVER: 'sqlite' }, args: ['--check-config'], code: 0 }), '');
        }
    } finally {
        other.removeDir();
    }
});

story('a Redis that is away is named by those who do with less, and found again', async () => {
    const redis = await startRedis();
    const stack = await start({ admin: true, redis });
    try {
        for (const name of ['auth-svc', 'convo-svc'])
            await becomes(stack, name, OK);
        for (const [away, back] of [['stop', 'start'], ['freeze', 'thaw']]) {
            await redis[away]();
            for (const name of ['auth-svc', 'convo-svc'])
                await becomes(stack, name, { status: 200, json: { status: 'ok', degraded: ['redis'] } });
            await redis[back]();
            for (const name of ['auth-svc', 'convo-svc'])
                await becomes(stack, name, OK, 60_000);
        }
    } finally {
        await stack.stopAll();
        await redis.stop();
    }
}, { skip: haveRedis ? false : 'there is no Redis here', deadline: 150_000 });

story('SIGTERM ends a start that waits for PostgreSQL at once', async () => {
    /* Somebody who accepts and says nothing, and a port where nobody is. */
    const silent = net.createServer((socket) => socket.on('error', () => {}));
    await new Promise((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const secret = '0123456789abcdef'.repeat(4);
    try {
        for (const [what, port] of [['silent', silent.address().port], ['nobody', 1]]) {
            const other = await prepare({
                config: {
                    storage: { driver: 'postgresql', postgresql: { url: `postgresql://nobody@127.0.0.1:${port}/none` } },
                    jwt: { secret }, convo: { seal_key: secret },
                },
            });
            for (const name of ['auth-svc', 'convo-svc']) {
                const met = what === 'silent' && once(silent, 'connection');
                const child = spawn(path.join(BIN_DIR, name), ['--config', other.configFile], { env: CLEAN_ENV, cwd: other.dir, stdio: ['ignore', 'ignore', 'pipe'] });
                const ended = new Promise((resolve) => child.once('close', (code, signal) => resolve(code ?? signal)));
                let text = '';
                child.stderr.on('data', (d) => { text += d; });
                await (met || until(20_000, () => text.includes('waiting for PostgreSQL'), `${name} waits`));
                child.kill('SIGTERM');
                assert.equal(await promisedWithin(8000, ended, `${name} ends, which waits for ever`), 0, text);
                assert.match(text, /stopped before it had started: /);
            }
            other.removeDir();
        }
    } finally {
        silent.close();
    }
});

story('a PostgreSQL that is away is named by who needs it', async () => {
    const postgres = await startPostgres();
    const stack = await start({ admin: true, postgres });
    try {
        for (const name of ['auth-svc', 'convo-svc'])
            await becomes(stack, name, OK);
        await postgres.kill();
        for (const name of ['auth-svc', 'convo-svc'])
            await becomes(stack, name, missing('postgresql'), 40_000);
        assert.deepEqual(await ask(stack, 'convo-svc', '/healthz'), OK);
        await postgres.start();
        for (const name of ['auth-svc', 'convo-svc'])
            await becomes(stack, name, OK, 40_000);
    } finally {
        await stack.stopAll();
        await postgres.remove();
    }
}, { skip: havePostgres ? false : 'there is no PostgreSQL here' });
