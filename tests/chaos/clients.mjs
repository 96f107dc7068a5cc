/* clients.mjs - what several hundred clients do: each a loop of its own, as a well-written app would.
 *
 * A request that gets no answer or a 503 is sent once more, to another gateway, with the same
 * Idempotency-Key. Whose outcome is still open then looks into the history and, when nothing is there, asks again with the
 * same key: so nothing may ever be there twice. Every promise (201, 200, done) is written down for the judge.
 */
import { randomBytes } from 'node:crypto';
import { pause } from '../support/deadline.mjs';
import { MODEL, plannedMs } from './provider.mjs';
import { Random } from './random.mjs';
import { Viewer } from './viewer.mjs';

const PATIENCE_MS = 60_000;      /* faults are shorter: who gets nothing for so long hangs */
const RETRY_MS = 300;
const PASSWORD = 'correct horse battery';

/* Nobody knows what became of such a request. */
function isOpen(got) {
    return got.status === 0 || got.status === 503 || got.status === 504;
}

export class Person {
    constructor(run, name) {
        this.run = run;
        this.name = name;
        this.token = '';
    }

    async join() {
        const { run } = this;
        const body = { username: this.name, password: PASSWORD };
        const made = await patiently(run, null, 'POST', '/api/users/register', body);
        if (made.status !== 201)
            run.wrong(null, `register got ${made.status} ${made.text}`);
        await this.login();
    }

    async login() {
        const got = await patiently(this.run, null, 'POST', '/api/users/login', { username: this.name, password: PASSWORD });
        if (got.status === 200)
            this.token = got.json.token;
        else
            this.run.wrong(null, `login of ${this.name} got ${got.status} ${got.text}`);
    }
}

/* A call and its one retry at another gateway. */
async function withRetry(run, user, method, url, body, headers) {
    const gateway = run.anyGateway();
    const got = await run.call(gateway, user, method, url, body, headers);
    if (!isOpen(got))
        return got;
    run.totals.retries++;
    run.count(`retried: ${got.status || got.text}`);
    await pause(RETRY_MS);
    const again = await run.call(run.otherGateway(gateway), user, method, url, body, headers);
    if (isOpen(again))
        run.count(`failed after a retry: ${again.status || again.text}`);
    again.wasRetried = true;
    return again;
}

/* The same, again and again until somebody answers. */
async function patiently(run, user, method, url, body, headers) {
    const end = run.now() + PATIENCE_MS;
    let got;
    let wasRetried = false;
    do {
        got = await withRetry(run, user, method, url, body, headers);
        wasRetried ||= got.wasRetried;
        if (!isOpen(got))
            return { ...got, wasRetried };
        wasRetried = true;
        await pause(1000);
    } while (run.now() < end);
    run.hung(null, `${method} ${url} got no answer for ${PATIENCE_MS} ms, last ${got.status} ${got.text}`);
    return got;
}

export class Client {
    constructor(run, user, number) {
        this.run = run;
        this.user = user;
        this.number = number;
        this.random = new Random(`${run.seed}/client/${number}`);
        this.asked = 0;
        this.conversation = null;
        this.aside = [];        /* watchers that read on by themselves */
    }

    async live() {
        while (!this.run.isOver) {
            await pause(this.random.gap(1500));
            if (this.run.isOver)
                break;
            await this.act();
        }
        await Promise.all(this.aside);
    }

    async act() {
        const { conversation } = this;
        if (conversation === null)
            return this.create();
        const hasAnswer = conversation.turns.length > 0;
        const acts = [
            [60, () => this.ask()],
            [hasAnswer ? 6 : 0, () => this.retry()],
            [hasAnswer ? 6 : 0, () => this.repeat()],
            [10, () => this.history()],
            [6, () => this.list()],
            [2, () => this.active()],
            [2, () => this.user.login()],
            [conversation.turns.length > 2 ? 12 : 1, () => this.remove()],
            [conversation.turns.length > 3 ? 30 : 0, () => { this.conversation = null; }],
        ];
        return this.random.weighted(acts)();
    }

    async create() {
        const { run } = this;
        const title = `c${this.number}.${run.conversations.length}`;
        const headers = { 'idempotency-key': randomBytes(12).toString('hex') };
        const body = { title, model: MODEL };
        const got = await patiently(run, this.user, 'POST', '/api/conversations/create', body, headers);
        if (got.status !== 200) {
            run.wrong(null, `create got ${got.status} ${got.text}`);
            return;
        }
        this.conversation = { id: got.json.conversation_id, title, user: this.user, turns: [], isDeleted: false };
        run.conversations.push(this.conversation);
        run.count('created');
        if (this.random.chance(0.1)) {
            const again = await patiently(run, this.user, 'POST', '/api/conversations/create', body, headers);
            if (again.json?.conversation_id !== got.json.conversation_id)
                run.wrong(null, `create with the same key got ${again.text} after ${got.text}`);
        }
    }

