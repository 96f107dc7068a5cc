/* compose.mjs - the stack of docker-compose.yml on a real engine, as its users run it.
 *
 * Two stacks side by side: the file as it is, with SQLite (plain.mjs), and with deploy/compose.scale.yml on PostgreSQL (scaled.mjs).
 * Each step says how many minutes it took, the last line is `N passed, N failed`. Whatever was made is removed, however it ends.
 *
 *   LLMB_VERSION=tag                images that are there, instead of some of our own
 *   LLMB_COMPOSE_ONLY=plain|scaled  one of the two only
 *   LLMB_COMPOSE_STRICT=1           nobody may get a 503 while containers come and go as planned: for a machine that does nothing else
 *   LLMB_CI=1                       what is missing fails; else the run is skipped, and says so
 *
 * Nothing of it can hang: after RUN_MIN the run is over, after REMOVE_MIN more the process is, and a dockerd of ours with it.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Engine, ROOT, Unable } from './engine.mjs';
import { plain } from './plain.mjs';
import { scaled } from './scaled.mjs';
import { Client } from '../support/client.mjs';
import { within } from '../support/deadline.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { freePorts } from '../support/ports.mjs';

const LOGS = path.join(ROOT, 'build/compose');
const RUN_MIN = 20;
const REMOVE_MIN = 5;
const WRONG = /"level":"(warn|error)"|"status":[45]|ERROR|FATAL|emerg/;
const isCi = process.env.LLMB_CI === '1';

let passed = 0;
let failed = 0;
let isLeaving = false;

/* One step. `critical`: without it nothing else makes sense. */
async function step(name, fn, { critical = false, isLast = false } = {}) {
    if (isLeaving && !isLast)
        throw new Error(`not begun, since the run is over: ${name}`);
    const begun = performance.now();
    const minutes = () => `${((performance.now() - begun) / 60_000).toFixed(1)} min`;
    try {
        const said = await fn();
        passed++;
        console.log(`ok, ${minutes()}: ${name}${said ? ` (${String(said).trim().replace(/\n/g, '\n    ')})` : ''}`);
    } catch (e) {
        const isOutside = e instanceof Unable;
        if (isOutside && !isCi)
            throw e;
        failed++;
        console.log(`not ok, ${minutes()}: ${name}${isOutside ? ', for a reason outside of this project' : ''}\n    ${String(e?.stack ?? e).replace(/\n/g, '\n    ')}`);
        engine.hasFailed = true;
        if (!isLeaving)
            await keepLogs();
        if (critical)
            throw new Error(`nothing else can be tested without: ${name}`);
    }
}

/* What the containers have said so far, for whoever looks into the failure: what went wrong here, everything in a file. */
async function keepLogs() {
    for (const stack of engine.projects.values()) {
        const file = path.join(LOGS, `${stack.name}-${failed}.log`);
        fs.mkdirSync(LOGS, { recursive: true });
        const said = await stack.logs().catch(String);
        fs.writeFileSync(file, said);
        console.log(`    logs: ${file}; of them:`);
        for (const part of said.split(/^(?==== )/m)) {
            const [about, ...lines] = part.trimEnd().split('\n');
            const bad = lines.filter((line) => WRONG.test(line) && !line.includes('is off loopback'));
            console.log(['', about, ...(bad.length > 0 ? bad : lines).slice(-5)].join('\n        ').trimEnd());
        }
    }
}

const missing = Engine.missing();
if (missing) {
    console.log(`${isCi ? 'not ok' : 'SKIP'}: ${missing}`);
    console.log(`0 passed, ${isCi ? 1 : 0} failed`);
    process.exit(isCi ? 1 : 0);
}

/* The configuration of the project with one provider more, ours, and what lets containers find it. */
function withProvider(dir, provider) {
    const config = path.join(dir, 'config.yaml');
    const ours = `providers:\n  - name: fake\n    models: ["fake*"]\n    base_url: "http://provider.test:${provider.port}/v1"\n`;
    fs.writeFileSync(config, fs.readFileSync(path.join(ROOT, 'config.yaml'), 'utf8').replace(/^providers:\n/m, ours));
    const mount = `\n    volumes: ["${config}:/etc/llm-backend-api/config.yaml:ro"]\n`;
    const override = path.join(dir, 'provider.yml');
    fs.writeFileSync(override, `services:\n  gateway:${mount}  auth-svc:${mount}  convo-svc:${mount}  llm-svc:${mount}` +
        '    extra_hosts: ["provider.test:host-gateway"]\n');
    for (const file of [dir, config, override])
        fs.chmodSync(file, file === dir ? 0o755 : 0o644);   /* the services read it as a user of their own */
    return override;
}

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-compose-'));
const engine = new Engine(LOGS);
let provider;

async function leave() {
    if (isLeaving)
        return;
    isLeaving = true;
    await step('what was made is removed', async () => {
        const left = await within(REMOVE_MIN * 60_000, engine.removeAll(), 'all that was made is removed');
        await provider?.stop();
        fs.rmSync(dir, { recursive: true, force: true });
        if (left.length > 0)
            throw new Error(left.join('\n'));
    }, { isLast: true });
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed > 0 ? 1 : 0);
}

setTimeout(() => {
    failed++;
    console.log(`not ok: the run takes more than ${RUN_MIN} minutes`);
    leave();
}, RUN_MIN * 60_000).unref();
/* A signal ends what runs, so that nothing is made any more while it is removed. (The stories' harness would just exit.) */
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.removeAllListeners(signal);
    process.on(signal, () => {
        failed++;
        leave();
    });
}

try {
    provider = await startProvider({ host: '0.0.0.0' });
    const ports = await freePorts(2);
    await step('an engine', () => engine.open(), { critical: true });
    await engine.sweep();
    await step('Debian', () => engine.base('debian:bookworm-slim'), { critical: true });
    await Promise.all([
        step('Redis, PostgreSQL, nginx', () => engine.base(), { critical: true }),
        step('our images', () => engine.images(), { critical: true }),
    ]);
    const kit = { step, engine, provider, dir, override: withProvider(dir, provider), clientOf: (port) => new Client(port) };
    const stacks = { plain, scaled };
    const wanted = Object.keys(stacks).filter((name) => [undefined, name].includes(process.env.LLMB_COMPOSE_ONLY));
    const ends = await Promise.allSettled(wanted.map((name, i) =>
        stacks[name]({ ...kit, step: (title, ...more) => step(`${name}: ${title}`, ...more) }, ports[i])));
    for (const { reason } of ends.filter((e) => e.status === 'rejected'))
        throw reason;
} catch (e) {
    if (e instanceof Unable && !isCi) {
        console.log(`SKIP, for a reason outside of this project: ${e.message}`);
    } else if (!isLeaving) {
        failed += failed === 0 ? 1 : 0;
        console.log(e.message);
    }
}
await leave();
