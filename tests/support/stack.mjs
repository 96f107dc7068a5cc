/* stack.mjs - a whole system of real processes for one story.
 *
 * start() makes a temporary directory, picks free ports, writes a config.yaml whose provider is
 * the fake one, spawns the four services and waits for /readyz. Stories then kill, freeze and
 * restart single services. stopAll() ends everything with SIGTERM and insists on exit code 0, no
 * process that died by itself, and no sanitizer report in a log.
 *
 * The binaries come from LLMB_BIN_DIR, else build/release of this checkout.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { freePorts } from './ports.mjs';
import { merge, toYaml } from './yaml.mjs';
import { SLOW, until, within } from './deadline.mjs';
import { Client } from './client.mjs';

export const SERVICES = ['auth-svc', 'convo-svc', 'llm-svc', 'gateway'];
const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

export const BIN_DIR = path.resolve(ROOT, process.env.LLMB_BIN_DIR ?? 'build/release');
const LOG_LINES_SHOWN = 12;
const SANITIZER = /(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|: runtime error: |ERROR: LeakSanitizer)/;

/** This process's environment without the stories' own LLMB_ variables, which a service would refuse. */
export const CLEAN_ENV = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('LLMB_')));

/* every stack of this process that still runs, for the logs of a failed test and for the exit */
const living = new Set();

process.on('exit', () => {
    for (const stack of living)
        stack.abandon();
});
for (const signal of ['SIGINT', 'SIGTERM'])
    process.on(signal, () => process.exit(1));

/** The last log lines of all living stacks, for a failure message. */
export function lastWords() {
    let out = '';
    for (const stack of living) {
        for (const name of SERVICES) {
            const lines = stack.logs(name).trimEnd().split('\n').slice(-LOG_LINES_SHOWN);
            out += `--- ${name} (${stack.state(name)})\n${lines.join('\n')}\n`;
        }
    }
    return out;
}

export class Stack extends Client {
    constructor(dir, ports, config, env) {
        super(ports[0]);
        this.dir = dir;
        this.dataDir = dir;
        this.ports = ports;
        this.config = config;
        this.configFile = path.join(dir, 'config.yaml');
        this.env = env;
        this.processes = new Map();
        this.expected = new Set();    /* children whose death the story wanted */
        this.crashes = [];
    }

    writeConfig() {
        fs.writeFileSync(this.configFile, toYaml(this.config));
    }

    logFile(name) {
        return path.join(this.dir, `${name}.log`);
    }

    /** Everything a service has written to stdout and stderr. */
    logs(name) {
        try {
            return fs.readFileSync(this.logFile(name), 'utf8');
        } catch {
            return '';
        }
    }

    state(name) {
        const p = this.processes.get(name);
        if (!p)
            return 'not started';
        if (p.exitCode !== null)
            return `exit ${p.exitCode}`;
        return p.signalCode ?? `pid ${p.pid}`;
    }

    /** Starts one service; does not wait for it. */
    start(name) {
        living.add(this);
        const fd = fs.openSync(this.logFile(name), 'a');
        const child = spawn(path.join(BIN_DIR, name), ['--config', this.configFile], {
            cwd: this.dir, stdio: ['ignore', fd, fd], env: { ...CLEAN_ENV, ...this.env },
        });
        fs.closeSync(fd);
        child.gone = new Promise((resolve) => {
            child.once('exit', (code, signal) => {
                if (!this.expected.has(child))
                    this.crashes.push(`${name} ended by itself: ${signal ?? `exit ${code}`}`);
                resolve({ code, signal });
            });
            child.once('error', (e) => {
                this.crashes.push(`${name} did not start: ${e.message}`);
                resolve({ code: -1, signal: null });
            });
        });
        this.processes.set(name, child);
        return child;
    }

    /** Waits until the gateway reaches all three services, and convo-svc its llm-svc: of that link only a
     *  question can tell. */
    async ready(ms = 20_000) {
        await until(ms, async () => {
            if (this.crashes.length > 0)
                return true;
            return (await this.api('GET', '/readyz', undefined, { timeout: 2000 })).status === 200 && this.answers();
        }, `the system is ready (${SERVICES.map((s) => `${s}: ${this.state(s)}`).join(', ')})`);
        if (this.crashes.length > 0)
            throw new Error(this.crashes.join('; '));
    }

    /** True when a question of somebody that no story knows is answered. */
    async answers() {
        this.prober ??= await this.user();
        const id = await this.prober.create('echo');
        const got = await this.prober.ask(id, 'ready?', { accept: 'application/x-ndjson', deadline: 5000 });
        await this.prober.del(id);
        return got.full === 'ready?';
    }

    async startAll() {
        for (const name of SERVICES)
            this.start(name);
        await this.ready();
    }

