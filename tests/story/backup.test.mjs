/* backup.test.mjs - backups under load, restored into a fresh stack and compared: what was acknowledged before a backup began is
 * there to the byte, users log in with what they had, api keys open, what was in flight is as after a crash. And what must be
 * refused: a second backup under the same name, a full disk, a damaged file, a service that runs. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { BIN_DIR, CLEAN_ENV, prepare, start } from '../support/stack.mjs';
import { demand, story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectNumbered } from '../support/expect.mjs';
import { until, within } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';
import { mountSmallDisk, smallDiskMissing } from '../support/small_disk.mjs';

const SCRIPTS = path.resolve(import.meta.dirname, '../../scripts');

let provider;
let s;
const databases = [];
before(async () => {
    provider = await startProvider();
    s = await start({ provider });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
    await Promise.all(databases.map((database) => database.remove()));
});

async function database() {
    const one = await startPostgres();
    databases.push(one);
    return one;
}

/** Runs a program to its end: {code, out, err}. */
function run(program, ...args) {
    const ended = new Promise((resolve) => {
        execFile(program, args, { env: CLEAN_ENV }, (e, out, err) => resolve({ code: e ? e.code : 0, out, err }));
    });
    return within(60_000, ended, `${path.basename(program)} ${args.join(' ')} ends`);
}

const script = (name, stack, ...args) =>
    run(path.join(SCRIPTS, name), '--bin', BIN_DIR, '--config', stack.configFile, ...args);
const tool = (service, stack, ...args) => run(path.join(BIN_DIR, service), '--config', stack.configFile, ...args);

/** It failed with one line that says what is looked for. */
function expectRefusal(got, words) {
    assert.equal(got.code, 1, `${got.out}${got.err}`);
    assert.match(got.err, words);
    assert.equal(got.err.trimEnd().split('\n').length, 1, got.err);
}

/** Users who chat all the time; `turns` is what was acknowledged, in its order. */
class Load {
    constructor(users, model) {
        this.turns = [];
        this.wrong = [];
        this.stopped = false;
        this.running = users.map((user, i) => this.chat(user, i, model));
    }

    async chat(user, i, model) {
        let id = null;
        for (let n = 1; !this.stopped; n++) {
            if (n % 4 === 1)
                id = await user.create(model);
            const question = `question ${n} of ${i}, é and 😀`;
            const got = await user.ask(id, question);
            if (got.full === undefined)
                this.wrong.push(`"${question}" got ${got.status}`);
            else
                this.turns.push({ user, id, n: got.done.message_id, question, answer: got.full });
        }
    }

    reaches(n) {
        return until(30_000, () => this.turns.length >= n, `${n} answers`);
    }

    async stop() {
        this.stopped = true;
        await Promise.all(this.running);
        assert.deepEqual(this.wrong, []);
    }
}

/** Compares what `stack` has with what was acknowledged; the users log in there. */
async function compare(stack, turns) {
    const there = new Map();    /* name: the user there */
    const histories = new Map();
    for (const { user, id, n, question, answer } of turns) {
        if (!there.has(user.name)) {
            there.set(user.name, user.through(stack));
            await there.get(user.name).login();
        }
        if (!histories.has(id))
            histories.set(id, await there.get(user.name).messages(id));
        assert.deepEqual(histories.get(id).slice(n - 2, n).map((m) => [m.message_id, m.content]),
            [[n - 1, question], [n, answer]]);
    }
    for (const messages of histories.values())
        expectNumbered(messages);
    return there;
}

