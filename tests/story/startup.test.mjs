/* startup.test.mjs - how services start, and how they refuse to: one clear line on stderr, exit 1. */
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { BIN_DIR, CLEAN_ENV, prepare, SERVICES, start } from '../support/stack.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { story } from '../support/story.mjs';
import { until, within } from '../support/deadline.mjs';
import { expectError } from '../support/expect.mjs';

const stacks = [];
let base;
before(async () => {
    base = await prepared();
});
after(() => {
    for (const stack of stacks)
        fs.rmSync(stack.dir, { recursive: true, force: true });
});

/** A stack that is configured, not started. */
async function prepared(options) {
    const stack = await prepare(options);
    stacks.push(stack);
    return stack;
}

/** Runs a binary to its end: {code, stdout, stderr}. */
async function run(name, args, { env = {}, cwd = base.dir } = {}) {
    const child = spawn(path.join(BIN_DIR, name), args, { cwd, env: { ...CLEAN_ENV, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
    const out = { stdout: '', stderr: '' };
    child.stdout.on('data', (d) => { out.stdout += d; });
    child.stderr.on('data', (d) => { out.stderr += d; });
    const ended = new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code, signal) => resolve(code ?? signal));
    });
    try {
        return { code: await within(20_000, ended, `${name} ${args.join(' ')} ends`), ...out };
    } finally {
        child.kill('SIGKILL');
    }
}

