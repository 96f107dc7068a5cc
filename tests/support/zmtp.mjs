/* zmtp.mjs - just enough of ZMTP 3.0 (NULL mechanism) to say wrong things on the bus.
 *
 * A DEALER that shakes hands properly and then sends whatever frames a story wants, with no
 * regard for any protocol above. */
import net from 'node:net';
import { within } from './deadline.mjs';

const MORE = 1;
const LONG = 2;
const COMMAND = 4;

/** The first 64 bytes of a peer without keys. */
export function greeting() {
    const g = Buffer.alloc(64);
    g[0] = 0xff;
    g[9] = 0x7f;
    g[10] = 3;                   /* version 3.0 */
    g.write('NULL', 12, 'ascii');
    return g;
}

function property(name, value) {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(value.length);
    return Buffer.concat([Buffer.from([name.length]), Buffer.from(name), size, Buffer.from(value)]);
}

/** One frame with its header. */
export function frame(flags, body) {
    if (body.length < 256)
        return Buffer.concat([Buffer.from([flags, body.length]), body]);
    const head = Buffer.alloc(9);
    head[0] = flags | LONG;
    head.writeBigUInt64BE(BigInt(body.length), 1);
    return Buffer.concat([head, body]);
}

/** Connects as a DEALER (or another socket type); send(parts) sends one message of several frames. */
export async function connectBus(port, type = 'DEALER') {
    const socket = net.connect(port, '127.0.0.1');
    let received = Buffer.alloc(0);
    let wake = () => {};
    socket.on('error', () => {});
    socket.on('data', (d) => {
        received = Buffer.concat([received, d]);
        wake();
    });
    const bytes = async (n) => {
        while (received.length < n) {
            await new Promise((resolve) => {
                wake = resolve;
            });
        }
    };
    socket.write(greeting());
    await within(5000, bytes(64), 'the greeting of the bus');
    const ready = Buffer.concat([Buffer.from('\x05READY', 'latin1'), property('Socket-Type', type), property('Identity', '')]);
    socket.write(frame(COMMAND, ready));
    await within(5000, bytes(66), 'READY of the bus');
    return {
        socket,
        send(parts) {
            parts.forEach((part, i) => socket.write(frame(i + 1 < parts.length ? MORE : 0, Buffer.from(part))));
        },
        /** Everything received after the greeting. */
        get received() {
            return received.subarray(64);
        },
        close() {
            socket.destroy();
        },
    };
}
