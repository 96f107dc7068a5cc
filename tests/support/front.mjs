/* front.mjs - a tiny load balancer on TCP: every new connection goes to the first target that takes it.
 *
 * Knows nothing of HTTP. When the server behind a connection dies, the client's connection is cut; its next one goes
 * to the next target, and stays with that one. */
import net from 'node:net';
import { once } from 'node:events';

export class Front {
    constructor(ports) {
        this.targets = ports;
        this.taken = [];       /* the port that each connection went to */
        this.sockets = new Set();
        this.server = net.createServer((client) => this.pass(client));
    }

    get port() {
        return this.server.address().port;
    }

    pass(client) {
        this.sockets.add(client);
        client.on('error', () => client.destroy());
        client.once('close', () => this.sockets.delete(client));
        this.connect(client, this.targets.length);
    }

    /* tries: how many targets may still be asked */
    connect(client, tries) {
        const port = this.targets[0];
        const server = net.connect(port, '127.0.0.1');
        let isConnected = false;
        server.once('connect', () => {
            isConnected = true;
            this.taken.push(port);
            client.pipe(server).pipe(client);
        });
        client.once('close', () => server.destroy());
        server.on('error', () => {});
        server.once('close', () => {
            if (!isConnected && tries > 1) {
                if (this.targets[0] === port)
                    this.targets.push(this.targets.shift());
                this.connect(client, tries - 1);
            } else {
                client.destroy();
            }
        });
    }

    async stop() {
        this.server.close();
        for (const socket of this.sockets)
            socket.destroy();
    }
}

/** Listens on a free port in front of these ports. */
export async function startFront(ports) {
    const front = new Front([...ports]);
    front.server.listen(0, '127.0.0.1');
    await once(front.server, 'listening');
    front.server.unref();
    return front;
}
