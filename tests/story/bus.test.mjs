/* bus.test.mjs - nonsense on the bus's ports: no byte from outside brings a service down.
 *
 * Raw bytes that are no ZMTP, and messages from a peer that shakes hands properly and then sends
 * envelopes and bodies that no encoder would write. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { SERVICES, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { RawConnection } from '../support/raw.mjs';
import { connectBus } from '../support/zmtp.mjs';
import { until } from '../support/deadline.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

async function allIsWell() {
    await until(15_000, async () => (await s.api('GET', '/readyz')).status === 200, 'the system is ready');
    const user = await s.user();
    expectAnswer(await user.ask(await user.create('fake'), 'all well?'), answerFor('all well?'), { messageId: 2 });
    assert.deepEqual(s.crashes, []);
    assert.ok(SERVICES.every((name) => s.running(name)));
}

/* msgpack by hand: only what is needed to say it wrongly */
const str = (text) => Buffer.concat([Buffer.from([0xa0 | text.length]), Buffer.from(text)]);
const u64 = (n) => {
    const b = Buffer.alloc(9);
    b[0] = 0xcf;
    b.writeBigUInt64BE(BigInt(n), 1);
    return b;
};
const bin = (bytes) => Buffer.concat([Buffer.from([0xc4, bytes.length]), bytes]);
const array = (...items) => Buffer.concat([Buffer.from([0x90 | items.length]), ...items]);
const join = (envelope, body) => [Buffer.concat([envelope, body])];
const request = (op, { id = 1, expires = Date.now() + 10_000, version = 1, kind = 0 } = {}) =>
    array(u64(version), u64(kind), u64(id), str(op), bin(randomBytes(16)), u64(expires));

story('raw bytes that are no ZMTP disturb nobody', async () => {
    const nonsense = ['GET / HTTP/1.1\r\n\r\n', '\x00'.repeat(1000), '\xff'.repeat(1000), '\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f', randomBytes(5000)];
    for (const port of s.ports.slice(1)) {
        for (const bytes of nonsense) {
            const connection = new RawConnection(port);
            connection.send(Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes, 'latin1'));
            connection.socket.end();
            await connection.untilClosed(20_000).catch(() => {});
            connection.destroy();
        }
    }
    await allIsWell();
});

story('malformed messages from a polite peer disturb nobody', async () => {
    const empty = Buffer.from([0x80]);
    const deep = Buffer.alloc(10_000, 0x91);
    const messages = [
        [''], ['', ''], ['', '', '', ''], ['x'], [randomBytes(10), randomBytes(10)], [request('svc.ping')], [request('svc.ping'), empty, empty],
        [request('svc.ping'), ''], [request('svc.ping'), Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff])], [request('svc.ping'), Buffer.from([0xdd, 0x10, 0, 0, 0, 1])],
        [request('svc.ping'), deep], [deep, empty], [request('no.such.op'), empty], [request(''), empty], [request('x'.repeat(31)), empty],
        [request('svc.ping', { version: 2 }), empty], [request('svc.ping', { kind: 77 }), empty], [request('svc.ping', { kind: 1 }), empty], [request('svc.ping', { kind: 2 }), empty],
        [request('svc.ping', { kind: 3 }), empty], [request('svc.ping', { expires: 0 }), empty], [request('svc.ping', { expires: 2n ** 64n - 1n }), empty], [request('svc.ping', { id: 0 }), empty],
        [request('svc.hello'), Buffer.concat([Buffer.from([0x81]), str('service'), str('\xff\xfe')])], [request('svc.hello'), Buffer.concat([Buffer.from([0x81]), str('instance'), str('x')])],
        [array(u64(1)), empty], [Buffer.from([0xdc, 0xff, 0xff]), empty], [Buffer.concat([request('svc.ping'), Buffer.from('trailing')]), empty],
    ];
    for (const op of ['auth.register', 'auth.login', 'auth.verify', 'convo.create', 'convo.list', 'convo.history', 'convo.delete', 'convo.ask', 'convo.watch', 'convo.read',
        'convo.tail', 'convo.stop', 'llm.generate', 'llm.attach', 'llm.ack', 'llm.stop', 'llm.replay', 'llm.models', 'svc.stats', 'svc.hello'])
        messages.push([request(op), empty], [request(op), randomBytes(200)], [request(op), Buffer.concat([Buffer.from([0x81]), str('stream'), bin(randomBytes(3))])],
            [request(op), Buffer.concat([Buffer.from([0x82]), str('user'), u64(2n ** 64n - 1n), str('user'), u64(1)])]);
    for (const port of s.ports.slice(1, 4)) {
        const peer = await connectBus(port);
        for (const parts of messages) {
            peer.send(parts);    /* several frames: refused as a whole */
            peer.send([Buffer.concat(parts.map((part) => Buffer.from(part)))]);    /* envelope and body in one */
        }
        const other = await connectBus(port);
        other.send(join(request('svc.hello', { id: 7 }), Buffer.concat([Buffer.from([0x83]), str('service'), str('gateway'), str('instance'), u64(5), str('version'), str('x')])));
        await until(10_000, () => other.received.length > 60, 'an answer to a proper hello');
        peer.close();
        other.close();
    }
    await allIsWell();
});

story('a subscriber that never reads, and one that sends rubbish, disturb nobody', async () => {
    const deaf = await connectBus(s.ports[4], 'SUB');
    deaf.send([Buffer.from([1])]);    /* subscribes to everything */
    deaf.socket.pause();
    const rude = await connectBus(s.ports[4], 'SUB');
    for (const bytes of [Buffer.from([0]), Buffer.from([2]), randomBytes(500), Buffer.alloc(0), Buffer.alloc(100_000, 1)])
        rude.send([bytes]);
    const user = await s.user();
    for (let i = 0; i < 3; i++)
        assert.equal((await user.ask(await user.create('fake:burst'), 'q')).status, 200);
    await allIsWell();
    deaf.close();
    rude.close();
});