    newQuestion() {
        const bytes = this.random.chance(0.03) ? this.random.int(40_000, 250_000) : this.random.int(20, 6000);
        const pace = bytes > 10_000 ? 20 : this.random.pick([5, 40, 80, 150]);
        const piece = bytes > 10_000 ? 3000 : this.random.int(20, 200);
        return `q${this.number}.${++this.asked} bytes=${bytes} pace=${pace} piece=${piece}`;
    }

    /** A question: asked, watched from other devices, perhaps stopped, read to its end. */
    async ask() {
        const question = this.newQuestion();
        const turn = {
            conversation: this.conversation, question, key: randomBytes(12).toString('hex'), viewers: [], stops: [], retries: 0,
            state: 'asking', askedAt: this.run.now(), restarts: [],
        };
        this.conversation.turns.push(turn);
        this.run.count('asked');
        await this.answerOf(turn, 'asker', `/api/chat/${this.conversation.id}`, { message: question }, turn.key);
    }

    /** The last question, answered anew. */
    async retry() {
        const turn = this.conversation.turns.at(-1);
        if (turn.state !== 'asked')
            return;
        await this.settled(turn);
        turn.retries++;
        this.run.count('asked anew');
        await this.answerOf(turn, 'retrier', `/api/chat/${this.conversation.id}/retry`, undefined, randomBytes(12).toString('hex'));
    }

    /* The viewers of a question have come to its end: who is late would be told that it is superseded. */
    async settled(turn) {
        if (this.random.chance(0.8))
            await Promise.all(turn.viewers.map((v) => v.following));
    }

    async answerOf(turn, role, url, body, key) {
        const { run, random } = this;
        const viewer = new Viewer(run, this.user, turn, role);
        const ms = plannedMs(turn.question);
        if (!(await this.openStream(viewer, url, body, key)))
            return;
        turn.state = 'asked';
        const deadline = run.now() + ms + PATIENCE_MS;
        viewer.following = viewer.follow(deadline);
        if (random.chance(0.5))
            this.aside.push(this.watch(turn, random.int(0, ms + 500), deadline));
        if (random.chance(0.15))
            this.aside.push(this.watch(turn, random.int(0, ms / 2), deadline));
        if (random.chance(0.15))
            this.aside.push(this.stop(turn, viewer, random.int(0, ms)));
        if (random.chance(0.1))
            this.aside.push(this.interject(turn, random.int(0, ms / 2)));
        if (random.chance(0.2)) {
            await pause(random.int(0, ms));
            viewer.leave();
            await viewer.following;
            await pause(random.int(0, 3000));
            viewer.isLeft = false;
            if (!viewer.isEnded) {
                await viewer.reopen();
                viewer.following = viewer.follow(deadline);
            }
        }
        await viewer.following;
        run.count(`asker saw: ${viewer.result?.kind} ${viewer.result?.finish ?? viewer.result?.code ?? ''}`);
        if (random.chance(0.2))
            await this.history();
    }

    /* Opens the stream of a question, or of its retry. False: it was refused for good. */
    async openStream(viewer, url, body, key) {
        const { run } = this;
        const { turn } = viewer;
        const end = run.now() + PATIENCE_MS;
        let gateway = run.anyGateway();
        for (let n = 0; run.now() < end; n++) {
            const got = await viewer.open(gateway, 'POST', url, body, { 'idempotency-key': key });
            run.note(`${gateway} POST ${url} ${turn.question}: ${got.status} ${got.code ?? got.why ?? ''} stream ${viewer.stream}`);
            if (got.status === 200)
                return true;
            if (got.status === 502 && got.code === 'interrupted') {
                viewer.result = { kind: 'error', code: got.code, at: run.now() };   /* committed, and lost before its first byte */
                viewer.following = Promise.resolve();
                turn.state = 'asked';
                run.count('interrupted before the first byte');
                return false;
            }
            const isBusy = got.status === 409 && (turn.conversation.isMixed || turn.conversation.interjecting);
            if (!isOpen(got) && !isBusy) {
                run.wrong(viewer, `${url} got ${got.status} ${got.text}, asked from ${run.clock(turn.askedAt)}`);
                viewer.result = { kind: 'error', code: got.code, at: run.now() };
                turn.state = 'unknown';
                return false;
            }
            run.totals.retries++;
            run.count(`retried: ${got.status || got.why}`);
            if (n === 1)
                run.count(`failed after a retry: ${got.status || got.why}`);
            await pause(n === 0 ? RETRY_MS : 1000);
            gateway = run.otherGateway(gateway);
        }
        run.hung(viewer, `${url} got no answer for ${PATIENCE_MS} ms`);
        turn.state = 'unknown';
        return false;
    }

    /** Another device that comes later and reads the latest answer. */
    async watch(turn, ms, deadline) {
        await pause(ms);
        if (turn !== turn.conversation.turns.at(-1) || turn.conversation.isBeingDeleted)
            return;
        const viewer = new Viewer(this.run, this.user, turn, 'watcher');
        viewer.following = (async () => {
            await viewer.reopen();
            if (!viewer.isEnded)
                await viewer.follow(deadline);
        })();
        this.run.count('watched');
        await viewer.following;
    }

