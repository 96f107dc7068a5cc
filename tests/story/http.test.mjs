/* http.test.mjs - the HTTP side of the contract: methods, sizes, CORS, service endpoints, odd clients. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { expectError } from '../support/expect.mjs';
import { RawConnection, parseResponse, rawRequest } from '../support/raw.mjs';

const ORIGIN = 'https://app.example';

let s;          /* any origin, small bodies */
let listed;     /* a list of origins */
before(async () => {
    s = await start({ config: { server: { max_body_bytes: 65536 } } });
    listed = await start({ config: { server: { cors_origins: [ORIGIN, 'http://localhost:3000'] } } });
});
after(async () => {
    await Promise.all([s?.stopAll(), listed?.stopAll()]);
});

const ROUTES = [
    ['/api/users/register', 'POST'], ['/api/users/login', 'POST'], ['/api/conversations/create', 'POST'], ['/api/conversations/history/1', 'GET'],
    ['/api/conversations/list', 'GET'], ['/api/conversations/del/1', 'POST'], ['/api/chat/1', 'POST'], ['/api/chat/1/retry', 'POST'], ['/api/chat/1/stop', 'POST'],
    ['/api/chat/1/ticket', 'POST'], ['/api/chat/1/stream', 'GET'], ['/api/chat/active', 'GET'], ['/api/chat/active/', 'GET'], ['/healthz', 'GET'], ['/readyz', 'GET'],
];

story('a wrong method is 405 with Allow on every route', async () => {
    for (const [path, allowed] of ROUTES) {
        for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH'].filter((m) => m !== allowed)) {
            const res = await s.api(method, path);
            expectError(res, 405, { code: 'method_not_allowed' });
            assert.ok(res.headers.allow.split(/,\s*/).includes(allowed), `${method} ${path}: Allow: ${res.headers.allow}`);
        }
        expectError(await s.api('DELETE', path, undefined, { lang: 'zh' }), 405, { code: 'method_not_allowed', lang: 'zh' });
    }
});

story('an unknown path is 404 in JSON', async () => {
    for (const path of ['/', '/api', '/api/users', '/api/conversations/history', '/api/conversations/history/1/2', '/api/chat', '/favicon.ico', '/%00', '/api//chat/1', '/..%2f']) {
        for (const method of ['GET', 'POST']) {
            const res = await s.api(method, path);
            assert.ok(res.status === 404, `${method} ${path}: ${res.status}`);
            expectError(res, 404, { code: 'not_found' });
        }
    }
    expectError(await s.api('GET', '/nothing', undefined, { lang: 'zh' }), 404, { code: 'not_found', lang: 'zh' });
});

story('healthz and readyz answer without a token', async () => {
    for (const path of ['/healthz', '/readyz', '/healthz/']) {
        const res = await s.api('GET', path);
        assert.equal(res.status, 200, path);
    }
    const head = await s.api('HEAD', '/healthz');
    assert.ok([200, 405].includes(head.status));
    assert.equal(head.text, '');
});

story('a body over the limit is 413, announced or chunked, and one of the limit is not', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const frame = '{"message":""}'.length;
    const fits = await user.ask(id, 'm'.repeat(65536 - frame));
    assert.equal(fits.status, 200);
    const body = JSON.stringify({ message: 'm'.repeat(65537 - frame) });
    expectError(await user.call('POST', `/api/chat/${id}`, body), 413, { code: 'too_big' });
    expectError(await user.call('POST', `/api/chat/${id}`, body, { headers: { 'transfer-encoding': 'chunked' } }), 413, { code: 'too_big' });
    expectError(await user.call('POST', `/api/chat/${id}`, body, { lang: 'zh' }), 413, { code: 'too_big', lang: 'zh' });
    const huge = await rawRequest(s.port, 'POST /api/users/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999999\r\n\r\n');
    expectError(huge, 413, { code: 'too_big' });
    assert.equal((await user.messages(id)).length, 2, 'a refused question left a trace');
});

story('headers too large are 431', async () => {
    const res = await rawRequest(s.port, `GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: ${'x'.repeat(100_000)}\r\n\r\n`);
    assert.equal(res.status, 431, res.text);
    const many = Array.from({ length: 3000 }, (_, i) => `X-H${i}: ${'v'.repeat(20)}\r\n`).join('');
    assert.equal((await rawRequest(s.port, `GET /healthz HTTP/1.1\r\nHost: x\r\n${many}\r\n`)).status, 431);
    assert.equal((await rawRequest(s.port, `GET /healthz?a=1${'&b=2'.repeat(2000)} HTTP/1.1\r\nHost: x\r\n\r\n`)).status, 431);
    const user = await s.user();
    const fine = await user.call('GET', '/api/conversations/list', undefined, { headers: { cookie: 'c'.repeat(2000) } });
    assert.equal(fine.status, 200, 'a cookie of 2 KB is refused');
});

