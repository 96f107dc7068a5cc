/* engine.mjs - the container engine that the compose tests run on, and everything that they make in it.
 *
 * An engine that answers is used as it is. Where none does, root starts a dockerd with folders and a socket of its own
 * and ends it by its pid; it ends by itself when this process is killed. It has no bridge and touches no firewall rule, so builds
 * use the host's network, and containers reach each other and this machine, not the world. Whatever is made here is listed when it is
 * made, and removed by removeAll(); what a run has left that was killed, the next one removes.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { until, within } from '../support/deadline.mjs';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TARGETS = ['gateway', 'auth-svc', 'convo-svc', 'llm-svc', 'secrets'];
const BASES = ['debian:bookworm-slim', 'redis:7-bookworm', 'postgres:15-bookworm', 'nginx:stable-bookworm'];
const MINUTE = 60_000;
const HOME = '/var/tmp';       /* where a daemon of our own has its folder */
const OURS = 'llmb-dockerd-';  /* and what its name begins with */
const ROOM_GB = 3;             /* what that takes at most is 1.4, with overlay2 */
const PREFIX = 'llmbtest';     /* of the names of projects; the pid of their run follows */
/* What an engine says of a network that nobody is in any more, when it has lost count (moby 42119): it keeps it until it is restarted. */
const MISCOUNT = /has active endpoints/;

/* What apt says when a mirror has a bad moment. */
const NO_PACKAGES = /Failed to fetch|Unable to fetch|Unable to locate package|Temporary failure resolving|Could not (connect|resolve)/;

/* What an .env or the shell of the user says must not decide what is tested. */
const env = { ...process.env, LLMB_DRAIN_S: '', LLMB_STOP_GRACE: '', OPENAI_API_KEY: '', OPENAI_API_KEY_FILE: '', ZHIPU_API_KEY: '',
    COMPOSE_HTTP_TIMEOUT: '300' };
delete env.COMPOSE_FILE;
const running = new Set();

/** Runs a program to its end: {code, out}, both outputs together. */
export async function run(command, args, { more = {}, ms = 5 * MINUTE, input } = {}) {
    const child = spawn(command, args, { cwd: ROOT, env: { ...env, ...more }, detached: true });
    running.add(child);
    let out = '';
    for (const stream of [child.stdout, child.stderr])
        stream.on('data', (bytes) => { out += bytes; });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    const ended = new Promise((resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code) => resolve(code ?? 1));
    });
    try {
        return { code: await within(ms, ended, `${command} ${args.join(' ')} ends`), out };
    } catch (e) {
        endGroup(child);
        throw new Error(`${e.message}\n${lastLines(out)}`);
    } finally {
        running.delete(child);
    }
}

function endGroup(child) {
    try {
        process.kill(-child.pid, 'SIGKILL');
    } catch {
        /* it has just ended */
    }
}

const lastLines = (text, n = 15) => text.trimEnd().split('\n').slice(-n).join('\n');

/** The same, for what must succeed: its output. */
export async function must(command, args, options) {
    const { code, out } = await run(command, args, options);
    if (code !== 0)
        throw new Error(`${command} ${args.join(' ')} ended with ${code}\n${lastLines(out)}`);
    return out.trim();
}

/** `docker …`: its output. */
export const docker = (...args) => must('docker', args);

const answers = (command, ...args) => spawnSync(command, args, { env, timeout: 20_000, stdio: 'ignore' }).status === 0;

/** What makes no statement about the project: this machine cannot run an engine, or cannot get what the images are made from. */
export class Unable extends Error {}

export class Engine {
    /** logs: where the log of a daemon of our own is kept when that one fails. */
    constructor(logs) {
        this.logs = logs;
        this.projects = new Map();     /* name -> its files */
        this.isUserTag = Boolean(process.env.LLMB_VERSION);
        this.tag = process.env.LLMB_VERSION || `test-${randomBytes(4).toString('hex')}`;
        this.undo = [];                /* what removes the images and the daemon, last first */
        env.LLMB_VERSION = this.tag;
    }

    /** Why nothing can be tested here, or undefined. */
    static missing() {
        if (!answers('docker', '--version'))
            return 'docker is not installed (scripts/install-deps compose)';
        if (!answers('docker-compose', 'version') && !answers('docker', 'compose', 'version'))
            return 'docker-compose is not installed (scripts/install-deps compose)';
        if (!answers('docker', 'version') && (process.getuid() !== 0 || !answers('dockerd', '--version')))
            return 'no engine answers `docker version`, and to start one takes root and dockerd';
        return undefined;
    }

