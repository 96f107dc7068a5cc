/* stage.mjs - everything that runs during a round of the bench, and what is read off it.
 *
 * A round has a fresh system of ours and a fresh nginx before the same provider. run() drives one
 * load against one of the two and gives the load's own result, the CPU time that each of our (or
 * nginx's) processes spent meanwhile, and resident memory before it and with all streams open.
 */
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const TICKS_PER_S = 100;            /* USER_HZ, the same on every Linux that we know */
const SCRAPE_MS = 5000;
const OPEN_SETTLE_MS = 500;         /* after all streams are open, before memory is read */
const LOAD_TIMEOUT_MS = 180_000;
const STRACE_ATTACH_MS = 3000;

const children = new Set();
process.on('exit', () => {
    for (const child of children)
        child.kill('SIGKILL');
});

function launch(file, args, options) {
    const child = spawn(file, args, options);
    children.add(child);
    child.gone = new Promise((resolve) => {
        child.once('exit', (code) => {
            children.delete(child);
            resolve(code);
        });
        child.once('error', (e) => {
            children.delete(child);
            resolve(e);
        });
    });
    return child;
}

export function pause(ms) {
    return new Promise((resolve) => {
        setTimeout(resolve, ms);
    });
}

/** True when the program is in the PATH, or where Debian keeps daemons. */
export function which(name) {
    for (const dir of [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin']) {
        if (dir && fs.existsSync(path.join(dir, name)))
            return path.join(dir, name);
    }
    return null;
}

/* --- processes seen from outside ------------------------------------------------------------- */
/** µs of CPU that a process has used. */
export function cpuUs(pid) {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) * (1e6 / TICKS_PER_S);
}

/** KiB of resident memory. */
export function residentKb(pid) {
    return Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
}

/** fn of each process: {name: value}. */
export function each(pids, fn) {
    return Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, fn(pid)]));
}

export function sum(values) {
    return Object.values(values).reduce((a, b) => a + b, 0);
}

function minus(a, b) {
    return Object.fromEntries(Object.keys(a).map((k) => [k, a[k] - b[k]]));
}

/* --- one round's processes -------------------------------------------------------------------- */
export class Stage {
    constructor(options) {
        this.bin = options.bin;           /* folder of the services */
        this.dir = options.dir;           /* for everything that is written */
        this.stackModule = options.stackModule;
        this.watched = options.watched ?? false;   /* a line in the log for every request, metrics scraped */
        this.wrong = 0;                   /* bytes that were wrong, in chats and answers */
        this.failed = 0;                  /* chats and requests, where none may fail */
        this.notes = [];
    }

    tool(name) {
        return path.join(this.bin, 'tests/bench', name);
    }

    async startProvider(args = []) {
        this.provider = launch(this.tool('bench_provider'), args, { stdio: ['ignore', 'pipe', 'inherit'] });
        const [line] = await once(readline.createInterface({ input: this.provider.stdout }), 'line');
        this.providerPort = JSON.parse(line).port;
    }

    /** The load must notice what is wrong; gives what it did not. */
    async missedFaults() {
        const missed = [];
        for (const fault of ['none', 'drop', 'double', 'flip']) {
            await this.startProvider(['--fault', fault]);
            for (const model of ['bench:burst:200', 'bench:tokens:20']) {
                const load = launch(this.tool('bench_load'), ['chats', '--raw', '--target', `127.0.0.1:${this.providerPort}`,
                    '--parallel', '2', '--count', '4', '--model', model], { stdio: 'ignore' });
                if (await load.gone !== (fault === 'none' ? 0 : 1))
                    missed.push(`${fault} in ${model}`);
            }
            this.provider.kill('SIGTERM');
            await this.provider.gone;
        }
        return missed;
    }