/** Exit 1 and one line that says all these things. */
function refused(got, ...says) {
    assert.equal(got.code, 1, `exit ${got.code}: ${got.stderr}`);
    const lines = got.stderr.trimEnd().split('\n');
    assert.equal(lines.length, 1, `stderr: ${got.stderr}`);
    for (const word of says)
        assert.match(lines[0], word instanceof RegExp ? word : new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')));
}

async function refusedWith(config, service, ...says) {
    const stack = await prepared({ config });
    refused(await run(service, ['--config', stack.configFile], { cwd: stack.dir }), ...says);
    return stack;
}

function writeConfig(stack, text) {
    const file = path.join(stack.dir, 'other.yaml');
    fs.writeFileSync(file, text);
    return file;
}

story('--version and --help say what this is, exit 0', async () => {
    for (const name of SERVICES) {
        const version = await run(name, ['--version']);
        assert.equal(version.code, 0);
        assert.match(version.stdout, new RegExp(name));
        assert.equal(version.stdout.trimEnd().split('\n').length, 1);
        const help = await run(name, ['--help']);
        assert.equal(help.code, 0);
        for (const word of ['--config', '--check-config', '--version', 'drain_s'])
            assert.ok(help.stdout.includes(word), `--help of ${name} does not mention ${word}`);
    }
    const gateway = (await run('gateway', ['--help'])).stdout;
    for (const key of ['max_body_bytes', 'trusted_proxies', 'headers_after_s', 'cors_origins'])
        assert.ok(gateway.includes(key), key);
});

story('--check-config only checks: exit 0 for a good file, nothing is created', async () => {
    for (const name of SERVICES) {
        const got = await run(name, ['--config', base.configFile, '--check-config']);
        assert.equal(got.code, 0, got.stderr);
        assert.match(got.stdout, /ok/);
    }
    assert.deepEqual(fs.readdirSync(base.dir), ['config.yaml']);
});

story('a bad option and a missing file are refused by every service', async () => {
    for (const name of SERVICES) {
        refused(await run(name, ['--no-such-option']), 'option');
        refused(await run(name, ['--config', '/no/such/file.yaml']), '/no/such/file.yaml');
        refused(await run(name, ['--config', base.dir]), base.dir);
    }
});

story('broken YAML, an unknown key and bad values are refused with file and line', async () => {
    const cases = [
        ['server:\n  port: [1\n', /other\.yaml:\d+/], ['server:\n  prot: "8080"\n', /other\.yaml:2/, 'prot'], ['sevrer:\n  port: "8080"\n', /other\.yaml:1/, 'sevrer'],
        ['server: 5\n', /other\.yaml:1/], ['gateway:\n  workers: many\n', /other\.yaml:2/, 'workers'], ['gateway:\n  workers: -1\n', /other\.yaml:2/, 'workers'],
        ['gateway:\n  workers: 99999999999999999999\n', /other\.yaml:2/, 'workers'], ['server:\n  port: "99999"\n', /other\.yaml:2/, 'port'], ['server:\n  port: ""\n', 'port'],
        ['server:\n  default_framing: xml\n', /other\.yaml:2/, 'sse'], ['auth:\n  bcrypt_cost: 3\n', /other\.yaml:2/, 'bcrypt_cost'], ['auth:\n  bcrypt_cost: 16\n', 'bcrypt_cost'],
        ['log:\n  level: loud\n', /other\.yaml:2/, 'level'], ['bus:\n  insecure: perhaps\n', 'insecure'], ['test:\n  drop_token_frames: 1.5\n', 'drop_token_frames'],
        ['test:\n  drop_token_frames: nan\n', 'drop_token_frames'], ['server:\n  trusted_proxies: ["10.0.0.0/33"]\n', 'trusted_proxies'], ['server:\n  trusted_proxies: 7\n', 'trusted_proxies'],
        ['- a\n- b\n', /other\.yaml:1/], ['server:\n  port: "1"\n  port: "2"\n', /other\.yaml:3/, 'port'], ['a: &a [*a]\n', /other\.yaml:1/], ['\u0000', /other\.yaml/], ['{'.repeat(10000), /other\.yaml/],
    ];
    for (const [text, ...says] of cases) {
        for (const name of ['gateway', 'auth-svc'])
            refused(await run(name, ['--check-config', '--config', writeConfig(base, text)]), ...says);
    }
}, { deadline: 60_000 });

story('an empty configuration is a good one', async () => {
    for (const name of SERVICES)
        assert.equal((await run(name, ['--check-config', '--config', writeConfig(base, '')])).code, 0);
});

story('the configuration of the original system is a good one', async () => {
    const file = writeConfig(base, 'server:\n  port: ":8080"\nredis:\n  address: "localhost:6379"\n  password: ""\n  db: 0\nsqlite:\n' +
        '  path: "./data/llm_backend.db"\n  max_open_conns: 10\n  max_idle_conns: 5\n  conn_max_lifetime: 300\njwt:\n  secret: "S3cureK3y#2024!AIsafety"\n');
    for (const name of SERVICES) {
        const got = await run(name, ['--check-config', '--config', file]);
        assert.equal(got.code, 0, got.stderr);
    }
});

story('providers: unknown keys, missing and bad values are refused', async () => {
    const entry = (lines) => `providers:\n  - ${lines.join('\n    ')}\n`;
    const good = ['name: p', 'models: ["p*"]', 'base_url: "http://127.0.0.1:1/v1"'];
    assert.equal((await run('llm-svc', ['--check-config', '--config', writeConfig(base, entry(good))])).code, 0);
    const cases = [
        [[...good, 'api_kee: x'], /other\.yaml:5/, 'api_kee'], [good.slice(1), 'name'], [[good[0], good[2]], 'models'], [good.slice(0, 2), 'base_url'],
        [[good[0], good[1], 'base_url: "ftp://x"'], /other\.yaml:4/, 'base_url'], [[good[0], 'models: []', good[2]], 'models'], [[...good, 'idle_s: 0'], 'idle_s'],
        [[...good, 'first_byte_s: soon'], 'first_byte_s'],
    ];
    for (const [lines, ...says] of cases)
        refused(await run('llm-svc', ['--check-config', '--config', writeConfig(base, entry(lines))]), ...says);
    const env = {   /* this one gets as far as listening */
        LLMB_BUS_LLM_BIND: base.config.bus.llm.bind, LLMB_BUS_TOKENS_BIND: base.config.bus.tokens.bind,
    };
    refused(await run('llm-svc', ['--config', writeConfig(base, entry([...good, 'ca_file: /no/such/ca.pem']))], { env }), '/no/such/ca.pem');
});

story('a port in use is refused, by the gateway and on the bus', async () => {
    const blocker = net.createServer();
    await new Promise((resolve) => {
        blocker.listen(base.ports[0], '127.0.0.1', resolve);
    });
    try {
        refused(await run('gateway', ['--config', base.configFile]), String(base.ports[0]), /in use/i);
    } finally {
        blocker.close();
    }
    for (const [name, port] of [['auth-svc', base.ports[1]], ['convo-svc', base.ports[2]], ['llm-svc', base.ports[3]], ['llm-svc', base.ports[4]]]) {
        const server = net.createServer();
        await new Promise((resolve) => {
            server.listen(port, '127.0.0.1', resolve);
        });
        try {
            refused(await run(name, ['--config', base.configFile]), String(port), /in use/i);
        } finally {
            server.close();
        }
    }
});

story('a bus bound off loopback is refused unless bus.insecure says so', async () => {
    const buses = { 'auth-svc': 'auth', 'convo-svc': 'convo', 'llm-svc': 'llm' };
    for (const [name, bus] of Object.entries(buses)) {
        for (const host of ['0.0.0.0', '*', '192.0.2.1'])
            await refusedWith({ bus: { [bus]: { bind: `tcp://${host}:17777` } } }, name, 'insecure');
    }
    await refusedWith({ bus: { tokens: { bind: 'tcp://0.0.0.0:17777' } } }, 'llm-svc', 'insecure');
    await refusedWith({ bus: { auth: { bind: 'udp://127.0.0.1:1' } } }, 'auth-svc', 'bind');
    await refusedWith({ bus: { auth: { bind: '127.0.0.1' } } }, 'auth-svc', 'bind');
    const open = await prepared({ config: { bus: { insecure: true, auth: { bind: 'tcp://0.0.0.0:17777' } } } });
    assert.equal((await run('auth-svc', ['--check-config', '--config', open.configFile])).code, 0);
});

story('a jwt.secret under 16 bytes is refused, and it is not printed', async () => {
    const stack = await prepared({ config: { jwt: { secret: 'only15byteslong' } } });
    const got = await run('auth-svc', ['--config', stack.configFile]);
    refused(got, 'jwt.secret', '16');
    assert.ok(!got.stderr.includes('only15bytes'));
});

story('a seal key that is none is refused, and it is not printed', async () => {
    const stack = await prepared({ config: { convo: { seal_key: 'not thirty-two bytes' } } });
    const got = await run('convo-svc', ['--config', stack.configFile]);
    refused(got, 'seal_key');
    assert.ok(!got.stderr.includes('thirty-two'));
});

story('a database that cannot be opened is refused', async () => {
    for (const name of ['auth-svc', 'convo-svc']) {
        const stack = await prepared();
        fs.writeFileSync(path.join(stack.dir, 'llm_backend.db'), 'this is no database, but long enough to be looked at. '.repeat(50));
        fs.writeFileSync(path.join(stack.dir, 'llm_backend_users.db'), 'this is no database, but long enough to be looked at. '.repeat(50));
        refused(await run(name, ['--config', stack.configFile]), 'llm_backend');
        await refusedWith({ sqlite: { path: '/proc/no/such/dir/x.db' } }, name, '/proc/no');
    }
});

story('services may come in any order: the gateway alone is alive, not ready', async () => {
    const s = await prepared();
    s.start('gateway');
    await until(10_000, async () => (await s.api('GET', '/healthz')).status === 200, 'the gateway is alive');
    const ready = await s.api('GET', '/readyz');
    assert.equal(ready.status, 503);
    const refusal = await s.login('anna', 'some password');
    expectError(refusal, 503, {});
    assert.match(refusal.headers['retry-after'], /^\d+$/);
    for (const name of ['llm-svc', 'convo-svc', 'auth-svc'])
        s.start(name);
    await s.ready();
    const user = await s.user();
    assert.equal((await user.ask(await user.create('echo'), 'all here')).full, 'all here');
    await s.stopAll();
});

test('a running system', async (t) => {
    const s = await start({ env: { LLMB_SERVER_DEFAULT_FRAMING: 'bare' } });
    stacks.push(s);
    await t.test('takes keys from the environment', async () => {
        const user = await s.user();
        const got = await user.ask(await user.create('echo'), 'hi', { framing: 'bare' });
        assert.equal(got.full, 'hi');
    });
    await t.test('refuses a second convo-svc and a second auth-svc on the same database', async () => {
        const second = await prepared({ config: { sqlite: { path: path.join(s.dir, 'llm_backend.db') } } });
        for (const name of ['auth-svc', 'convo-svc'])
            refused(await run(name, ['--config', second.configFile], { cwd: second.dir }), 'llm_backend');
    });
    await t.test('refuses another seal key for a database that holds sealed keys', async () => {
        const user = await s.user();
        await user.create('echo', { api_key: 'sk-sealed' });
        await s.kill('convo-svc', 'SIGTERM');
        const other = await prepared({ config: { sqlite: { path: path.join(s.dir, 'llm_backend.db') }, convo: { seal_key: 'ab'.repeat(32) } } });
        refused(await run('convo-svc', ['--config', other.configFile], { cwd: other.dir }), 'seal');
        s.start('convo-svc');
    });
    await s.ready();
    await s.stopAll();
});

story('a second auth-svc or convo-svc on the same SQLite file is sent to PostgreSQL; any death frees the file', async () => {
    const s = await start();
    stacks.push(s);
    for (const name of ['auth-svc', 'convo-svc']) {
        const other = await prepared({ config: { sqlite: { path: path.join(s.dir, 'llm_backend.db') } } });
        const second = () => run(name, ['--config', other.configFile], { cwd: other.dir });
        refused(await second(), `another ${name}`, 'PostgreSQL');
        s.freeze(name);   /* still an owner */
        refused(await second(), `another ${name}`, 'PostgreSQL');
        s.thaw(name);
        await s.kill(name);
        s.start(name);
        await s.ready();
        refused(await second(), `another ${name}`, 'PostgreSQL');
    }
    await s.stopAll();
});

story('with PostgreSQL, secrets that all replicas share must be configured, and where the database is', async () => {
    const url = 'postgresql://llmb:geheim@127.0.0.1:1/none';
    const storage = { driver: 'postgresql', postgresql: { url } };
    await refusedWith({ storage }, 'auth-svc', 'jwt.secret', 'postgresql');
    await refusedWith({ storage }, 'convo-svc', 'convo.seal_key', 'postgresql');
    await refusedWith({ storage: { driver: 'postgresql' }, jwt: { secret: 'a secret of the stories, 32 bytes long' } }, 'auth-svc', 'storage.postgresql.url');
    await refusedWith({ storage: { driver: 'postgresql' }, convo: { seal_key: 'ab'.repeat(32) } }, 'convo-svc', 'storage.postgresql.url');
});

story('--check-config refuses what the start of that service would, in the same words', async () => {
    const url = 'postgresql://llmb:geheim@127.0.0.1:1/none';
    const good = { storage: { driver: 'postgresql', postgresql: { url } }, jwt: { secret: 'a secret of the stories, 32 bytes long' }, convo: { seal_key: 'ab'.repeat(32) } };
    const cases = [
        [{ ...good, jwt: {} }, 'auth-svc', 'jwt.secret'], [{ ...good, convo: {} }, 'convo-svc', 'convo.seal_key'],
        [{ ...good, storage: { driver: 'postgresql' } }, 'auth-svc', 'storage.postgresql.url'], [{ ...good, storage: { driver: 'postgresql' } }, 'convo-svc', 'storage.postgresql.url'],
        [{ ...good, storage: { driver: 'postgresql', postgresql: { url: 'postgresql://u:geheim@[h' } } }, 'auth-svc', 'storage.postgresql.url'],
        [{ ...good, storage: { driver: 'postgresql', postgresql: { url: 'postgresql://u:geheim@[h' } } }, 'convo-svc', 'storage.postgresql.url'],
    ];
    for (const [config, refuses, says] of cases) {
        const stack = await prepared({ config });
        for (const name of SERVICES) {
            const checked = await run(name, ['--check-config', '--config', stack.configFile], { cwd: stack.dir });
            if (name !== refuses && !(says === 'storage.postgresql.url' && name !== 'gateway' && name !== 'llm-svc')) {
                assert.equal(checked.code, 0, `${name}: ${checked.stderr}`);
                continue;
            }
            refused(checked, says);
            assert.ok(!checked.stderr.includes('geheim'));
            if (name === refuses)
                assert.equal((await run(name, ['--config', stack.configFile], { cwd: stack.dir })).stderr, checked.stderr);
        }
    }
    const stack = await prepared({ config: good });
    for (const name of SERVICES)
        assert.equal((await run(name, ['--check-config', '--config', stack.configFile], { cwd: stack.dir })).code, 0);
});

story('a PostgreSQL that is not there yet is waited for aloud, and a wrong password is not waited for', async () => {
    const postgres = await startPostgres();
    try {
        for (const name of ['auth-svc', 'convo-svc']) {
            const wrong = await prepared({ postgres, config: { storage: { postgresql: { url: postgres.url.replace(/:[^:@]+@/, ':geheim@') } } } });
            const got = await run(name, ['--config', wrong.configFile], { cwd: wrong.dir });
            refused(got, 'cannot connect to PostgreSQL', '28P01', 'password');
            assert.ok(!got.stderr.includes('geheim'));
        }
        await postgres.stop();
        const s = await prepared({ postgres });
        const starting = ['auth-svc', 'convo-svc'];
        for (const name of starting)
            s.start(name);
        const all = (words) => until(10_000, () => starting.every((name) => s.logs(name).includes(words)), words);
        await all('waiting for PostgreSQL: connection to server at ');
        await postgres.start();
        await all('connected to PostgreSQL');
        for (const name of SERVICES.filter((n) => !starting.includes(n)))
            s.start(name);
        await s.ready();
        const user = await s.user();
        assert.equal((await user.ask(await user.create('echo'), 'late, but here')).full, 'late, but here');
        await s.stopAll();
    } finally {
        await postgres.remove();
    }
}, { skip: !havePostgres });

story('log.format json: every line is an object, requests carry trace, operation, status and time', async () => {
    const s = await start({ config: { log: { format: 'json', level: 'debug' } } });
    stacks.push(s);
    const user = await s.user();
    await user.ask(await user.create('echo'), 'to be logged, but not the text');
    await user.history(1);
    await s.stopAll({ keepDir: true });
    for (const name of SERVICES) {
        const lines = s.logs(name).trimEnd().split('\n').map((line) => JSON.parse(line));
        assert.ok(lines.length > 1, name);
        assert.ok(!s.logs(name).includes('to be logged'), `the question is in the log of ${name}`);
        const requests = lines.filter((l) => l.trace !== undefined);
        assert.ok(requests.length > 0, name);
        assert.ok(requests.some((l) => l.op && l.status !== undefined && l.us !== undefined), JSON.stringify(requests[0]));
    }
    const traces = (name) => new Set(s.logs(name).trimEnd().split('\n').map((l) => JSON.parse(l).trace).filter(Boolean));
    assert.ok([...traces('gateway')].some((t) => traces('convo-svc').has(t)), 'no trace goes from the gateway to convo-svc');
});

test('a secret from a file, one that is short, and the published one', async (t) => {
    const file = path.join(base.dir, 'jwt.txt');
    fs.writeFileSync(file, 'a secret of the stories, 32 bytes long\n');
    const s = await start({ env: { LLMB_JWT_SECRET_FILE: file } });
    stacks.push(s);
    const user = await s.user();
    await t.test('LLMB_JWT_SECRET_FILE is read: tokens live on with the same secret elsewhere', async () => {
        const { createHmac } = await import('node:crypto');
        const [head, body, signature] = user.token.split('.');
        const hmac = createHmac('sha256', 'a secret of the stories, 32 bytes long').update(`${head}.${body}`).digest('base64url');
        assert.equal(signature, hmac);
    });
    await s.stopAll();
    await t.test('the published example secret counts as not configured, with a warning', async () => {
        const published = await start({ config: { jwt: { secret: 'S3cureK3y#2024!AIsafety' } } });
        stacks.push(published);
        const { createHmac } = await import('node:crypto');
        const anna = await published.user();
        const [head, body, signature] = anna.token.split('.');
        assert.notEqual(signature, createHmac('sha256', 'S3cureK3y#2024!AIsafety').update(`${head}.${body}`).digest('base64url'));
        assert.match(published.logs('auth-svc'), /warn[^\n]*secret/i);
        assert.ok(!published.logs('auth-svc').includes('S3cureK3y'));
        await published.stopAll();
    });
    await t.test('a secret of 16 to 31 bytes is taken with a warning', async () => {
        const short = await start({ config: { jwt: { secret: 'twenty bytes of hope' } } });
        stacks.push(short);
        assert.match(short.logs('auth-svc'), /warn[^\n]*secret/i);
        await short.stopAll();
    });
});
