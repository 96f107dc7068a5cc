/* bad_disks.test.mjs - disks that are full, databases that may not be written or are broken, secrets that are not those of the
 * data: one clear line or a 503 that says so, nothing that was acknowledged is lost, and all is well when the cause is gone. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { execFile, spawnSync } from 'node:child_process';
import { BIN_DIR, CLEAN_ENV, start } from '../support/stack.mjs';
import { demand, story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { until, within } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';
import { mountSmallDisk, smallDiskMissing } from '../support/small_disk.mjs';

const skip = demand(smallDiskMissing());
const SCRIPTS = path.resolve(import.meta.dirname, '../../scripts');

let provider;
before(async () => {
    provider = await startProvider();
});
after(async () => {
    await provider?.stop();
});

/** A stack whose databases are on a small disk of their own. */
async function onSmallDisk(t, kib) {
    const disk = mountSmallDisk(kib);
    t.after(() => disk.remove());
    const s = await start({ provider, config: { sqlite: { path: path.join(disk.dir, 'llm_backend.db') } } });
    return { disk, s };
}

/** Starts a service that must refuse: exit code 1 and one line, which it gives. */
async function refusal(s, name) {
    const begin = s.logs(name).length;
    const child = s.start(name);
    s.expected.add(child);
    const { code } = await within(20_000, child.gone, `${name} ends`);
    const said = s.logs(name).slice(begin).trimEnd().split('\n').filter((line) => !/^\d{4}-\d\d-\d\dT\S+ +(info|debug) /.test(line));
    assert.equal(code, 1, said.join('\n'));
    assert.equal(said.filter((line) => line.startsWith(`${name}: `)).length, 1, said.join('\n'));
    return said.find((line) => line.startsWith(`${name}: `));
}

function run(name, s, ...args) {
    const ended = new Promise((resolve) => {
        execFile(path.join(SCRIPTS, name), ['--bin', BIN_DIR, '--config', s.configFile, ...args], { env: CLEAN_ENV },
            (e, out, err) => resolve({ code: e ? e.code : 0, out, err }));
    });
    return within(60_000, ended, `${name} ends`);
}

story('a disk that is full: writes are 503, reads go on, an answer that is under way is stored when there is room again', async (t) => {
    const { disk, s } = await onSmallDisk(t, 2048);
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'before'), answerFor('before'), { messageId: 2 });
    const { stream, answer, id: running } = await openAnswer(provider, user, 'fake:held', 'shown before, ');
    disk.fill();

    /* what is written fits into pages and logs that are there for a while */
    await until(20_000, async () => (await user.call('POST', '/api/conversations/create', { title: 'x'.repeat(4000), model: 'echo' })).status === 503, 'the disk is full');
    await until(20_000, async () => (await s.register(`u${Math.random()}`, 'a password of theirs')).status === 503, 'the users\' database is full');
    const refused = await user.chat(id, 'q'.repeat(100_000));
    expectError(refused, 503);
    assert.match(refused.headers['retry-after'], /^\d+$/);
    assert.deepEqual((await user.messages(id)).map((m) => m.content), ['before', answerFor('before')]);
    assert.equal((await s.login(user.name, user.password)).status, 200);
    assert.match(s.logs('convo-svc'), /database or disk is full/);
    await answer.piece('and while it was full, '.repeat(400));
    for (const name of s.names)
        assert.ok(s.running(name), name);

    disk.free();
    await until(20_000, async () => (await user.call('POST', '/api/conversations/create', { title: 't', model: 'echo' })).status === 200, 'conversations are made again');
    assert.equal((await s.register('somebody-new', 'a password of theirs')).status, 201);
    await answer.piece('and after.');
    await answer.finish();
    const whole = `shown before, ${'and while it was full, '.repeat(400)}and after.`;
    const message = await until(20_000, async () => {
        const m = (await user.messages(running))[1];
        return m.state !== 'streaming' && m;
    }, 'the answer has ended');
    assert.deepEqual([message.state, message.content], ['complete', whole]);
    await stream.rest();
    expectAnswer(await user.ask(id, 'after'), answerFor('after'), { messageId: 4 });
    await s.stopAll();
}, { skip, deadline: 60_000 });

story('a disk that may not be written: no start, one line, and everything there when it may', async (t) => {
    const { disk, s } = await onSmallDisk(t, 4096);
    const user = await s.user();
    const id = await user.create('fake');
    expectAnswer(await user.ask(id, 'one'), answerFor('one'), { messageId: 2 });
    await s.stopAll({ keepDir: true });
    const remount = (how) => assert.equal(spawnSync('mount', ['-o', `remount,${how}`, disk.dir]).status, 0);
    remount('ro');
    for (const name of ['auth-svc', 'convo-svc'])
        assert.match(await refusal(s, name), /[Rr]ead-only|readonly/);
    remount('rw');
    await s.startAll();
    assert.equal((await s.login(user.name, user.password)).status, 200);
    expectAnswer(await user.ask(id, 'two'), answerFor('two'), { messageId: 4 });
    await s.stopAll();
}, { skip });

