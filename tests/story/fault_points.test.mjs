/* fault_points.test.mjs - kill -9 between any two steps of ask, journal, end, stop, delete, retry and take-over, one by one.
 *
 * A process that is to die gets the point in its own configuration (test.die_at, see svc/svc_fault.h)
 * and is started with it. Clients ask, and resume by the last id they have seen. On SQLite the dead
 * one is started again; on PostgreSQL another replica takes over. In the end each conversation has its question
 * once and one answer, what was shown is the beginning of what is stored, what was acknowledged is there.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before } from 'node:test';
import { serviceOf, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { Reader } from '../support/reader.mjs';
import { pause, until } from '../support/deadline.mjs';

const PIECES = 8;
const PIECE_MS = 45;
const ROUNDS = 6;          /* until the one that is to die has got work */

/* points, by the scenario that passes them and the process that dies */
const POINTS = {
    'convo-svc': {
        ask: ['ask.received', 'ask.before_commit', 'ask.after_commit', 'ask.before_generate', 'ask.after_generate',
            'journal.received', 'journal.before_commit', 'journal.after_commit', 'journal.before_ack', 'journal.after_ack', 'journal.after_commit:2',
            'end.received', 'end.before_commit', 'end.after_commit', 'end.before_tell'],
        stop: ['stop.received', 'stop.before_commit', 'stop.after_commit'],
        del: ['delete.received', 'delete.before_commit', 'delete.after_commit'],
        retry: ['retry.received', 'retry.before_commit', 'retry.after_commit'],
        takeOver: ['takeover.before_commit', 'takeover.after_commit', 'takeover.before_attach'],
    },
    'llm-svc': {
        ask: ['generate.received', 'generate.before_piece', 'generate.after_piece', 'generate.after_ack', 'generate.gate_opened',
            'generate.before_final', 'generate.after_final'],
    },
    gateway: {
        ask: ['gateway.ask_sent', 'gateway.first_status', 'gateway.first_shown'],
        loss: ['gateway.tail_sent'],
    },
};

let provider;
let postgres;
let wholes = 0;
before(async () => {
    provider = await startProvider();
    /* Every attempt writes another text: two of them put together would be seen. */
    provider.script('fake:points', async (answer) => {
        const n = ++wholes;
        const pieces = answer.question.startsWith('endless') ? 400 : PIECES;
        for (let i = 0; i < pieces && !answer.record.closedEarly; i++) {
            await answer.piece(`${n}.${i} é `);
            await pause(PIECE_MS);
        }
        await answer.finish();
    });
    if (havePostgres)
        postgres = await startPostgres();
});
after(async () => {
    await provider?.stop();
    await postgres?.remove();
});

/** One system with one process that is to die, again and again. */
class Ground {
    constructor(stack, user, isShared) {
        this.stack = stack;
        this.user = user;
        this.isShared = isShared;     /* others take over; else the dead one is started again */
        this.gateways = stack.replicasOf('gateway').map((name) => [name, stack.at(name)]);
    }

    /** Starts a process that will die there; undefined: one that lives. */
    async bring(victim, point) {
        const { stack } = this;
        if (stack.running(victim))
            await stack.kill(victim);
        stack.own[victim] = { test: { die_at: point ?? '' } };
        stack.writeConfig();
        const child = stack.start(victim);
        stack.expected.add(child);
        if (point?.startsWith('takeover') && !this.isShared)
            return;          /* it dies before it serves */
        await until(10_000, () => stack.isServing(victim), `${victim} serves`);
        await until(10_000, () => this.isKnown(victim, child.pid), `${victim} is known to those who call it`);
        await until(10_000, () => stack.at('gateway-2').api('GET', '/readyz').then((r) => r.status === 200), 'a gateway is ready');
    }

    /** Only who is connected gets work: whoever calls this service says in its log that this very start of it is up. */
    isKnown(victim, pid) {
        const { stack } = this;
        const callers = { gateway: [], 'convo-svc': ['gateway'], 'llm-svc': ['gateway', 'convo-svc'] }[serviceOf(victim)];
        const [, instance] = new RegExp(`instance ([0-9a-f]{16}), process ${pid}\\b`).exec(stack.logs(victim)) ?? [];
        return instance && callers.flatMap((service) => stack.replicasOf(service)).filter((name) => stack.running(name))
            .every((name) => stack.logs(name).includes(`is up (instance ${instance}`));
    }

    isDead(victim) {
        const { signalCode, exitCode } = this.stack.processes.get(victim);
        assert.ok(exitCode === null && [null, 'SIGKILL'].includes(signalCode), `${victim} ended with ${signalCode ?? exitCode}`);
        return !this.stack.running(victim);
    }

