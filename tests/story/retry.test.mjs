/* retry.test.mjs - the last question, answered anew: a new stream for the same message. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError, expectNumbered } from '../support/expect.mjs';
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

/** Lets the provider answer a model's next question with these pieces. */
function say(model, ...pieces) {
    provider.script(model, async (a) => {
        for (const piece of pieces)
            await a.piece(piece);
        await a.finish();
    });
}

story('a new answer takes the place of the old one', async () => {
    const user = await s.user();
    const id = await user.create('fake:again');
    say('fake:again', 'wrong');
    const first = await user.ask(id, 'what is right?');
    expectAnswer(first, 'wrong', { messageId: 2 });
    say('fake:again', 'right');
    const second = await (await user.retry(id)).rest();
    expectAnswer(second, 'right', { messageId: 2 });
    assert.notEqual(second.headers['stream-id'], first.headers['stream-id']);
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.deepEqual(messages.map((m) => m.content), ['what is right?', 'right']);
    const sent = provider.last('fake:again').body.messages.filter((m) => m.role !== 'system');
    assert.deepEqual(sent.map((m) => m.content), ['what is right?'], 'the old answer is not sent');
    expectError(await user.watch(id, { lastEventId: first.events.at(-1).id }), 410, { code: 'superseded' });
    expectAnswer(await (await user.watch(id, { at: s.at('gateway-2') })).rest(), 'right', { messageId: 2 });
});

story('an answer that was stopped or has failed is asked for again', async () => {
    const user = await s.user();
    const { stream, id } = await openAnswer(provider, user, 'fake:stopped', 'no, ');
    await until(15_000, async () => (await user.stop(id)).status === 200, 'it has stopped');
    await stream.rest();
    say('fake:stopped', 'yes');
    expectAnswer(await (await user.retry(id)).rest(), 'yes', { messageId: 2 });
    const broken = await user.create('fake:fails-once');
    provider.script('fake:fails-once', (a) => a.fail(500, { error: { message: 'not now' } }));
    expectError(await user.chat(broken, 'please'), 502, { code: 'upstream_error', says: 'not now' });
    say('fake:fails-once', 'now');
    expectAnswer(await (await user.retry(broken)).rest(), 'now', { messageId: 2 });
});

story('not while it is being written, and not of nothing', async () => {
    const user = await s.user();
    const id = await user.create('fake:busy');
    expectError(await user.retry(id), 404, { code: 'no_answer' });
    const hold = provider.hold('fake:busy');
    const opening = user.chat(id, 'question');
    const answer = await asked(hold, opening);
    expectError(await user.retry(id), 409, { code: 'answering' });
    await answer.piece('done');
    await answer.finish();
    expectAnswer(await (await opening).rest(), 'done', { messageId: 2 });
    expectError(await (await s.user()).retry(id), 404, { code: 'not_found' });
    expectError(await user.retry(id, { body: '{"on_disconnect":"perhaps"}' }), 400, { code: 'invalid' });
    expectError(await user.retry(id, { body: 'nonsense' }), 400, { code: 'invalid' });
});

story('a retry under a key is one retry', async () => {
    const user = await s.user();
    const id = await user.create('fake:keyed');
    say('fake:keyed', 'first');
    await user.ask(id, 'question');
    say('fake:keyed', 'second');
    const headers = { 'idempotency-key': 'retry-1' };
    const one = await (await user.retry(id, { headers })).rest();
    const two = await (await user.retry(id, { headers })).rest();
    expectAnswer(one, 'second', { messageId: 2 });
    expectAnswer(two, 'second', { messageId: 2 });
    assert.equal(two.headers['stream-id'], one.headers['stream-id']);
    assert.equal(provider.of('fake:keyed').length, 2);
});
