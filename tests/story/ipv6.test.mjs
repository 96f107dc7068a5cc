/* ipv6.test.mjs - a port alone is bound for IPv4 and IPv6, an address only for its own family. */
import assert from 'node:assert/strict';
import net from 'node:net';
import os from 'node:os';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { Client } from '../support/client.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { freePorts } from '../support/ports.mjs';
import { until } from '../support/deadline.mjs';

const loopback = await new Promise((resolve) => {
    const server = net.createServer().once('error', () => resolve(false)).listen(0, '::1', () => server.close(() => resolve(true)));
});
const outer = Object.values(os.networkInterfaces()).flat().find((i) => i.family === 'IPv6' && !i.internal && i.scopeid === 0)?.address;
const skip = loopback ? false : 'no ::1 here';

/** The same system, reached at another address. */
function at(stack, host) {
    const client = new Client(stack.port);
    client.host = host;
    return client;
}

const refuses = (client) => assert.rejects(client.api('GET', '/healthz', undefined, { timeout: 5000 }), /ECONNREFUSED/);

for (const spelling of ['', ':']) {
    story(`port "${spelling}N" is bound for both families`, async () => {
        const [port] = await freePorts(1);
        const s = await start({ config: { server: { port: `${spelling}${port}`, max_connections_per_address: 1 } }, httpPort: port });
        try {
            const v6 = at(s, '::1');
            const user = await v6.user();
            const id = await user.create('echo');
            expectAnswer(await user.ask(id, 'over IPv6'), 'over IPv6', { messageId: 2 });
            const agents = [s.keepAliveAgent(), v6.keepAliveAgent()];    /* loopback is not counted in either family */
            for (let i = 0; i < 20; i++)
                for (const [k, client] of [s, v6].entries())
                    assert.equal((await client.api('GET', '/healthz', undefined, { agent: i % 2 ? agents[k] : false })).status, 200);
            v6.closeAgents();
            for (const line of [/GET \/healthz"[^\n]* peer=::1\n/, /GET \/healthz"[^\n]* peer=127\.0\.0\.1\n/])
                await until(10_000, () => line.test(s.logs('gateway')), `the log has ${line}`);
        } finally {
            await s.stopAll();
        }
    }, { skip });
}

story('an IPv6 address is bound alone', async () => {
    const [port] = await freePorts(1);
    const config = { server: { port: `[::1]:${port}` } };
    const s = await start({ config, httpPort: port, host: '::1' });
    try {
        assert.equal((await s.api('GET', '/readyz')).status, 200);
        await refuses(at(s, '127.0.0.1'));
    } finally {
        await s.stopAll();
    }
}, { skip });

story('an IPv4 address is bound alone', async () => {
    const s = await start();
    try {
        await refuses(at(s, '::1'));
    } finally {
        await s.stopAll();
    }
}, { skip });

story('an IPv6 address gets max_connections_per_address connections, too', async () => {
    const [port] = await freePorts(1);
    const s = await start({ config: { server: { port: String(port), max_connections_per_address: 3 } }, httpPort: port });
    const far = at(s, outer);
    const agent = far.keepAliveAgent();
    try {
        const answers = await Promise.all(Array.from({ length: 8 }, () => far.api('GET', '/healthz', undefined, { agent }).then((r) => r.status, () => 0)));
        assert.equal(answers.filter((status) => status === 200).length, 3, String(answers));
    } finally {
        far.closeAgents();
        await s.stopAll();
    }
}, { skip: outer ? skip : 'no IPv6 address but loopback here' });
