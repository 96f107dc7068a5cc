/* takeover.test.mjs - two convo-svc on one PostgreSQL: one of them dies, stands still or is drained in mid-answer.
 *
 * Viewers get every byte once and the end, from whoever goes on; of two questions to one conversation through
 * two replicas one is answered. Which replica runs an answer is told by its row. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { BIN_DIR, CLEAN_ENV, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { promised, promisedWithin } from '../support/deadline.mjs';
import { asked, heldQuestion, openAnswer } from '../support/held.mjs';

const run = promisify(execFile);
const CONVOS = ['convo-svc', 'convo-svc-2'];
const skip = havePostgres ? false : 'no PostgreSQL here';

let provider;
let postgres;
let s;
before(async () => {
    if (!havePostgres)
        return;
    provider = await startProvider();
    postgres = await startPostgres();
    s = await start({
        provider, postgres, replicas: { 'convo-svc': 2, 'llm-svc': 2, gateway: 2 },
        config: { server: { drain_s: 8 }, gateway: { reattach_s: 20 } },
    });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
    await postgres?.remove();
});

async function bus(name, op) {
    const { stdout } = await run(path.join(BIN_DIR, 'tests/support/bus_call'),
        [`tcp://127.0.0.1:${s.places.get(name).bus}`, op, '--timeout-ms', '5000'], { env: CLEAN_ENV });
    return stdout;
}

/** The convo-svc that runs the answer of this conversation. */
async function ownerOf(id) {
    const [[row]] = await postgres.query(`SELECT owner FROM answer WHERE conversation = ${id} ORDER BY message_id DESC LIMIT 1`);
    const owner = BigInt.asUintN(64, BigInt(row)).toString();
    for (const name of CONVOS.filter((n) => s.running(n))) {
        const said = await bus(name, 'svc.ping').catch(() => '');   /* it may be gone at this very moment */
        if (/"instance":(\d+)/.exec(said)?.[1] === owner)
            return name;
    }
    return null;
}

/** A counter of one convo-svc, since its start. */
async function count(replica, name) {
    const { body } = JSON.parse(await bus(replica, 'svc.stats'));
    return body.counters.find((c) => c.name === name)?.value ?? 0;
}

function deferred() {
    const d = {};
    d.promise = new Promise((resolve) => {
        d.resolve = resolve;
    });
    return d;
}

const otherThan = (owner) => CONVOS.find((name) => name !== owner);

story('the owner of an answer is killed: another one goes on, nobody misses a byte', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:kill', 'one ');
    const watching = await user.watch(id, { at: s.at('gateway-2') });
    await watching.shows('one ');
    const owner = await ownerOf(id);
    await s.kill(owner);
    await answer.piece('two ');
    await promised(10_000, async () => await ownerOf(id) === otherThan(owner), 'the other one has it');
    await answer.piece('three');
    await answer.finish();
    for (const viewer of [stream, watching])
        expectAnswer(await viewer.rest(), 'one two three', { messageId: 2 });
    assert.equal((await user.messages(id)).at(-1).content, 'one two three');
    await s.bring(owner);
}, { skip, deadline: 60_000 });

story('killed before the first token: the answer comes all the same', async () => {
    const user = await s.user();
    const { opening, answer, id } = await heldQuestion(s, provider, user, 'fake:early');
    const owner = await ownerOf(id);
    await s.kill(owner);
    await promised(10_000, async () => await ownerOf(id) === otherThan(owner), 'the other one has it');
    await answer.piece('late');
    await answer.finish();
    expectAnswer(await (await opening).rest(), 'late', { messageId: 2 });
    await s.bring(owner);
}, { skip, deadline: 60_000 });

story('the owner stands still for longer than its lease, and comes back', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:freeze', 'one ');
    const owner = await ownerOf(id);
    s.freeze(owner);
    const [[instance]] = await postgres.query(`SELECT owner FROM answer WHERE conversation = ${id}`);
    await promised(10_000, async () => {
        const [[now]] = await postgres.query(`SELECT owner FROM answer WHERE conversation = ${id}`);
        return now !== instance;
    }, 'another one has it');
    await answer.piece('two ');
    await promisedWithin(15_000, stream.shows('two ', 15_000), 'it is shown by the new one');
    s.thaw(owner);
    await answer.piece('three');
    await promisedWithin(15_000, stream.shows('three', 15_000), 'it is shown by the new one');
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two three', { messageId: 2 });
    const got = await user.watch(id, { at: s.at('gateway-2') });
    expectAnswer(await got.rest(), 'one two three', { messageId: 2 });
    await s.ready();
}, { skip, deadline: 90_000 });

