/* odd_input.test.mjs - input that is legal but unusual, or large: taken exactly or refused clearly. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { providerEntry, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, longText } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { RawConnection, parseResponse, rawRequest } from '../support/raw.mjs';
import { SLOW, pause, until } from '../support/deadline.mjs';

const MIB = 1024 * 1024;

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({
        config: { server: { max_body_bytes: 8 * MIB } }, env: { STORY_PROVIDER_KEY: 'sk-from-the-environment' },
        providers: [providerEntry(provider, { name: 'first', models: ['fake:env*', 'exact'], api_key: '', api_key_env: 'STORY_PROVIDER_KEY' }), providerEntry(provider)],
    });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

story('every code point that JSON can carry comes back as it was', async () => {
    const user = await s.user();
    let all = '';
    for (let c = 1; c < 0x800; c++)
        all += String.fromCodePoint(c);
    all += '\u2028\u2029\ufeff\ufffe\uffff\u{1f600}\u{10ffff}\ue000 e\u0301 \u202eabc';
    const id = await user.create('echo');
    expectAnswer(await user.ask(id, all), all, { messageId: 2 });
    expectAnswer(await user.ask(id, all, { accept: 'application/x-ndjson' }), all, { messageId: 4 });
    assert.deepEqual((await user.messages(id)).map((m) => m.content), [all, all, all, all]);
    const titled = await user.call('POST', '/api/conversations/create', { title: all.slice(0, 800), model: 'echo' });
    assert.equal(titled.json.title, all.slice(0, 800));
    assert.equal((await user.list()).json[0].title, all.slice(0, 800));
});

story('U+0000 and lone surrogates in a question are taken or refused, never half taken', async () => {
    const user = await s.user();
    for (const escape of ['a\\u0000b', '\\ud800', 'x\\udc00y', '\\ud83dz']) {
        const id = await user.create('echo');
        const got = await user.ask(id, null, { body: `{"message":"${escape}"}` });
        if (got.status === 200) {
            assert.ok(got.done);
            assert.equal((await user.messages(id))[1].content, got.text);
        } else {
            expectError(got, 400, {});
            assert.deepEqual(await user.messages(id), []);
        }
    }
});

story('doubled keys, deep nesting and numbers out of this world break nothing', async () => {
    const user = await s.user();
    for (const body of ['{"message":"a","message":"b"}', `{"x":${'['.repeat(10_000)}${']'.repeat(10_000)},"message":"m"}`, `${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}`,
        '{"n":1e999,"message":"m"}', `{"n":${'9'.repeat(5000)},"message":"m"}`, '{"n":-0.0e-0,"message":"m"}', `{"${'k'.repeat(100_000)}":1,"message":"m"}`,
        '{"message":"m","x":NaN}', '{"message":"m",}', '{"message":"m"/*c*/}', '\ufeff{"message":"m"}', '{"message":"\t"}', '{"mess\\u0061ge":"m"}']) {
        const got = await user.ask(await user.create('echo'), null, { body });
        assert.ok(got.status === 200 || got.status === 400, `${body.slice(0, 60)}: ${got.status}`);
        if (got.status === 200)
            assert.ok(got.done, body.slice(0, 60));
    }
    const bad = await Promise.all(['{"message":"m","x":NaN}', '{"message":"m",}', '{"message":"m"/*c*/}'].map(async (body) => user.ask(await user.create('echo'), null, { body })));
    assert.deepEqual(bad.map((g) => g.status), [400, 400, 400], 'what is no JSON was taken');
});

story('a client that has closed its sending side still gets its answers', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const body = '{"message":"said and done"}';
    for (const [request, mark] of [
        ['GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', '200'],
        [`GET /api/conversations/list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nConnection: close\r\n\r\n`, String(id)],
        [`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`, 'full_response'],
    ]) {
        const connection = new RawConnection(s.port);
        connection.socket.allowHalfOpen = true;
        connection.socket.end(request);
        const text = await connection.untilClosed();
        assert.ok(text.includes(mark), `${request.slice(0, 40)}: ${text.slice(0, 200)}`);
        connection.destroy();
    }
});

story('an address line of 100 KB is refused', async () => {
    const res = await rawRequest(s.port, `GET /${'a'.repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`);
    assert.ok([400, 414, 431].includes(res.status), String(res.status));
});

