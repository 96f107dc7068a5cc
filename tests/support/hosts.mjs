/* hosts.mjs - hosts of their own for single services: network namespaces, joined by a switch.
 *
 * Each host has an address, its own iptables, and its own /etc/hosts that may change while it runs. The test itself
 * stands at `network.here`, on the same switch. Needs root and the packages iproute2 and iptables; everything is
 * removed when the process ends. Interface names have the process id in them, so that runs do not meet.
 */
import fs from 'node:fs';
import net from 'node:net';
import { spawnSync } from 'node:child_process';
import { pause } from './deadline.mjs';

/** Why there can be no hosts here, or false. In CI that is a failure: see wanted(). */
export function hostsMissing() {
    if (process.getuid() !== 0)
        return 'needs root';
    for (const [program, argument] of [['ip', '-V'], ['iptables', '-V']]) {
        if (spawnSync(program, [argument]).status !== 0)
            return `needs ${program}`;
    }
    return namespacesMissing();
}

/* `ip netns` mounts things: not allowed in most containers, and not possible in a plain chroot. */
function namespacesMissing() {
    const name = `probe${process.pid}`;
    const made = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' });
    const entered = made.status === 0 ? spawnSync('ip', ['netns', 'exec', name, 'true'], { encoding: 'utf8' }) : made;
    spawnSync('ip', ['netns', 'del', name]);
    return entered.status === 0 ? false : `needs network namespaces (${entered.stderr?.trim()})`;
}

function run(program, ...args) {
    const { status, stderr } = spawnSync(program, args, { encoding: 'utf8' });
    if (status !== 0)
        throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}

class Host {
    constructor(network, name, number) {
        this.network = network;
        this.name = `${network.tag}${name}`;
        this.address = `${network.prefix}.${number}`;
        this.etc = `/etc/netns/${this.name}`;
        fs.mkdirSync(this.etc, { recursive: true });
        fs.writeFileSync(`${this.etc}/resolv.conf`, '');
        this.setNames({});
        run('ip', 'netns', 'add', this.name);
        this.exec('ip', 'link', 'set', 'lo', 'up');
        network.plug(this.name, name, this.address);
    }

    /** What a program is started with to run on this host. */
    get prefix() {
        return ['ip', 'netns', 'exec', this.name];
    }

    exec(...command) {
        run(...this.prefix, ...command);
    }

    /** Writes /etc/hosts, in place, as processes of this host see it: {name: [addresses]}. */
    setNames(names) {
        const lines = Object.entries(names).flatMap(([name, addresses]) => addresses.map((a) => `${a} ${name}\n`));
        fs.writeFileSync(`${this.etc}/hosts`, `127.0.0.1 localhost\n${lines.join('')}`);
    }

    /** The link drops every packet, both ways: nobody is told anything. */
    cut() {
        this.exec('iptables', '-I', 'INPUT', '!', '-i', 'lo', '-j', 'DROP');
        this.exec('iptables', '-I', 'OUTPUT', '!', '-o', 'lo', '-j', 'DROP');
    }

    heal() {
        this.exec('iptables', '-F');
    }
}

export class Network {
    constructor() {
        const pid = process.pid % 65536;
        this.tag = `lb${pid.toString(36)}`;
        this.prefix = `10.${200 + (pid >> 8) % 50}.${pid & 255}`;
        this.hosts = [];
        this.forwarders = [];
        this.sockets = [];
        this.onExit = () => this.remove();
        process.on('exit', this.onExit);
        this.switch = `${this.tag}sw`;
        run('ip', 'netns', 'add', this.switch);
        this.inSwitch('ip', 'link', 'add', 'name', 'bridge0', 'type', 'bridge');
        this.inSwitch('ip', 'link', 'set', 'bridge0', 'up');
        this.here = `${this.prefix}.1`;
        this.plug(null, 'me', this.here);
    }

    inSwitch(...command) {
        run('ip', 'netns', 'exec', this.switch, ...command);
    }

    /** A cable from the switch to a namespace (null: the test's own), with an address at its end. */
    plug(namespace, name, address) {
        const end = `${this.tag}${name}`;
        run('ip', 'link', 'add', end, 'type', 'veth', 'peer', 'name', 'port', 'netns', this.switch);
        this.inSwitch('ip', 'link', 'set', 'port', 'name', `p${name}`);
        this.inSwitch('ip', 'link', 'set', `p${name}`, 'master', 'bridge0', 'up');
        const there = namespace ? ['ip', 'netns', 'exec', namespace] : [];
        if (namespace)
            run('ip', 'link', 'set', end, 'netns', namespace);
        run(...there, 'ip', 'address', 'add', `${address}/24`, 'dev', end);
        run(...there, 'ip', 'link', 'set', end, 'up');
    }

    /** A new host; its number is the last part of its address. */
    host(name) {
        const host = new Host(this, name, 11 + this.hosts.length);
        this.hosts.push(host);
        return host;
    }

    /** Listens here and passes every byte on to host:port, `ms` late in both directions. Gives the port. */
    async forwarder(address, port, ms) {
        const server = net.createServer({ allowHalfOpen: true }, (near) => {
            const far = net.connect({ port, host: address, allowHalfOpen: true });
            this.sockets.push(near, far);
            pipeLate(near, far, ms);
            pipeLate(far, near, ms);
        });
        await new Promise((resolve) => {
            server.listen(0, this.here, resolve);
        });
        server.unref();
        this.forwarders.push(server);
        return server.address().port;
    }

    remove() {
        process.off('exit', this.onExit);
        for (const server of this.forwarders)
            server.close();
        for (const socket of this.sockets)
            socket.destroy();
        for (const host of this.hosts) {
            spawnSync('ip', ['netns', 'del', host.name]);
            fs.rmSync(host.etc, { recursive: true, force: true });
        }
        spawnSync('ip', ['link', 'del', `${this.tag}me`]);
        spawnSync('ip', ['netns', 'del', this.switch]);
        this.hosts = [];
    }
}

/* Every chunk, in order, `ms` after it came. */
function pipeLate(from, to, ms) {
    let last = Promise.resolve();
    const later = (fn) => {
        const due = pause(ms);
        last = last.then(() => due).then(fn);
    };
    from.on('data', (bytes) => later(() => to.write(bytes)));
    from.once('end', () => later(() => to.end()));
    from.on('error', () => to.destroy());
    from.once('close', () => later(() => to.destroy()));
}