story('what is no HTTP is refused and closed, and nothing breaks', async () => {
    const nonsense = ['\r\n\r\n\r\n\r\n', 'NONSENSE\r\n\r\n', 'GET\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'.repeat(20) + '\r\n\r\n',
        'POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n', 'POST /api/users/login HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n',
        'POST /api/users/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n\r\n'];
    for (const bytes of nonsense) {
        const connection = new RawConnection(s.port);
        connection.send(Buffer.from(bytes, 'latin1'));
        connection.socket.end();
        const text = await connection.untilClosed(15_000);
        if (text !== '')
            assert.ok(parseResponse(text).status >= 400, JSON.stringify(text.slice(0, 200)));
        connection.destroy();
    }
    assert.equal((await s.api('GET', '/readyz')).status, 200);
});

story('a body whose length is said twice, or is no length, is refused with JSON and nothing after it is served', async () => {
    const smuggled = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
    const framings = ['Content-Length: -5', 'Content-Length: 99999999999999999999999', 'Content-Length: 5\r\nContent-Length: 0',
        'Content-Length: 5\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: gzip'];
    for (const framing of framings) {
        const connection = new RawConnection(s.port);
        connection.send(`POST /api/users/login HTTP/1.1\r\nHost: x\r\n${framing}\r\n\r\n0\r\n\r\n${smuggled}`);
        const text = await connection.untilClosed(15_000);
        assert.equal(text.match(/HTTP\/1\.1 /g).length, 1, `${framing}: ${text}`);
        const res = parseResponse(text);
        assert.equal(res.status, 400, framing);
        assert.equal(JSON.parse(res.text).code, 'invalid', framing);
        connection.destroy();
    }
});

