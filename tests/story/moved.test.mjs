/* moved.test.mjs - a convo-svc freezes with a request in hand; another one is asked, more happens, it thaws: nothing is done twice.
 *
 * The process stops itself between two steps (test.freeze_at, see svc/svc_fault.h), so each of these freezes stands exactly where the
 * request has been read, but not committed. Which replica is asked is chance: each story asks until the one that is to freeze was.
 */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { after, before } from 'node:test';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { until } from '../support/deadline.mjs';
import { asked, openAnswer } from '../support/held.mjs';

const skip = havePostgres ? false : 'no PostgreSQL here';
const options = { skip, deadline: 120_000 };
const VICTIM = 'convo-svc-2';
const ROUNDS = 30;   /* each has an even chance */

let provider;
let postgres;
let s;
let texts = 0;
before(async () => {
    if (!havePostgres)
        return;
    provider = await startProvider();
    /* Each answer is another one. */
    provider.script('fake:moved', async (answer) => {
        await answer.piece(`text ${++texts}`);
        await answer.finish();
    });
    postgres = await startPostgres();
    s = await start({ provider, postgres, replicas: { 'convo-svc': 2 }, own: { [VICTIM]: {} }, config: { gateway: { workers: 1 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
    await postgres?.remove();
});

async function dismiss() {
    if (!s.running(VICTIM))
        return;
    s.thaw(VICTIM);
    await s.kill(VICTIM);
}

/** Starts the victim anew: it will freeze at this point. */
async function arm(point) {
    await dismiss();
    s.own[VICTIM] = { test: { freeze_at: point } };
    s.writeConfig();
    const { pid } = s.start(VICTIM);
    await until(10_000, () => {
        const [, instance] = new RegExp(`instance ([0-9a-f]{16}), process ${pid}\\b`).exec(s.logs(VICTIM)) ?? [];
        return instance && s.logs('gateway').includes(`is up (instance ${instance}`);
    }, `the gateway knows the new ${VICTIM}`);
}

/** Stopped by itself, all of it. */
function isFrozen() {
    const stat = fs.readFileSync(`/proc/${s.processes.get(VICTIM).pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] === 'T';
}

/** Does `act` until it has met the victim, which froze of it: what act gave then. */
async function untilFrozen(act) {
    for (let i = 0; i < ROUNDS; i++) {
        const got = await act();
        if (isFrozen())
            return got;
    }
    throw new Error(`${VICTIM} was never asked`);
}

/** How often the victim has told in its log that it is done with such a request. */
const ends = (op) => s.logs(VICTIM).split(`op=${op} `).length - 1;

/** Thaws the victim and waits until it has got to what it had in hand; gives how that ended. */
async function thaw(op) {
    const before = ends(op);
    assert.ok(isFrozen());
    s.thaw(VICTIM);
    await until(10_000, () => ends(op) > before, `${VICTIM} ends its ${op}`);
    return s.logs(VICTIM).split(`op=${op} status=`).at(-1).split(' ')[0];
}

const contents = async (user, id) => (await user.messages(id)).map((m) => m.content);

/** A question that froze the victim and was answered by the other one: its conversation. */
function askFrozen(user, question) {
    return untilFrozen(async () => {
        const id = await user.create('fake:moved');
        const got = await user.ask(id, question);
        expectAnswer(got, `text ${texts}`, { messageId: 2 });
        return id;
    });
}

for (const point of ['ask.received', 'ask.before_commit', 'ask.after_commit'])
    story(`a question is asked once, though its convo-svc freezes at ${point} and thaws after a retry`, async () => {
        const user = await s.user();
        await arm(point);
        const id = await askFrozen(user, point);
        const again = await (await user.retry(id)).rest();
        expectAnswer(again, `text ${texts}`, { messageId: 2 });
        const n = provider.requests.length;
        const told = await thaw('convo.ask');
        if (point !== 'ask.after_commit')   /* that one was in time: whoever still waits is told that it is committed */
            assert.notEqual(told, 'ok');
        assert.deepEqual(await contents(user, id), [point, again.text]);
        assert.equal(provider.requests.length, n);
        /* Who has just thawed may refuse for a moment: 503, ask again. */
        const keyed = { headers: { 'idempotency-key': point } };
        const next = await until(10_000, async () => {
            const got = await user.ask(id, 'and now?', keyed);
            return got.status === 200 && got;
        }, 'the next question is answered');
        expectAnswer(next, `text ${texts}`, { messageId: 4 });
    }, options);

story('a question that was deleted with its conversation does not come back', async () => {
    const user = await s.user();
    await arm('ask.received');
    const id = await askFrozen(user, 'gone');
    assert.equal((await user.del(id)).status, 200);
    assert.notEqual(await thaw('convo.ask'), 'ok');
    assert.equal((await user.history(id)).status, 404);
}, options);

story('a retry is one, though its convo-svc freezes with it and thaws after the next one', async () => {
    const user = await s.user();
    const id = await user.create('fake:moved');
    await user.ask(id, 'again and again');
    await arm('retry.received');
    await untilFrozen(async () => expectAnswer(await (await user.retry(id)).rest(), `text ${texts}`, { messageId: 2 }));
    const last = await (await user.retry(id)).rest();
    const n = provider.requests.length;
    assert.notEqual(await thaw('convo.retry'), 'ok');
    assert.deepEqual(await contents(user, id), ['again and again', last.text]);
    assert.equal(provider.requests.length, n);
}, options);

story('a stop that is thawed leaves the next answer alone', async () => {
    const user = await s.user();
    const { id, hold } = await untilFrozen(async () => {
        await dismiss();   /* so that the other one has the answer: who has it is asked once more, for this answer by name */
        const open = await openAnswer(provider, user, 'fake:stopped', 'half ');
        await arm('stop.received');
        const res = await user.stop(open.id);
        assert.ok([200, 202].includes(res.status), res.text);
        expectAnswer(await open.stream.rest(), 'half ', { messageId: 2, finish: 'stopped' });
        return open;
    });
    const opening = user.chat(id, 'next');
    const answer = await asked(hold, opening);
    await answer.piece('whole ');
    const stream = await opening;
    await stream.shows('whole ');
    assert.notEqual(await thaw('convo.stop'), 'ok');
    await answer.piece('answer');
    await answer.finish();
    expectAnswer(await stream.rest(), 'whole answer', { messageId: 4 });
}, options);

story('a conversation that was made elsewhere and deleted is not made again', async () => {
    const user = await s.user();
    await arm('create.received');
    await untilFrozen(async () => {
        const id = await user.create('fake:moved');
        assert.equal((await user.del(id)).status, 200);
    });
    assert.notEqual(await thaw('convo.create'), 'ok');
    assert.deepEqual((await user.list()).json, []);
}, options);
