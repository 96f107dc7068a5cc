/* postgresql.test.mjs - everything on PostgreSQL, with two of each service that keeps something there; and a database
 * that restarts, dies or throws everybody out, under load: 503 for that time, nothing that was acknowledged is lost, and none of
 * our processes ends. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { prepare, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError, expectNumbered } from '../support/expect.mjs';
import { pause, until } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';
import { startCreep } from '../support/creep.mjs';

const skip = !havePostgres;

let provider;
let postgres;
let s;
before(async () => {
    if (skip)
        return;
    [provider, postgres] = await Promise.all([startProvider(), startPostgres()]);
    s = await start({ provider, postgres, replicas: { 'auth-svc': 2, 'convo-svc': 2 } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
    await postgres?.remove();
});

story('the whole way of a user: register, log in, create, chat, history, list, retry, delete', async () => {
    const user = await s.user();
    const id = await user.create('fake', { title: 'a title\u0000 with everything: é 😀 \' "', api_key: 'sk-of-this-conversation' });
    expectAnswer(await user.ask(id, 'one'), answerFor('one'), { messageId: 2 });
    expectAnswer(await user.ask(id, 'two é 😀'), answerFor('two é 😀'), { messageId: 4 });
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-of-this-conversation');
    const messages = await user.messages(id);
    expectNumbered(messages);
    assert.deepEqual(messages.map((m) => m.content),
        ['one', answerFor('one'), 'two é 😀', answerFor('two é 😀')]);
    expectAnswer(await (await user.retry(id)).rest(), answerFor('two é 😀'), { messageId: 4 });
    const other = await user.create('echo');
    assert.deepEqual((await user.list()).json.map((c) => c.conversation_id), [other, id]);
    assert.equal((await user.list()).json[1].title, 'a title\u0000 with everything: é 😀 \' "');
    assert.equal((await user.del(id)).status, 200);
    expectError(await user.history(id), 404, { code: 'not_found' });
    assert.deepEqual((await user.list()).json.map((c) => c.conversation_id), [other]);
    assert.deepEqual(await postgres.query(
        'SELECT (SELECT count(*) FROM answer), (SELECT count(*) FROM answer_chunk), (SELECT count(*) FROM convo_question)'),
    [['0', '0', '0']]);
}, { skip });

story('a long text comes back to the byte', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const question = 'words and more words, é and 😀. '.repeat(20_000);
    expectAnswer(await user.ask(id, question), question, { messageId: 2 });
    const messages = await user.messages(id);
    assert.equal(messages[0].content, question);
    assert.equal(messages[1].content, question);
}, { skip });

story('two questions to one conversation at the same moment: one is answered, the other gets 409', async () => {
    const user = await s.user();
    const id = await user.create('fake:conflict');
    for (let round = 1; round <= 5; round++) {
        const hold = provider.hold('fake:conflict');
        const asking = ['a', 'b', 'c', 'd'].map((q) => user.chat(id, q));
        const answer = await hold.next();
        await answer.piece('the one');
        const streams = await Promise.all(asking);
        for (const stream of streams.filter((x) => x.status !== 200))
            assert.equal(stream.status, 409);
        const answered = streams.filter((x) => x.status === 200);
        assert.equal(answered.length, 1);
        await answer.finish();
        expectAnswer(await answered[0].rest(), 'the one', { messageId: 2 * round });
    }
    expectNumbered(await user.messages(id));
}, { skip });

/** A history, as soon as that connection, too, has found a database that has just been away: each pauses between two tries. */
const stored = (user, id) => until(10_000, async () => {
    const got = await user.history(id);
    return got.status !== 503 && got;
}, `the history of ${id} is told`);

/** Clients that create, ask and read; each remembers what it was told. */
class Load {
    constructor(users) {
        this.users = users;
        this.stopped = false;
        this.turns = [];        /* {user, id, n, question, text}: acknowledged to the last byte */
        this.created = [];      /* {user, id}: acknowledged */
        this.refused = new Map();
        this.wrong = [];
        this.running = users.map((user, i) => this.run(user, i));
    }

    note(status) {
        this.refused.set(status, (this.refused.get(status) ?? 0) + 1);
        if (status !== 503)
            this.wrong.push(`status ${status}`);
    }

    async run(user, i) {
        let id = null;
        for (let n = 1; !this.stopped; n++) {
            if (id === null || n % 5 === 0) {
                const made = await user.call('POST', '/api/conversations/create', { title: `${i}`, model: 'echo' });
                if (made.status !== 200) {
                    this.note(made.status);
                    await pause(20);
                    continue;
                }
                id = made.json.conversation_id;
                this.created.push({ user, id });
            }
            const question = `question ${n} of ${i}`;
            const got = await user.ask(id, question, { accept: 'application/x-ndjson' });
            if (got.full !== undefined) {
                if (got.full !== question)
                    this.wrong.push(`"${question}" was answered "${got.full}"`);
                this.turns.push({ user, id, n: got.done.message_id, question });
            } else if (got.status !== 200) {
                this.note(got.status);
                id = null;
                await pause(20);
            } else {
                id = null;      /* the stream has ended with an error: what became of it is told by the history */
            }
        }
    }

    async stop() {
        this.stopped = true;
        await Promise.all(this.running);
        assert.deepEqual(this.wrong, []);
        for (const { user, id } of this.created)
            assert.equal((await stored(user, id)).status, 200, `conversation ${id} was acknowledged`);
        for (const { user, id, n, question } of this.turns) {
            const { messages } = (await stored(user, id)).json;
            assert.deepEqual(messages.slice(n - 2, n).map((m) => [m.message_id, m.content]), [[n - 1, question], [n, question]]);
        }
    }
}