story('a database that is broken: one line or an error that says so, and a restore brings everything back', async () => {
    const s = await start({ provider });
    const users = await Promise.all(Array.from({ length: 4 }, () => s.user()));
    const turns = [];
    for (const user of users) {
        for (let i = 0; i < 8; i++) {
            const id = await user.create('echo');
            const question = `${user.name}/${i}/`.repeat(200);    /* one word: echo answers at once */
            expectAnswer(await user.ask(id, question), question, { messageId: 2 });
            turns.push({ user, id, question });
        }
    }
    const folder = path.join(s.dir, 'backup');
    const backup = await run('backup', s, folder);
    assert.equal(backup.code, 0, backup.err);
    await s.stopAll({ keepDir: true });
    const file = s.config.sqlite.path;
    const bytes = fs.readFileSync(file);

    /* the first page: nothing can be read */
    fs.writeFileSync(file, Buffer.concat([Buffer.alloc(4096, 0x5a), bytes.subarray(4096)]));
    assert.match(await refusal(s, 'convo-svc'), /file is not a database/);

    /* half of all pages, from the twelfth on: the service may start, but must not invent anything */
    fs.writeFileSync(file, Buffer.concat([bytes.subarray(0, 11 * 4096), ...Array.from({ length: bytes.length / 4096 - 11 },
        (_, i) => (i % 2 === 0 ? Buffer.alloc(4096, 0xa5) : bytes.subarray((11 + i) * 4096, (12 + i) * 4096)))]));
    s.start('auth-svc');
    s.start('llm-svc');
    s.start('gateway');
    const child = s.start('convo-svc');
    s.expected.add(child);
    const ended = await Promise.race([child.gone, until(20_000, () => s.isServing('convo-svc'), 'convo-svc serves').catch(() => child.gone)]);
    if (ended === true) {
        await until(20_000, async () => (await s.api('GET', '/readyz')).status === 200, 'the system is ready');
        const statuses = new Set();
        for (const { user, id, question } of turns) {
            const got = await user.history(id);
            statuses.add(got.status);
            assert.ok([200, 404, 500, 503].includes(got.status), got.text);
            if (got.status === 200)
                assert.ok(got.json.messages.every((m) => m.content === question), 'what can be read is right');
        }
        assert.ok([...statuses].some((status) => status !== 200), 'nothing was broken');
        assert.match(s.logs('convo-svc'), /malformed/);
        assert.ok(s.running('convo-svc'));
        await s.kill('convo-svc', 'SIGTERM');
    } else {
        assert.equal(ended.code, 1);
    }
    await s.drain('auth-svc');
    const restored = await run('restore', s, folder);
    assert.equal(restored.code, 0, restored.err);
    s.start('auth-svc');
    s.start('convo-svc');
    await s.ready();
    for (const { user, id, question } of turns)
        assert.deepEqual((await user.messages(id)).map((m) => m.content), [question, question]);
    await s.stopAll();
}, { deadline: 60_000 });

story('secrets that are not those of the data: a wrong seal key is refused, a wrong jwt.secret logs everybody out, the right ones heal both', async () => {
    const s = await start({ provider, config: { gateway: { verify_cache_s: 0 }, jwt: { secret: 'the right secret of thirty-two b' }, convo: { seal_key: '5ea1'.repeat(16) } } });
    const user = await s.user();
    const id = await user.create('fake', { api_key: 'sk-of-this-conversation' });
    await s.drain('auth-svc');
    await s.drain('convo-svc');

    s.config.convo.seal_key = 'bad5'.repeat(16);
    s.config.jwt.secret = 'another secret of thirty-two byt';
    s.writeConfig();
    const said = await refusal(s, 'convo-svc');
    assert.match(said, /key/);
    assert.ok(!said.includes('bad5'), said);
    s.config.convo.seal_key = '5ea1'.repeat(16);
    s.writeConfig();
    s.start('auth-svc');
    s.start('convo-svc');
    s.prober = undefined;    /* its token is no good any more, either */
    await s.ready();
    const stranger = await user.list();
    expectError(stranger, 401);
    assert.match(stranger.headers['www-authenticate'], /invalid_token/);
    const old = user.token;
    await user.login();
    assert.equal((await user.list()).status, 200);

    await s.drain('auth-svc');
    s.config.jwt.secret = 'the right secret of thirty-two b';
    s.writeConfig();
    s.start('auth-svc');
    s.prober = undefined;
    await s.ready();
    user.token = old;
    expectAnswer(await user.ask(id, 'one'), answerFor('one'), { messageId: 2 });
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-of-this-conversation');
    await s.stopAll();
});
