/* gaps.test.mjs - three of ten token frames are lost, and nobody notices.
 *
 * With test.drop_token_frames every client still gets every byte, in order, once, and its end. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, behaviours, cut } from '../support/fake_behaviours.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { within } from '../support/deadline.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { test: { drop_token_frames: 0.3 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

story('the services warn at start that frames are dropped', async () => {
    assert.match(['gateway', 'llm-svc'].map((n) => s.logs(n)).join(''), /drop_token_frames|drop/i);
});

story('sixty answers at once, pieces interleaved: every byte of each', async () => {
    const users = await Promise.all(Array.from({ length: 6 }, () => s.user()));
    provider.script('fake:many', async (a) => {
        for (const piece of cut(answerFor(a.question).repeat(5), 3)) {
            await a.piece(piece);
            if (a.record.sent.length % 7 === 0)
                await new Promise((resolve) => setImmediate(resolve));
        }
        await a.finish();
    });
    const jobs = users.flatMap((user, u) => Array.from({ length: 10 }, async (_, i) => {
        const question = `user ${u} question ${i} 你好`;
        const id = await user.create('fake:many');
        const got = await user.ask(id, question, { accept: i % 2 ? 'application/x-ndjson' : undefined, deadline: 60_000 });
        expectAnswer(got, answerFor(question).repeat(5), { messageId: 2 });
        assert.ok((await user.messages(id))[1].content === got.text);
    }));
    await Promise.all(jobs);
}, { deadline: 90_000 });

story('a lost last frame is noticed although nothing follows it', async () => {
    const user = await s.user();
    for (let i = 0; i < 12; i++) {
        const model = `fake:tail-${i}`;
        const hold = provider.hold(model);
        const opening = user.chat(await user.create(model), 'go');
        const answer = await within(10_000, hold.next(), 'the provider is asked');
        await answer.piece('first');
        const stream = await opening;
        await answer.piece(' second');
        await stream.shows('first second', 10_000);    /* while the provider keeps silent */
        await answer.finish();
        expectAnswer(await stream.rest(), 'first second', { messageId: 2 });
    }
}, { deadline: 120_000 });

for (const model of ['megabyte', 'burst', 'escapes', 'bytes']) {
    story(`fake:${model} is whole`, async () => {
        const user = await s.user();
        const all = await Promise.all(Array.from({ length: 4 }, async () => user.ask(await user.create(`fake:${model}`), 'q', { deadline: 60_000 })));
        for (const got of all)
            expectAnswer(got, behaviours[model].text, { messageId: 2 });
    }, { deadline: 60_000 });
}
