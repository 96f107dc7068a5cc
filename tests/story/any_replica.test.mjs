/* any_replica.test.mjs - what a client does to an answer works through any gateway and any convo-svc, also while one of them goes. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectText } from '../support/expect.mjs';
import { promised, promisedWithin } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';

const skip = havePostgres ? false : 'no PostgreSQL here';
const ROUNDS = 8;   /* which replica is asked is chance: each of the four ways is met many times */

let provider;
let postgres;
let s;
let gateways;
before(async () => {
    if (!havePostgres)
        return;
    provider = await startProvider();
    postgres = await startPostgres();
    s = await start({
        provider, postgres, replicas: { gateway: 2, 'auth-svc': 2, 'convo-svc': 2, 'llm-svc': 2 },
        config: { gateway: { reattach_s: 20 }, convo: { disconnect_stop_s: 1 } },
    });
    gateways = [s, s.at('gateway-2')];
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
    await postgres?.remove();
});

const keyed = (key) => ({ headers: { 'idempotency-key': key } });

story('a stop reaches the owner, wherever it is asked for', async () => {
    const user = await s.user();
    for (let i = 0; i < ROUNDS; i++) {
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:any-stop', 'half ');
        const watching = await user.watch(id, { at: gateways[i % 2] });
        const res = await promised(10_000, async () => {
            const got = await user.stop(id, { at: gateways[i % 2] });
            return got.status !== 202 && got;   /* wanted, but not over within two seconds: a busy machine */
        }, 'the answer is stopped');
        assert.equal(res.status, 200, res.text);
        assert.equal(res.json.state, 'stopped');
        await promisedWithin(5000, answer.closed, 'the provider sees that it is not wanted any more');
        for (const viewer of [stream, watching])
            expectAnswer(await viewer.rest(), 'half ', { messageId: 2, finish: 'stopped' });
        assert.deepEqual((await user.active({ at: gateways[i % 2] })).json, []);
    }
}, { skip });

story('an answer is read on through any replica', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:any-read', 'begin ');
    let seen = '';
    let at = `${stream.headers['stream-id']}:0`;
    for (let i = 0; i < ROUNDS; i++) {
        await answer.piece(`${i}ß `);
        const viewer = await user.watch(id, { at: gateways[i % 2], lastEventId: at });
        await viewer.shows(`${i}ß `);
        viewer.leave();
        seen += viewer.shown;
        at = viewer.events.at(-1).id;
    }
    await answer.finish();
    expectText(seen, answer.record.sent, 'all parts');
    expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
    for (let i = 0; i < ROUNDS; i++)
        expectAnswer(await (await user.watch(id, { at: gateways[i % 2] })).rest(), answer.record.sent, { messageId: 2 });
}, { skip });

story('one key is one conversation, one question and one retry through all of them', async () => {
    const user = await s.user();
    const all = Array.from({ length: 16 }, (_, i) => gateways[i % 2]);
    const made = await Promise.all(all.map((at) =>
        at.api('POST', '/api/conversations/create', { title: 'race', model: 'fake' }, { token: user.token, ...keyed('race') })));
    assert.equal(new Set(made.map((res) => res.text)).size, 1, JSON.stringify(made.map((res) => res.text)));
    const id = made[0].json.conversation_id;
    for (const path of [undefined, `/api/chat/${id}/retry`]) {
        const body = path ? '' : undefined;
        const streams = await Promise.all(all.map((at) => at.chat(user.token, id, 'race', { path, body, ...keyed('race') })));
        for (const stream of streams)
            expectAnswer(await stream.rest(), answerFor('race'), { messageId: 2 });
        assert.equal(new Set(streams.map((stream) => stream.headers['stream-id'])).size, 1);
    }
    assert.equal(provider.of('fake').filter((r) => r.question === 'race').length, 2);
}, { skip });

story('an answer that was asked to stop alone stops when both gateways have lost their readers', async () => {
    const user = await s.user();
    for (let i = 0; i < 3; i++) {
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:any-alone', 'seen ', { body: { message: 'q', on_disconnect: 'stop' } });
        const watching = await user.watch(id, { at: gateways[1] });
        await watching.shows('seen ');
        stream.leave();
        await answer.piece('on ');
        await watching.shows('on ');
        watching.leave();
        await promisedWithin(20_000, answer.closed, 'the provider sees that it is not wanted any more');
        await promised(5000, async () => (await user.messages(id)).at(-1).state === 'stopped', 'the answer has stopped');
    }
}, { skip, deadline: 90_000 });

story('a stop is kept when the owner dies with it', async () => {
    const user = await s.user();
    for (const victim of ['convo-svc', 'convo-svc-2']) {
        const { stream, id } = await openAnswer(provider, user, 'fake:any-dies', 'half ');
        await s.kill(victim);
        const res = await promised(5000, async () => {
            const got = await user.stop(id);
            return got.status !== 503 && got;   /* once more, as Retry-After says */
        }, 'the stop is taken');
        assert.ok(res.status === 200 || res.status === 202, res.text);
        const got = await promisedWithin(20_000, stream.rest(20_000), 'the end of the answer, which another one has taken over');
        assert.equal(got.done?.finish_reason, 'stopped', JSON.stringify(got.events.slice(-2)));
        const again = await user.stop(id);
        assert.deepEqual([again.status, again.json.state], [200, 'stopped']);
        await s.bring(victim);
    }
}, { skip, deadline: 60_000 });
