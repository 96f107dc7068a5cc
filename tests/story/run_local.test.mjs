/* run_local.test.mjs - `make run`: the whole stack under one script, from its first line to Ctrl-C.
 *
 * The script is a process group of its own here, as in a terminal, and its children are found in
 * /proc, since it tells nobody their pids.
 */
import { after } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { BIN_DIR, prepare, SERVICES } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { until, within } from '../support/deadline.mjs';
import { makeCertificate } from '../support/tls.mjs';
import { merge } from '../support/yaml.mjs';

const SCRIPT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../scripts/run-local');
const runs = [];

after(() => {
    for (const run of runs) {
        for (const pid of [run.child.pid, ...Object.values(services(run))])
            end(pid);
        fs.rmSync(run.stack.dir, { recursive: true, force: true });
    }
});

function end(pid) {
    try {
        process.kill(pid, 'SIGKILL');
    } catch {
        /* has ended already */
    }
}

/** Starts the script for a stack: {child, stack, output(), gone}. */
function runLocal(stack) {
    const env = Object.fromEntries(Object.entries(process.env).filter(([k]) => !k.startsWith('LLMB_')));
    const child = spawn(SCRIPT, ['--bin', BIN_DIR, stack.configFile], { cwd: stack.dir, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const run = { child, stack, stdout: '', stderr: '' };
    child.stdout.on('data', (d) => { run.stdout += d; });
    child.stderr.on('data', (d) => { run.stderr += d; });
    run.gone = new Promise((resolve) => {
        child.once('close', (code, signal) => resolve(code ?? signal));
    });
    runs.push(run);
    return run;
}

/** What runs for this stack: {service: pid}, by its configuration on the command line. */
function services(run) {
    const out = {};
    for (const pid of fs.readdirSync('/proc').filter((f) => /^\d+$/.test(f))) {
        try {
            const [program, ...args] = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
            if (args.includes(run.stack.configFile) && SERVICES.includes(path.basename(program)))
                out[path.basename(program)] = Number(pid);
        } catch {
            /* ended while we looked */
        }
    }
    return out;
}

async function ready(run) {
    await until(20_000, () => run.stdout.includes('is ready: ') || run.child.exitCode !== null, 'the stack is ready');
    assert.match(run.stdout, /is ready: https?:\/\//, run.stdout + run.stderr);
}

async function stop(run) {
    process.kill(-run.child.pid, 'SIGINT');
    assert.equal(await within(20_000, run.gone, 'Ctrl-C ends the script'), 0, run.stderr);
    assert.deepEqual(services(run), {});
}

story('the lines that it prints work as they are, and the next start finds the data', async () => {
    const stack = await prepare();
    const first = runLocal(stack);
    await ready(first);
    const lines = first.stdout.split('\n').filter((l) => /^ {2}(curl|TOKEN=|ID=)/.test(l));
    assert.equal(lines.length, 5);
    const { stdout } = await promisify(execFile)('bash', ['-c', `set -e\n${lines.join('\necho\n')}\necho; echo "$ID $TOKEN"`]);
    assert.match(stdout, /User registered successfully/);
    assert.match(stdout, /"event":"done"/);
    assert.match(stdout, /"role":"assistant"/);
    const [id, token] = stdout.trimEnd().split('\n').at(-1).split(' ');
    await stop(first);

    const second = runLocal(stack);
    await ready(second);
    const history = await stack.api('GET', `/api/conversations/history/${id}`, undefined, { token });
    assert.equal(history.status, 200);
    assert.equal(history.json.messages.length, 2);
    await stop(second);
}, { deadline: 90_000 });

story('with server.tls it is ready all the same, and its lines say https', async () => {
    const stack = await prepare();
    const { certFile, keyFile } = makeCertificate(stack.dir);
    stack.config = merge(stack.config, { server: { tls: { cert: certFile, key: keyFile } } });
    stack.writeConfig();
    const run = runLocal(stack);
    await ready(run);
    const line = run.stdout.split('\n').find((l) => l.startsWith('  curl -k https://') && l.includes('/api/users/register'));
    assert.match((await promisify(execFile)('bash', ['-c', line])).stdout, /User registered successfully/);
    await stop(run);
}, { deadline: 60_000 });

story('a service that dies is started again, alone', async () => {
    const run = runLocal(await prepare());
    await ready(run);
    const before = services(run);
    assert.deepEqual(Object.keys(before).sort(), [...SERVICES].sort());
    process.kill(before['convo-svc'], 'SIGKILL');
    await until(5000, () => (services(run)['convo-svc'] ?? before['convo-svc']) !== before['convo-svc'], 'convo-svc runs again');
    await until(10_000, async () => (await run.stack.api('GET', '/readyz')).status === 200, 'the stack is ready again');
    const now = services(run);
    assert.deepEqual({ ...now, 'convo-svc': 0 }, { ...before, 'convo-svc': 0 });
    await stop(run);
}, { deadline: 60_000 });

story('SIGUSR1 has all services read their configuration again', async () => {
    const run = runLocal(await prepare());
    await ready(run);
    const pids = services(run);
    assert.ok(run.stdout.includes(`kill -USR1 ${run.child.pid} `), run.stdout);
    run.child.kill('SIGUSR1');
    await until(10_000, () => SERVICES.every((name) => run.stderr.includes(`${name} the configuration was read again: nothing has changed`)), 'all have read it');
    assert.deepEqual(services(run), pids);
    await stop(run);
}, { deadline: 60_000 });

story('two stacks run side by side, and a script that is killed takes its services along', async () => {
    const [one, two] = [runLocal(await prepare()), runLocal(await prepare())];
    await Promise.all([ready(one), ready(two)]);
    one.child.kill('SIGKILL');
    await until(20_000, () => Object.keys(services(one)).length === 0, 'the services of the first one end');
    assert.equal((await two.stack.api('GET', '/readyz')).status, 200);
    await stop(two);
}, { deadline: 60_000 });

story('nothing is left of a stack that cannot start', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => {
        taken.once('listening', resolve);
    });
    const { port } = taken.address();
    const missing = await prepare();
    fs.rmSync(missing.configFile);
    const cases = [
        [await prepare({ config: { server: { colour: 'blue' } } }), /colour/],
        [await prepare({ config: { server: { port: `127.0.0.1:${port}` } } }), new RegExp(`${port}`)],
        [await prepare({ config: { bus: { llm: { bind: `tcp://127.0.0.1:${port}`, connect: `tcp://127.0.0.1:${port}` } } } }), new RegExp(`${port}`)],
        [missing, /config\.yaml/],
    ];
    for (const [stack, says] of cases) {
        const run = runLocal(stack);
        assert.equal(await within(20_000, run.gone, 'the script gives up'), 1, run.stderr);
        assert.match(run.stderr, says);
        assert.ok(!run.stdout.includes('is ready'), run.stdout);
        assert.deepEqual(services(run), {});
    }
    taken.close();
}, { deadline: 90_000 });
