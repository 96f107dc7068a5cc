/* rolling.mjs - every replica is replaced while people chat, and what they saw of it.
 *
 * A person is a client that sends a request once more when it gets a 503 or no answer, with the same key, to the other
 * gateway, and reads on with the last id when its stream ends before the answer. Two of each service, on PostgreSQL.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { SERVICES, prepare } from './stack.mjs';
import { startProvider } from './fake_provider.mjs';
import { answerFor, cut } from './fake_behaviours.mjs';
import { startPostgres } from './postgres.mjs';
import { pause } from './deadline.mjs';
import { expectText } from './expect.mjs';

const CLIENTS = 24;
const TWO = Object.fromEntries(SERVICES.map((service) => [service, 2]));

/** An answer that takes a second or so. */
export async function slowly(answer) {
    for (const piece of cut(answerFor(answer.question), 12)) {
        await answer.piece(piece);
        await pause(25);
    }
    await answer.finish();
}

/** A system that is not started yet, with the usual lame duck, and a provider that takes its time. */
export async function rollingStack(t) {
    const provider = await startProvider();
    const postgres = await startPostgres();
    provider.script('fake:slow', slowly);
    const s = await prepare({ provider, postgres, replicas: TWO, config: { server: { lame_duck_s: 2, drain_s: 6 }, log: { level: 'info' } } });
    t.after(async () => {
        await s.stopAll();
        await postgres.remove();
        await provider.stop();
    });
    return s;
}

/** One client: asks, lists, reads its history, until told to stop. `seen` collects every error that it could not get over. */
class Person {
    constructor(s, seen, number) {
        this.s = s;
        this.gateways = s.replicasOf('gateway');
        this.seen = seen;
        this.number = number;
        this.answers = 0;
    }

    at(n) {
        return this.user.through(this.s.at(this.gateways[n % this.gateways.length]));
    }

    /** A call and its one retry through the other gateway. */
    async call(method, url, body, headers = {}) {
        const first = Math.floor(Math.random() * 2);
        let why;
        for (const n of [first, first + 1]) {
            try {
                const got = await this.at(n).call(method, url, body, { headers });
                if (got.status !== 503)
                    return got;
                why = got.text;
            } catch (e) {
                why = e.message;
            }
            await pause(300);
        }
        this.seen.push(`${method} ${url}: ${why}`);
        return null;
    }

    /** Opens a stream: {stream} or {why}. */
    async open(n, method, url, body, headers) {
        try {
            const { client, token } = this.at(n);
            const stream = await client.stream(method, url, body, 'sse', { headers, token });
            return stream.status !== 503 ? { stream } : { why: stream.text };
        } catch (e) {
            return { why: e.message };
        }
    }

    /** Asks and reads to the end, wherever. */
    async ask(id, question) {
        const key = randomBytes(8).toString('hex');
        const url = `/api/chat/${id}`;
        let n = Math.floor(Math.random() * 2);
        let got = await this.open(n, 'POST', url, { message: question }, { 'idempotency-key': key });
        if (!got.stream) {
            await pause(300);
            got = await this.open(++n, 'POST', url, { message: question }, { 'idempotency-key': key });
        }
        let text = '';
        for (let failures = 0; ;) {
            if (!got.stream && ++failures === 2) {
                this.seen.push(`${question}: ${got.why}`);
                return;
            }
            if (got.stream && got.stream.status !== 200) {
                this.seen.push(`${question}: ${got.stream.status} ${got.stream.text}`);
                return;
            }
            if (got.stream) {
                failures = 0;
                const rest = await got.stream.rest(30_000);
                text += rest.text;
                this.lastId = rest.events.at(-1)?.id ?? this.lastId;
                if (rest.full !== undefined) {
                    expectText(text, answerFor(question), `the pieces of ${question}`);
                    expectText(rest.full, answerFor(question), `full_response of ${question}`);
                    this.answers++;
                    return;
                }
                if (rest.error && rest.error.code !== 'unavailable') {
                    this.seen.push(`${question}: ${JSON.stringify(rest.error)}`);
                    return;
                }
            }
            await pause(300);
            got = await this.open(++n, 'GET', `${url}/stream`, undefined, this.lastId ? { 'last-event-id': this.lastId } : {});
        }
    }

    async live(isOver) {
        while (!isOver()) {
            const made = await this.call('POST', '/api/conversations/create', { title: 'rolling', model: 'fake:slow' },
                { 'idempotency-key': randomBytes(8).toString('hex') });
            if (made?.status !== 200)
                continue;
            const id = made.json.conversation_id;
            for (let i = 0; i < 3 && !isOver(); i++) {
                this.lastId = null;
                await this.ask(id, `question ${i} of ${this.number} in ${id}`);
            }
            const history = await this.call('GET', `/api/conversations/history/${id}`);
            for (const [i, message] of (history?.json?.messages ?? []).entries()) {
                if (message.role === 'assistant')
                    expectText(message.content, answerFor(history.json.messages[i - 1].content), 'stored');
            }
        }
    }
}

/** People chat while act() does something to the system. Fails with what they saw; gives how many answers they got. */
export async function whilePeopleChat(s, act, { clients = CLIENTS } = {}) {
    const seen = [];
    const people = Array.from({ length: clients }, (_, i) => new Person(s, seen, i));
    const owner = await s.user();
    for (const person of people)
        person.user = owner;
    let isOver = false;
    const living = Promise.all(people.map((p) => p.live(() => isOver)));
    living.catch(() => {});
    try {
        await pause(1000);
        await act();
    } finally {
        isOver = true;
    }
    await living;
    assert.deepEqual(seen, [], 'errors that a client with one retry has seen');
    assert.ok(people.every((p) => p.answers > 2), `answers: ${people.map((p) => p.answers)}`);
    return people.reduce((sum, p) => sum + p.answers, 0);
}

/** Replaces every replica while people chat; `replace` does one. */
export function roll(s, replace) {
    return whilePeopleChat(s, async () => {
        for (const service of ['llm-svc', 'convo-svc', 'auth-svc', 'gateway']) {
            for (const name of s.replicasOf(service)) {
                await replace(name);
                await pause(500);
            }
        }
    });
}
