/* restart.test.mjs - what was acknowledged is there after any end: SIGTERM and SIGKILL of all. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectNumbered } from '../support/expect.mjs';
import { until, within } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';

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

async function again() {
    await s.killAll();
    await s.startAll();
}

story('after SIGTERM of all and a new start everything is there, tokens and keys included', async () => {
    const user = await s.user();
    const id = await user.create('fake', { api_key: 'sk-of-this-conversation' });
    const other = await user.create('echo');
    await user.del(await user.create('echo'));
    expectAnswer(await user.ask(id, 'one'), answerFor('one'), { messageId: 2 });
    const before = [(await user.list()).json, (await user.history(id)).json];
    await s.stopAll({ keepDir: true });
    await s.startAll();
    assert.deepEqual([(await user.list()).json, (await user.history(id)).json], before);
    assert.deepEqual((await user.list()).json.map((c) => c.conversation_id), [other, id]);
    expectAnswer(await user.ask(id, 'two'), answerFor('two'), { messageId: 4 });
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-of-this-conversation');
    assert.equal((await s.login(user.name, user.password)).status, 200);
    assert.equal((await s.register(user.name, user.password)).status, 400);
});

story('SIGTERM in mid-answer ends cleanly, and all the text that was shown is kept', async () => {
    const user = await s.user();
    const { stream, id, answer } = await openAnswer(provider, user, 'fake:drained', 'shown before the end');
    await s.stopAll({ keepDir: true });
    const got = await stream.rest();
    assert.notEqual(got.done?.data, 'Stream finished');
    await s.startAll();
    const message = await until(20_000, async () => {
        const m = (await user.messages(id))[1];
        return m.state !== 'streaming' && m;
    }, 'the answer has ended');
    assert.equal(message.state, 'interrupted');
    assert.ok(message.content.startsWith('shown before the end'), message.content);
    answer.res.destroy();
});

story('kill -9 of all right after register: the user can log in', async () => {
    const made = await s.register('just-made', 'correct horse battery');
    await s.killAll();
    assert.equal(made.status, 201);
    await s.startAll();
    assert.equal((await s.login('just-made', 'correct horse battery')).status, 200);
});

story('kill -9 of all right after create and delete: one is there, the other is not', async () => {
    const user = await s.user();
    const gone = await user.create('echo');
    const [stays] = await Promise.all([user.create('echo'), user.del(gone)]);
    await again();
    assert.deepEqual((await user.list()).json.map((c) => c.conversation_id), [stays]);
    assert.equal((await user.history(gone)).status, 404);
});

story('kill -9 of all right after done: question and answer are there', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const stream = await user.chat(id, 'is it stored?');
    await stream.when(10_000, () => stream.events.some((e) => e.data.event === 'done'), 'done');
    await again();
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.deepEqual(messages.map((m) => [m.content, m.state]), [['is it stored?', undefined], [answerFor('is it stored?'), 'complete']]);
});

story('kill -9 of all under load: every answer whose done was seen is complete', async () => {
    const user = await s.user();
    const ids = await Promise.all(Array.from({ length: 20 }, () => user.create('fake')));
    const finished = new Map();    /* id -> number of answers seen to their end */
    let going = true;
    const workers = ids.map(async (id, i) => {
        for (let n = 0; going; n++) {
            try {
                const got = await user.ask(id, `${i}/${n}`);
                if (!got.done)
                    return;
                finished.set(id, n + 1);
            } catch {
                return;
            }
        }
    });
    await until(15_000, () => finished.size === ids.length, 'every conversation has an answer');
    going = false;
    await s.killAll();
    await Promise.all(workers);
    await s.startAll();
    for (const [i, id] of ids.entries()) {
        const messages = await user.messages(id);
        expectNumbered(messages);
        for (let n = 0; n < finished.get(id); n++) {
            assert.deepEqual(messages.slice(2 * n, 2 * n + 2).map((m) => m.content), [`${i}/${n}`, answerFor(`${i}/${n}`)]);
            assert.equal(messages[2 * n + 1].state, 'complete');
        }
    }
}, { deadline: 60_000 });

story('kill -9 of all in mid-answer: it ends as interrupted with what was journaled, and the talk goes on', async () => {
    const user = await s.user();
    const { id, stream, answer } = await openAnswer(provider, user, 'fake:dark', 'some words');
    await until(10_000, async () => (await user.messages(id))[1].content === 'some words', 'the words are journaled');
    await s.killAll();
    assert.equal((await stream.rest()).cut, true);
    await s.startAll();
    const message = await until(20_000, async () => {
        const m = (await user.messages(id))[1];
        return m.state !== 'streaming' && m;
    }, 'the answer has ended');
    assert.deepEqual([message.content, message.state], ['some words', 'interrupted']);
    assert.equal(await within(10_000, answer.closed.then(() => answer.record.closedEarly), 'the old connection is gone'), true);
    provider.script('fake:dark', async (a) => {
        await a.piece('light');
        await a.finish();
    });
    expectAnswer(await user.ask(id, 'again?'), 'light', { messageId: 4 });
    assert.deepEqual(provider.last('fake:dark').body.messages.slice(1).map((m) => m.content), ['question', 'some words', 'again?']);
}, { deadline: 60_000 });