    /** Starts the services; gives what an operator waits for and what they cost idle. Options: replicas, postgres. */
    async startStack(options = {}) {
        this.stack = await this.stackModule.prepare({
            config: {
                server: { drain_s: 1 }, gateway: { workers: 0 }, auth: { bcrypt_cost: 10 },
                log: { level: this.watched ? 'info' : 'warn' },
            },
            admin: this.watched,
            providers: [{
                name: 'bench', models: ['bench:*'], api_key: 'sk-bench',
                base_url: `http://127.0.0.1:${this.providerPort}/v1`,
            }],
            ...options,
        });
        const begun = performance.now();
        for (const name of this.stack.names)
            this.stack.start(name);
        for (;;) {
            const res = await fetch(`${this.stack.url}/readyz`).catch(() => null);
            if (res?.status === 200)
                break;
            if (performance.now() - begun > 20_000)
                throw new Error(`the services are not ready:\n${this.stackModule.lastWords()}`);
            await pause(3);
        }
        const readyS = (performance.now() - begun) / 1000;
        this.ours = Object.fromEntries(this.stack.names.map((s) => [s, this.stack.processes.get(s).pid]));
        await pause(300);
        const idleKb = each(this.ours, residentKb);
        await this.stack.ready();
        if (this.watched)
            this.scraper = setInterval(() => this.scrape(), SCRAPE_MS);
        return { readyS, idleKb };
    }

    /** Reads the metrics of every process, as Prometheus does. */
    scrape() {
        for (const name of this.stack.names)
            this.stack.admin(name).api('GET', '/metrics').catch((e) => this.notes.push(`metrics of ${name}: ${e.message}`));
    }

    async startNginx(port) {
        const www = path.join(this.dir, 'www');
        const file = path.join(this.dir, 'nginx.conf');
        fs.mkdirSync(www, { recursive: true });
        fs.writeFileSync(file, nginxConfig(this.dir, port, this.providerPort));
        this.nginxPort = port;
        this.nginx = launch(which('nginx'), ['-p', this.dir, '-c', file, '-e', path.join(this.dir, 'nginx.log')],
            { stdio: ['ignore', 'inherit', 'inherit'] });
        for (let i = 0; ; i++) {
            const res = await fetch(`http://127.0.0.1:${port}/alive`).catch(() => null);
            if (res)
                break;
            if (i > 200)
                throw new Error(`nginx does not answer: ${path.join(this.dir, 'nginx.log')}`);
            await pause(20);
        }
        const workers = fs.readFileSync(`/proc/${this.nginx.pid}/task/${this.nginx.pid}/children`, 'utf8');
        this.theirs = Object.fromEntries(workers.trim().split(' ').map((pid, i) => [`nginx ${i + 1}`, Number(pid)]));
    }

    /** What this machine can do at this moment: bcrypts, fdatasyncs. */
    async yardstick() {
        const child = launch(this.tool('bench_load'), ['yardstick', '--dir', this.dir], { stdio: ['ignore', 'pipe', 'inherit'] });
        const [line] = await once(readline.createInterface({ input: child.stdout }), 'line');
        await child.gone;
        return JSON.parse(line);
    }

    /** A file that nginx serves at /<name>. */
    serveFile(name, bytes) {
        fs.writeFileSync(path.join(this.dir, 'www', name), bytes);
    }

    async stop() {
        for (const child of [this.nginx, this.provider]) {
            if (child && children.has(child)) {
                child.kill('SIGTERM');
                await child.gone;
            }
        }
        await this.stopStack();
    }

    async stopStack() {
        const { stack } = this;
        this.stack = null;
        clearInterval(this.scraper);
        await stack?.stopAll();
    }

