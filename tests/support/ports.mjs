/* ports.mjs - free TCP ports on loopback, for stacks that run side by side.
 *
 * A process draws from blocks of ports that are its own: it listens on the first port of a block for as long as it
 * lives, so no other process that draws ports here (a story beside this one, another run, a chaos run) gets one of
 * the block, not even that of a service which has just been killed. The blocks lie outside of the kernel's ephemeral range, so
 * that no outgoing connection takes a port between its draw and its use.
 */
import fs from 'node:fs';
import net from 'node:net';
import { randomInt } from 'node:crypto';

const BLOCK = 100;            /* ports, the first of which is the guard */
const WANTED = [10_000, 31_000];
const ENOUGH = 20 * BLOCK;    /* so much room at least, or the kernel has to make some */
const KERNEL = '/proc/sys/net/ipv4/ip_local_port_range';
const RESERVED = '/proc/sys/net/ipv4/ip_local_reserved_ports';

let free = [];                /* of the newest block, in no order */
let last = Promise.resolve(); /* the draw before */

/** Where ports are drawn when the kernel gives [first, end) by itself: [low, high, whether they must be reserved]. */
export function rangeBeside(first, end) {
    const [low, high] = WANTED;
    for (const [from, to] of [[low, Math.min(high, first)], [Math.max(low, end), 65_536], [1024, Math.min(low, first)]]) {
        if (to - from >= ENOUGH)
            return [from, to, false];
    }
    return [low, high, true];
}

function findRange() {
    let first = 32_768;
    let end = 61_000;
    try {
        [first, end] = fs.readFileSync(KERNEL, 'utf8').trim().split(/\s+/).map(Number);
        end++;
    } catch {
        /* no Linux, or no /proc: as Linux has it by default */
    }
    const [low, high, isTheKernels] = rangeBeside(first, end);
    if (isTheKernels)
        reserve(`${low}-${high - 1}`);
    return [low, high];
}

/* Only root may, and not in every container: who may not lives with a small risk. */
function reserve(range) {
    try {
        const now = fs.readFileSync(RESERVED, 'utf8').trim();
        if (!now.split(',').includes(range))
            fs.writeFileSync(RESERVED, now ? `${now},${range}` : range);
    } catch {
        /* see above */
    }
}

const [LOW, HIGH] = findRange();

/** A server that listens on the port, or null when somebody else does. */
function listen(port) {
    return new Promise((resolve) => {
        const server = net.createServer((socket) => socket.destroy());
        server.once('error', () => resolve(null));
        server.listen({ port, host: '127.0.0.1', exclusive: true }, () => resolve(server));
    });
}

async function isFree(port) {
    const server = await listen(port);
    if (server)
        await new Promise((resolve) => {
            server.close(resolve);
        });
    return server !== null;
}

async function claimBlock() {
    const blocks = Math.floor((HIGH - LOW) / BLOCK);
    const from = randomInt(blocks);
    for (let i = 0; i < blocks; i++) {
        const guard = LOW + ((from + i) % blocks) * BLOCK;
        const server = await listen(guard);
        if (!server)
            continue;
        server.unref();
        free = Array.from({ length: BLOCK - 1 }, (_, k) => guard + 1 + k);
        return;
    }
    throw new Error('no free ports');
}

async function draw(n) {
    const ports = [];
    while (ports.length < n) {
        if (free.length === 0)
            await claimBlock();
        const [port] = free.splice(randomInt(free.length), 1);
        if (!(await isFree(port)))
            continue;
        ports.push(port);
    }
    return ports;
}

/** n different free ports, which nobody else is given while this process lives. One draw after the other: two at the same
 *  time would each find a port free before the other has taken it. */
export function freePorts(n) {
    const ports = last.then(() => draw(n));
    last = ports.catch(() => {});
    return ports;
}