    /** Finds an engine, or starts one. Says which. */
    async open() {
        this.compose = answers('docker-compose', 'version') ? ['docker-compose'] : ['docker', 'compose'];
        const own = answers('docker', 'version') ? '' : await this.startDaemon();
        const version = await docker('version', '-f', '{{.Server.Version}}');
        const storage = await docker('info', '-f', '{{.Driver}}, cgroup v{{.CgroupVersion}} by {{.CgroupDriver}}');
        const composeVersion = await must(this.compose[0], [...this.compose.slice(1), 'version', '--short']);
        const bridges = await docker('network', 'ls', '-q', '--filter', 'name=^bridge$');
        env.IMAGE_BUILD_ARGS ??= [...bridges === '' ? ['--network host'] : [], ...proxies()].join(' ');
        return `${own || 'the engine that runs'} (${version}, ${storage}), ${this.compose.join(' ')} ${composeVersion}`;
    }

    async startDaemon() {
        clearAway();
        const free = roomGb();
        if (free < ROOM_GB)
            throw new Unable(`${HOME} has ${free.toFixed(1)} GB of room, an engine of our own may take ${ROOM_GB}`);
        const dir = fs.mkdtempSync(path.join(HOME, OURS));
        fs.writeFileSync(path.join(dir, 'owner'), String(process.pid));
        const socket = `unix://${dir}/docker.sock`;
        const log = fs.openSync(path.join(dir, 'log'), 'w');
        const [gateway] = Object.values(os.networkInterfaces()).flat().filter((a) => a.family === 'IPv4' && !a.internal);
        const daemon = spawn('setpriv', ['--pdeathsig', 'TERM', 'dockerd', '--data-root', `${dir}/data`, '--exec-root', `${dir}/exec`, '--pidfile', `${dir}/pid`,
            '-H', socket, '--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false',
            '--host-gateway-ip', gateway?.address ?? '127.0.0.1', '--log-level=warn'], { env, stdio: ['ignore', log, log], detached: true });
        const ended = new Promise((resolve) => {
            daemon.once('exit', resolve);
            daemon.once('error', resolve);
        });
        env.DOCKER_HOST = socket;
        this.undo.push(async () => {
            daemon.kill('SIGTERM');
            await within(30_000, ended, 'our dockerd ends').catch(() => daemon.kill('SIGKILL'));
            fs.closeSync(log);
            if (this.hasFailed) {
                fs.mkdirSync(this.logs, { recursive: true });
                fs.copyFileSync(path.join(dir, 'log'), path.join(this.logs, 'dockerd.log'));
            }
            removeHome(dir);
        });
        await until(MINUTE, () => daemon.exitCode !== null || daemon.signalCode !== null || answers('docker', 'version'), 'our dockerd answers');
        if (!answers('docker', 'version'))
            throw new Unable(`dockerd cannot run on this machine: ${lastLines(fs.readFileSync(path.join(dir, 'log'), 'utf8'))}`);
        return `a dockerd of our own with ${Math.floor(free)} GB of room`;
    }

    /** The public images, or their twins: all, or these. */
    async base(...tags) {
        const wanted = tags.length > 0 ? tags : BASES;
        const before = await Promise.all(wanted.map(isThere));
        this.undo.push(async () => {
            for (const [i, tag] of wanted.entries()) {
                if (!before[i])
                    await run('docker', ['rmi', tag]);   /* refused while something else stands on it */
            }
        });
        return must('tests/compose/base_images', wanted, { ms: 8 * MINUTE }).catch((e) => {
            throw new Unable(e.message);
        });
    }

    /** The images of the project, under a tag of our own; with LLMB_VERSION those of that tag, and they stay. */
    async images() {
        const tags = TARGETS.map((t) => `llm-backend-api/${t}:${this.tag}`);
        if (this.isUserTag && (await Promise.all(tags.map(isThere))).every(Boolean))
            return `those of LLMB_VERSION=${this.tag}, as they are`;
        let said = '';
        this.undo.push(async () => {
            const dangling = new Set((await docker('images', '-q', '-f', 'dangling=true')).split('\n'));
            for (const id of [...this.isUserTag ? [] : tags, ...madeBy(said).filter((i) => dangling.has(i))])
                await run('docker', ['rmi', id]);
        });
        const build = () => must('scripts/build-images', [], { ms: 10 * MINUTE });
        said = await build().catch((e) => {
            if (!NO_PACKAGES.test(e.message))
                throw e;
            console.log(`    our images, once more: ${lastLines(e.message, 3)}`);   /* layers that are done are not done again */
            return build();
        });
        return lastLines(said, TARGETS.length);
    }

