/* compose.mjs - the stack of docker-compose.yml on a real engine, as its users run it.
 *
 * Two stacks side by side: the file as it is, with SQLite (plain.mjs), and with deploy/compose.scale.yml on PostgreSQL (scaled.mjs).
 * Each step says how many minutes it took, the last line is `N passed, N failed`. Whatever was made is removed, however it ends.
 *
 *   LLMB_VERSION=tag                images that are there, instead of some of our own
 *   LLMB_COMPOSE_ONLY=plain|scaled  one of the two only
 *   LLMB_CI=1                       what is missing fails; else the run is skipped, and says so
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Engine, ROOT } from './engine.mjs';
import { plain } from './plain.mjs';
import { scaled } from './scaled.mjs';
import { Client } from '../support/client.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { freePorts } from '../support/ports.mjs';

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
        failed++;
        console.log(`not ok, ${minutes()}: ${name}\n    ${String(e?.stack ?? e).replace(/\n/g, '\n    ')}`);
        for (const stack of isLeaving ? [] : engine.projects.values())
            console.log(`    ${(await stack.lastWords().catch(String)).replace(/\n/g, '\n    ')}`);
        if (critical)
            throw new Error(`nothing else can be tested without: ${name}`);
    }
}

const missing = Engine.missing();
if (missing) {
    const isCi = process.env.LLMB_CI === '1';
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
const engine = new Engine();
let provider;

async function leave() {
    if (isLeaving)
        return;
    isLeaving = true;
    await step('what was made is removed', async () => {
        const left = await engine.removeAll();
        await provider?.stop();
        fs.rmSync(dir, { recursive: true, force: true });
        if (left.length > 0)
            throw new Error(left.join('\n'));
    }, { isLast: true });
    console.log(`${passed} passed, ${failed} failed`);
    process.exit(failed > 0 ? 1 : 0);
}
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
    await step('base images', () => engine.base(), { critical: true });
    await step('our images', () => engine.images(), { critical: true });
    const kit = { step, engine, provider, override: withProvider(dir, provider), clientOf: (port) => new Client(port) };
    const stacks = { plain, scaled };
    const wanted = Object.keys(stacks).filter((name) => [undefined, name].includes(process.env.LLMB_COMPOSE_ONLY));
    const ends = await Promise.allSettled(wanted.map((name, i) =>
        stacks[name]({ ...kit, step: (title, ...more) => step(`${name}: ${title}`, ...more) }, ports[i])));
    for (const { reason } of ends.filter((e) => e.status === 'rejected'))
        throw reason;
} catch (e) {
    if (!isLeaving) {
        failed += failed === 0 ? 1 : 0;
        console.log(e.message);
    }
}
await leave();
