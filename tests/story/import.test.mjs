/* import.test.mjs - coming from the original: its users log in with what they had, its conversations are there under their ids, with
 * every message, and go on; what cannot be brought over is told line by line; a dry run changes nothing, twice is once, and a
 * run that is killed is simply run again. SQLite and PostgreSQL. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { BIN_DIR, CLEAN_ENV, prepare, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { haveRedis } from '../support/redis.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectNumbered } from '../support/expect.mjs';
import { within } from '../support/deadline.mjs';
import { User } from '../support/client.mjs';
import { bcrypt, makeOriginal, messages } from '../support/original.mjs';

const skip = !haveRedis;
const SCRIPT = path.resolve(import.meta.dirname, '../../scripts/import-original');
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-original-'));
const cleanups = [];

let provider;
before(async () => {
    provider = await startProvider();
});
after(async () => {
    await provider?.stop();
    for (const cleanup of cleanups)
        await cleanup();
    fs.rmSync(dir, { recursive: true, force: true });
});

/** Runs the script to its end: {code, out, err, lines}. */
function bringOver(stack, original, ...more) {
    const args = ['--bin', BIN_DIR, '--config', stack.configFile, '--sqlite', original.file, '--redis', original.redis.address, ...more];
    const ended = new Promise((resolve) => {
        execFile(SCRIPT, args, { env: CLEAN_ENV }, (e, out, err) => resolve({ code: e ? e.code : 0, out, err, lines: out.trimEnd().split('\n') }));
    });
    return within(60_000, ended, 'the import ends');
}

/** Data of every kind, good and bad. */
async function manyKinds() {
    const long = 'é and 😀, a word, and a thought. '.repeat(6000);    /* several pages, with characters across their ends */
    const original = await makeOriginal(dir, [
        [1, 'ada', bcrypt('correct horse', '2a')],
        [2, 'Bób 😀', bcrypt('pässword', '2b')],
        [3, 'cid', bcrypt('of a php server', '2y')],
        [5, 'eve', bcrypt('another eve')],
        [6, 'plain', 'not hashed at all'],
        [7, 'bell\u0007', bcrypt('correct horse')],
        [8, { hex: 'ff41' }, bcrypt('correct horse')],
        [9, 'slow', bcrypt('correct horse').replace('$04$', '$31$')],
        [10, 'x'.repeat(257), bcrypt('correct horse')],
    ], [
        ['329629', 'First', 1, 1731851729, {
            created_time: 1731851729, api_key: 'sk-of-the-original',
            messages: messages('one', 'the first answer', 'two é 😀', 'the second\u0000answer "quoted"\n'),
        }],
        ['5', 'Never asked', 1, '2024-11-18 10:00:00.123456789+01:00', {}],
        ['6', 'Long', 2, 1731851800000, { title: 'A title that Redis has', messages: messages('tell me', long) }],
        ['9007199254740991', 'Odd', 1, 1731851900, {
            messages: messages({ role: 'assistant', content: 'to nobody' }, { role: 'user', content: 'q1' }, { role: 'user', content: 'q2' },
                { role: 'assistant', content: 'part one' }, { role: 'assistant', content: 'part two' }, { role: 'tool', content: 'x' },
                { role: 'user', content: null }, { role: 'user', content: 'q3' }, { role: 'assistant', content: '' }),
        }],
        ['7', 'T'.repeat(4095) + 'é', 3, 1731851901, { messages: [{ role: 'system', content: 'Talk like a pirate.' }] }],
        ['d9b2d63d-a233-4123-847a-7090a6e7e1b5', 'A uuid', 1, 1, {}],
        ['007', 'Zeros', 1, 1, {}],
        ['11', 'Nobody', 99, 1, {}],
        ['12', 'Of eve', 5, 1, {}],
        ['13', 'No body', 1, 1, undefined],
        ['14', 'Broken', 1, 1, '{"conversation_id":14,"messages":['],
        ['15', 'Somebody else', 1, 1, { conversation_id: 16 }],
        ['17', 'No model', 1, 1, { model: '' }],
        ['18', 'No list', 1, 1, { messages: 'none' }],
        ['19', 'Long key', 1, 1, { api_key: 'k'.repeat(1025) }],
        ['20', 'Of no user', null, 1, {}],
    ]);
    cleanups.push(() => original.remove());
    await original.redis.command('SET', 'conversation:999', '{}');
    await original.redis.command('SET', 'something:else', 'x');
    await original.redis.command('RPUSH', 'conversation:21', 'a', 'list');
    return { original, long };
}