    /** A stack with a name, a port and files of its own. */
    stack(name, port, files) {
        const stack = new Stack(this, `${PREFIX}${process.pid}${name}`, port, files);
        this.projects.set(stack.name, stack);
        return stack;
    }

    /** Removes what a run has left that was killed. */
    async sweep() {
        const kinds = [['ps', '-a'], ['network', 'ls'], ['volume', 'ls']];
        const labels = await Promise.all(kinds.map((list) => docker(...list, '--filter', 'label=com.docker.compose.project',
            '--format', '{{.Label "com.docker.compose.project"}}')));
        for (const name of new Set(labels.join('\n').split('\n'))) {
            const pid = new RegExp(`^${PREFIX}(\\d+)[a-z]+$`).exec(name)?.[1];
            if (pid && !fs.existsSync(`/proc/${pid}`))
                await new Stack(this, name, 0, []).removeThings();
        }
    }

    /** Removes all that was made. Goes on when something cannot be. */
    async removeAll() {
        for (const child of running)
            endGroup(child);
        const left = [];
        const guard = (what) => what().catch((e) => left.push(e.message));
        for (const stack of this.projects.values())
            await guard(() => stack.remove());
        while (this.undo.length > 0)
            await guard(this.undo.pop());
        return left;
    }
}

const roomGb = () => {
    const { bavail, bsize } = fs.statfsSync(HOME);
    return bavail * bsize / 1e9;
};

/** Kills the process of a container as the kernel does when memory runs out. `docker kill` would not do: it counts as the wish that
 *  the container stays down. */
export async function killProcess(id) {
    const pid = await docker('inspect', '-f', '{{.State.Pid}}', id);
    await docker('run', '--rm', '--pid=host', '--network=none', 'debian:bookworm-slim', 'bash', '-c', `kill -9 ${pid}`);
}

/** Waits until the engine has started a container again. */
export const startedAgain = (id) =>
    until(MINUTE, async () => Number(await docker('inspect', '-f', '{{.RestartCount}}', id)) > 0, `${id} is started again`);

/* The proxy that leads to packages, for builds. */
const proxies = () => ['http_proxy', 'https_proxy', 'no_proxy'].filter((name) => env[name]).map((name) => `--build-arg ${name}=${env[name]}`);

/* The folder of a daemon that has ended, with what is still mounted in it, and the bridges of networks that it had no time to remove. */
function removeHome(dir) {
    const networks = path.join(dir, 'data/network/files/local-kv.db');
    for (const [bridge] of fs.existsSync(networks) ? fs.readFileSync(networks, 'latin1').matchAll(/br-[0-9a-f]{12}/g) : []) {
        if (fs.existsSync(`/sys/class/net/${bridge}`))
            spawnSync('ip', ['link', 'delete', bridge]);
    }
    spawnSync('sh', ['-c', 'awk \'index($5, dir "/") == 1 { print $5 }\' dir="$0" /proc/self/mountinfo | sort -r | xargs -r umount -l', dir]);
    fs.rmSync(dir, { recursive: true, force: true });
}

/* Removes the folders of daemons whose runs were killed; the daemons have ended with them. */
function clearAway() {
    for (const name of fs.readdirSync(HOME).filter((n) => n.startsWith(OURS))) {
        const dir = path.join(HOME, name);
        const lives = (file) => fs.existsSync(path.join(dir, file)) && fs.existsSync(`/proc/${fs.readFileSync(path.join(dir, file), 'utf8').trim()}`);
        if (!lives('owner') && !lives('pid'))
            removeHome(dir);
    }
}

/* The images that builds of the engine's own builder say they have made, last first; not those from its cache. */
const madeBy = (said) => [...said.matchAll(/^(.*)\n ---> ([0-9a-f]{12})$/gm)].filter(([, before]) => !before.includes('Using cache'))
    .map(([, , id]) => id).reverse();

const isThere = async (tag) => (await run('docker', ['image', 'inspect', tag])).code === 0;

