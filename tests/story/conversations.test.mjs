/* conversations.test.mjs - create, list, history and delete: every row and every error. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, cut } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError, expectNumbered } from '../support/expect.mjs';
import { promisedWithin, within } from '../support/deadline.mjs';

const MAX_ID = 2 ** 53 - 1;

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

const create = (user, body, options) => user.call('POST', '/api/conversations/create', body, options);

story('create answers with the conversation, api_key empty when none was given', async () => {
    const user = await s.user();
    const before = Math.floor(Date.now() / 1000);
    const res = await create(user, { title: 'Über 你好 "q" \\ \u2028', model: 'fake' });
    assert.equal(res.status, 200, res.text);
    assert.match(res.headers['content-type'], /^application\/json/);
    const { conversation_id: id, created_time: at, ...rest } = res.json;
    assert.deepEqual(rest, { title: 'Über 你好 "q" \\ \u2028', model: 'fake', api_key: '' });
    assert.ok(Number.isSafeInteger(id) && id >= 1 && id <= MAX_ID);
    assert.ok(Number.isInteger(at) && at >= before && at <= Date.now() / 1000);
    const keyed = await create(user, { title: 't', model: 'echo', api_key: 'sk-mine', unknown: [1, { deep: null }] });
    assert.equal(keyed.status, 200);
    assert.equal(keyed.json.api_key, 'sk-mine');
});

story('conversation ids are random, not counted', async () => {
    const user = await s.user();
    const ids = [];
    for (let i = 0; i < 20; i++)
        ids.push(await user.create('echo'));
    assert.equal(new Set(ids).size, 20);
    assert.ok(Math.max(...ids) > 2 ** 45, 'twenty random ids below 2^45');
    assert.ok(ids.some((id, i) => i > 0 && id < ids[i - 1]));
});

story('create refuses what it cannot take with 400', async () => {
    const user = await s.user();
    const bad = ['', '{', '[]', 'null', '{}', '{"title":"t"}', '{"model":"echo"}', '{"title":1,"model":"echo"}', '{"title":"t","model":1}',
        '{"title":"t","model":"echo","api_key":5}', '{"title":"t","model":"echo","api_key":"sk\\r\\nX-Evil: 1"}', '{"title":null,"model":"echo"}', '{"title":"t","model":""}', '{"title":"t","model":"echo"} trailing',
        Buffer.from([...Buffer.from('{"title":"'), 0xff, ...Buffer.from('","model":"echo"}')])];
    for (const body of bad) {
        const res = await create(user, body);
        assert.equal(res.status, 400, `${body}: ${res.text}`);
        expectError(res, 400, {});
    }
    expectError(await create(user, '{', { lang: 'zh-CN' }), 400, { lang: 'zh' });
    expectError(await create(user, { title: 't', model: 'no-such-model' }), 400, { code: 'unknown_model' });
    expectError(await create(user, { title: 't', model: 'no-such-model' }, { lang: 'zh' }), 400, { code: 'unknown_model', lang: 'zh' });
    const long = await create(user, { title: 'x'.repeat(100_000), model: 'echo' });
    assert.ok(long.status === 400 || long.status === 413, `a title of 100 KB: ${long.status}`);
    expectError(long, long.status, {});
    assert.deepEqual((await user.list()).json, []);
});

story('list is newest first, equal times by insertion, with three keys each', async () => {
    const user = await s.user();
    assert.deepEqual((await user.list()).json, []);
    const made = [];
    for (let i = 0; i < 30; i++)
        made.push((await create(user, { title: `title ${i}`, model: 'echo' })).json);
    const list = (await user.list()).json;
    assert.deepEqual(list, made.reverse().map(({ conversation_id, title, created_time }) => ({ conversation_id, title, created_time })));
});

story('a long list comes whole', async () => {
    const user = await s.user();
    const title = '长'.repeat(1000);
    const ids = [];
    for (let i = 0; i < 400; i += 20)
        ids.push(...await Promise.all(Array.from({ length: 20 }, () => create(user, { title, model: 'echo' }).then((r) => r.json.conversation_id))));
    const list = await user.list();
    assert.equal(list.status, 200);
    assert.equal(list.json.length, 400);
    assert.deepEqual(list.json.map((c) => c.conversation_id).sort(), ids.sort());
    assert.ok(list.json.every((c) => c.title === title));
});

story('history tells the conversation and its messages from message_id 1', async () => {
    const user = await s.user();
    const res = await create(user, { title: 'the title', model: 'fake' });
    const id = res.json.conversation_id;
    const empty = await user.history(id);
    assert.deepEqual(empty.json, { conversation_id: id, title: 'the title', model: 'fake', messages: [], created_time: res.json.created_time });
    expectAnswer(await user.ask(id, 'first?'), answerFor('first?'), { messageId: 2 });
    expectAnswer(await user.ask(id, 'second “question” \u0001\n?'), answerFor('second “question” \u0001\n?'), { messageId: 4 });
    const full = await user.history(id);
    assert.equal(full.status, 200);
    const { messages, ...head } = full.json;
    assert.deepEqual(head, { conversation_id: id, title: 'the title', model: 'fake', created_time: res.json.created_time });
    expectNumbered(messages);
    assert.deepEqual(messages.map((m) => m.content),
        ['first?', answerFor('first?'), 'second “question” \u0001\n?', answerFor('second “question” \u0001\n?')]);
    assert.ok(messages.every((m) => m.role === 'user' || m.state === 'complete'), JSON.stringify(messages));
    assert.doesNotMatch(full.text, /helpful assistant/);
});

story('the prompt carries system prompt, history and question in order', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    await user.ask(id, 'one');
    await user.ask(id, 'two');
    assert.deepEqual(provider.last('fake').body.messages, [
        { role: 'system', content: 'You are a helpful assistant.' },
        { role: 'user', content: 'one' }, { role: 'assistant', content: answerFor('one') }, { role: 'user', content: 'two' },
    ]);
    assert.equal(provider.last('fake').body.stream, true);
});

story('a history of several megabytes comes whole', async () => {
    const user = await s.user();
    provider.script('fake:parrot', async (a) => {
        for (const piece of cut(a.question, 20_000))
            await a.piece(piece);
        await a.finish();
    });
    const id = await user.create('fake:parrot');
    const question = '大きな '.repeat(90_000);
    for (let i = 0; i < 3; i++)
        expectAnswer(await user.ask(id, question + i), question + i, { messageId: 2 * i + 2 });
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.ok(messages.every((m, i) => m.content === question + Math.floor(i / 2)));
});

story('deleting makes a conversation unknown', async () => {
    const user = await s.user();
    const [gone, stays] = [await user.create('echo'), await user.create('echo')];
    await user.ask(gone, 'hello');
    const res = await user.del(gone);
    assert.equal(res.status, 200);
    assert.deepEqual(res.json, { message: 'Conversation deleted successfully' });
    expectError(await user.history(gone), 404, { code: 'not_found' });
    expectError(await user.del(gone), 404, { code: 'not_found' });
    expectError(await user.ask(gone, 'still there?'), 404, { code: 'not_found' });
    assert.deepEqual((await user.list()).json.map((c) => c.conversation_id), [stays]);
    const zh = await user.del(stays, { lang: 'zh' });
    assert.deepEqual(zh.json, { message: '对话删除成功' });
    expectError(await user.history(stays, { lang: 'zh' }), 404, { code: 'not_found', lang: 'zh' });
    assert.deepEqual((await user.list()).json, []);
});

story('deleting stops a running answer: its viewer gets an error with code deleted', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:deleted');
    const id = await user.create('fake:deleted');
    const opening = user.chat(id, 'tell me', { accept: 'application/x-ndjson' });
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    await answer.piece('some text');
    const stream = await opening;
    await stream.shows('some text');
    assert.equal((await user.del(id)).status, 200);
    const got = await stream.rest();
    assert.equal(got.kinds.at(-1), 'error');
    assert.equal(got.error.code, 'deleted');
    assert.equal(got.done, undefined);
    await promisedWithin(10_000, answer.closed, 'the provider sees the connection close');
    expectError(await user.history(id), 404, { code: 'not_found' });
});

story('deleting while the model still thinks: the asker gets an error with code deleted', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:deleted-early');
    const id = await user.create('fake:deleted-early');
    const opening = user.chat(id, 'tell me');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    assert.equal((await user.del(id)).status, 200);
    const got = await opening;
    assert.ok(got.status >= 400, String(got.status));
    expectError(got, got.status, { code: 'deleted' });
    await promisedWithin(10_000, answer.closed, 'the provider sees the connection close');
});

story('ids that are no integers are 400, ids that nobody has are 404', async () => {
    const user = await s.user();
    const shapes = [(id) => ['GET', `/api/conversations/history/${id}`], (id) => ['POST', `/api/conversations/del/${id}`], (id) => ['POST', `/api/chat/${id}`]];
    for (const shape of shapes) {
        for (const bad of ['abc', '1x', '1.5', '1e3', '0x10', '%31x', '-', '+1', '1%20', '--1', 'null']) {
            const [method, path] = shape(bad);
            const res = await user.call(method, path, method === 'POST' ? { message: 'm' } : undefined);
            assert.equal(res.status, 400, `${path}: ${res.status} ${res.text}`);
            expectError(res, 400, {});
        }
        for (const unknown of [1, 12345, MAX_ID]) {
            const [method, path] = shape(unknown);
            expectError(await user.call(method, path, method === 'POST' ? { message: 'm' } : undefined), 404, { code: 'not_found' });
        }
        /* integers that no conversation can have: clear either way, never a 500 and never somebody's */
        for (const outside of [0, -1, '9007199254740992', '18446744073709551616', '18446744073709551617', '99999999999999999999999']) {
            const [method, path] = shape(outside);
            const res = await user.call(method, path, method === 'POST' ? { message: 'm' } : undefined);
            assert.ok(res.status === 400 || res.status === 404, `${path}: ${res.status}`);
            expectError(res, res.status, {});
        }
    }
    expectError(await user.history('abc', { lang: 'zh' }), 400, { lang: 'zh' });
});

story('trailing slashes and query strings are accepted', async () => {
    const user = await s.user();
    const made = await user.call('POST', '/api/conversations/create/', { title: 't', model: 'echo' });
    assert.equal(made.status, 200);
    const id = made.json.conversation_id;
    assert.equal((await user.call('GET', '/api/conversations/list/')).status, 200);
    assert.equal((await user.call('GET', '/api/conversations/list?x=1')).status, 200);
    assert.equal((await user.call('GET', `/api/conversations/history/${id}/`)).status, 200);
    const res = await user.call('POST', `/api/chat/${id}/`, { message: 'hi' });
    assert.equal(res.status, 200);
    assert.equal((await user.call('POST', `/api/conversations/del/${id}/`)).status, 200);
    assert.equal((await s.api('POST', '/api/users/login/', { username: user.name, password: user.password })).status, 200);
    assert.equal((await s.api('POST', '/api/users/register/', { username: `${user.name}x`, password: user.password })).status, 201);
});
