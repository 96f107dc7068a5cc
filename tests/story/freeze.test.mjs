/* freeze.test.mjs - each service stands still for two seconds in mid-answer (SIGSTOP, SIGCONT).
 *
 * Two seconds is less than it takes to be judged lost: every answer is complete, byte by byte,
 * and whoever asks something meanwhile gets an end or an error. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { SERVICES, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { pause, promised, promisedWithin } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';

const FREEZE_MS = 2000;

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { verify_cache_s: 1 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

for (const name of SERVICES) {
    story(`${name} stands still for two seconds: the answer is complete`, async () => {
        const user = await s.user();
        const other = await user.create('fake');
        const { stream, answer, id } = await openAnswer(provider, user, `fake:freeze-${name}`, 'before ');
        s.freeze(name);
        const meanwhile = [s.login(user.name, user.password), user.list(), user.ask(other, 'meanwhile')];
        for (let i = 0; i < 10; i++) {
            await answer.piece(`${i} `);
            await pause(FREEZE_MS / 10);
        }
        s.thaw(name);
        await answer.piece('after');
        await answer.finish();
        expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
        for (const got of await promisedWithin(30_000, Promise.all(meanwhile), 'calls made meanwhile end'))
            assert.ok([200, 503, 504].includes(got.status), `${got.status} ${JSON.stringify(got.json)}`);
        await promised(5000, async () => {
            const fresh = await user.ask(await user.create('fake'), 'and now?');
            expectAnswer(fresh, answerFor('and now?'), { messageId: 2 });
            return true;
        }, 'the system answers again');
        const m = (await user.messages(id))[1];
        assert.deepEqual([m.content, m.state], [answer.record.sent, 'complete']);
    }, { deadline: 60_000 });
}

story('a service frozen while nobody answers is judged by nobody', async () => {
    const user = await s.user();
    for (const name of SERVICES) {
        s.freeze(name);
        await pause(FREEZE_MS);
        s.thaw(name);
        await promised(5000, async () => (await user.ask(await user.create('fake'), name)).done, `answers after ${name}`);
    }
}, { deadline: 60_000 });
