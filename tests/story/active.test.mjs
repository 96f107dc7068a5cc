/* active.test.mjs - which of my answers are being written: what another device asks first. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { until } from '../support/deadline.mjs';
import { asked, openAnswer } from '../support/held.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, replicas: { gateway: 2 } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

story('answers in flight are told on any device, and lead to their streams', async () => {
    const user = await s.user();
    const other = s.at('gateway-2');
    assert.deepEqual((await user.active()).json, []);
    const began = Math.floor(Date.now() / 1000);
    const first = await openAnswer(provider, user, 'fake:a', 'text ');
    const hold = provider.hold('fake:b');
    const waiting = await user.create('fake:b');
    const opening = user.chat(waiting, 'question');
    const answer = await asked(hold, opening);
    const list = await until(5000, async () => {
        const { json } = await user.active({ at: other });
        return json.length === 2 && json.some((a) => a.state === 'streaming') && json;
    }, 'both answers are told');
    const [of, before_] = [list.find((a) => a.conversation_id === first.id), list.find((a) => a.conversation_id === waiting)];
    assert.deepEqual(Object.keys(of), ['conversation_id', 'message_id', 'stream_id', 'state', 'length', 'asked_time']);
    assert.equal(of.stream_id, first.stream.headers['stream-id']);
    assert.deepEqual([of.message_id, of.length], [2, 5]);
    assert.ok(of.asked_time >= began - 1 && of.asked_time <= Date.now() / 1000 + 1, String(of.asked_time));
    assert.deepEqual([before_.state, before_.length, before_.message_id], ['waiting', 0, 2]);
    const watching = await user.watch(first.id, { at: other, after: `${of.stream_id}:${of.length}` });
    await first.answer.piece('more');
    await first.answer.finish();
    assert.equal((await watching.rest()).text, 'more');
    expectAnswer(await first.stream.rest(), 'text more', { messageId: 2 });
    await answer.piece('x');
    await answer.finish();
    await (await opening).rest();
    assert.deepEqual((await user.active()).json, []);
});

story('nobody sees another\'s, and a deleted conversation has none', async () => {
    const user = await s.user();
    const { stream, id } = await openAnswer(provider, user, 'fake:mine', 'mine');
    assert.deepEqual((await (await s.user()).active()).json, []);
    assert.equal((await user.active()).json.length, 1);
    assert.equal((await user.del(id)).status, 200);
    await stream.rest();
    assert.deepEqual((await user.active()).json, []);
    expectError(await s.api('GET', '/api/chat/active'), 401);
    expectError(await user.call('POST', '/api/chat/active', { message: 'q' }), 405, { code: 'method_not_allowed' });
});
