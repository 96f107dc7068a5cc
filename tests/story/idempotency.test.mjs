/* idempotency.test.mjs - the same request twice under one Idempotency-Key is one request. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { openAnswer } from '../support/held.mjs';

let provider;
let s;
let other;   /* a client of the second gateway */
before(async () => {
    provider = await startProvider();
    s = await start({ provider, replicas: { gateway: 2 } });
    other = s.at('gateway-2');
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

const keyed = (key) => ({ headers: { 'idempotency-key': key } });

story('a question that is sent twice is asked once, and both hear the answer', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:twice', 'one ', keyed('q-1'));
    const again = await other.chat(user.token, id, 'question', keyed('q-1'));
    await again.shows('one ');
    assert.equal(again.headers['stream-id'], stream.headers['stream-id']);
    await answer.piece('two');
    await answer.finish();
    for (const viewer of [stream, again])
        expectAnswer(await viewer.rest(), 'one two', { messageId: 2 });
    const late = await (await other.chat(user.token, id, 'question', keyed('q-1'))).rest();
    expectAnswer(late, 'one two', { messageId: 2 });
    assert.equal(late.headers['stream-id'], stream.headers['stream-id']);
    assert.equal(provider.of('fake:twice').length, 1);
    assert.equal((await user.messages(id)).length, 2);
});

story('another question under the same key is refused, in another conversation it is another key', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'one', keyed('k')), answerFor('one'), { messageId: 2 });
    expectError(await user.chat(id, 'two', keyed('k')), 422, { code: 'key_reused' });
    expectError(await user.chat(id, 'two', { ...keyed('k'), lang: 'zh' }), 422, { code: 'key_reused', lang: 'zh' });
    const second = await user.create('fake');
    expectAnswer(await user.ask(second, 'two', keyed('k')), answerFor('two'), { messageId: 2 });
    expectAnswer(await user.ask(id, 'two', keyed('k2')), answerFor('two'), { messageId: 4 });
    expectAnswer(await user.ask(id, 'two'), answerFor('two'), { messageId: 6 });
});

story('a conversation that is made twice is one', async () => {
    const user = await s.user();
    const body = { title: 'once', model: 'fake', api_key: 'sk-mine' };
    const make = (client, change = {}, key = 'c-1') => client.api('POST', '/api/conversations/create', { ...body, ...change }, { token: user.token, ...keyed(key) });
    const one = await make(s);
    const two = await make(other);
    assert.equal(one.status, 200, one.text);
    assert.deepEqual(two.json, one.json);
    assert.equal((await user.list()).json.length, 1);
    for (const change of [{ title: 'twice' }, { model: 'echo' }, { api_key: 'sk-other' }])
        expectError(await make(other, change), 422, { code: 'key_reused' });
    assert.notEqual((await make(s, {}, 'c-2')).json.conversation_id, one.json.conversation_id);
    const stranger = await s.user();
    const theirs = await s.api('POST', '/api/conversations/create', body, { token: stranger.token, ...keyed('c-1') });
    assert.notEqual(theirs.json.conversation_id, one.json.conversation_id);
});

story('many at once make one conversation and ask one question', async () => {
    const user = await s.user();
    const body = { title: 'race', model: 'fake' };
    const made = await Promise.all(Array.from({ length: 12 }, (_, i) =>
        (i % 2 ? other : s).api('POST', '/api/conversations/create', body, { token: user.token, ...keyed('race') })));
    const ids = new Set(made.map((res) => res.json.conversation_id));
    assert.equal(ids.size, 1, JSON.stringify(made.map((res) => res.text)));
    const [id] = ids;
    const streams = await Promise.all(Array.from({ length: 12 }, (_, i) => (i % 2 ? other : s).chat(user.token, id, 'race', keyed('race'))));
    for (const stream of streams)
        expectAnswer(await stream.rest(), answerFor('race'), { messageId: 2 });
    assert.equal(new Set(streams.map((stream) => stream.headers['stream-id'])).size, 1);
});

story('a key has 1 to 255 visible ASCII characters', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    for (const bad of ['', 'a b', 'x'.repeat(256), 'ü']) {
        expectError(await user.chat(id, 'q', keyed(bad)), 400, { code: 'invalid' });
        expectError(await user.call('POST', '/api/conversations/create', { title: 't', model: 'fake' }, keyed(bad)), 400, { code: 'invalid' });
        expectError(await user.retry(id, keyed(bad)), 400, { code: 'invalid' });
    }
    for (const two of [['a', 'b'], ['same', 'same']]) {
        expectError(await user.chat(id, 'q', keyed(two)), 400, { code: 'invalid' });
        expectError(await user.call('POST', '/api/conversations/create', { title: 't', model: 'fake' }, keyed(two)), 400, { code: 'invalid' });
        expectError(await user.retry(id, keyed(two)), 400, { code: 'invalid' });
    }
    assert.equal((await user.messages(id)).length, 0);
    expectAnswer(await user.ask(id, 'q', keyed('~'.repeat(255))), answerFor('q'), { messageId: 2 });
});