    /** Asks a question, gives the reader of its answer. */
    ask(id, question) {
        const text = `${question} ${randomBytes(6).toString('hex')}`;
        const headers = { 'idempotency-key': randomBytes(12).toString('hex') };
        const reader = new Reader(this.user, id, this.gateways, (at) => at.chat(this.user.token, id, text, { headers }));
        reader.question = text;
        reader.done = reader.follow();
        reader.done.catch(() => {});
        return reader;
    }

    /** Creating is not what is tried here: again until it works. */
    async create() {
        const key = randomBytes(12).toString('hex');
        let made;
        await until(15_000, async () => {
            made = await this.call('POST', '/api/conversations/create', { title: 'points', model: 'fake:points' }, { 'idempotency-key': key });
            return made.status === 200;
        }, 'a conversation is made');
        return made.json.conversation_id;
    }

    /** A call through whichever gateway answers. */
    async call(method, path, body, headers = {}) {
        for (const [, client] of this.gateways) {
            const got = await client.api(method, path, body, { token: this.user.token, headers }).catch(() => null);
            if (got && ![502, 503, 504].includes(got.status))
                return got;
        }
        return { status: 0 };
    }

    /** Does `act` again until it gives one of these statuses. */
    insist(act, statuses, what) {
        return until(20_000, async () => {
            const got = await act();
            return statuses.includes(got.status) && got;
        }, what);
    }

    async judge(reader, { mayBreak = false, dead = null } = {}) {
        const got = await this.insist(() => this.call('GET', `/api/conversations/history/${reader.id}`), [200], 'the history');
        const { messages } = got.json;
        const say = `${reader.result} ${reader.finish}, shown ${JSON.stringify(reader.text)}, stored ${JSON.stringify(messages)}`;
        assert.equal(messages.filter((m) => m.role === 'user').length, 1, `the question is there once: ${say}`);
        assert.equal(messages.find((m) => m.role === 'user').content, reader.question, say);
        const answers = messages.filter((m) => m.role === 'assistant');
        assert.ok(answers.length <= 1, `one answer: ${say}`);
        const stored = answers[0]?.content ?? '';
        if (!reader.through.has(dead))
            assert.ok(stored.startsWith(reader.text), `what was shown is stored: ${say}`);
        assert.ok(provider.requests.some((r) => r.question === reader.question && r.sent.startsWith(stored)), `one text: ${say}`);
        if (!mayBreak)
            assert.equal(reader.result, 'done', say);
        if (reader.result === 'done')
            assert.deepEqual([reader.text, reader.full], [stored, stored], say);
        const active = await this.insist(() => this.call('GET', '/api/chat/active'), [200], 'the list of answers in flight');
        assert.ok(!active.json.some((a) => a.conversation_id === reader.id), `it has ended: ${say}`);
    }
}

/** Waits for the death or for the readers, whatever is first; then, on SQLite, has the dead one back. True: it died. */
async function untilDead(ground, victim, readers) {
    const ended = Promise.allSettled(readers.map((r) => r.done));
    let isOver = false;
    ended.then(() => {
        isOver = true;
    });
    await until(30_000, () => ground.isDead(victim) || isOver, `${victim} dies or all is over`);
    if (ground.isDead(victim) && !ground.isShared && victim !== 'gateway')
        await ground.bring(victim);
    return ground.isDead(victim) || ground.stack.own[victim].test.die_at === '';
}

/** Several at once, so that each replica has some. All conversations are there before the first question may kill somebody. */
async function several(ground, question) {
    const ids = await Promise.all(Array.from({ length: ground.isShared ? 4 : 2 }, () => ground.create()));
    return ids.map((id) => ground.ask(id, question));
}

