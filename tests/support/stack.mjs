/* stack.mjs - a whole system of real processes for one story.
 *
 * start() makes a temporary directory, picks free ports, writes a config.yaml whose provider is
 * the fake one, spawns the four services and waits for /readyz. Stories then kill, freeze, drain and
 * restart single services. stopAll() ends everything with SIGTERM and insists on exit code 0, no
 * process that died by itself, and no sanitizer report in a log.
 *
 * `replicas: {gateway: 2, 'llm-svc': 3}` starts several of a service. Their names are gateway,
 * gateway-2 and so on; each has a configuration of its own (config.yaml for the first ones,
 * gateway-2.yaml), which differs in what it binds and names all of them in `connect`.
 *
 * With LLMB_STORY_KEYS=1, or `keys: true`, the bus has keys: s.keys is their directory. `keys: false`: never.
 *
 * No process of a story has an admin port, unless `admin: true` gives each one of its own: s.admin('convo-svc').
 *
 * The binaries come from LLMB_BIN_DIR, else build/release of this checkout.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import net from 'node:net';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { freePorts } from './ports.mjs';
import { merge, toYaml } from './yaml.mjs';
import { promisedWithin, SLOW, until, within } from './deadline.mjs';
import { Client } from './client.mjs';
import { makeKeys, sharedKeys } from './keys.mjs';
import { makeCertificate, secured } from './tls.mjs';

export const SERVICES = ['auth-svc', 'convo-svc', 'llm-svc', 'gateway'];
const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

export const BIN_DIR = path.resolve(ROOT, process.env.LLMB_BIN_DIR ?? 'build/release');
const LOG_LINES_SHOWN = 12;
const LINE_SHOWN = 200;   /* of a complaint */
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

/** The log lines that tell most: errors, warnings and what is no log line (why a process would not start, a broken
 *  assertion, a sanitizer's report), of those the last n; without any, the very last ones when `always`. */
function decisive(lines, n, always) {
    const bad = lines.filter((line) => !/^\d{4}-\d\d-\d\dT\S+ +(info|debug|trace) /.test(line) && line.trim() !== '');
    return (bad.length > 0 || !always ? bad : lines).slice(-n).map((line) => line.slice(0, LINE_SHOWN));
}

/** For a failure message: what each service of all living stacks complained of, dead ones first; then the last log lines. */
export function lastWords() {
    const complaints = [];
    let logs = '';
    for (const stack of living) {
        for (const name of stack.names) {
            const lines = stack.logs(name).trimEnd().split('\n');
            const isDead = !stack.running(name);
            const said = decisive(lines, isDead ? 4 : 2, isDead);
            if (isDead || said.length > 0)
                complaints.push({ isDead, text: `${path.basename(stack.dir)} ${name} (${stack.state(name)}): ${said.join('\n    ')}\n` });
            logs += `--- ${path.basename(stack.dir)} ${name} (${stack.state(name)})\n${lines.slice(-LOG_LINES_SHOWN).join('\n')}\n`;
        }
    }
    complaints.sort((a, b) => b.isDead - a.isDead);
    return complaints.map(({ text }) => text).join('') + logs;
}

/** The service of a replica's name. */
export function serviceOf(name) {
    return name.replace(/-\d+$/, '');
}

export class Stack extends Client {
    /* places: Map of a replica's name to its ports, see placesOf() */
    constructor(dir, places, config, env) {
        super(places.get('gateway').http);
        this.dir = dir;
        this.dataDir = dir;
        this.places = places;
        this.names = [...places.keys()];
        this.ports = portsOf(places);
        this.config = config;
        this.configFile = path.join(dir, 'config.yaml');
        this.env = env;
        this.own = {};                /* name: what this replica's configuration has for itself */
        this.binDirs = new Map();     /* name: where its program comes from, when not from BIN_DIR */
        this.clients = new Map();     /* name of a gateway: its Client */
        this.processes = new Map();
        this.expected = new Set();    /* children whose death the story wanted */
        this.crashes = [];
    }

    /** Writes every replica's configuration from `config`. */
    writeConfig() {
        for (const name of this.names) {
            const config = merge(this.config, ownConfig(name, this.places.get(name)));
            fs.writeFileSync(this.configOf(name), toYaml(merge(config, this.own[name])));
        }
    }

