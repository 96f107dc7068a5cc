/* redis.mjs - a real redis-server of one story, and just enough of its protocol to meddle.
 *
 * The server runs on a free port without persistence; it can be stopped, started, emptied,
 * frozen, and its values overwritten.
 */
import fs from 'node:fs';
import net from 'node:net';
import { spawn } from 'node:child_process';
import { freePorts } from './ports.mjs';
import { until, within } from './deadline.mjs';

const SERVER = process.env.LLMB_REDIS_SERVER ?? '/usr/bin/redis-server';
const COMMAND_MS = 20_000;       /* a chaos run keeps the machine busy */

export const haveRedis = fs.existsSync(SERVER);

export class Redis {
    constructor(port, password) {
        this.port = port;
        this.password = password;
        this.child = null;
        process.on('exit', () => this.child?.kill('SIGKILL'));
    }

    get address() {
        return `127.0.0.1:${this.port}`;
    }

    async start() {
        const args = ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no',
            '--daemonize', 'no', ...(this.password ? ['--requirepass', this.password] : [])];
        this.child = spawn(SERVER, args, { stdio: 'ignore' });
        this.gone = new Promise((resolve) => {
            this.child.once('exit', resolve);
        });
        await until(10_000, async () => (await this.command('PING')) === 'PONG', 'redis-server answers PING');
    }

    async stop() {
        if (!this.child)
            return;
        this.child.kill('SIGCONT');
        this.child.kill('SIGTERM');
        await within(10_000, this.gone, 'redis-server ends');
        this.child = null;
    }

    freeze() {
        this.child.kill('SIGSTOP');
    }

    thaw() {
        this.child.kill('SIGCONT');
    }

    /** One command on a connection of its own; replies as strings, numbers, null, arrays, Buffers for bulk data. */
    async command(...args) {
        const socket = net.connect(this.port, '127.0.0.1');
        let buffer = Buffer.alloc(0);
        let wake = () => {};
        const broken = new Promise((_, reject) => {
            socket.once('error', reject);
            socket.once('close', () => reject(new Error('redis closed the connection')));
        });
        broken.catch(() => {});
        socket.on('data', (d) => {
            buffer = Buffer.concat([buffer, d]);
            wake();
        });
        const ask = async (list) => {
            socket.write(Buffer.concat([Buffer.from(`*${list.length}\r\n`), ...list.flatMap((a) => {
                const b = Buffer.isBuffer(a) ? a : Buffer.from(String(a));
                return [Buffer.from(`$${b.length}\r\n`), b, Buffer.from('\r\n')];
            })]));
            for (;;) {
                const [value, end] = parseReply(buffer, 0);
                if (end > 0) {
                    buffer = buffer.subarray(end);
                    if (value instanceof Error)
                        throw value;
                    return value;
                }
                const more = new Promise((resolve) => {
                    wake = resolve;
                });
                await Promise.race([more, broken]);
            }
        };
        try {
            if (this.password)
                await within(COMMAND_MS, ask(['AUTH', this.password]), 'redis AUTH');
            return await within(COMMAND_MS, ask(args), `redis ${args[0]}`);
        } finally {
            socket.destroy();
        }
    }

    /** All keys with their type and serialised value (DUMP), for making the cache stale later. */
    async snapshot() {
        const keys = await this.command('KEYS', '*');
        const out = [];
        for (const key of keys)
            out.push([key, await this.command('DUMP', key)]);
        return out.filter(([, dump]) => dump !== null);
    }

    /** Puts old values back over whatever is there now. */
    async restore(snapshot) {
        for (const [key, dump] of snapshot)
            await this.command('RESTORE', key, '0', dump, 'REPLACE');
    }
}

/** [value, end] or [undefined, 0] while incomplete. */
function parseReply(buffer, at) {
    const eol = buffer.indexOf('\r\n', at);
    if (eol < 0)
        return [undefined, 0];
    const line = buffer.toString('utf8', at + 1, eol);
    const next = eol + 2;
    switch (String.fromCharCode(buffer[at])) {
    case '+': return [line, next];
    case '-': return [new Error(line), next];
    case ':': return [Number(line), next];
    case '$': {
        const n = Number(line);
        if (n < 0)
            return [null, next];
        return buffer.length < next + n + 2 ? [undefined, 0] : [buffer.subarray(next, next + n), next + n + 2];
    }
    case '*': {
        const list = [];
        let pos = next;
        for (let i = 0; i < Number(line); i++) {
            const [value, end] = parseReply(buffer, pos);
            if (end === 0)
                return [undefined, 0];
            list.push(value);
            pos = end;
        }
        return [list, pos];
    }
    default: throw new Error(`not a redis reply: ${line}`);
    }
}

/** Starts a redis-server on a free port. */
export async function startRedis({ password = '' } = {}) {
    const [port] = await freePorts(1);
    const redis = new Redis(port, password);
    await redis.start();
    return redis;
}
