/* k8s.mjs - renders deploy/k8s with kubectl, checks the result, and proves that each check can fail.
 *
 * No cluster is asked. Without kubectl 1.27 or newer, or without the packages of tests/package-lock.json, everything is
 * skipped, and said so; with LLMB_CI=1 that is a failure. The last line is `N passed, N failed`.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const K8S = path.join(ROOT, 'deploy/k8s');
const bin = path.resolve(process.env.LLMB_BIN_DIR ?? path.join(ROOT, 'build/release'));
let passed = 0;
let failed = 0;

function tell(name, problems) {
    if (problems.length === 0) {
        passed++;
        return;
    }
    failed++;
    console.log(`not ok: ${name}`);
    for (const line of problems.slice(0, 12))
        console.log(`    ${line}`);
}

function leave(why) {
    const isCi = process.env.LLMB_CI === '1';
    console.log(`${isCi ? 'not ok' : 'SKIP'}: ${why}`);
    console.log(`0 passed, ${isCi ? 1 : 0} failed`);
    process.exit(isCi ? 1 : 0);
}

const kubectl = (...args) => spawnSync('kubectl', args, { encoding: 'utf8', cwd: ROOT, maxBuffer: 1 << 26 });

const version = kubectl('version', '--client', '-o', 'json');
const { major, minor } = version.status === 0 ? JSON.parse(version.stdout).clientVersion : {};
if (!(Number(major) > 1 || parseInt(minor, 10) >= 27))
    leave(`kubectl 1.27 or newer is needed, here is ${major === undefined ? 'none' : `${major}.${minor}`}`);
const schema = await import('./schema.mjs').catch(() => undefined);
const checks = schema && await import('./checks.mjs').catch((e) => leave(`${e.message} (scripts/install-deps k8s)`));
try {
    schema.parseAll('{}');
} catch {
    leave('the packages of tests/package-lock.json are not there (scripts/install-deps k8s)');
}
const { CHECKS } = checks;
const { MUTATIONS } = await import('./mutations.mjs');

function render(dir) {
    const run = kubectl('kustomize', dir);
    tell(`kubectl kustomize ${path.relative(ROOT, dir)}`, run.status === 0 ? [] : [run.stderr.trim()]);
    return run.status === 0 ? schema.parseAll(run.stdout) : undefined;
}

/* The Secrets that the manual makes, made by its own commands. */
function secretsOfTheManual() {
    const text = fs.readFileSync(path.join(K8S, 'README.md'), 'utf8').replaceAll('\\\n', ' ');
    return [...text.matchAll(/^kubectl .*create secret generic .*$/gm)].flatMap(([line]) => {
        const run = spawnSync('bash', ['-c', `${line} --dry-run=client -o json`], { encoding: 'utf8', cwd: ROOT });
        tell(line, run.status === 0 ? [] : [run.stderr.trim()]);
        return run.status === 0 ? [JSON.parse(run.stdout)] : [];
    });
}

/* The keys of the bus, made by the manual's own command in a folder of ours. */
function keysOfTheManual() {
    const text = fs.readFileSync(path.join(K8S, 'README.md'), 'utf8');
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-k8s-keys-'));
    const [, command, options] = /^(scripts\/make-keys) \S+ (.*) \| kubectl apply -f -$/m.exec(text) ?? [];
    const run = spawnSync('bash', ['-c', `${command ?? 'false'} ${dir} ${options}`], { encoding: 'utf8', cwd: ROOT, env: { ...process.env, LLMB_BIN_DIR: bin } });
    fs.rmSync(dir, { recursive: true });
    const objects = run.status === 0 ? schema.parseAll(run.stdout) : [];
    tell('make-keys --k8s', [...objects.flatMap((o) => schema.problemsOf(o)), ...(objects.length === 5 ? [] : [`${objects.length} objects ${run.stderr}`])]);
    return objects;
}

/* The alerts as an object of the Prometheus operator, made by the manual's own command. */
function alertsOfTheManual() {
    const text = fs.readFileSync(path.join(K8S, 'README.md'), 'utf8').replaceAll('\\\n', ' ');
    const command = /^(.*kind: PrometheusRule.*) \| kubectl .*$/m.exec(text)?.[1];
    const run = spawnSync('bash', ['-c', command ?? 'false'], { encoding: 'utf8', cwd: ROOT });
    const objects = run.status === 0 ? schema.parseAll(run.stdout) : [];
    const rules = objects.flatMap((o) => o.spec.groups).flatMap((g) => g.rules);
    tell('the alerts as a PrometheusRule', [...objects.flatMap((o) => schema.problemsOf(o)), ...(rules.length > 20 ? [] : [`${rules.length} rules ${run.stderr}`])]);
}

const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-k8s-'));
fs.cpSync(K8S, copy, { recursive: true });
const kustomization = path.join(copy, 'overlays/prod/kustomization.yaml');
fs.writeFileSync(kustomization, fs.readFileSync(kustomization, 'utf8').replace(/^components:\n.*\n/m, ''));
const dev = path.join(copy, 'overlays/dev/kustomization.yaml');
fs.appendFileSync(dev, `\ncomponents:\n  - ../../components/metrics\n`);
const secrets = [...secretsOfTheManual(), ...keysOfTheManual()];
const overlays = { ...Object.fromEntries(fs.readdirSync(path.join(K8S, 'overlays')).map((o) => [o, render(path.join(K8S, 'overlays', o))])),
    'prod without redis': render(path.join(copy, 'overlays/prod')), 'dev with metrics': render(path.join(copy, 'overlays/dev')) };
fs.rmSync(copy, { recursive: true });

alertsOfTheManual();
for (const [overlay, objects] of Object.entries(overlays).filter(([, o]) => o)) {
    for (const [name, check] of Object.entries(CHECKS))
        tell(`${overlay}: ${name}`, check({ objects, overlay, secrets, bin }));
    /* Free maps take any name: labels, selectors of labels, data, quantities, annotations. */
    const free = /(labels|annotations|matchLabels|selector|data|requests|limits|nodeSelector)$/;
    tell(`${overlay}: an unknown field is seen wherever it stands`, objects.flatMap((o) =>
        schema.unnoticedPlaces(o).filter((at) => !free.test(at)).map((at) => `${o.kind} ${o.metadata.name}${at}`)));
}
for (const [overlay, check, spoil] of MUTATIONS.filter(([o]) => overlays[o])) {
    const objects = structuredClone(overlays[overlay]);
    spoil(objects);
    const seen = CHECKS[check]({ objects, overlay, secrets, bin });
    tell(`self-test: ${check} sees ${String(spoil).slice(7)}`, seen.length > 0 ? [] : ['it saw nothing']);
}
for (const check of Object.keys(CHECKS))
    tell(`self-test: ${check} has a mutation`, MUTATIONS.some((m) => m[1] === check) ? [] : ['none']);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
