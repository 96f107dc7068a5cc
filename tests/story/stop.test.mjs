/* stop.test.mjs - stopping an answer: from any device, at any moment, once or twice. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { promised, promisedWithin, until } from '../support/deadline.mjs';
import { asked, openAnswer } from '../support/held.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, replicas: { gateway: 2 }, config: { convo: { disconnect_stop_s: 1 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

/** Stops an answer; asks again while it is only told that it will end (202): a busy machine may take its time. */
const stop = (user, id, options) => promised(15_000, async () => {
    const res = await user.stop(id, options);
    return res.status !== 202 && res;
}, 'the answer has stopped');

/** Right after a stop: upstream it is closed within a second, and what a machine may stand still. */
const seesTheEnd = (answer) => promisedWithin(5000, answer.closed, 'the provider sees that it is not wanted any more');

const lastOf = async (user, id) => (await user.messages(id)).at(-1);

story('a stop from another device ends the answer for everybody, with what there is', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:stop', 'half of ');
    const watching = await user.watch(id, { at: s.at('gateway-2') });
    await watching.shows('half of ');
    const res = await stop(user, id, { at: s.at('gateway-2') });
    assert.equal(res.status, 200, res.text);
    assert.deepEqual(res.json, { state: 'stopped', message_id: 2, finish_reason: 'stopped', stream_id: stream.headers['stream-id'] });
    await seesTheEnd(answer);
    for (const viewer of [stream, watching])
        expectAnswer(await viewer.rest(), 'half of ', { messageId: 2, finish: 'stopped' });
    const m = await lastOf(user, id);
    assert.deepEqual([m.content, m.state], ['half of ', 'stopped']);
    assert.deepEqual((await user.stop(id)).json, res.json);
    assert.deepEqual((await user.active()).json, []);
});

story('a stop before the first token', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:stop-early');
    const id = await user.create('fake:stop-early');
    const opening = user.chat(id, 'question');
    const answer = await asked(hold, opening);
    const res = await stop(user, id);
    assert.equal(res.status, 200, res.text);
    assert.equal(res.json.state, 'stopped');
    await seesTheEnd(answer);
    expectAnswer(await (await opening).rest(), '', { messageId: 2, finish: 'stopped' });
    provider.script('fake:stop-early', async (a) => {
        await a.piece('next');
        await a.finish();
    });
    expectAnswer(await user.ask(id, 'and now?'), 'next', { messageId: 4 });
});

story('a stop of what has ended tells how; of what never was, 404', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    expectError(await user.stop(id), 404, { code: 'no_answer' });
    expectError(await user.stop(id, { lang: 'zh' }), 404, { code: 'no_answer', lang: 'zh' });
    const got = await user.ask(id, 'hello');
    const res = await user.stop(id);
    assert.equal(res.status, 200);
    assert.deepEqual(res.json, { state: 'complete', message_id: 2, finish_reason: 'stop', stream_id: got.headers['stream-id'] });
    expectError(await (await s.user()).stop(id), 404, { code: 'not_found' });
    expectError(await user.stop('x'), 400);
    expectError(await s.api('GET', `/api/chat/${id}/stop`, undefined, { token: user.token }), 405);
    expectError(await s.api('POST', `/api/chat/${id}/stop`), 401);
});

story('"on_disconnect": "stop" ends an answer that nobody reads any more', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:alone', 'seen ', { body: { message: 'question', on_disconnect: 'stop' } });
    const watching = await user.watch(id, { at: s.at('gateway-2') });
    await watching.shows('seen ');
    stream.leave();
    await answer.piece('by one ');
    await watching.shows('by one ');
    watching.leave();
    await promised(15_000, async () => (await lastOf(user, id)).state === 'stopped', 'the answer has stopped');
    await seesTheEnd(answer);
    assert.equal((await lastOf(user, id)).content, 'seen by one ');
}, { deadline: 45_000 });

story('without it, or with "continue", an answer goes on alone; anything else is 400', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:goes-on', 'seen ', { body: { message: 'question', on_disconnect: 'continue' } });
    stream.leave();
    await answer.piece('by nobody');
    await answer.finish();
    await until(10_000, async () => (await lastOf(user, id)).state === 'complete', 'the answer is complete');
    for (const bad of ['', 'Stop', 'no', 1, true, []])
        expectError(await user.chat(id, '', { body: { message: 'q', on_disconnect: bad } }), 400, { code: 'invalid' });
});