/** Somebody new, as soon as auth-svc has found a database that has just been away: each connection pauses between two tries. */
const somebody = () => until(15_000, () => s.user(), 'somebody can register');

const pids = () => [...s.processes].map(([name, child]) => `${name} ${child.pid} ${s.running(name)}`);

async function under(load, fault) {
    const before = load.turns.length;
    await until(20_000, () => load.turns.length > before + 20, 'answers come');
    await fault();
    const then = load.turns.length;
    await until(30_000, () => load.turns.length > then + 20, 'answers come again');
}

for (const [what, fault] of [
    ['is restarted', () => postgres.restart()],
    ['is killed', async () => {
        await postgres.kill();
        await postgres.start();
    }],
    ['throws everybody out', () => postgres.disconnectAll()],
    ['is away for two seconds', async () => {
        await postgres.stop();
        await pause(2000);
        await postgres.start();
    }],
]) {
    story(`the database ${what} under load: 503 for that time, nothing acknowledged is lost`, async () => {
        const there = pids();
        const load = new Load(await Promise.all(Array.from({ length: 8 }, somebody)));
        await under(load, fault);
        await under(load, fault);
        await load.stop();
        assert.deepEqual(pids(), there);
    }, { skip, deadline: 120_000 });
}

story('an answer that is under way when the database restarts goes on and is stored whole', async () => {
    const user = await somebody();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:restarted', 'one ');
    await postgres.stop();
    await answer.piece('two ');
    await postgres.start();
    await answer.piece('three');
    await stream.shows('three', 20_000);
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two three', { messageId: 2 });
    assert.equal((await user.messages(id))[1].content, 'one two three');
}, { skip });

story('while the database is away everything that needs it is 503 at once, and nobody hangs', async () => {
    const user = await somebody();
    const id = await user.create('echo');
    await postgres.stop();
    const begun = Date.now();
    for (const got of await Promise.all([
        user.call('POST', '/api/conversations/create', { title: 't', model: 'echo' }), user.history(id), user.list(),
        user.call('POST', `/api/chat/${id}`, { message: 'q' }), user.del(id), s.login(user.name, user.password),
        s.register('somebody-new', 'a password of theirs'),
    ])) {
        expectError(got, 503);
        assert.match(got.headers['retry-after'], /^\d+$/);
    }
    assert.ok(Date.now() - begun < 20_000);
    await postgres.start();
    await until(20_000, async () => (await user.ask(id, 'again')).full === 'again', 'the system answers again');
}, { skip });

/* --- while a service starts ------------------------------------------------------------------------ */

/** The database's URL by way of another port, and to a database of its own. */
function urlBy(port, database) {
    const url = new URL(postgres.url);
    url.port = port;
    url.pathname = `/${database}`;
    return url.href;
}

const through = (creep, database) => ({ storage: { postgresql: { url: urlBy(creep.port, database) } } });

for (const after of [false, true]) {
    story(`a service that loses the database at any step of its start waits for it: ${after ? 'the answer' : 'the message'} is lost`, async () => {
        const database = `creep_${after}`;
        await postgres.query(`CREATE DATABASE ${database}`);
        const port = Number(new URL(postgres.url).port);
        const [auth, convo] = await Promise.all([startCreep(port, { after }), startCreep(port, { after })]);
        const other = await prepare({ postgres });
        try {
            Object.assign(other.own, { 'auth-svc': through(auth, database), 'convo-svc': through(convo, database) });
            other.writeConfig();
            for (const name of other.names)
                other.start(name);
            for (const [name, creep] of [['auth-svc', auth], ['convo-svc', convo]]) {
                await until(40_000, () => other.logs(name).includes(' started: version ') || !other.running(name), `${name} has started`);
                creep.pacify();
            }
            await other.ready();
            assert.ok(auth.cuts > 7, `auth-svc has met ${auth.cuts} cuts`);
            assert.ok(convo.cuts > 14, `convo-svc has met ${convo.cuts} cuts`);
            const user = await other.user();
            assert.equal((await user.ask(await user.create('echo'), 'all the same')).full, 'all the same');
        } finally {
            await other.stopAll();
            auth.stop();
            convo.stop();
        }
    }, { skip, deadline: 90_000 });
}

story('SIGTERM ends a start that has lost the database and waits for it again', async () => {
    /* Connecting takes four messages; then come the schema and, of convo-svc, its check of the key and its lease. */
    const port = Number(new URL(postgres.url).port);
    const other = await prepare({ postgres, admin: true, replicas: { 'auth-svc': 2, 'convo-svc': 3 } });
    const creeps = new Map();
    try {
        for (const [name, from] of [['auth-svc', 4], ['auth-svc-2', 6], ['convo-svc', 4], ['convo-svc-2', 6], ['convo-svc-3', 8]]) {
            creeps.set(name, await startCreep(port, { after: true, from, once: true }));
            other.own[name] = through(creeps.get(name), 'postgres');
        }
        other.writeConfig();
        for (const name of creeps.keys())
            other.start(name);
        for (const [name, creep] of creeps) {
            await until(20_000, () => creep.cuts > 0 && other.logs(name).includes('waiting for PostgreSQL: '), `${name} waits`);
            assert.deepEqual((await other.admin(name).api('GET', '/readyz')).json, { status: 'starting' });
        }
        await Promise.all([...creeps.keys()].map((name) => other.drain(name)));
        for (const name of creeps.keys())
            assert.match(other.logs(name), /stopped before it had started: /);
    } finally {
        await other.stopAll();
        for (const creep of creeps.values())
            creep.stop();
    }
}, { skip });