const scenarios = {
    async ask(ground, victim) {
        const readers = await several(ground, 'ask');
        const died = await untilDead(ground, victim, readers);
        for (const reader of readers) {
            await reader.done;
            await ground.judge(reader, { mayBreak: victim === 'llm-svc', dead: victim });
        }
        return died;
    },
    async stop(ground, victim) {
        const readers = await several(ground, 'endless');
        await Promise.all(readers.map((r) => r.shows()));
        const stops = readers.map((r) => ground.insist(() => ground.call('POST', `/api/chat/${r.id}/stop`), [200], 'an answer is stopped'));
        const died = await untilDead(ground, victim, readers);
        await Promise.all(stops);
        for (const reader of readers) {
            await reader.done;
            assert.equal(reader.finish, 'stopped');
            await ground.judge(reader);
        }
        return died;
    },
    async del(ground, victim) {
        const readers = await several(ground, 'endless');
        await Promise.all(readers.map((r) => r.shows()));
        const deletes = readers.map((r) => ground.insist(() => ground.call('POST', `/api/conversations/del/${r.id}`), [200, 404], 'it is deleted'));
        const died = await untilDead(ground, victim, readers);
        await Promise.all(deletes);
        for (const reader of readers) {
            await reader.done;
            assert.ok(['deleted', 'not_found'].includes(reader.result), `${reader.result}`);
            assert.equal((await ground.call('GET', `/api/conversations/history/${reader.id}`)).status, 404);
        }
        return died;
    },
    async retry(ground, victim) {
        const first = await several(ground, 'retry');
        await Promise.all(first.map((r) => r.done));
        const readers = first.map((old) => {
            const headers = { 'idempotency-key': randomBytes(12).toString('hex') };
            const reader = new Reader(ground.user, old.id, ground.gateways, (at) => at.chat(ground.user.token, old.id, undefined,
                { headers, body: '', path: `/api/chat/${old.id}/retry` }));
            reader.question = old.question;
            reader.done = reader.follow();
            reader.done.catch(() => {});
            return reader;
        });
        const died = await untilDead(ground, victim, readers);
        for (const [i, reader] of readers.entries()) {
            await reader.done;
            await ground.judge(reader);
            assert.notEqual(reader.text, first[i].text);
            assert.equal(provider.requests.filter((r) => r.question === reader.question && r.finished).length, 2);
        }
        return died;
    },
    /** An owner dies, and then the one that takes its answers over. */
    async takeOver(ground, victim, point) {
        const owner = ground.isShared ? 'convo-svc-2' : victim;
        const readers = await several(ground, 'endless');
        await Promise.all(readers.map((r) => r.shows()));
        await ground.stack.kill(owner);
        if (!ground.isShared)
            await ground.bring(victim, point);
        await until(20_000, () => ground.isDead(victim), `${victim} dies while it takes over`);
        await ground.bring(owner);
        for (const reader of readers) {
            await ground.insist(() => ground.call('POST', `/api/chat/${reader.id}/stop`), [200], 'an answer is stopped');
            await reader.done;
            await ground.judge(reader);
        }
        return true;
    },
    /** The text is lost with its llm-svc; the gateway dies with what it holds of it. Whoever reads at another gateway loses nothing. */
    async loss(ground, victim) {
        const readers = await several(ground, 'endless');
        const others = readers.map((r) => new Reader(ground.user, r.id, [ground.gateways[1]], (at) => at.watch(ground.user.token, r.id)));
        await Promise.all(readers.map((r) => r.shows()));
        for (const [i, other] of others.entries()) {
            other.question = readers[i].question;
            other.done = other.follow();
            await other.shows();
        }
        await until(10_000, () => readers.every((r) => r.text.length > 60), 'there is more than the first piece');
        await ground.stack.kill('llm-svc');
        const died = await untilDead(ground, victim, readers);   /* unless all was in the journal already */
        await ground.bring('llm-svc');
        for (const reader of [...readers, ...others]) {
            await reader.done;
            await ground.judge(reader, { mayBreak: true, dead: victim });
        }
        return died;
    },
};

/** One point: until the process has died of it. */
async function tryPoint(ground, victim, scenario, point) {
    await ground.bring(victim, scenario === 'takeOver' && !ground.isShared ? undefined : point);
    for (let round = 0; ; round++) {
        try {
            if (await scenarios[scenario](ground, victim, point))
                break;
        } catch (e) {
            e.message = `${point}: ${e.message}`;
            throw e;
        }
        assert.ok(round < ROUNDS, `${point}: ${victim} did not die`);
    }
}

/** All points of these processes, side by side on some systems. */
async function tryAll(victims, open, n) {
    const queue = victims.flatMap((victim) => Object.entries(POINTS[victim]).flatMap(([scenario, points]) =>
        points.map((point) => ({ victim, scenario, point }))));
    const left = new Set(queue.map((one) => one.point));
    await Promise.all(Array.from({ length: n }, async (_, i) => {
        const stack = await open(i);
        const ground = new Ground(stack, await stack.user(), stack.replicasOf('convo-svc').length > 1);
        try {
            for (let one = queue.shift(); one; one = queue.shift()) {
                await tryPoint(ground, one.victim, one.scenario, one.point);
                await ground.bring(one.victim);
                left.delete(one.point);
            }
        } finally {
            await stack.stopAll();
        }
    }));
    assert.deepEqual([...left], []);
}

const config = { gateway: { reattach_s: 20 }, test: {} };

story('a process that dies between any two steps is started again, and nothing is lost or done twice', async () => {
    await tryAll(['convo-svc', 'llm-svc', 'gateway'], () => start({ provider, config, replicas: { gateway: 2 } }), 3);
}, { deadline: 90_000 });

story('a convo-svc or llm-svc that dies between any two steps is replaced by another', async () => {
    await tryAll(['convo-svc', 'llm-svc'], async (i) => {
        await postgres.query(`CREATE DATABASE points${i}`);
        const url = new URL(postgres.url);
        url.pathname = `/points${i}`;
        return start({ provider, config, postgres: { url: url.href }, replicas: { gateway: 2, 'convo-svc': 2, 'llm-svc': 2 } });
    }, 4);
}, { deadline: 90_000, skip: !havePostgres });
