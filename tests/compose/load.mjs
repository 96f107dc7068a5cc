/* load.mjs - people who chat through the proxy all the time, while the stack behind it changes.
 *
 * Each one creates a conversation, asks twice, compares every byte, reads the history, and begins anew. While containers
 * come and go as planned nobody may see a request that fails or a stream that breaks. A machine that has stood still for longer than a lease
 * answers 503 with Retry-After meanwhile: then a person comes again, PATIENCE_503 times at most, or reads on, and each such time is counted;
 * with LLMB_COMPOSE_STRICT=1 there may be none. While processes are
 * killed (`lenient`) a person sends a request again until it is served, reads on by Last-Event-ID, and asks for a retry of an answer
 * that has ended as interrupted; but no byte that was shown and no question that was taken may be missing.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { answerFor, cut } from '../support/fake_behaviours.mjs';
import { expectText } from '../support/expect.mjs';
import { pause, until, within } from '../support/deadline.mjs';
import { Reader } from '../support/reader.mjs';

const MODEL = 'fake:load';
const PIECES_MS = 30;
const AGAIN_MS = 300;
const PATIENCE_MS = 60_000;
const PATIENCE_503 = process.env.LLMB_COMPOSE_STRICT === '1' ? 0 : 5;

const key = () => ({ 'idempotency-key': randomBytes(8).toString('hex') });

export class Load {
    constructor(client, provider) {
        this.client = client;
        this.seen = [];          /* what a person could not get over */
        this.answers = 0;
        this.interrupted = 0;
        this.requests = 0;
        this.again = 0;          /* requests that were sent once more */
        this.broken = 0;         /* streams that were read on */
        this.isOver = false;
        this.lenient = false;
        provider.script(MODEL, async (answer) => {
            for (const piece of cut(answerFor(answer.question), 12)) {
                await answer.piece(piece);
                await pause(PIECES_MS);
            }
            await answer.finish();
        });
    }

    async start(n) {
        this.people = await Promise.all(Array.from({ length: n }, () => this.client.user()));
        this.living = Promise.all(this.people.map((user, i) => this.live(user, i)));
        this.living.catch(() => {});
        await this.answered(1);
    }

    /** Waits for so many answers more of everybody together; fails as soon as anybody has seen something wrong. */
    async answered(n) {
        const goal = this.answers + n;
        await until(PATIENCE_MS, () => this.answers >= goal || this.seen.length > 0, `${n} answers more`);
        this.insist();
    }

    /** What was seen until now, in words. */
    said() {
        return `${this.answers} answers, ${this.requests} requests, ${this.again} of them sent again, ${this.broken} streams read on`;
    }

    insist() {
        assert.deepEqual(this.seen.slice(0, 5), [], 'what people have seen');
    }

    async end() {
        this.isOver = true;
        await within(60_000, this.living, 'everybody comes to an end');
        this.insist();
        return `${this.said()}, ${this.interrupted} interrupted`;
    }

    async live(user, n) {
        for (let round = 0; !this.isOver && this.seen.length === 0; round++) {
            try {
                await this.visit(user, `${n}.${round}`);
            } catch (e) {
                this.seen.push(`person ${n}: ${e.message}`);
            }
        }
    }

    async visit(user, name) {
        const headers = key();
        const made = await this.call(user, 'POST', '/api/conversations/create', { title: name, model: MODEL }, { headers });
        const id = made.json.conversation_id;
        const said = [];
        for (const question of [`first of ${name}`, `second of ${name}`])
            said.push(question, await this.ask(user, id, question));
        const stored = (await this.call(user, 'GET', `/api/conversations/history/${id}`)).json.messages.map((m) => m.content);
        assert.deepEqual(stored, said, `the history of ${name}`);
    }

    /** A request that must be served: at once, or, while processes are killed, in the end. */
    async call(user, method, path, body, options) {
        const end = Date.now() + PATIENCE_MS;
        for (let busy = 0; ;) {
            const wasLenient = this.lenient;
            this.requests++;
            let why;
            let again = AGAIN_MS;
            try {
                const got = await user.call(method, path, body, options);
                if (got.status === 200)
                    return got;
                why = `${got.status} ${got.text}`;
                if (got.status === 503 && got.headers['retry-after'] !== undefined && busy++ < PATIENCE_503)
                    again = 1000 * Number(got.headers['retry-after']);
                else
                    busy = Infinity;
            } catch (e) {
                why = e.message;
                busy = Infinity;
            }
            if (!(wasLenient || this.lenient) && busy > PATIENCE_503 || Date.now() > end)
                throw new Error(`${method} ${path}: ${why}`);
            this.again++;
            await pause(again);
        }
    }

    /** Asks and reads to the end; what is stored then. */
    async ask(user, id, question) {
        const headers = key();
        let text = await this.read(user, id, question, (client) => client.chat(user.token, id, question, { headers }));
        while (text === null) {
            const again = key();
            text = await this.read(user, id, question,
                (client) => client.chat(user.token, id, undefined, { body: '', path: `/api/chat/${id}/retry`, headers: again }));
        }
        this.answers++;
        return text;
    }

    /** The text of a whole answer; null when it was interrupted, with all that was shown in the history. */
    async read(user, id, question, begin) {
        const wasLenient = this.lenient;
        const reader = new Reader(user, id, [['proxy', this.client]], begin);
        this.requests++;
        await reader.follow();
        this.again += reader.refused.length;
        if (!(wasLenient || this.lenient)) {
            assert.deepEqual(reader.refused.filter((code) => code !== 'unavailable' || PATIENCE_503 === 0), [], `the asker of "${question}" was refused`);
            const breaks = reader.turn - reader.refused.length - 1;
            assert.ok(breaks === 0 || PATIENCE_503 > 0, `the stream of "${question}" broke`);
            this.broken += breaks;
        }
        if (reader.result === 'interrupted') {
            assert.ok(wasLenient || this.lenient, `"${question}" was interrupted`);
            const stored = (await this.call(user, 'GET', `/api/conversations/history/${id}`)).json.messages.at(-1);
            assert.equal(stored.state, 'interrupted');
            assert.ok(stored.content.startsWith(reader.text), `shown, but not stored, of "${question}"`);
            this.interrupted++;
            return null;
        }
        assert.equal(reader.result, 'done', `"${question}" ended with ${reader.result}`);
        expectText(reader.text, answerFor(question), `the pieces of "${question}"`);
        expectText(reader.full, answerFor(question), `full_response of "${question}"`);
        return reader.full;
    }
}
