/* reuse.test.mjs - connections that are used again: the second request is judged like the first, and none is misjudged. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { RawConnection, parseResponse } from '../support/raw.mjs';
import { promisedWithin, within } from '../support/deadline.mjs';

const GET = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
const OK = '{"status":"ok"}';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { server: { header_timeout_s: 2 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const count = (text, part) => text.split(part).length - 1;
const turn = () => new Promise((resolve) => {
    setImmediate(resolve);
});

/** Waits until this connection has got so many answers to GET. */
const answered = (connection, n) => connection.when(10_000, () => connection.closed || count(connection.text, OK) >= n, `answer ${n}`)
    .then(() => assert.equal(count(connection.text, OK), n, connection.text));

/** A connection that has been used already, with what it has received forgotten. */
async function reused() {
    const connection = new RawConnection(s.port);
    connection.send(GET);
    await answered(connection, 1);
    connection.received = Buffer.alloc(0);
    return connection;
}

/** Asks on a raw connection; waits for the end of the answer. */
async function streamed(user, model = 'echo') {
    const id = await user.create(model);
    const connection = new RawConnection(s.port);
    const body = '{"message":"hello"}';
    connection.send(`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await connection.until('\r\n0\r\n\r\n');
    connection.received = Buffer.alloc(0);
    return connection;
}

/** Reads a refusal and nothing else before the close. */
async function expectRefusal(connection, status, code) {
    const text = await connection.untilClosed();
    assert.equal(count(text, 'HTTP/1.1 '), 1, text);
    const res = parseResponse(text);
    assert.equal(res.status, status, text);
    assert.match(res.headers['content-type'], /^application\/json/);
    assert.equal(res.json?.code, code, text);
    connection.destroy();
}

const usedBefore = { 'nothing': () => new RawConnection(s.port), 'a short answer': () => reused(), 'a stream': async () => streamed(await s.user()) };

for (const [what, open] of Object.entries(usedBefore)) {
    story(`headers too large are 431 in JSON after ${what}, too`, async () => {
        const big = await open();
        big.send(`GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(60_000)}\r\n\r\n`);
        await expectRefusal(big, 431, 'headers_too_big');
        const many = await open();
        many.send(`GET /healthz HTTP/1.1\r\nHost: x\r\n${'X: y\r\n'.repeat(200)}\r\n`);
        await expectRefusal(many, 431, 'headers_too_big');
    });

    story(`a Content-Length that is none is 400 in JSON after ${what}, too, and nothing behind it is served`, async () => {
        for (const length of ['x', '-5', '', '5 5', '99999999999999999999999']) {
            const connection = await open();
            connection.send(`POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n${GET}`);
            await expectRefusal(connection, 400, 'invalid');
        }
    });

    story(`a header line that proxies may read in another way is 400 in JSON after ${what}, too`, async () => {
        for (const line of ['no colon', 'Content-Length : 60', 'Content-Length: 6\r\n 0', ' X: y']) {
            const connection = await open();
            connection.send(`POST /api/users/login HTTP/1.1\r\nHost: x\r\n${line}\r\n\r\n${GET}`);
            await expectRefusal(connection, 400, 'invalid');
        }
    });

    story(`headers that come byte by byte after ${what} are waited for`, async () => {
        const connection = await open();
        for (let n = 1; n <= 3; n++) {
            for (const byte of GET) {
                connection.send(byte);
                await turn();
            }
            await answered(connection, n);
        }
        connection.destroy();
    });

    story(`headers that do not end after ${what} are cut off after header_timeout_s`, async () => {
        const connection = await open();
        connection.send('GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ');
        assert.equal(await promisedWithin(10_000, connection.untilClosed(), 'it is cut off'), '');
        connection.destroy();
    });
}

story('a length that proxies may read in another way is refused behind another request, too', async () => {
    const connection = new RawConnection(s.port);
    connection.send(`${GET}POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length : ${GET.length}\r\n\r\n${GET}`);
    const text = await connection.untilClosed();
    assert.equal(count(text, 'HTTP/1.1 '), 2, text);
    assert.equal(count(text, 'HTTP/1.1 400 '), 1, text);
    assert.equal(count(text, '"code":"invalid"'), 1, text);
    connection.destroy();
});

story('a large refused request is read to its end, so that its client can read the refusal', async () => {
    const connection = await reused();
    connection.send(`GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(500_000)}\r\n\r\n`);
    await expectRefusal(connection, 431, 'headers_too_big');
});

story('a request behind a refused one is not served, however much comes between', async () => {
    const user = await s.user();
    const connection = await reused();
    const create = '{"title":"smuggled","model":"echo"}';
    const request = `POST /api/conversations/create HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: ${create.length}\r\n\r\n${create}`;
    connection.send(`POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n${request.repeat(10_000)}`);
    await connection.untilClosed(15_000);
    connection.destroy();
    assert.deepEqual((await user.list()).json, []);
});

story('requests that come in one packet are answered, whatever their number', async () => {
    for (const n of [2, 3, 50]) {
        const connection = await reused();
        connection.send(GET.repeat(n));
        await answered(connection, n);
        connection.send(GET);
        await answered(connection, n + 1);
        connection.destroy();
    }
});

story('a request whose beginning came with the one before it is answered, wherever it was cut', async () => {
    const second = 'POST /api/users/login HTTP/1.1\r\nHost: x\r\nX-A: GET /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}';
    for (let cut = 0; cut <= second.length; cut++) {
        const connection = new RawConnection(s.port);
        connection.send(GET + second.slice(0, cut));
        await answered(connection, 1);
        connection.send(second.slice(cut) + GET);
        await answered(connection, 2);
        assert.equal(count(connection.text, 'HTTP/1.1 400 '), 1, `cut at ${cut}: ${connection.text}`);
        connection.destroy();
    }
});

story('a request in three pieces, the first behind another request, is answered', async () => {
    for (let cut = 1; cut < GET.length - 1; cut++) {
        const connection = new RawConnection(s.port);
        connection.send(GET + GET.slice(0, cut));
        await answered(connection, 1);
        connection.send(GET.slice(cut, cut + 1));
        await turn();
        connection.send(GET.slice(cut + 1));
        await answered(connection, 2);
        connection.destroy();
    }
});

story('empty lines between requests are overlooked', async () => {
    const connection = await reused();
    connection.send('\r\n');
    await turn();
    connection.send(`\r\n\r\n${GET}`);
    await answered(connection, 1);
    connection.send('\r\n');
    await turn();
    connection.send(GET.slice(0, 10));
    await turn();
    connection.send(GET.slice(10));
    await answered(connection, 2);
    connection.destroy();
});

story('a request that comes while an answer streams is answered after it', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:next');
    const id = await user.create('fake:next');
    const connection = new RawConnection(s.port);
    connection.send(`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nContent-Length: 15\r\n\r\n{"message":"x"}`);
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    await answer.piece('one');
    await connection.until('one');
    connection.send(GET.slice(0, 20));
    await answer.piece('two');
    await connection.until('two');
    await answer.finish();
    await connection.until('\r\n0\r\n\r\n');
    connection.send(GET.slice(20));
    await answered(connection, 1);
    connection.destroy();
});

story('a client that stops sending after its last request gets all answers, then the close', async () => {
    for (const [open, n] of [[() => new RawConnection(s.port), 1], [() => new RawConnection(s.port), 3], [reused, 1], [reused, 3]]) {
        const connection = await open();
        connection.send(GET.repeat(n));
        connection.socket.end();
        const text = await connection.untilClosed();
        assert.equal(count(text, OK), n, text);
        connection.destroy();
    }
});

story('clients that stop sending while a service is asked get their answers, too', async () => {
    const user = await s.user();
    const list = `GET /api/conversations/list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\n\r\n`;
    const body = '{"username":"","password":"12345678"}';
    const register = `POST /api/users/register HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    for (const requests of [list, register, list + list, register + list, GET + list, list + GET.slice(0, 10)]) {
        await Promise.all(Array.from({ length: 20 }, async () => {
            const connection = new RawConnection(s.port);
            connection.send(requests.slice(0, 30));
            await turn();
            connection.send(requests.slice(30));
            connection.socket.end();
            const text = await connection.untilClosed();
            assert.equal(count(text, 'HTTP/1.1 '), count(requests, '\r\n\r\n'), `${requests} -> ${text}`);
            connection.destroy();
        }));
    }
});

