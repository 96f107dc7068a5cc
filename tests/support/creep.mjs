/* creep.mjs - a way to a server on which every connection comes one message further than the one before, and is cut there.
 *
 * So whoever does many things with a server one after the other, and connects again when the connection is lost, has met a
 * cut at each of them when he is through. Who connects while others are connected begins with the first message, too.
 * `after`: the last message arrives, but its answer does not. `from`: messages that pass at first; `once`: after the first cut
 * nobody gets in any more.
 */
import net from 'node:net';
import { once } from 'node:events';

export class Creep {
    constructor(port, { after = false, from = 0, once: isOnce = false } = {}) {
        Object.assign(this, { to: port, after, from, once: isOnce, cuts: 0, isOver: false });
        this.may = new Map();        /* by how many others were there: messages that pass */
        this.clients = new Set();
        this.server = net.createServer((client) => this.pass(client));
    }

    get port() {
        return this.server.address().port;
    }

    pass(client) {
        const rank = this.clients.size;
        const server = net.connect(this.to, '127.0.0.1');
        let sent = 0;
        const end = () => {
            this.clients.delete(client);
            client.destroy();
            server.destroy();
        };
        const cut = () => {
            this.cuts++;
            this.may.set(rank, (this.may.get(rank) ?? this.from) + 1);
            end();
        };
        let isLast = false;
        this.clients.add(client);
        for (const socket of [client, server]) {
            socket.on('error', end);
            socket.once('close', end);
        }
        if (this.once && this.cuts > 0) {
            end();
            return;
        }
        client.on('data', (bytes) => {
            isLast ||= !this.isOver && sent++ >= (this.may.get(rank) ?? this.from);
            if (isLast && !this.after)
                cut();
            else
                server.write(bytes);
        });
        server.on('data', (bytes) => {
            if (isLast)
                cut();
            else
                client.write(bytes);
        });
    }

    /** From now on nothing is cut. */
    pacify() {
        this.isOver = true;
    }

    stop() {
        this.server.close();
        for (const client of this.clients)
            client.destroy();
    }
}

/** Listens on a free port before this one. */
export async function startCreep(port, options) {
    const creep = new Creep(port, options);
    creep.server.listen(0, '127.0.0.1');
    await once(creep.server, 'listening');
    return creep;
}
