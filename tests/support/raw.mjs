/* raw.mjs - bytes on a TCP connection (through TLS where the port speaks it), for requests that no HTTP library would send. */
import net from 'node:net';
import tls from 'node:tls';
import { within } from './deadline.mjs';
import { trust } from './tls.mjs';

export class RawConnection {
    constructor(port, host = '127.0.0.1', localAddress = undefined) {
        this.received = Buffer.alloc(0);
        this.closed = false;
        this.wakers = [];
        const secure = trust(port);
        this.tcp = net.connect({ port, host, localAddress });
        this.tcp.setNoDelay(true);
        this.tcp.on('error', () => {});
        this.socket = secure ? tls.connect({ socket: this.tcp, ...secure }) : this.tcp;
        this.openedAt = Date.now();
        this.opened = new Promise((resolve, reject) => {
            this.socket.once(secure ? 'secureConnect' : 'connect', resolve);
            this.socket.once('error', reject);
        });
        this.opened.catch(() => {});
        this.socket.on('error', () => {});
        this.socket.on('data', (bytes) => {
            this.received = Buffer.concat([this.received, bytes]);
            this.wake();
        });
        this.socket.once('end', () => {
            this.closed = true;
            this.wake();
        });
        this.socket.once('close', () => {
            this.closed = true;
            this.wake();
        });
    }

    wake() {
        for (const waker of this.wakers.splice(0))
            waker();
    }

    send(bytes) {
        this.socket.write(bytes);
    }

    get text() {
        return this.received.toString('utf8');
    }

    async when(ms, test, what) {
        const loop = async () => {
            while (!test()) {
                await new Promise((resolve) => {
                    this.wakers.push(resolve);
                });
            }
        };
        await within(ms, loop(), `${what}; received ${JSON.stringify(this.text.slice(0, 200))}`);
    }

    /** Waits until the server closes; gives everything it sent. */
    async untilClosed(ms = 10_000) {
        await this.when(ms, () => this.closed, 'the server closes the connection');
        return this.text;
    }

    /** Waits until this text has come. */
    async until(text, ms = 10_000) {
        await this.when(ms, () => this.closed || this.text.includes(text), `the server sends ${JSON.stringify(text)}`);
        if (!this.text.includes(text))
            throw new Error(`closed without ${JSON.stringify(text)}: ${JSON.stringify(this.text.slice(0, 300))}`);
    }

    destroy() {
        this.socket.destroy();
    }

    /** Ends the connection as a client that has died does. */
    reset() {
        this.tcp.resetAndDestroy();
    }
}

/** Sends bytes on a new connection and gives the answer up to the server's close, parsed. */
export async function rawRequest(port, bytes, { ms = 10_000 } = {}) {
    const connection = new RawConnection(port);
    connection.send(bytes);
    try {
        return parseResponse(await connection.untilClosed(ms));
    } finally {
        connection.destroy();
    }
}

/** Splits an answer into status, headers (lower case) and body. */
export function parseResponse(text) {
    const end = text.indexOf('\r\n\r\n');
    const [first, ...lines] = text.slice(0, Math.max(0, end)).split('\r\n');
    const headers = {};
    for (const line of lines) {
        const colon = line.indexOf(':');
        headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const body = end < 0 ? '' : text.slice(end + 4);
    let json;
    try {
        json = JSON.parse(body);
    } catch {
        json = undefined;
    }
    return { status: Number(first.split(' ')[1] ?? 0), version: first.split(' ')[0], headers, text: body, json };
}