    /** Sends a signal that ends the service, and waits for its end. */
    async kill(name, signal = 'SIGKILL') {
        const child = this.processes.get(name);
        this.expected.add(child);
        child.kill(signal);
        return within(20_000, child.gone, `${name} ends after ${signal}`);
    }

    freeze(name) {
        this.processes.get(name).kill('SIGSTOP');
    }

    thaw(name) {
        this.processes.get(name).kill('SIGCONT');
    }

    running(name) {
        const p = this.processes.get(name);
        return p && p.exitCode === null && p.signalCode === null;
    }

    /** Ends all services as an operator would; throws when any did not end cleanly. */
    async stopAll({ keepDir = false } = {}) {
        const faults = [...this.crashes];
        const ends = [];
        this.closeAgents();
        for (const name of SERVICES.filter((s) => this.running(s)).reverse()) {
            const child = this.processes.get(name);
            this.expected.add(child);
            child.kill('SIGCONT');
            child.kill('SIGTERM');
            ends.push(within(20_000, child.gone, `${name} ends after SIGTERM`).then(
                ({ code, signal }) => {
                    if (code !== 0)
                        faults.push(`${name} answered SIGTERM with ${signal ?? `exit ${code}`}`);
                },
                (e) => {
                    faults.push(e.message);
                    child.kill('SIGKILL');
                }));
        }
        await Promise.all(ends);
        for (const name of SERVICES) {
            const report = SANITIZER.exec(this.logs(name));
            if (report)
                faults.push(`${name}: ${this.logs(name).slice(Math.max(0, report.index - 200), report.index + 4000)}`);
        }
        this.crashes = [];
        const words = faults.length > 0 ? lastWords() : '';
        if (!keepDir) {
            living.delete(this);
            if (faults.length === 0 && !process.env.LLMB_STORY_KEEP)
                fs.rmSync(this.dir, { recursive: true, force: true });
        }
        if (faults.length > 0)
            throw new Error(`${faults.join('\n')}\n${words}`);
    }

    /** SIGKILL for all at the same moment, as when the machine goes dark. */
    async killAll() {
        const alive = SERVICES.filter((s) => this.running(s));
        for (const name of alive)
            this.expected.add(this.processes.get(name));
        for (const name of alive)
            this.processes.get(name).kill('SIGKILL');
        await within(10_000, Promise.all(alive.map((s) => this.processes.get(s).gone)), 'all services are dead');
    }

    /** At the end of this process: leave nobody behind. */
    abandon() {
        for (const child of this.processes.values()) {
            if (child.exitCode === null && child.signalCode === null)
                child.kill('SIGKILL');
        }
    }
}

function defaultConfig(dir, ports, providers) {
    const [httpPort, auth, convo, llm, tokens] = ports;
    const bus = (port) => ({ bind: `tcp://127.0.0.1:${port}`, connect: `tcp://127.0.0.1:${port}` });
    return {
        server: { port: `127.0.0.1:${httpPort}`, drain_s: 1 },
        gateway: { workers: 2 },
        sqlite: { path: path.join(dir, 'llm_backend.db') },
        auth: { bcrypt_cost: 4 },
        bus: { auth: bus(auth), convo: bus(convo), llm: bus(llm), tokens: bus(tokens) },
        providers,
        log: { level: 'debug' },
        test: { plain_paths: process.env.LLMB_STORY_PLAIN === '1' },   /* make check-plain */
    };
}

/** The provider entry of a fake provider. */
export function providerEntry(provider, over = {}) {
    return {
        name: 'fake', models: ['fake*'], base_url: provider.url, api_key: 'sk-from-the-configuration',
        connect_s: 5, first_byte_s: 20, idle_s: 20, ...over,
    };
}

/** Writes the configuration of a new stack without starting anything. */
export async function prepare({ config = {}, provider = null, providers = null, env = {}, httpPort = 0, host = '127.0.0.1' } = {}) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-story-'));
    const ports = await freePorts(5);
    if (httpPort !== 0)
        ports[0] = httpPort;
    const entries = providers ?? (provider ? [providerEntry(provider)] : []);
    const stack = new Stack(dir, ports, merge(defaultConfig(dir, ports, entries), config), env);
    stack.host = host;
    stack.writeConfig();
    return stack;
}

/** Starts a new system and waits until it is ready. Options: config (overrides by section),
 *  provider (a FakeProvider) or providers (entries), env, httpPort and host (when server.port is overridden). */
export async function start(options = {}) {
    const stack = await prepare(options);
    try {
        await stack.startAll();
    } catch (e) {
        e.message += '\n' + lastWords();
        stack.abandon();
        throw e;
    }
    return stack;
}

export { SLOW };