/** Numbers that are the same in every run. */
function dice(seed) {
    let x = seed;
    return (n) => {
        x ^= x << 13;
        x ^= x >>> 17;
        x ^= x << 5;
        return (x >>> 0) % n;
    };
}

story('requests are answered in order, however many there are and wherever they are cut', async () => {
    const user = await s.user();
    const auth = `Host: x\r\nAuthorization: Bearer ${user.token}\r\n`;
    const kinds = [[GET, 200], [`\r\n${GET}`, 200], [`GET /api/conversations/list HTTP/1.1\r\n${auth}\r\n`, 200],
        [`GET /nothing HTTP/1.1\r\n${auth}X-Pad: ${'p'.repeat(5000)}\r\n\r\n`, 404],
        [`POST /api/users/login HTTP/1.1\r\n${auth}Content-Length: 2000\r\n\r\n${' '.repeat(2000)}`, 400],
        ['POST /api/users/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n', 400],
        [`POST /api/users/register HTTP/1.1\r\n${auth}Content-Length: 37\r\n\r\n{"username":"","password":"12345678"}`, 400]];
    const talk = async (seed) => {
        const roll = dice(seed);
        const chosen = Array.from({ length: 1 + roll(8) }, () => kinds[roll(kinds.length)]);
        const isBad = roll(4) === 0;    /* the last one is refused at the gate, or by libmicrohttpd if it came with others */
        const bytes = chosen.map(([text]) => text).join('') + (isBad ? 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n' : '');
        const connection = new RawConnection(s.port);
        for (let at = 0, n; at < bytes.length; at += n) {
            n = 1 + roll(roll(2) ? 10 : 4000);
            connection.send(bytes.slice(at, at + n));
            for (let turns = roll(3); turns > 0; turns--)
                await turn();
        }
        if (roll(2))
            connection.socket.end();
        const want = chosen.map(([, status]) => status).concat(isBad ? [400] : []);
        const statuses = () => [...connection.text.matchAll(/HTTP\/1\.1 (\d+) /g)].map((m) => Number(m[1]));
        await connection.when(20_000, () => connection.closed || statuses().length >= want.length, `the answers to ${seed}`);
        assert.deepEqual(statuses().slice(0, want.length), want, `seed ${seed}`);    /* libmicrohttpd's own 400 has two heads */
        connection.destroy();
    };
    for (let seed = 1; seed <= 400; seed += 20)
        await Promise.all(Array.from({ length: 20 }, (_, i) => talk(seed + i)));
});

story('a client that leaves in the middle of its next request is let go', async () => {
    for (const head of ['G', 'GET /healthz HTTP/1.1\r\nHost: x\r\n', 'hello']) {
        const connection = await reused();
        connection.send(head);
        await turn();
        connection.socket.end();
        assert.equal(await connection.untilClosed(), '');
        connection.destroy();
    }
});

story('a gateway that stops lets go of requests that have come in part', async () => {
    const connections = await Promise.all(Array.from({ length: 5 }, reused));
    for (const connection of connections)
        connection.send('GET /healthz HTTP/1.1\r\nHo');
    const other = await reused();
    other.send('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n');
    assert.deepEqual(await s.kill('gateway', 'SIGTERM'), { code: 0, signal: null });
    await Promise.all(connections.map((c) => c.untilClosed()));
    for (const connection of [...connections, other])
        connection.destroy();
    s.start('gateway');
    await s.ready();
});