const BAD_LINES = [
    /^user "eve" \(5\): not brought over: that name is taken here by somebody with another password$/,
    /^user "plain" \(6\): not brought over: its password is no bcrypt hash/,
    /^user "bell\?" \(7\): not brought over: its name has control characters$/,
    /^user "…" \(8\): not brought over: its name is no valid UTF-8$/,
    /^user "slow" \(9\): not brought over: its password is no bcrypt hash of cost 4 to 15$/,
    /^user "x+…" \(10\): not brought over: its name is longer than 256 bytes/,
    /^conversation d9b2d63d-a233-4123-847a-7090a6e7e1b5: not brought over: its id is no number/,
    /^conversation 007: not brought over: its id is no number/,
    /^conversation 11: not brought over: its owner is none of the users/,
    /^conversation 12: not brought over: its owner is none of the users/,
    /^conversation 13: not brought over: Redis has nothing of it$/,
    /^conversation 14: not brought over: what Redis has of it is no JSON object$/,
    /^conversation 15: not brought over: what Redis has of it names another conversation$/,
    /^conversation 17: not brought over: it has no model$/,
    /^conversation 18: not brought over: its messages are no list$/,
    /^conversation 19: not brought over: its api key is longer than 1024 bytes$/,
    /^conversation 20: not brought over: its owner is none of the users/,
    /^conversation 21: not brought over: it is in Redis only, and nobody owns it$/,
    /^conversation 999: not brought over: it is in Redis only, and nobody owns it$/,
];

const CHANGED_LINES = [
    /^conversation 9007199254740991: 3 of its messages left out/,
    /^conversation 9007199254740991: 2 of its questions have no answer/,
    /^conversation 9007199254740991: 1 of its answers are joined/,
    /^conversation 7: its title is cut at 4096 bytes$/,
];

/** Each pattern has its line, and there is no line more than those and the two sums. */
function expectLines(got, patterns, sums) {
    assert.equal(got.code, 0, got.err);
    assert.equal(got.err.replace(/^.*\b(info|debug)\b.*\n/gm, ''), '');
    for (const pattern of [...patterns, ...sums])
        assert.equal(got.lines.filter((line) => pattern.test(line)).length, 1, `${pattern} in\n${got.out}`);
    assert.equal(got.lines.length, patterns.length + sums.length, got.out);
}

const PROMPT_LINE = /^1 conversations had another system prompt: from now on it is convo\.system_prompt/;

/** Everything that was brought over is as it was. */
async function expectAllThere(s, long) {
    const ada = new User(s, 'ada', 'correct horse');
    const bob = new User(s, 'Bób 😀', 'pässword');
    const cid = new User(s, 'cid', 'of a php server');
    for (const user of [ada, bob, cid])
        await user.login();
    assert.equal((await s.login('ada', 'correct hors')).status, 401);
    assert.deepEqual((await ada.list()).json, [
        { conversation_id: 5, title: 'Never asked', created_time: 1731920400 },
        { conversation_id: 9007199254740991, title: 'Odd', created_time: 1731851900 },
        { conversation_id: 329629, title: 'First', created_time: 1731851729 },
    ]);
    assert.deepEqual((await ada.history(329629)).json, {
        conversation_id: 329629, title: 'First', model: 'fake', created_time: 1731851729, messages: [
            { role: 'user', content: 'one', message_id: 1 },
            { role: 'assistant', content: 'the first answer', message_id: 2, state: 'complete' },
            { role: 'user', content: 'two é 😀', message_id: 3 },
            { role: 'assistant', content: 'the second\u0000answer "quoted"\n', message_id: 4, state: 'complete' },
        ],
    });
    assert.deepEqual((await ada.messages(9007199254740991)).map((m) => [m.content, m.state]), [
        ['q1', undefined], ['', 'interrupted'], ['q2', undefined], ['part one\n\npart two', 'complete'], ['q3', undefined], ['', 'interrupted']]);
    assert.deepEqual((await bob.list()).json, [{ conversation_id: 6, title: 'A title that Redis has', created_time: 1731851800 }]);
    const [question, answer] = await bob.messages(6);
    assert.equal(question.content, 'tell me');
    assert.equal(answer.content, long);
    const [of7] = (await cid.list()).json;
    assert.equal(of7.title, 'T'.repeat(4095));
    assert.equal((await bob.history(329629)).status, 404);
    return ada;
}