story('the owner is drained in mid-answer: it hands the answer over and ends well', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:drain', 'one ');
    const owner = await ownerOf(id);
    const drained = s.drain(owner);
    await promised(10_000, async () => await ownerOf(id) === otherThan(owner), 'the other one has it');
    await answer.piece('two ');
    await drained;
    await answer.piece('three');
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two three', { messageId: 2 });
    await s.bring(owner);
}, { skip, deadline: 60_000 });

story('two questions to one conversation through two replicas: one is answered, the other gets 409', async () => {
    const user = await s.user();
    for (let i = 0; i < 5; i++) {
        const hold = provider.hold(`fake:two-${i}`);
        const id = await user.create(`fake:two-${i}`);
        const openings = ['gateway', 'gateway-2', 'gateway', 'gateway-2'].map((name) => user.through(s.at(name)).chat(id, `from ${name}`));
        const answer = await asked(hold, new Promise(() => {}));
        await answer.piece('me');
        const streams = await Promise.all(openings);
        await answer.finish();
        const good = streams.filter((stream) => stream.status === 200);
        assert.equal(good.length, 1, streams.map((stream) => stream.status).join());
        assert.ok(streams.every((stream) => stream.status === 200 || stream.status === 409), streams.map((stream) => stream.status).join());
        expectAnswer(await good[0].rest(), 'me', { messageId: 2 });
        assert.equal((await user.messages(id)).length, 2);
    }
}, { skip, deadline: 60_000 });

story('what another replica is asked reaches the owner: a stop, a deletion before the first token', async () => {
    const user = await s.user();
    const hold = provider.hold('fake:reach');
    for (const verb of ['stop', 'del']) {
        const id = await user.create('fake:reach');
        const opening = user.chat(id, 'question');
        const answer = await asked(hold, opening);
        const owner = await ownerOf(id);
        const [[number]] = await postgres.query(`SELECT user_id FROM conversation WHERE id = ${id}`);
        await run(path.join(BIN_DIR, 'tests/support/bus_call'), [
            `tcp://127.0.0.1:${s.places.get(otherThan(owner)).bus}`, verb === 'stop' ? 'convo.stop' : 'convo.delete',
            JSON.stringify({ user: Number(number), conversation: id })], { env: CLEAN_ENV });
        await promisedWithin(10_000, answer.closed, `the provider hears of the ${verb}`);
        const got = await (await opening).rest();
        if (verb === 'stop')
            expectAnswer(got, '', { messageId: 2, finish: 'stopped' });
        else
            assert.equal(got.error?.code ?? got.json?.code, 'deleted', JSON.stringify(got));
    }
}, { skip, deadline: 60_000 });

story('many answers at once change hands when their owners are killed in turn', async () => {
    const user = await s.user();
    const before = await count('convo-svc-2', 'takeovers');   /* what the other one has counted ends with it */
    const parts = ['first ', 'second ', 'third'];
    const gates = parts.map(() => deferred());
    provider.script('fake:many', async (a) => {
        for (const [i, part] of parts.entries()) {
            await a.piece(part);
            await gates[i].promise;
        }
        await a.finish();
    });
    const ids = await Promise.all(Array.from({ length: 12 }, () => user.create('fake:many')));
    const streams = await Promise.all(ids.map((id, i) => user.through(s.at(i % 2 ? 'gateway' : 'gateway-2')).chat(id, 'go')));
    const show = (text) => promisedWithin(20_000, Promise.all(streams.map((stream) => stream.shows(text, 20_000))), `all show ${text}`);
    await show('first ');
    await s.kill('convo-svc');
    gates[0].resolve();
    await show('second ');
    await promised(10_000, async () => await count('convo-svc-2', 'takeovers') > before, 'some are taken over');
    await s.bring('convo-svc');
    await s.kill('convo-svc-2');
    gates[1].resolve();
    await show('third');
    gates[2].resolve();
    for (const stream of streams)
        expectAnswer(await stream.rest(), parts.join(''), { messageId: 2 });
    await s.bring('convo-svc-2');
}, { skip, deadline: 120_000 });