    /** Another device's stop. It comes too late when the question is asked anew meanwhile: 410. */
    async stop(turn, viewer, ms) {
        await pause(ms);
        const { id } = turn.conversation;
        const { retries } = turn;
        const got = await patiently(this.run, this.user, 'POST', `/api/chat/${id}/stop`);
        this.run.count(`stop: ${got.status} ${got.json?.state ?? got.json?.code ?? ''}`);
        if (got.status === 200 || got.status === 202)
            turn.stops.push({ at: this.run.now(), stream: got.json.stream_id, state: got.json.state, retries });
        else if (!(got.status === 404 && turn.conversation.isBeingDeleted) && !(got.status === 410 && turn.retries > retries))
            this.run.wrong(viewer, `stop got ${got.status} ${got.text}`);
    }

    /** A second question while the first is being answered: 409. */
    async interject(turn, ms) {
        await pause(ms);
        if (turn !== turn.conversation.turns.at(-1) || turn.viewers[0].isEnded || turn.conversation.isBeingDeleted)
            return;
        const { conversation } = turn;
        conversation.interjecting = (conversation.interjecting ?? 0) + 1;
        const got = await this.run.call(this.run.anyGateway(), this.user, 'POST', `/api/chat/${conversation.id}`,
            { message: `interjected ${turn.question}` }, { accept: 'application/x-ndjson' });
        conversation.interjecting--;
        this.run.count(`interjected: ${got.status} ${got.json?.code ?? ''}`);
        if (got.status === 200 || isOpen(got))
            turn.conversation.isMixed = true;   /* the answer had just ended: one question more than the plan has */
        else if (got.status !== 409 && !(got.status === 404 && turn.conversation.isBeingDeleted))
            this.run.wrong(turn.viewers[0], `a second question got ${got.status} ${got.text}`);
    }

    /** The same question with the same key again: the same answer; with another body: refused. */
    async repeat() {
        const { run, conversation } = this;
        const turn = conversation.turns.at(-1);
        if (turn.state !== 'asked' || turn.retries > 0 || conversation.isMixed)
            return;
        await Promise.all(turn.viewers.map((v) => v.following));
        const url = `/api/chat/${conversation.id}`;
        if (this.random.chance(0.3)) {
            const got = await patiently(run, this.user, 'POST', url, { message: 'something else' }, { 'idempotency-key': turn.key });
            if (got.status !== 422)
                run.wrong(null, `another body under a key got ${got.status} ${got.text.slice(0, 200)}`);
            return;
        }
        const viewer = new Viewer(run, this.user, turn, 'repeater');
        run.count('repeated');
        if (await this.openStream(viewer, url, { message: turn.question }, turn.key)) {
            viewer.following = viewer.follow(run.now() + PATIENCE_MS);
            await viewer.following;
        }
    }

    async history() {
        const { run, conversation } = this;
        const promised = conversation.turns.filter((t) => t.state === 'asked').map((t) => t.question);
        const got = await patiently(run, this.user, 'GET', `/api/conversations/history/${conversation.id}`);
        if (got.status !== 200) {
            run.wrong(null, `history of ${conversation.id} got ${got.status} ${got.text}`);
            return;
        }
        const there = new Set(got.json.messages.filter((m) => m.role === 'user').map((m) => m.content));
        for (const question of promised) {
            if (!there.has(question))
                run.wrong(null, `the history of ${conversation.id} lacks ${question}, which was acknowledged`);
        }
    }

    async list() {
        const { run, user } = this;
        const known = run.conversations.filter((c) => c.user === user && !c.isDeleted && !c.isBeingDeleted);
        const deleted = run.conversations.filter((c) => c.user === user && c.isDeleted === true);
        const got = await patiently(run, user, 'GET', '/api/conversations/list');
        if (got.status !== 200) {
            run.wrong(null, `list got ${got.status} ${got.text}`);
            return;
        }
        const there = new Set(got.json.map((c) => c.conversation_id));
        for (const c of known) {
            if (!there.has(c.id) && !c.isDeleted && !c.isBeingDeleted)
                run.wrong(null, `the list of ${user.name} lacks ${c.id} (${c.title}), which was acknowledged`);
        }
        for (const c of deleted) {
            if (there.has(c.id))
                run.wrong(null, `the list of ${user.name} has ${c.id} (${c.title}), which was deleted`);
        }
    }

    async active() {
        const got = await patiently(this.run, this.user, 'GET', '/api/chat/active');
        if (got.status !== 200 || !Array.isArray(got.json))
            this.run.wrong(null, `active got ${got.status} ${got.text}`);
    }

    async remove() {
        const { run, conversation } = this;
        this.conversation = null;
        conversation.isBeingDeleted = true;
        const got = await patiently(run, this.user, 'POST', `/api/conversations/del/${conversation.id}`);
        if (got.status === 200 || (got.status === 404 && got.wasRetried))
            conversation.isDeleted = true;
        else
            run.wrong(null, `delete of ${conversation.id} got ${got.status} ${got.text}`);
        run.count('deleted');
    }
}
