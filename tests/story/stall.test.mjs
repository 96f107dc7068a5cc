/* stall.test.mjs - a service stands still for good, far longer than anybody waits: every client gets
 * an end or an error within its deadline, and when the service wakes up again, all is well.
 *
 * Every scenario has a stack of its own, so that their waiting goes on side by side. */
import { after, before, describe } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { asked, openAnswer } from '../support/held.mjs';
import { promised, promisedWithin, SLOW, until } from '../support/deadline.mjs';

const REQUEST_TIMEOUT_S = 2;

let provider;
before(async () => {
    provider = await startProvider();
});
after(() => provider?.stop());

/** Runs a scenario with a stack and a user of its own. */
async function alone(fn) {
    const s = await start({ provider, config: { gateway: { request_timeout_s: REQUEST_TIMEOUT_S, reattach_s: 4, verify_cache_s: 1 } } });
    try {
        await fn(s, await s.user());
    } finally {
        await s.stopAll();
    }
}

/** A call that must be refused in time. */
async function refused(calling) {
    const began = Date.now();
    const res = await calling;
    assert.ok(res.status === 503 || res.status === 504, `${res.status} ${res.text}`);
    expectError(res, res.status, {});
    assert.ok(Date.now() - began < 5 * REQUEST_TIMEOUT_S * 1000 * SLOW, `refused after ${Date.now() - began} ms`);
}

const ended = (user, id) => until(30_000, async () => {
    const m = (await user.messages(id)).at(-1);
    return m.state !== 'streaming' && m;
}, 'the answer has ended');

describe('stalls', { concurrency: true }, () => {
    story('auth-svc stands still: calls are refused in time, the running answer goes on', () => alone(async (s, user) => {
        const { stream, answer } = await openAnswer(provider, user, 'fake:stall-auth', 'one ');
        s.freeze('auth-svc');
        await refused(s.login(user.name, user.password));
        await refused(promised(10_000, async () => {
            const res = await user.list();
            return res.status !== 200 && res;    /* the token's verdict was cached */
        }, 'list is refused'));
        await promised(10_000, async () => (await s.api('GET', '/readyz')).status === 503, 'readyz says no');
        await answer.piece('two');
        await answer.finish();
        expectAnswer(await stream.rest(), 'one two', { messageId: 2 });
        s.thaw('auth-svc');
        await s.ready();
    }), { deadline: 90_000 });

    story('convo-svc stands still: calls are refused in time, the asker gets an error event, the answer is kept', () => alone(async (s, user) => {
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:stall-convo', 'one ');
        s.freeze('convo-svc');
        await refused(user.list());
        await refused(user.history(id));
        await answer.piece('two');
        await answer.finish();
        const got = await promisedWithin(60_000, stream.rest(60_000), 'the end of the stream');
        assert.equal(got.kinds.at(-1), 'error', JSON.stringify(got.kinds));
        s.thaw('convo-svc');
        await s.ready();
        const m = await ended(user, id);
        assert.deepEqual([m.content, m.state], ['one two', 'complete']);
    }), { deadline: 120_000 });

    story('llm-svc stands still in mid-answer: interrupted with all that was shown, by whoever is left', () => alone(async (s, user) => {
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:stall-llm', 'one ');
        for (let i = 0; i < 20; i++)
            await answer.piece(`${i} `);
        await stream.shows(' 19 ');
        s.freeze('llm-svc');
        const got = await promisedWithin(60_000, stream.rest(60_000), 'the end of the stream');
        assert.equal(got.error?.code, 'interrupted', JSON.stringify(got.kinds.slice(-3)));
        assert.equal(got.text, answer.record.sent);
        const m = await ended(user, id);
        assert.deepEqual([m.content, m.state], [answer.record.sent, 'interrupted']);
        await answer.piece('too late');
        s.thaw('llm-svc');
        await s.ready();
        assert.deepEqual((await user.messages(id))[1], m, 'the thawed llm-svc wrote into an ended answer');
        answer.res.destroy();
    }), { deadline: 120_000 });

    story('llm-svc stands still before the first piece and dies: the question is asked again', () => alone(async (s, user) => {
        const hold = provider.hold('fake:stall-llm-early');
        const id = await user.create('fake:stall-llm-early');
        const opening = user.chat(id, 'question', { timeout: 60_000 });
        const first = await asked(hold, opening);
        s.freeze('llm-svc');
        await first.piece('never shown');
        await promised(30_000, async () => (await s.api('GET', '/readyz')).status === 503, 'readyz says no');
        await s.kill('llm-svc');
        s.start('llm-svc');
        const second = await asked(hold, opening);
        await second.piece('at last');
        await second.finish();
        expectAnswer(await (await opening).rest(), 'at last', { messageId: 2 });
        assert.deepEqual((await user.messages(id)).map((m) => m.content), ['question', 'at last']);
    }), { deadline: 120_000 });
});