    /** The configuration file of one replica: config.yaml for the first of a service, unless it has something for itself. */
    configOf(name) {
        return serviceOf(name) === name && !this.own[name] ? this.configFile : path.join(this.dir, `${name}.yaml`);
    }

    /** A client of one gateway: `stack.at('gateway-2')`. The stack itself is a client of the first. */
    at(name) {
        if (name === 'gateway')
            return this;
        if (!this.clients.has(name)) {
            const client = new Client(this.places.get(name).http);
            client.host = this.places.get(name).address;
            this.clients.set(name, client);
        }
        return this.clients.get(name);
    }

    /** A client of one process's admin port, of a stack with `admin: true`. */
    admin(name) {
        const { admin, address } = this.places.get(name);
        const client = new Client(admin);
        client.host = address;
        return client;
    }

    /** The names of all replicas of one service. */
    replicasOf(service) {
        return this.names.filter((name) => serviceOf(name) === service);
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

    /** What a service that has just ended said last, in one line. */
    lastSaid(name) {
        return decisive(this.logs(name).trimEnd().split('\n'), 3, true).join(' | ') || 'it said nothing';
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
        const program = path.join(this.binDirs.get(name) ?? BIN_DIR, serviceOf(name));
        const [command, ...args] = [...this.places.get(name).prefix, program, '--config', this.configOf(name)];
        const child = spawn(command, args, {
            cwd: this.dir, stdio: ['ignore', fd, fd], env: { ...CLEAN_ENV, ...this.env },
        });
        fs.closeSync(fd);
        child.gone = new Promise((resolve) => {
            child.once('exit', (code, signal) => {
                if (!this.expected.has(child))
                    this.crashes.push(`${name} ended by itself: ${signal ?? `exit ${code}`}: ${this.lastSaid(name)}`);
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
            for (const name of this.names) {
                const isAlone = this.replicasOf(serviceOf(name)).length === 1;   /* then /readyz tells */
                if ((serviceOf(name) === 'gateway' || !isAlone) && !(await this.isServing(name)))
                    return false;
            }
            if (!(await this.answers()))
                return false;
            for (const name of this.replicasOf('gateway')) {   /* before that one it may not have seen yet that somebody had just died */
                if (!(await this.isServing(name)))
                    return false;
            }
            return true;
        }, `the system is ready (${this.names.map((s) => `${s}: ${this.state(s)}`).join(', ')})`);
        if (this.crashes.length > 0)
            throw new Error(this.crashes.join('; '));
    }

    /** True when this replica takes requests: a gateway that is ready, another service that listens. */
    async isServing(name) {
        const { http, bus, address } = this.places.get(name);
        if (http)
            return (await this.at(name).api('GET', '/readyz', undefined, { timeout: 2000 })).status === 200;
        const socket = net.connect(bus, address);
        try {
            await within(2000, once(socket, 'connect'), `${name} listens`);
            return true;
        } finally {
            socket.destroy();
        }
    }

    /** Starts one service and waits until it takes requests. */
    async bring(name, ms = 10_000) {
        this.start(name);
        await until(ms, () => this.isServing(name), `${name} serves`);
    }

    /** How many reactors of a gateway go to this replica right now, as the gateway's log tells. */
    ways(gateway, name) {
        const to = `${serviceOf(name)} at ${endpoint(this.places.get(name))} is `;
        const log = this.logs(gateway);
        return log.split(`${to}up`).length - log.split(`${to}down`).length;
    }

    /** Waits until all reactors of all gateways go to this replica, or none does. A replica that serves again is found when
     *  ZeroMQ tries its address next, half a second later: who ends the other one before has ended both. For gateways that have
     *  not been killed since. */
    async known(name, isKnown = true, ms = 15_000) {
        const wanted = isKnown ? this.config.gateway.workers : 0;
        await until(ms, () => this.replicasOf('gateway').every((gateway) => this.ways(gateway, name) === wanted),
            `the gateways ${isKnown ? 'go' : 'do not go'} to ${name}`);
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
        for (const name of this.names)
            this.start(name);
        await this.ready();
    }

    /** Sends a signal that ends the service, and waits for its end. */
    async kill(name, signal = 'SIGKILL') {
        const child = this.processes.get(name);
        this.expected.add(child);
        child.kill(signal);
        return promisedWithin(20_000, child.gone, `${name} ends after ${signal}`);
    }

    /** Ends a service as an operator would: SIGTERM, and insists on exit code 0. */
    async drain(name, ms = 20_000) {
        const child = this.processes.get(name);
        this.expected.add(child);
        child.kill('SIGTERM');
        const { code, signal } = await promisedWithin(ms, child.gone, `${name} ends after SIGTERM`);
        if (code !== 0)
            throw new Error(`${name} answered SIGTERM with ${signal ?? `exit ${code}`}: ${this.lastSaid(name)}`);
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
        for (const name of this.names.filter((s) => this.running(s)).reverse()) {
            const child = this.processes.get(name);
            this.expected.add(child);
            child.kill('SIGCONT');
            child.kill('SIGTERM');
            ends.push(promisedWithin(20_000, child.gone, `${name} ends after SIGTERM`).then(
                ({ code, signal }) => {
                    if (code !== 0)
                        faults.push(`${name} answered SIGTERM with ${signal ?? `exit ${code}`}: ${this.lastSaid(name)}`);
                },
                (e) => {
                    faults.push(e.message);
                    child.kill('SIGKILL');
                }));
        }
        await Promise.all(ends);
        for (const name of this.names) {
            const report = SANITIZER.exec(this.logs(name));
            if (report)
                faults.push(`${name}: ${this.logs(name).slice(Math.max(0, report.index - 200), report.index + 4000)}`);
        }
        this.crashes = [];
        const words = faults.length > 0 ? lastWords() : '';
        if (!keepDir) {
            living.delete(this);
            if (faults.length === 0)
                this.removeDir();
        }
        if (faults.length > 0)
            throw new Error(`${faults.join('\n')}\n${words}`);
    }

    removeDir() {
        if (!process.env.LLMB_STORY_KEEP)
            fs.rmSync(this.dir, { recursive: true, force: true });
    }

    /** SIGKILL for all at the same moment, as when the machine goes dark. */
    async killAll() {
        const alive = this.names.filter((s) => this.running(s));
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

/* Which keys of `bus` a service binds; llm-svc has a second one, tokens. */
const BUS = { gateway: 'gateway', 'auth-svc': 'auth', 'convo-svc': 'convo', 'llm-svc': 'llm' };

/** Where every replica lives: {address, bus}, a gateway's http, a llm-svc's tokens, admin where one is wanted (ports),
 *  prefix (what runs it there). Replicas on hosts of their own have the same ports. */
async function placesOf(replicas, hosts, httpPort, withAdmin) {
    const places = new Map();
    for (const service of SERVICES) {
        for (let i = 1; i <= (replicas[service] ?? 1); i++) {
            const name = i === 1 ? service : `${service}-${i}`;
            const first = places.get(service);
            const [bus, second] = hosts[name] && first ? [first.bus, first.tokens ?? first.http] : await freePorts(2);
            const place = { bus, address: hosts[name]?.address ?? '127.0.0.1', prefix: hosts[name]?.prefix ?? [] };
            if (service === 'gateway')
                place.http = i === 1 && httpPort !== 0 ? httpPort : second;
            if (service === 'llm-svc')
                place.tokens = second;
            if (withAdmin)
                [place.admin] = await freePorts(1);
            places.set(name, place);
        }
    }
    return places;
}

/** The ports of the first replicas: http, auth, convo, llm, tokens. */
function portsOf(places) {
    const llm = places.get('llm-svc');
    return [places.get('gateway').http, places.get('auth-svc').bus, places.get('convo-svc').bus, llm.bus, llm.tokens];
}

const endpoint = (place, key = 'bus') => `tcp://${place.address}:${place[key]}`;

const adminAddress = (place) => (place.admin ? `${place.address}:${place.admin}` : '');

/** What one replica has for itself. The first of each service have it in config.yaml already. */
function ownConfig(name, place) {
    const service = serviceOf(name);
    if (service === name)
        return {};
    const own = { bus: { [BUS[service]]: { bind: endpoint(place) } } };
    if (place.http)
        own.server = { port: `${place.address}:${place.http}` };
    if (place.tokens)
        own.bus.tokens = { bind: endpoint(place, 'tokens') };
    own.admin = { [BUS[service]]: adminAddress(place) };
    return own;
}

function defaultConfig(dir, places, providers, keys) {
    const all = [...places];
    const bus = (service, key) => {
        const endpoints = all.filter(([name]) => serviceOf(name) === service).map(([, place]) => endpoint(place, key));
        return { bind: endpoints[0], connect: endpoints.join(',') };
    };
    const gateway = places.get('gateway');
    return {
        server: { port: `${gateway.address}:${gateway.http}`, drain_s: 1, lame_duck_s: 0 },
        gateway: { workers: 2 },
        sqlite: { path: path.join(dir, 'llm_backend.db') },
        auth: { bcrypt_cost: 4 },
        admin: Object.fromEntries(SERVICES.map((service) => [BUS[service], adminAddress(places.get(service))])),
        bus: {
            gateway: { bind: endpoint(gateway) }, auth: bus('auth-svc', 'bus'), convo: bus('convo-svc', 'bus'),
            llm: bus('llm-svc', 'bus'), tokens: bus('llm-svc', 'tokens'),
            ...(keys ? { keys } : { insecure: all.some(([, place]) => place.address !== '127.0.0.1') }),
        },
        providers,
        log: { level: 'debug' },
        /* make check-plain; and who is not root reads a process's descriptors in /proc only of one that is debuggable */
        test: { plain_paths: process.env.LLMB_STORY_PLAIN === '1', ...(process.getuid() !== 0 && { debuggable: true }) },
    };
}

/** What a stack on PostgreSQL is configured with: its secrets are not made at first start. */
function postgresConfig(postgres) {
    return {
        storage: { driver: 'postgresql', postgresql: { url: postgres.url } },
        jwt: { secret: 'a secret that every auth-svc of a story shares' },
        convo: { seal_key: '5ea1'.repeat(16) },
    };
}

/* Lets every gateway speak TLS, and its clients know. */
function secure(places, { certFile, keyFile, ca }) {
    for (const { http } of places.values()) {
        if (http)
            secured.set(http, ca);
    }
    return { server: { tls: { cert: certFile, key: keyFile } } };
}

/** The provider entry of a fake provider. */
export function providerEntry(provider, over = {}) {
    return {
        name: 'fake', models: ['fake*'], base_url: provider.url, api_key: 'sk-from-the-configuration',
        connect_s: 5, first_byte_s: 20, idle_s: 20, ...over,
    };
}

/** Writes the configuration of a new stack without starting anything. */
export async function prepare({
    config = {}, provider = null, providers = null, env = {}, httpPort = 0, host = null, replicas = {}, postgres = null, redis = null,
    own = {}, hosts = {}, admin = false, keys = process.env.LLMB_STORY_KEYS === '1' ? 'shared' : false, tls = null,
} = {}) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-story-'));
    const places = await placesOf(replicas, hosts, httpPort, admin);
    const entries = providers ?? (provider ? [providerEntry(provider)] : []);
    const keysDir = keys === true ? makeKeys(path.join(dir, 'keys')) : keys === 'shared' ? sharedKeys() : null;
    let base = defaultConfig(dir, places, entries, keysDir);
    if (postgres)
        base = merge(base, postgresConfig(postgres));
    if (redis)
        base = merge(base, { redis: { address: redis.address, password: redis.password } });
    const certificate = tls ?? (process.env.LLMB_STORY_TLS === '1' ? makeCertificate(dir) : null);
    if (certificate)
        base = merge(base, secure(places, certificate));
    const stack = new Stack(dir, places, merge(base, config), env);
    stack.host = host ?? places.get('gateway').address;
    stack.own = own;
    stack.keys = keysDir;
    stack.writeConfig();
    return stack;
}

/** Starts a new system and waits until it is ready. Options: config (overrides by section),
 *  provider (a FakeProvider) or providers (entries), env, httpPort and host (when server.port is overridden),
 *  replicas (how many of a service), postgres and redis (a Postgres, a Redis), own (overrides of single replicas),
 *  hosts (the Host of hosts.mjs on which a replica runs), admin (true: every process has an admin port), tls (a
 *  certificate of tls.mjs: the gateways speak TLS). */
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