story('everything comes over that can, the rest is told, and users go on as if nothing had happened', async () => {
    const { original, long } = await manyKinds();
    const s = await start({ provider });
    await s.register('eve', 'eve who is here');
    const running = await bringOver(s, original);
    assert.equal(running.code, 1);
    assert.match(running.err, /llm_backend_users\.db is in use: stop auth-svc first, then import\n$/);
    const dry = [...BAD_LINES, ...CHANGED_LINES, PROMPT_LINE];
    const drySums = [/^auth-svc: 9 users: 3 would be brought over, 0 were here already, 6 cannot be$/,
        /^convo-svc: 18 conversations: 5 would be brought over \(12 messages; 2 not just as they were\), 0 were here already, 13 cannot be$/];
    expectLines(await bringOver(s, original, '--dry-run'), dry, drySums);
    await s.stopAll({ keepDir: true });
    expectLines(await bringOver(s, original, '--dry-run'), dry, drySums);

    expectLines(await bringOver(s, original), dry, [
        /^auth-svc: 9 users: 3 brought over, 0 were here already, 6 could not be$/,
        /^convo-svc: 18 conversations: 5 brought over \(12 messages; 2 not just as they were\), 0 were here already, 13 could not be$/]);
    await s.startAll();
    const ada = await expectAllThere(s, long);
    assert.equal((await s.login('eve', 'eve who is here')).status, 200);
    assert.equal((await s.login('eve', 'another eve')).status, 401);
    expectAnswer(await ada.ask(329629, 'three'), answerFor('three'), { messageId: 6 });
    const asked = provider.last('fake');
    assert.equal(asked.headers.authorization, 'Bearer sk-of-the-original');
    assert.deepEqual(asked.body.messages.map((m) => m.content), ['You are a helpful assistant.', 'one', 'the first answer', 'two é 😀',
        'the second\u0000answer "quoted"\n', 'three']);
    expectAnswer(await ada.ask(5, 'hello'), answerFor('hello'), { messageId: 2 });
    expectAnswer(await (await ada.retry(9007199254740991)).rest(), answerFor('q3'), { messageId: 6 });
    const before = [(await ada.list()).json, (await ada.history(329629)).json];
    await s.stopAll({ keepDir: true });
    assert.ok(!fs.readFileSync(s.config.sqlite.path).includes('sk-of-the-original'));

    /* Twice: what was asked here since then stays. */
    const sums = [/^auth-svc: 9 users: 0 brought over, 3 were here already, 6 could not be$/,
        /^convo-svc: 18 conversations: 0 brought over \(0 messages; 0 not just as they were\), 5 were here already, 13 could not be$/];
    expectLines(await bringOver(s, original), BAD_LINES, sums);
    await original.redis.command('SET', 'conversation:5', JSON.stringify({
        conversation_id: 5, title: 't', model: 'fake', messages: messages('a', 'b', 'c', 'd'),
    }));
    expectLines(await bringOver(s, original, '--dry-run'), [...BAD_LINES,
        /^conversation 5: is here already with 2 messages and stays so; the original has more$/], sums.map((sum) => new RegExp(
        sum.source.replace('brought over', 'would be brought over').replace('could not be', 'cannot be'))));
    await s.startAll();
    await ada.login();
    assert.deepEqual([(await ada.list()).json, (await ada.history(329629)).json], before);
    await s.stopAll();
}, { skip, deadline: 60_000 });