story('backups under load, and a fresh stack that goes on from the last of them', async () => {
    const users = await Promise.all(Array.from({ length: 6 }, () => s.user()));
    const keyed = await users[0].create('fake', { api_key: 'sk-of-this-conversation' });
    const { stream, answer, id } = await openAnswer(provider, users[1], 'fake:open', 'shown before the backup');
    const load = new Load(users, 'fake');
    let acknowledged;
    let folder;
    for (let i = 1; i <= 3; i++) {
        await load.reaches(i * 15);
        acknowledged = [...load.turns];
        folder = path.join(s.dir, `backup-${i}`);
        const made = await script('backup', s, folder);
        assert.equal(made.code, 0, made.err);
        assert.match(made.out, /convo-svc: \S+conversations\.db: \d+ conversations, \d+ bytes, checked; its secret is \S+seal\.key\n/);
        assert.match(made.out, /auth-svc: \S+users\.db: \d+ users, \d+ bytes, checked; its secret is \S+jwt\.secret\n/);
    }
    const later = await s.user();
    await load.stop();
    assert.deepEqual(fs.readdirSync(folder).sort(), ['conversations.db', 'jwt.secret', 'seal.key', 'users.db']);
    assert.equal(fs.statSync(folder).mode & 0o777, 0o700);
    for (const file of fs.readdirSync(folder))
        assert.equal(fs.statSync(path.join(folder, file)).mode & 0o777, 0o600, file);
    assert.ok(acknowledged.length >= 45);

    const fresh = await prepare({ provider });
    const restored = await script('restore', fresh, folder);
    assert.equal(restored.code, 0, restored.err);
    await fresh.startAll();
    const there = await compare(fresh, acknowledged);
    const first = there.get(users[0].name);
    const withOldToken = users[0].through(fresh);
    assert.equal((await withOldToken.list()).status, 200);
    expectAnswer(await first.ask(keyed, 'with its own key'), answerFor('with its own key'), { messageId: 2 });
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-of-this-conversation');
    const message = await until(20_000, async () => {
        const m = (await there.get(users[1].name).messages(id))[1];
        return m.state !== 'streaming' && m;
    }, 'the answer that was in flight has ended');
    assert.equal(message.state, 'interrupted');
    assert.ok('shown before the backup'.startsWith(message.content), message.content);
    /* Who came after the backup is nobody here, and nobody ever gets that id, which a token still names. */
    assert.equal((await fresh.login(later.name, later.password)).status, 401);
    const idOf = (user) => JSON.parse(Buffer.from(user.token.split('.')[1], 'base64url')).user_id;
    assert.ok(idOf(await fresh.user()) > idOf(later) + 100_000);
    await fresh.stopAll();

    await answer.finish();
    expectAnswer(await stream.rest(), 'shown before the backup', { messageId: 2 });
}, { deadline: 90_000 });

story('a restore moves what was there aside, and goes back to the very moment', async () => {
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
    const folder = path.join(s.dir, 'backup-there-and-back');
    assert.equal((await script('backup', s, folder)).code, 0);
    expectAnswer(await user.ask(id, 'after'), answerFor('after'), { messageId: 4 });

    expectRefusal(await tool('convo-svc', s, '--restore', path.join(folder, 'conversations.db')), /is in use: stop convo-svc first, then restore/);
    expectRefusal(await tool('auth-svc', s, '--restore', path.join(folder, 'users.db')), /is in use: stop auth-svc first, then restore/);
    await s.killAll();    /* the logs are full, and must not be taken for those of what is restored */
    const restored = await script('restore', s, folder);
    assert.equal(restored.code, 0, restored.err);
    assert.match(restored.out, /what was there is \S+\.replaced-\d+\n/);
    await s.startAll();
    assert.deepEqual((await user.messages(id)).map((m) => m.content), ['before', answerFor('before')]);
    expectAnswer(await user.ask(id, 'again'), answerFor('again'), { messageId: 4 });
    const aside = fs.readdirSync(s.dataDir).filter((f) => /^llm_backend\.db\.replaced-\d+$/.test(f));
    assert.equal(aside.length, 1);
});