story('a request with two tokens is refused: a proxy may have checked the other one', async () => {
    const [one, other] = [await s.user(), await s.user()];
    const res = await rawRequest(s.port, `GET /api/conversations/list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${one.token}\r\nAuthorization: Bearer ${other.token}\r\nConnection: close\r\n\r\n`);
    assert.equal(res.status, 400);
});

story('a rubbish X-Forwarded-For harms nobody', async () => {
    for (const chain of [',,,', 'x'.repeat(3000), '999.999.999.999', '::::', '1.2.3.4:80, [::1]:9', '\u00e9'])
        expectError(await s.login('nobody', 'some password', { headers: { 'x-forwarded-for': Buffer.from(chain).toString('latin1') } }), 401, { code: 'bad_credentials' });
});

story('the key comes from the environment variable that the provider names, the first matching provider serves', async () => {
    const user = await s.user();
    provider.script('exact', (a) => a.piece('ok').then(() => a.finish()));
    provider.script('fake:env', (a) => a.piece('ok').then(() => a.finish()));
    for (const model of ['fake:env', 'exact']) {
        expectAnswer(await user.ask(await user.create(model), 'q'), 'ok', { messageId: 2 });
        assert.equal(provider.last(model).headers.authorization, 'Bearer sk-from-the-environment');
    }
    await user.ask(await user.create('fake'), 'q');
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-from-the-configuration');
    for (const model of ['exac', 'exactly', 'Fake', ' fake'])
        expectError(await user.call('POST', '/api/conversations/create', { title: 't', model }), 400, { code: 'unknown_model' });
});

story('a prompt that has grown too large is a 413 and leaves no trace', async () => {
    const user = await s.user();
    provider.script('fake:short', (a) => a.piece('ok').then(() => a.finish()));
    const id = await user.create('fake:short');
    const question = longText(5 * MIB);
    let taken = 0;
    let refused;
    while (taken < 10) {
        const got = await user.ask(id, question, { deadline: 60_000 });
        if (got.status !== 200) {
            refused = got;
            break;
        }
        expectAnswer(got, 'ok', { messageId: 2 * taken + 2 });
        taken++;
    }
    assert.ok(taken >= 2, `${taken} questions were taken`);
    expectError(refused, 413, { code: 'too_big' });
    assert.equal((await user.messages(id)).length, 2 * taken);
    expectAnswer(await user.ask(await user.create('fake'), 'elsewhere'), answerFor('elsewhere'), { messageId: 2 });
}, { deadline: 90_000 });

story('a client that reads nothing for a while gets all eight megabytes afterwards', async () => {
    const user = await s.user();
    const text = longText(6 * MIB);
    provider.script('fake:big', async (a) => {
        for (let i = 0; i < text.length; i += 30_000)
            await a.piece(text.slice(i, i + 30_000));
        await a.finish();
    });
    const id = await user.create('fake:big');
    const stream = await user.chat(id, 'go');
    stream.res.pause();
    await until(60_000, async () => {
        const head = await user.history(id, { timeout: 20_000 });
        return head.json.messages[1].state === 'complete';
    }, 'the answer is stored although nobody reads');
    stream.res.resume();
    expectAnswer(await stream.rest(60_000), text, { messageId: 2 });
}, { deadline: 120_000 });

story('a chunk that never begins does not keep a core busy', async () => {
    const cpu = () => fs.readFileSync(`/proc/${s.processes.get('gateway').pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 13)
        .reduce((sum, ticks) => sum + Number(ticks), 0);
    const odd = new RawConnection(s.port);
    odd.send(`POST /api/users/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2d;${'a'.repeat(30_000)}`);
    await odd.opened;
    const user = await s.user();    /* others are served, whichever of its threads has it */
    for (let i = 0; i < 10; i++)
        assert.equal((await user.list()).status, 200);
    const before = cpu();
    await pause(1500);
    const spent = cpu() - before;
    odd.destroy();
    if (SLOW === 1)
        assert.ok(spent < 75, `${spent * 10} ms of 1500`);
    expectAnswer(await user.ask(await user.create('fake'), 'after it'), answerFor('after it'), { messageId: 2 });
});

story('a request for the stream by HTTP/1.0 keep-alive is answered', async () => {
    const user = await s.user();
    const connection = new RawConnection(s.port);
    connection.send(`GET /api/conversations/list HTTP/1.0\r\nConnection: keep-alive\r\nAuthorization: Bearer ${user.token}\r\n\r\n`);
    await connection.until('[]');
    assert.equal(parseResponse(connection.text).status, 200);
    connection.destroy();
});