story('a run that is killed in the middle, or cannot go on, is simply run again', async () => {
    const rows = Array.from({ length: 300 }, (_, i) => [String(1000 + i), `title ${i}`, 1, 1731851729 + i, { messages: messages(`q${i}`, `a${i}`) }]);
    rows[150][4] = undefined;
    const original = await makeOriginal(dir, [[1, 'ada', bcrypt('correct horse')]], rows);
    cleanups.push(() => original.remove());
    const s = await prepare({ provider });
    const nowhere = await bringOver(s, { file: original.file, redis: { address: `127.0.0.1:${s.ports[0]}` } });
    assert.equal(nowhere.code, 1);
    assert.match(nowhere.err, /the original's Redis: Connection refused\n$/);
    const noTable = await bringOver(s, { ...original, file: s.config.sqlite.path });
    assert.equal(noTable.code, 1);
    assert.match(noTable.err, /^auth-svc: .*: no such table: users\n$|^auth-svc: .* cannot open this database/m);

    /* A way to the original's Redis that stands still in the second half: so the run cannot be through before it is killed. */
    const way = net.createServer((client) => {
        const there = net.connect(original.redis.port, '127.0.0.1');
        let isStill = false;
        client.on('data', (bytes) => {
            isStill ||= bytes.includes('conversation:1250');
            if (!isStill)
                there.write(bytes);
        });
        there.on('data', (bytes) => client.write(bytes));
        for (const [one, other] of [[client, there], [there, client]]) {
            one.on('error', () => {});
            one.once('close', () => other.destroy());
        }
    });
    way.listen(0, '127.0.0.1');
    await once(way, 'listening');
    way.unref();
    const map = path.join(dir, 'map');
    fs.writeFileSync(map, '1 1\n');
    const child = spawn(path.join(BIN_DIR, 'convo-svc'), ['--config', s.configFile, '--import-original', original.file, `127.0.0.1:${way.address().port}`, map],
        { env: CLEAN_ENV, stdio: ['ignore', 'pipe', 'inherit'] });
    const gone = new Promise((resolve) => {
        child.once('exit', (code, signal) => resolve(signal));
    });
    child.stdout.once('data', () => child.kill('SIGKILL'));    /* the line of the one in the middle */
    assert.equal(await within(20_000, gone, 'the import is killed'), 'SIGKILL');
    way.close();

    const again = await bringOver(s, original);
    assert.equal(again.code, 0, again.err);
    const [, added, there] = /^convo-svc: 300 conversations: (\d+) brought over .*, (\d+) were here already, 1 could not be$/.exec(again.lines.at(-1));
    assert.equal(Number(added) + Number(there), 299, again.out);
    assert.ok(Number(there) >= 150, again.out);
    await s.startAll();
    const ada = new User(s, 'ada', 'correct horse');
    await ada.login();
    const list = (await ada.list()).json;
    assert.deepEqual(list.map((c) => c.title), rows.filter((row) => row[4]).map((row) => row[1]).reverse());
    for (const { conversation_id: id } of list.slice(0, 20)) {
        const got = await ada.messages(id);
        expectNumbered(got);
        assert.deepEqual(got.map((m) => m.content), [`q${id - 1000}`, `a${id - 1000}`]);
    }
    await s.stopAll();
}, { skip, deadline: 60_000 });

story('into PostgreSQL, while the services run; and first dry, into a database that has nothing', async () => {
    const { original, long } = await manyKinds();
    const postgres = await startPostgres();
    cleanups.push(() => postgres.remove());
    const s = await prepare({ provider, postgres, replicas: { 'convo-svc': 2 } });
    const dry = await bringOver(s, original, '--dry-run');
    assert.equal(dry.code, 0, dry.err);
    assert.match(dry.out, /auth-svc: 9 users: 4 would be brought over/);
    assert.deepEqual(await postgres.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), [['0']]);
    await s.startAll();
    await s.register('eve', 'eve who is here');
    const running = await bringOver(s, original);
    expectLines(running, [...BAD_LINES, ...CHANGED_LINES, PROMPT_LINE], [
        /^auth-svc: 9 users: 3 brought over, 0 were here already, 6 could not be$/,
        /^convo-svc: 18 conversations: 5 brought over \(12 messages; 2 not just as they were\), 0 were here already, 13 could not be$/]);
    const ada = await expectAllThere(s, long);
    expectAnswer(await ada.ask(329629, 'three'), answerFor('three'), { messageId: 6 });
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-of-the-original');
    const twice = await bringOver(s, original);
    assert.match(twice.out, /convo-svc: 18 conversations: 0 brought over .* 5 were here already, 13 could not be/);
    await s.stopAll();
}, { skip: skip || !havePostgres, deadline: 60_000 });
