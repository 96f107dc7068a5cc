/* concurrency.test.mjs - many users and conversations at once: no text crosses from one stream to
 * another, message_id has no gaps and no doubles, and nobody waits for anybody. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, cut } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectNumbered } from '../support/expect.mjs';
import { until } from '../support/deadline.mjs';

const USERS = 10;
const TALKS = 4;
const QUESTIONS = 4;

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

story('ten users with four conversations each talk at once, and no text is crossed', async () => {
    const users = await Promise.all(Array.from({ length: USERS }, () => s.user()));
    await Promise.all(users.flatMap((user, u) => Array.from({ length: TALKS }, async (_, t) => {
        const model = t % 2 ? 'echo' : 'fake';
        const expected = (q) => (model === 'echo' ? q : answerFor(q));
        const id = await user.create(model);
        const contents = [];
        for (let i = 0; i < QUESTIONS; i++) {
            const question = `u${u} t${t} q${i} ${'字'.repeat(u + t)}`;
            const got = await user.ask(id, question, { accept: i % 2 ? 'application/x-ndjson' : undefined, deadline: 60_000 });
            expectAnswer(got, expected(question), { messageId: 2 * i + 2 });
            contents.push(question, expected(question));
        }
        const messages = await user.messages(id);
        expectNumbered(messages);
        assert.deepEqual(messages.map((m) => m.content), contents);
    })));
    for (const user of users)
        assert.equal((await user.list()).json.length, TALKS);
}, { deadline: 90_000 });

story('many askers in one conversation: one at a time, numbered without gaps or doubles', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const taken = [];
    let refused = 0;
    await Promise.all(Array.from({ length: 12 }, async (_, w) => {
        for (let i = 0; i < 6; i++) {
            const got = await user.ask(id, `worker ${w} try ${i}`, { deadline: 60_000 });
            if (got.status === 409) {
                refused++;
                continue;
            }
            expectAnswer(got, answerFor(`worker ${w} try ${i}`));
            taken.push([got.done.message_id, `worker ${w} try ${i}`]);
        }
    }));
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.equal(messages.length, 2 * taken.length);
    assert.equal(taken.length + refused, 72);
    for (const [messageId, question] of taken) {
        assert.equal(messages[messageId - 2].content, question);
        assert.equal(messages[messageId - 1].content, answerFor(question));
    }
}, { deadline: 90_000 });

story('two hundred streams are open at the same time, each with its own text', async () => {
    const users = await Promise.all(Array.from({ length: 10 }, () => s.user()));
    const waiting = [];
    let release;
    const gate = new Promise((resolve) => {
        release = resolve;
    });
    provider.script('fake:gate', async (a) => {
        const pieces = cut(answerFor(a.question), 10);
        await a.piece(pieces[0]);
        waiting.push(a);
        await gate;
        for (const piece of pieces.slice(1))
            await a.piece(piece);
        await a.finish();
    });
    const streams = await Promise.all(users.flatMap((user, u) => Array.from({ length: 20 }, async (_, i) => {
        const question = `stream ${u}/${i}`;
        return [question, await user.chat(await user.create('fake:gate'), question)];
    })));
    await until(20_000, () => waiting.length === 200, () => `all are open at once: ${waiting.length} of 200`);
    release();
    await Promise.all(streams.map(async ([question, stream]) => expectAnswer(await stream.rest(60_000), answerFor(question), { messageId: 2 })));
}, { deadline: 90_000 });

story('registering, deleting and asking side by side disturbs nobody', async () => {
    await Promise.all(Array.from({ length: 12 }, async (_, n) => {
        const user = await s.user();
        for (let i = 0; i < 3; i++) {
            const [keep, drop] = await Promise.all([user.create('fake'), user.create('fake')]);
            const [got] = await Promise.all([user.ask(keep, `keep ${n}/${i}`), user.ask(drop, `drop ${n}/${i}`)]);
            expectAnswer(got, answerFor(`keep ${n}/${i}`), { messageId: 2 });
            assert.equal((await user.del(drop)).status, 200);
        }
        assert.equal((await user.list()).json.length, 3);
    }));
}, { deadline: 90_000 });

story('a storm of logins does not delay those who are already in', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const storm = Array.from({ length: 100 }, (_, i) => s.login(`nobody-${i}`, 'some password'));
    expectAnswer(await user.ask(id, 'in the storm'), answerFor('in the storm'), { messageId: 2 });
    for (const res of await Promise.all(storm))
        assert.ok([401, 503].includes(res.status), String(res.status));
}, { deadline: 60_000 });
