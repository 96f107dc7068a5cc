/* kill.test.mjs - SIGKILL of each service in mid-answer, started again: within five seconds the
 * system answers again without touching the others, and every answer ends truthfully. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectBroken, expectError, expectNumbered } from '../support/expect.mjs';
import { promised, until, within } from '../support/deadline.mjs';
import { asked, heldQuestion, openAnswer } from '../support/held.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { reattach_s: 10, verify_cache_s: 1 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

/** Starts a killed service, if that has not been done; the system must answer a whole question within five seconds. */
async function revive(name, user) {
    if (!s.running(name))
        s.start(name);
    await promised(5000, async () => {
        await user.login();
        const got = await user.ask(await user.create('fake'), 'are you back?', { deadline: 5000 });
        return got.done !== undefined && (await s.api('GET', '/readyz')).status === 200;
    }, `the system answers again after ${name} was killed`);
}

async function ended(user, id) {
    return until(30_000, async () => {
        const m = (await user.messages(id)).at(-1);
        return m.state !== 'streaming' && m;
    }, 'the answer has ended');
}

story('auth-svc dies: the answer goes on, new calls get 503 until it is back', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill-auth', 'one ');
    await s.kill('auth-svc');
    await answer.piece('two ');
    await stream.shows('two ');
    const res = await promised(15_000, async () => {
        const r = await s.login(user.name, user.password);
        return r.status === 503 && r;
    }, 'login answers 503');
    expectError(res, 503, {});
    assert.match(res.headers['retry-after'], /^\d+$/);
    expectError(await s.login(user.name, user.password, { lang: 'zh' }), 503, { lang: 'zh' });
    await promised(10_000, async () => (await s.api('GET', '/readyz')).status === 503, 'readyz says no');
    assert.equal((await s.api('GET', '/healthz')).status, 200);
    await revive('auth-svc', user);
    await answer.piece('three');
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two three', { messageId: 2 });
    assert.equal((await ended(user, id)).state, 'complete');
    assert.equal((await s.login(user.name, user.password)).status, 200);
}, { deadline: 60_000 });

story('convo-svc dies: the asker\'s connection survives, the answer is complete', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill-convo', 'one ');
    await s.kill('convo-svc');
    await answer.piece('two ');
    const res = await promised(15_000, async () => {
        const r = await user.list();
        return r.status === 503 && r;
    }, 'list answers 503');
    expectError(res, 503, {});
    assert.match(res.headers['retry-after'], /^\d+$/);
    await answer.piece('three ');
    await revive('convo-svc', user);
    await answer.piece('four');
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two three four', { messageId: 2 });
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.deepEqual([messages[1].content, messages[1].state], ['one two three four', 'complete']);
}, { deadline: 60_000 });

story('convo-svc dies and the provider ends meanwhile: complete all the same', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill-convo-end', 'begun, ');
    await s.kill('convo-svc');
    await answer.piece('ended while nobody wrote it down');
    await answer.finish();
    await revive('convo-svc', user);
    expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
    const m = await ended(user, id);
    assert.deepEqual([m.content, m.state], [answer.record.sent, 'complete']);
}, { deadline: 60_000 });

story('convo-svc dies before the first piece: the answer comes, once', async () => {
    const user = await s.user();
    const { opening, answer: first, id, hold } = await heldQuestion(s, provider, user, 'fake:kill-convo-early');
    await s.kill('convo-svc');
    s.start('convo-svc');
    hold.next().then(async (again) => {    /* it may be asked once more; the first is as good */
        await again.piece('patience');
        await again.finish();
    });
    await first.piece('patience');
    await first.finish();
    const stream = await within(30_000, opening, 'the stream opens');
    expectAnswer(await stream.rest(), 'patience', { messageId: 2 });
    await revive('convo-svc', user);
    assert.equal((await user.messages(id)).length, 2);
}, { deadline: 60_000 });

story('llm-svc dies in mid-answer: interrupted, with all the text that was shown', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill-llm', 'one ');
    for (let i = 0; i < 50; i++)
        await answer.piece(`piece ${i} `);
    await stream.shows('piece 49 ');
    await s.kill('llm-svc');
    await revive('llm-svc', user);
    const got = await stream.rest();
    expectBroken(got, answer.record.sent, 'interrupted');
    const m = await ended(user, id);
    assert.deepEqual([m.content, m.state], [answer.record.sent, 'interrupted']);
    expectAnswer(await user.ask(await user.create('fake'), 'and now?'), answerFor('and now?'), { messageId: 2 });
}, { deadline: 60_000 });

story('llm-svc dies at the moment of showing: the history has at least what the asker saw', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill-llm-tail', 'one ');
    const flood = (async () => {
        for (let i = 0; i < 5000 && !answer.res.destroyed; i++)
            await answer.piece(`${i} `);
    })();
    await stream.shows('300 ');
    await s.kill('llm-svc');
    await flood;
    await revive('llm-svc', user);
    const got = await stream.rest();
    assert.equal(got.error?.code, 'interrupted', JSON.stringify(got.kinds.slice(-3)));
    const m = await ended(user, id);
    assert.equal(m.state, 'interrupted');
    assert.ok(answer.record.sent.startsWith(m.content), 'the history holds text that was never sent');
    assert.equal(m.content, got.text, 'the history ends elsewhere than what the asker saw');
}, { deadline: 60_000 });

story('llm-svc dies before the first piece: the question is asked again and answered', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:kill-llm-early');
    const id = await user.create('fake:kill-llm-early');
    const opening = user.chat(id, 'question');
    await asked(hold, opening);
    await s.kill('llm-svc');
    s.start('llm-svc');
    const second = await within(30_000, hold.next(), 'the provider is asked again');
    await second.piece('second attempt');
    await second.finish();
    expectAnswer(await (await opening).rest(), 'second attempt', { messageId: 2 });
    assert.deepEqual((await user.messages(id)).map((m) => m.content), ['question', 'second attempt']);
    await revive('llm-svc', user);
}, { deadline: 60_000 });

story('with llm-svc away a question gets 503 and leaves no trace', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    const ways = s.ways('convo-svc', 'llm-svc');
    await s.kill('llm-svc');
    await promised(10_000, async () => (await s.api('GET', '/readyz')).status === 503, 'readyz says no');
    await promised(10_000, () => s.ways('convo-svc', 'llm-svc') === ways - 1, 'convo-svc, which decides, knows it, too');
    const got = await user.ask(id, 'anybody?');
    expectError(got, 503, { code: 'unavailable' });
    assert.match(got.headers['retry-after'], /^\d+$/);
    assert.deepEqual(await user.messages(id), []);
    await revive('llm-svc', user);
    expectAnswer(await user.ask(id, 'and now?'), answerFor('and now?'), { messageId: 2 });
}, { deadline: 60_000 });

story('the gateway dies: connections break, the answers are finished and stored', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill-gateway', 'one ');
    await s.kill('gateway');
    const got = await stream.rest();
    assert.equal(got.cut, true);
    assert.equal(got.done, undefined);
    await answer.piece('two');
    await answer.finish();
    await revive('gateway', user);
    const m = await ended(user, id);
    assert.deepEqual([m.content, m.state], ['one two', 'complete']);
}, { deadline: 60_000 });