story('a request names its host once, from HTTP/1.1 on', async () => {
    const ask = (version, headers) => rawRequest(s.port, `GET /healthz HTTP/${version}\r\n${headers}Connection: close\r\n\r\n`);
    for (const headers of ['', 'Host: a\r\nHost: b\r\n', 'host: a\r\nHOST: a\r\n']) {
        for (const lang of ['en', 'zh'])
            expectError(await ask('1.1', `${headers}Accept-Language: ${lang}\r\n`), 400, { code: 'invalid', lang });
    }
    assert.equal((await ask('1.1', 'Origin: https://a.example\r\n')).headers['access-control-allow-origin'], '*');
    for (const [version, headers] of [['1.1', 'Host: x\r\n'], ['1.1', 'Host:\r\n'], ['1.0', ''], ['1.0', 'Host: x\r\n']])
        assert.equal((await ask(version, headers)).status, 200, `${version} ${headers}`);
    const body = '{"username":"nohost","password":"12345678"}';
    const connection = new RawConnection(s.port);    /* the refused request is read whole, the next one is served */
    connection.send(`POST /api/users/register HTTP/1.1\r\nContent-Length: ${body.length}\r\n\r\n${body}` +
        `POST /api/users/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    assert.deepEqual([...(await connection.untilClosed()).matchAll(/HTTP\/1\.1 (\d+)/g)].map((m) => m[1]), ['400', '201']);
    connection.destroy();
});

story('a 401 says what it wants, and whether a token was refused', async () => {
    const list = (token) => s.api('GET', '/api/conversations/list', undefined, token === null ? {} : { headers: { authorization: token } });
    for (const [token, challenge] of [[null, 'Bearer'], ['Basic eDp5', 'Bearer'], ['Bearer nonsense', 'Bearer error="invalid_token"'],
        [`Bearer ${'x'.repeat(7000)}`, 'Bearer error="invalid_token"']]) {
        const res = await list(token);
        expectError(res, 401, { code: 'unauthorized' });
        assert.equal(res.headers['www-authenticate'], challenge, token);
    }
    const wrong = await s.api('POST', '/api/users/login', { username: 'nobody here', password: '12345678' });
    expectError(wrong, 401, { code: 'bad_credentials' });
    assert.equal(wrong.headers['www-authenticate'], 'Bearer');
});

story('a request whose body comes byte by byte is answered', async () => {
    const connection = new RawConnection(s.port);
    const body = '{"username":"slowly","password":"12345678"}';
    connection.send(`POST /api/users/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`);
    for (const byte of body) {
        connection.send(byte);
        await new Promise((resolve) => setImmediate(resolve));
    }
    const res = parseResponse(await connection.untilClosed());
    assert.equal(res.status, 201, res.text);
    connection.destroy();
});

story('a client that waits for 100 Continue gets it', async () => {
    const connection = new RawConnection(s.port);
    const body = '{"username":"patient","password":"12345678"}';
    connection.send(`POST /api/users/register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: ${body.length}\r\n\r\n`);
    await connection.until('100 Continue');
    connection.send(body);
    assert.match(await connection.untilClosed(), /HTTP\/1\.1 201 /);
    connection.destroy();
});

story('requests sent at once on one connection are answered in order', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const auth = `Host: x\r\nAuthorization: Bearer ${user.token}\r\n`;
    const connection = new RawConnection(s.port);
    connection.send(`GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /api/conversations/history/${id} HTTP/1.1\r\n${auth}\r\n` +
        `GET /api/conversations/history/1 HTTP/1.1\r\n${auth}\r\nGET /api/conversations/list HTTP/1.1\r\n${auth}Connection: close\r\n\r\n`);
    const text = await connection.untilClosed();
    assert.deepEqual([...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map((m) => m[1]), ['200', '200', '404', '200']);
    connection.destroy();
});

story('a keep-alive connection serves many requests', async () => {
    const agent = s.keepAliveAgent({ maxSockets: 1 });
    const user = await s.user();
    for (let i = 0; i < 20; i++)
        assert.equal((await user.list({ agent })).status, 200);
    expectError(await user.history(1, { agent }), 404, {});
    expectError(await user.call('POST', '/api/users/login', '{', { agent }), 400, {});
    assert.equal((await user.list({ agent })).status, 200);
});

story('a preflight gets 204 and what a browser needs, without credentials', async () => {
    for (const [path, method] of ROUTES) {
        const res = await s.api('OPTIONS', path, undefined, { headers: {
            origin: 'https://anywhere.example', 'access-control-request-method': method, 'access-control-request-headers': 'authorization,content-type',
        } });
        assert.equal(res.status, 204, `${path}: ${res.status}`);
        assert.equal(res.text, '');
        assert.equal(res.headers['access-control-allow-origin'], '*');
        assert.ok(res.headers['access-control-allow-methods'].includes(method));
        assert.match(res.headers['access-control-allow-headers'], /authorization/i);
        assert.match(res.headers['access-control-allow-headers'], /content-type/i);
        assert.equal(res.headers['access-control-allow-credentials'], undefined);
    }
});

story('answers, errors and streams carry the CORS header for any origin', async () => {
    const user = await s.user();
    const headers = { origin: 'https://anywhere.example' };
    assert.equal((await user.list({ headers })).headers['access-control-allow-origin'], '*');
    assert.equal((await s.api('GET', '/api/conversations/list', undefined, { headers })).headers['access-control-allow-origin'], '*');
    const got = await user.ask(await user.create('echo'), 'hi', { headers });
    assert.equal(got.headers['access-control-allow-origin'], '*');
});

story('with a list of origins only those are allowed, and caches are told', async () => {
    const user = await listed.user();
    for (const origin of [ORIGIN, 'http://localhost:3000']) {
        const res = await user.list({ headers: { origin } });
        assert.equal(res.headers['access-control-allow-origin'], origin);
        assert.match(String(res.headers.vary), /origin/i);
        const pre = await listed.api('OPTIONS', '/api/chat/1', undefined, { headers: { origin, 'access-control-request-method': 'POST' } });
        assert.equal(pre.status, 204);
        assert.equal(pre.headers['access-control-allow-origin'], origin);
    }
    for (const origin of ['https://evil.example', 'https://app.example.evil.example', 'http://app.example', 'null']) {
        const res = await user.list({ headers: { origin } });
        assert.equal(res.headers['access-control-allow-origin'], undefined, origin);
        const pre = await listed.api('OPTIONS', '/api/chat/1', undefined, { headers: { origin, 'access-control-request-method': 'POST' } });
        assert.equal(pre.headers['access-control-allow-origin'], undefined, origin);
    }
});

story('the language follows Accept-Language', async () => {
    const cases = [['zh', 'zh'], ['zh-CN', 'zh'], ['zh-Hant-TW,en;q=0.5', 'zh'], ['en', 'en'], ['en-US,en;q=0.9,zh;q=0.8', 'en'], ['de', 'en'], ['', 'en'], ['ZH-cn', 'zh'], [';;;,,,', 'en']];
    for (const [header, lang] of cases)
        expectError(await s.api('GET', '/api/conversations/list', undefined, { lang: header }), 401, { code: 'unauthorized', lang });
});

story('chat refuses what is no question with 400 and leaves no trace', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const bad = ['', '{', '[]', 'null', '{}', '{"message":""}', '{"message":5}', '{"message":null}', '{"message":["x"]}', '{"message":"x"} y', '{"massage":"x"}',
        Buffer.from([...Buffer.from('{"message":"'), 0xe4, 0xbd, ...Buffer.from('"}')])];
    for (const body of bad) {
        const res = await user.call('POST', `/api/chat/${id}`, body);
        assert.equal(res.status, 400, `${body}: ${res.status} ${res.text}`);
        expectError(res, 400, {});
    }
    expectError(await user.call('POST', `/api/chat/${id}`, '{}', { lang: 'zh' }), 400, { lang: 'zh' });
    assert.deepEqual(await user.messages(id), []);
});
