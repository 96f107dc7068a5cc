/* users.test.mjs - registering, logging in, tokens, and guessing passwords.
 *
 * Every row and every error of the two calls that need no token, and what a token is worth. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { expectError, expectThrottled } from '../support/expect.mjs';
import { promised } from '../support/deadline.mjs';

const SECRET = 'a secret of the stories, 32 bytes long';
const PASSWORD = 'correct horse battery';

let s;
before(async () => {
    s = await start({ config: { jwt: { secret: SECRET, ttl_s: 3600 }, auth: { guess_limit: 10, guess_window_s: 300 } } });
});
after(() => s?.stopAll());

const b64 = (v) => Buffer.from(typeof v === 'string' ? v : JSON.stringify(v)).toString('base64url');

function sign(header, payload, secret = SECRET, hash = 'sha256') {
    const head = `${b64(header)}.${b64(payload)}`;
    return `${head}.${createHmac(hash, secret).update(head).digest('base64url')}`;
}

function payloadOf(token) {
    return JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString());
}

story('register answers 201 with its message in English and in Chinese', async () => {
    const en = await s.register('anna', PASSWORD);
    assert.equal(en.status, 201, en.text);
    assert.match(en.headers['content-type'], /^application\/json/);
    assert.deepEqual(en.json, { message: 'User registered successfully' });
    const zh = await s.register('安娜', PASSWORD, { lang: 'zh-CN,zh;q=0.9,en;q=0.8' });
    assert.equal(zh.status, 201);
    assert.deepEqual(zh.json, { message: '用户注册成功' });
});

story('a username that is taken is refused with 400', async () => {
    assert.equal((await s.register('taken', PASSWORD)).status, 201);
    expectError(await s.register('taken', 'another password'), 400, { code: 'username_taken' });
    expectError(await s.register('taken', 'another password', { lang: 'zh' }), 400, { code: 'username_taken', lang: 'zh' });
});

story('usernames are compared byte by byte', async () => {
    for (const name of ['Case', 'case', 'case ', 'caf\u00e9', 'cafe\u0301', "Robert'); DROP TABLE users;--"])
        assert.equal((await s.register(name, PASSWORD)).status, 201, name);
    expectError(await s.login('CASE', PASSWORD), 401, { code: 'bad_credentials' });
    assert.equal((await s.login('caf\u00e9', PASSWORD)).status, 200);
});

story('two that register the same name at the same moment: one gets it', async () => {
    const all = await Promise.all(Array.from({ length: 8 }, () => s.register('race', PASSWORD)));
    assert.deepEqual(all.map((r) => r.status).sort(), [201, ...Array(7).fill(400)]);
});

story('username bounds: 1 to 64 code points without control characters', async () => {
    for (const name of ['x', 'y'.repeat(64), '😀'.repeat(64)])
        assert.equal((await s.register(name, PASSWORD)).status, 201, name);
    for (const name of ['', 'y'.repeat(65), '😀'.repeat(65), 'tab\there', 'nul\u0000', 'del\u007f', 'c1\u0085', 'line\nend', 'z'.repeat(2000)])
        expectError(await s.register(name, PASSWORD), 400, { code: 'invalid_username' });
    expectError(await s.register('', PASSWORD, { lang: 'zh' }), 400, { code: 'invalid_username', lang: 'zh' });
});

story('password bounds: 8 to 72 bytes', async () => {
    const cases = [['p8', '12345678', 201], ['p7', '1234567', 400], ['p72', 'a'.repeat(72), 201], ['p73', 'a'.repeat(73), 400],
        ['pu', '密'.repeat(24), 201], ['pv', '密'.repeat(25), 400], ['pe', '', 400], ['pl', 'a'.repeat(5000), 400]];
    for (const [name, password, status] of cases) {
        const res = await s.register(name, password);
        if (status === 201)
            assert.equal(res.status, 201, name);
        else
            expectError(res, 400, { code: 'invalid_password' });
    }
    assert.equal((await s.login('p72', 'a'.repeat(72))).status, 200);
    expectError(await s.login('p72', 'a'.repeat(73)), 401, { code: 'bad_credentials' });
    expectError(await s.register('pz', '1', { lang: 'zh-TW' }), 400, { code: 'invalid_password', lang: 'zh' });
});

story('bodies that are no good are 400 on register and on login', async () => {
    const bad = ['', '{', 'null', '[]', '"x"', '{"username":"u"}', '{"password":"12345678"}', '{"username":7,"password":"12345678"}',
        '{"username":"u","password":null}', '{"username":["u"],"password":"12345678"}', '{"username":"u","password":"12345678"} x',
        '{"username":"u","password":"12345678"}{}', "{'username':'u','password':'12345678'}", 'username=u&password=12345678',
        Buffer.from([...Buffer.from('{"username":"'), 0xc3, 0x28, ...Buffer.from('","password":"12345678"}')]),
        Buffer.from([...Buffer.from('{"username":"'), 0xed, 0xa0, 0x80, ...Buffer.from('","password":"12345678"}')]),
        '['.repeat(5000)];
    for (const path of ['/api/users/register', '/api/users/login']) {
        for (const body of bad)
            expectError(await s.api('POST', path, body), 400, {});
        expectError(await s.api('POST', path, '{', { lang: 'zh-Hans' }), 400, { lang: 'zh' });
    }
});

story('unknown keys, white space and any content type are fine', async () => {
    const res = await s.api('POST', '/api/users/register',
        ` \r\n\t{"extra":{"a":[1,2,{"b":null}]},"password":"12345678","username":"loose","n":1e5}\n `,
        { headers: { 'content-type': 'application/x-www-form-urlencoded' } });
    assert.equal(res.status, 201, res.text);
    const bom = await s.api('POST', '/api/users/login', '{"username":"loose","password":"12345678"}', { headers: { 'content-type': 'text/plain' } });
    assert.equal(bom.status, 200);
});

story('login gives a HS256 token with user_id, exp, iat and jti', async () => {
    const user = await s.user();
    const [head] = user.token.split('.');
    assert.equal(JSON.parse(Buffer.from(head, 'base64url')).alg, 'HS256');
    const p = payloadOf(user.token);
    assert.ok(Number.isSafeInteger(p.user_id) && p.user_id > 0);
    assert.ok(Math.abs(p.iat - Date.now() / 1000) < 60);
    assert.equal(p.exp - p.iat, 3600);
    assert.ok(typeof p.jti === 'string' && p.jti.length >= 8);
    const again = await s.login(user.name, PASSWORD);
    assert.deepEqual(Object.keys(again.json), ['token']);
    assert.notEqual(payloadOf(again.json.token).jti, p.jti);
});

story('a wrong password and an unknown user get the same 401', async () => {
    const user = await s.user();
    const wrong = await s.login(user.name, 'not the password');
    const unknown = await s.login('nobody at all', 'not the password');
    expectError(wrong, 401, { code: 'bad_credentials' });
    assert.deepEqual(wrong.json, unknown.json);
    expectError(await s.login(user.name, 'wrong', { lang: 'zh' }), 401, { code: 'bad_credentials', lang: 'zh' });
    for (const [name, password] of [['', ''], [user.name, ''], ['x'.repeat(300), 'y'], [user.name, 'z'.repeat(1500)]])
        expectError(await s.login(name, password), 401, { code: 'bad_credentials' });
});

story('every call that needs a token refuses none, a bad one and a forged one with 401', async () => {
    const user = await s.user();
    const good = payloadOf(user.token);
    const head = { alg: 'HS256', typ: 'JWT' };
    const now = Math.floor(Date.now() / 1000);
    const forged = [
        '', 'x', 'a.b.c', `${user.token}x`, user.token.slice(0, -2), sign(head, good, 'another secret of the same length!!'),
        `${b64({ alg: 'none', typ: 'JWT' })}.${b64(good)}.`, sign({ alg: 'HS512', typ: 'JWT' }, good, SECRET, 'sha512'),
        sign(head, { ...good, exp: now - 10 }), sign(head, { ...good, exp: undefined }), sign(head, { ...good, exp: 'x' }),
        sign(head, { ...good, user_id: undefined }), sign(head, { ...good, user_id: 'x' }), sign(head, 'null'), 'é'.repeat(10), 'x'.repeat(3000),
    ];
    const calls = [['POST', '/api/conversations/create'], ['GET', '/api/conversations/history/1'], ['GET', '/api/conversations/list'],
        ['POST', '/api/conversations/del/1'], ['POST', '/api/chat/1']];
    for (const token of forged)
        expectError(await s.api('GET', '/api/conversations/list', undefined, { headers: { authorization: Buffer.from(`Bearer ${token}`).toString('latin1') } }), 401, { code: 'unauthorized' });
    for (const [method, path] of calls) {
        const body = method === 'POST' ? '{"title":"t","model":"echo","message":"m"}' : undefined;
        expectError(await s.api(method, path, body), 401, { code: 'unauthorized' });
        expectError(await s.api(method, path, body, { token: forged[1] }), 401, { code: 'unauthorized' });
        expectError(await s.api(method, path, body, { headers: { authorization: `Basic ${user.token}` } }), 401, { code: 'unauthorized' });
        expectError(await s.api(method, path, body, { lang: 'zh' }), 401, { code: 'unauthorized', lang: 'zh' });
    }
});

story('a token made with the configured secret is good, and Bearer is read without regard to case', async () => {
    const user = await s.user();
    const p = payloadOf(user.token);
    const own = sign({ alg: 'HS256', typ: 'JWT' }, { user_id: p.user_id, exp: Math.floor(Date.now() / 1000) + 100 });
    for (const authorization of [`Bearer ${own}`, `bearer ${own}`, `BEARER ${own}`])
        assert.equal((await s.api('GET', '/api/conversations/list', undefined, { headers: { authorization } })).status, 200, authorization);
});

story('a token ends at its exp, although the verdict was cached', async () => {
    const user = await s.user();
    const exp = Math.floor(Date.now() / 1000) + 5;    /* on a busy machine the first use may take a while */
    const short = sign({ alg: 'HS256', typ: 'JWT' }, { ...payloadOf(user.token), exp });
    assert.equal((await s.api('GET', '/api/conversations/list', undefined, { token: short })).status, 200);
    await promised(15_000, async () => (await s.api('GET', '/api/conversations/list', undefined, { token: short })).status === 401, 'the token has expired');
    assert.ok(Date.now() / 1000 >= exp);
});