story('a backup never replaces anything, and a restore takes nothing that is damaged or something else', async () => {
    const folder = path.join(s.dir, 'backup-refusals');
    assert.equal((await script('backup', s, folder)).code, 0);
    const users = path.join(folder, 'users.db');
    const was = fs.readFileSync(users);
    expectRefusal(await tool('auth-svc', s, '--backup', users), /users\.db: exists: a backup never replaces anything/);
    assert.deepEqual(fs.readFileSync(users), was);
    assert.equal((await script('backup', s, folder)).code, 1);
    assert.deepEqual(fs.readFileSync(users), was);
    expectRefusal(await tool('auth-svc', s, '--backup', path.join(s.dir, 'no/such/folder/users.db')), /No such file or directory/);

    const idle = await prepare();
    const conversations = path.join(folder, 'conversations.db');
    expectRefusal(await tool('auth-svc', idle, '--restore', conversations), /is no database of this service/);
    expectRefusal(await tool('auth-svc', idle, '--restore', path.join(folder, 'seal.key')), /file is not a database/);
    const damaged = fs.readFileSync(conversations);
    damaged.fill(0x5a, 4096, 3 * 4096);
    fs.writeFileSync(conversations, damaged);
    expectRefusal(await tool('convo-svc', idle, '--restore', conversations), /malformed|damaged/);
    assert.ok(!fs.existsSync(idle.config.sqlite.path));
    idle.removeDir();
});

story('a disk that is full: one line says so, and no half file stays', async () => {
    const user = await s.user();
    await user.ask(await user.create('echo'), 'a word, and more of them. '.repeat(20_000));
    const disk = mountSmallDisk(300);
    try {
        const file = path.join(disk.dir, 'conversations.db');
        expectRefusal(await tool('convo-svc', s, '--backup', file), /cannot be copied: database or disk is full/);
        assert.deepEqual(fs.readdirSync(disk.dir), []);
        assert.equal((await script('backup', s, path.join(disk.dir, 'backup'))).code, 1);
        assert.deepEqual(fs.readdirSync(disk.dir), []);
    } finally {
        disk.remove();
    }
    assert.equal((await user.list()).status, 200);
}, { skip: demand(smallDiskMissing()) });

story('PostgreSQL: pg_dump under load, pg_restore into an empty database, as documented', async () => {
    const [from, to] = await Promise.all([database(), database()]);
    const old = await start({ provider, postgres: from, replicas: { 'convo-svc': 2 } });
    expectRefusal(await tool('convo-svc', old, '--backup', path.join(old.dir, 'x.db')), /storage\.driver is postgresql: back up with pg_dump -Fc/);
    expectRefusal(await tool('auth-svc', old, '--restore', path.join(old.dir, 'x.db')), /storage\.driver is postgresql: restore with pg_restore/);
    const users = await Promise.all(Array.from({ length: 4 }, () => old.user()));
    const keyed = await users[0].create('fake', { api_key: 'sk-of-this-conversation' });
    const load = new Load(users, 'fake');
    await load.reaches(20);
    const acknowledged = [...load.turns];
    const dump = path.join(old.dir, 'llmb.dump');
    const dumped = await run('pg_dump', '-Fc', '-d', from.url, '-f', dump);
    assert.equal(dumped.code, 0, dumped.err);
    await load.reaches(acknowledged.length + 20);
    await load.stop();
    await old.stopAll({ keepDir: true });

    const restored = await run('pg_restore', '-d', to.url, '--clean', '--if-exists', '--no-owner', dump);
    assert.equal(restored.code, 0, restored.err);
    await to.query("SELECT setval(pg_get_serial_sequence('auth_user', 'id'), (SELECT greatest(coalesce(max(id), 0) + 1000000, (extract(epoch FROM now()) * 1000000)::bigint) FROM auth_user))");
    const fresh = await start({ provider, postgres: to });
    const there = await compare(fresh, acknowledged);
    expectAnswer(await there.get(users[0].name).ask(keyed, 'with its own key'), answerFor('with its own key'), { messageId: 2 });
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-of-this-conversation');
    await fresh.stopAll();
    old.removeDir();
}, { skip: !havePostgres, deadline: 120_000 });
