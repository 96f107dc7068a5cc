/* ports.mjs - free TCP ports on loopback, for stacks that run side by side.
 *
 * Ports are drawn at random below the kernel's ephemeral range, so that no outgoing connection
 * of a parallel test can take one between the check and its use.
 */
import net from 'node:net';
import { randomInt } from 'node:crypto';

const LOW = 10000;
const HIGH = 31000;
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