story('ten wrong passwords are followed by 429 with Retry-After, for that user alone', async () => {
    const victim = await s.user();
    const refused = await expectThrottled(10, (i) => s.login(victim.name, `guess ${i}`));
    const wait = Number(refused.headers['retry-after']);
    assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= 60, `Retry-After: ${refused.headers['retry-after']}`);
    const other = await s.user();
    assert.equal((await s.login(other.name, PASSWORD)).status, 200);
});

story('after the wait a right password is taken, a wrong one doubles the wait', async () => {
    const victim = await s.user();
    const first = await expectThrottled(10, (i) => s.login(victim.name, `guess ${i}`));
    /* one more wrong guess is let through after a second; the next wait is longer */
    await promised(15_000, async () => (await s.login(victim.name, 'wrong again')).status === 401, 'a guess is let through');
    const second = await s.login(victim.name, 'wrong again', { lang: 'zh' });
    expectError(second, 429, { code: 'throttled', lang: 'zh' });
    assert.ok(Number(second.headers['retry-after']) >= Number(first.headers['retry-after']));
    await promised(20_000, async () => (await s.login(victim.name, PASSWORD)).status === 200, 'the right password is taken after the wait');
});

story('an unknown user name is throttled in the same way', async () => {
    await expectThrottled(10, (i) => s.login('ghost', `guess ${i}`));
});