    /** Runs a load. `where`: ours, nginx. Options: mayFail, strace. */
    async run(where, args, { mayFail = false, strace = false } = {}) {
        const pids = where === 'ours' ? this.ours : this.theirs;
        const port = where === 'ours' ? this.stack.port : this.nginxPort;
        const raw = where === 'nginx' && args[0] === 'chats' ? ['--raw'] : [];
        const verify = where === 'ours' && args[0] === 'chats' ? ['--verify', '4'] : [];
        const load = launch(this.tool('bench_load'),
            [args[0], '--target', `127.0.0.1:${port}`, '--wait', ...raw, ...verify, ...args.slice(1).map(String)],
            { stdio: ['pipe', 'pipe', 'inherit'] });
        const timer = setTimeout(() => load.kill('SIGKILL'), LOAD_TIMEOUT_MS);
        const got = await this.listen(load, pids, strace);
        const code = await load.gone;
        clearTimeout(timer);
        if (!got.result)
            throw new Error(`${where}: ${args.join(' ')}: no result, exit code ${code} ${JSON.stringify(got.fatal ?? '')}`);
        const wrong = got.result.wrong + (got.verify?.wrong ?? 0);
        this.wrong += wrong;
        this.failed += mayFail ? 0 : got.result.failed;
        if (wrong > 0 || got.result.failed > 0)
            this.notes.push(`${where}: ${args.join(' ')}: ${wrong} wrong, ${got.result.failed} failed: ${got.result.faults.join(' | ')}`);
        return got;
    }

    /** Follows a load line by line, and reads its processes at the right moments. */
    async listen(load, pids, strace) {
        const got = {};
        let cpuBefore;
        let kbBefore;
        let tracers = [];
        for await (const line of readline.createInterface({ input: load.stdout })) {
            const said = JSON.parse(line);
            if (said.ready) {
                tracers = strace ? await this.attach(pids) : [];
                cpuBefore = each(pids, cpuUs);
                kbBefore = each(pids, residentKb);
                load.stdin.end('go\n');
            } else if (said.open) {
                await pause(OPEN_SETTLE_MS);
                got.openKbOf = minus(each(pids, residentKb), kbBefore);
                for (const name of Object.keys(got.openKbOf))
                    got.openKbOf[name] /= said.open;
                got.openKb = sum(got.openKbOf);
            } else if (said.result) {
                got.cpuUs = minus(each(pids, cpuUs), cpuBefore);
                got.calls = strace ? await this.detach(tracers) : null;
                got.result = said;
            } else if (said.fatal) {
                got.fatal = said;
            } else {
                got.verify = said;
            }
        }
        return got;
    }

    /* --- system calls ------------------------------------------------------------------------- */
    async attach(pids) {
        const tracers = [];
        for (const [name, pid] of Object.entries(pids)) {
            const file = path.join(this.dir, `strace.${pid}`);
            const child = launch(which('strace'), ['-c', '-f', '-p', String(pid), '-o', file],
                { stdio: ['ignore', 'ignore', 'pipe'] });
            const attached = once(readline.createInterface({ input: child.stderr }), 'line');
            await Promise.race([attached, child.gone, pause(STRACE_ATTACH_MS)]);
            tracers.push({ name, child, file });
        }
        await pause(200);   /* the other threads */
        return tracers;
    }

    async detach(tracers) {
        const calls = {};
        for (const { name, child, file } of tracers) {
            child.kill('SIGINT');
            await child.gone;
            /* % time, seconds, usecs/call, calls, (errors), name; nothing at all when there was no call */
            calls[name] = {};
            for (const [, n, what] of fs.readFileSync(file, 'utf8').matchAll(/^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$/gm)) {
                if (what !== 'total')
                    calls[name][what] = Number(n);
            }
        }
        return calls;
    }
}

function nginxConfig(dir, port, providerPort) {
    const root = process.getuid() === 0 ? 'user root;' : '';
    return `${root}
daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid ${dir}/nginx.pid;
events { worker_connections 15000; }
http {
    access_log off;
    sendfile on;
    keepalive_timeout 300s;
    keepalive_requests 100000000;
    client_body_temp_path ${dir}/body;
    proxy_temp_path ${dir}/proxy;
    fastcgi_temp_path ${dir}/fastcgi;
    uwsgi_temp_path ${dir}/uwsgi;
    scgi_temp_path ${dir}/scgi;
    upstream provider {
        server 127.0.0.1:${providerPort};
        keepalive 256;
        keepalive_requests 100000000;
    }
    server {
        listen 127.0.0.1:${port} backlog=8192;
        root ${dir}/www;
        location /v1/ {
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }
    }
}
`;
}
