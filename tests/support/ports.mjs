/* ports.mjs - free TCP ports on loopback, for stacks that run side by side.
 *
 * Ports are drawn at random below the kernel's ephemeral range, so that no outgoing connection
 * of a parallel test can take one between the check and its use, and from the share of this story's
 * slot, so that no story beside this one takes the port of a service that has just been killed.
 */
import net from 'node:net';
import { randomInt } from 'node:crypto';

const [SLOT, SLOTS] = (process.env.LLMB_STORY_SLOT ?? '0/1').split('/').map(Number);
const SHARE = Math.floor((31000 - 10000) / SLOTS);
const LOW = 10000 + SLOT * SHARE;
const HIGH = LOW + SHARE;
const given = new Set();

function canBind(port) {
    return new Promise((resolve) => {
        const server = net.createServer();
        server.once('error', () => resolve(false));
        server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
    });
}

/** n different free ports. */
export async function freePorts(n) {
    const ports = [];
    for (let tries = 0; ports.length < n; tries++) {
        if (tries > 1000)
            throw new Error('no free ports');
        const port = randomInt(LOW, HIGH);
        if (given.has(port) || !(await canBind(port)))
            continue;
        given.add(port);
        ports.push(port);
    }
    return ports;
}