/** One project of docker-compose. */
export class Stack {
    constructor(engine, name, port, files) {
        Object.assign(this, { engine, name, port, files });
        this.kept = new Set();         /* networks that the engine does not let go of */
    }

    get env() {
        return { COMPOSE_PROJECT_NAME: this.name, LLMB_PORT: String(this.port), COMPOSE: this.engine.compose.join(' ') };
    }

    /** `docker-compose -f … <args>`: its output. */
    compose(...args) {
        const [command, ...first] = this.engine.compose;
        return must(command, [...first, ...this.files.flatMap((f) => ['-f', f]), ...args], { more: this.env });
    }

    /** `docker-compose down …`, on engines that lose count, too: what they keep is told, the rest is gone. */
    async down(...args) {
        try {
            await this.compose('down', ...args);
        } catch (e) {
            if (!MISCOUNT.test(e.message) || await this.ids('ps', '-a') !== '')
                throw e;
            console.log(`    down: ${lastLines(e.message, 1)}; nobody is in it, so that is the engine's error`);
            if (args.includes('-v'))
                await this.removeThings();
        }
    }

    /** The ids that `docker <list>` gives for this project, one a line. */
    ids(...list) {
        return docker(...list, '-q', '--filter', `label=com.docker.compose.project=${this.name}`);
    }

    /** scripts/compose-roll, with the same files: its output. */
    roll(...services) {
        return must('scripts/compose-roll', [...this.files.flatMap((f) => ['-f', f]), ...services], { more: this.env });
    }

    /** Runs shell commands as deploy/README.md has them, in a folder, with this stack's name and files: their output. */
    shell(folder, script) {
        const names = { COMPOSE_PROJECT_NAME: this.name, COMPOSE_FILE: this.files.map((f) => path.resolve(ROOT, f)).join(':') };
        const mine = script.replaceAll('llm-backend-api_', `${this.name}_`).replaceAll('docker-compose ', `${this.engine.compose.join(' ')} `);
        return must('sh', ['-c', `cd '${folder}' && ${mine}`], { more: { ...this.env, ...names } });
    }

    /** The ids of a service's containers that run. */
    async containers(service) {
        const ids = await docker('ps', '-q', '--filter', `label=com.docker.compose.project=${this.name}`,
            '--filter', `label=com.docker.compose.service=${service}`);
        return ids.split('\n').filter(Boolean);
    }

    /** Waits until so many containers of a service are healthy. */
    healthy(service, count) {
        return until(MINUTE, async () => {
            const ids = await docker('ps', '-q', '--filter', `label=com.docker.compose.project=${this.name}`,
                '--filter', `label=com.docker.compose.service=${service}`, '--filter', 'health=healthy');
            return ids.split('\n').filter(Boolean).length === count;
        }, `${count} of ${service} are healthy`);
    }

    /** All that the containers have said. */
    async logs() {
        const ids = await docker('ps', '-aq', '--filter', `label=com.docker.compose.project=${this.name}`);
        const said = await Promise.all(ids.split('\n').filter(Boolean).map(async (id) => {
            const { out } = await run('docker', ['logs', '--timestamps', id]);
            const about = await docker('inspect', '-f', '{{.Name}} {{.State.Status}} {{.State.ExitCode}}, restarts: {{.RestartCount}}', id);
            return `=== ${about}\n${out}`;
        }));
        return said.join('\n');
    }

    /** What the engine holds of this project: [the command that removes it, its id]. */
    async things() {
        const kinds = [[['ps', '-a'], ['rm', '-fv']], [['network', 'ls'], ['network', 'rm']], [['volume', 'ls'], ['volume', 'rm']]];
        const found = await Promise.all(kinds.map(async ([list, remove]) =>
            (await this.ids(...list)).split('\n').filter((id) => id && !this.kept.has(id)).map((id) => [...remove, id])));
        return found.flat();
    }

    async remove() {
        await this.compose('down', '-v', '--remove-orphans', '-t', '1').catch(() => {});
        await this.removeThings();
    }

    async removeThings() {
        for (const command of await this.things()) {
            const { code, out } = await run('docker', command);
            if (code !== 0 && !(MISCOUNT.test(out) && await this.ids('ps', '-a') === ''))
                throw new Error(`docker ${command.join(' ')}: ${out}`);
            if (code !== 0)
                this.kept.add(command.at(-1));
        }
    }
}
