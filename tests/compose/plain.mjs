/* plain.mjs - docker-compose.yml as it is: one of each service, SQLite, nothing configured. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { expectAnswer, expectBroken, expectError, expectText } from '../support/expect.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { asked, openAnswer } from '../support/held.mjs';
import { pause, until, within } from '../support/deadline.mjs';
import { docker, killProcess, ROOT, startedAgain } from './engine.mjs';

const SILENCE_MS = 20_000;   /* longer than gateway.keepalive_s; three of them */

const QUESTIONS = 6;
const SILENT_NAME_SERVER_MS = 5000;   /* how long nginx waits for one: resolver_timeout */

/** Everything about this stack. */
export async function plain({ step, engine, provider, override, clientOf, dir }, port) {
    const client = clientOf(port);
    const stack = engine.stack('plain', port, ['docker-compose.yml']);
    client.stack = stack;
    await step('docker-compose up -d, nothing configured: the first requests succeed', async () => {
        await stack.compose('up', '-d');
        const user = await client.user();
        const id = await user.create('echo');
        expectAnswer(await user.ask(id, 'hello, 你好 😀'), 'hello, 你好 😀', { messageId: 2 });
    }, { critical: true });
    stack.files.push(override);
    await step('another configuration, by a second up -d', async () => {
        await stack.compose('up', '-d');
        await client.user();
    }, { critical: true });
    const question = 'what is kept?';
    const copies = fs.mkdtempSync(path.join(dir, 'backup-'));
    let kept;
    let conversation;
    await Promise.all([
        step('a stream of 60 s with pauses, on one connection', () => aSlowStream(client, provider)),
        ...Object.entries(STORIES).map(([name, story]) => step(name, () => story(client, provider))),
    ]);
    await step('convo-svc is killed: 503 until it is there again, and nothing is lost', async () => {
        kept = await client.user();
        conversation = await kept.create('fake');
        expectAnswer(await kept.ask(conversation, question), answerFor(question), { messageId: 2 });
        const [id] = await stack.containers('convo-svc');
        await docker('kill', id);
        expectError(await kept.history(conversation, { timeout: 30_000 }), 503);
        await stack.compose('up', '-d');
        await until(15_000, () => hasAnswer(kept, conversation, question).then(() => true), 'the history is there again');
        const headers = { 'idempotency-key': 'and-now' };   /* each reactor of the gateway finds the new one by itself: some may say 503 for a moment */
        const got = await until(15_000, async () => {
            const res = await kept.ask(conversation, 'and now?', { headers });
            return res.status === 200 && res;
        }, 'the next question is answered');
        expectAnswer(got, answerFor('and now?'), { messageId: 4 });
    });
    await step('SIGHUP as deploy/README.md sends it: the configuration is read again, and who crashes afterwards comes back', async () => {
        const [id] = await stack.containers('llm-svc');
        await stack.shell('/tmp', codeOf(/`(for c in [^`]*kill -HUP 1[^`]*done)`/));
        await until(15_000, async () => (await docker('logs', id)).includes('the configuration was read again'), 'llm-svc says so');
        await killProcess(id);
        await startedAgain(id);
        await stack.healthy('llm-svc', 1);
    });
    await step('each service sees its own secrets only', async () => {
        assert.deepEqual(await secretsOf(stack, 'auth-svc'), ['bus', 'jwt_secret', 'postgresql_url', 'redis_password']);
        assert.deepEqual(await secretsOf(stack, 'convo-svc'), ['bus', 'postgresql_url', 'redis_password', 'seal_key']);
        assert.deepEqual(await secretsOf(stack, 'redis'), ['redis_password']);
        for (const service of ['gateway', 'llm-svc'])
            assert.deepEqual(await secretsOf(stack, service), ['bus'], service);
        assert.deepEqual(await secretsOf(stack, 'proxy'), []);
    });
    await step('the bus is locked: each service has its own key only, and plain text is refused', async () => {
        const services = ['gateway', 'auth-svc', 'convo-svc', 'llm-svc'];
        for (const service of services)
            assert.deepEqual(await secretsOf(stack, service, '/secrets/bus'), [`${service}.key`, ...[...services, 'tool'].map((s) => `${s}.pub`)].sort());
        const [gateway] = await stack.containers('gateway');
        const hello = '\\377\\0\\0\\0\\0\\0\\0\\0\\1\\177\\3\\0NULL';   /* and zeros up to 64 bytes: a peer without keys */
        const knock = `exec 3<>/dev/tcp/llm-svc/7104 && printf '${hello}' >&3 && head -c 48 /dev/zero >&3 && wc -c <&3`;
        const heard = Number(await docker('exec', gateway, 'bash', '-c', knock));
        assert.ok(heard <= 64, `${heard} bytes for somebody without a key`);
        const [llm] = await stack.containers('llm-svc');
        await until(10_000, async () => /refused a connection to tokens.*plain text/.test(await docker('logs', llm)), 'llm-svc tells of it');
    });
    await step('the key of llm-svc is replaced in three steps', async () => {
        const before = await publicKeyOf(stack, 'llm-svc');
        for (const [what, who] of [['--new', ['auth-svc', 'convo-svc', 'llm-svc', 'gateway']], ['--use', ['llm-svc']], ['--drop', ['auth-svc', 'convo-svc', 'llm-svc', 'gateway']]]) {
            await stack.compose('run', '--rm', '-T', 'secrets', 'keys', what, 'llm-svc');
            await stack.compose('restart', '-t', '5', ...who);
            await until(60_000, () => hasAnswer(kept, conversation, question).then(() => true), `answers after ${what}`);
        }
        assert.notEqual(await publicKeyOf(stack, 'llm-svc'), before);
        await until(30_000, async () => (await kept.ask(await kept.create('fake'), 'with another key')).full !== undefined, 'llm-svc answers');
    });
    await step('no gateway runs: the proxy says so at once, in our words', async () => {
        await docker('kill', ...await stack.containers('gateway'));
        await within(QUESTIONS * SILENT_NAME_SERVER_MS / 2, (async () => {
            for (let i = 0; i < QUESTIONS; i++)
                away(await client.api('GET', '/api/conversations/list'));
        })(), `${QUESTIONS} questions are answered`);
        await stack.compose('up', '-d');
        await hasAnswer(kept, conversation, question);
    });
    await step('down, then up: users, passwords, tokens and conversations are there', async () => {
        await stack.down();
        assert.deepEqual(await stack.containers('gateway'), []);
        await stack.compose('up', '-d');
        await hasAnswer(kept, conversation, question);   /* with the token of before */
        await kept.login();
        assert.equal((await kept.messages(conversation)).length, 4);
        expectAnswer(await kept.ask(conversation, 'once more'), answerFor('once more'), { messageId: 6 });
    });
    await step('a backup while it runs; one that fails says so, and replaces none', async () => {
        const backup = codeOf(/```sh\n(\(set -e; umask 077; for s in [^`]*--backup [^`]*)```/);
        await stack.shell(copies, backup);
        await stack.shell(copies, codeOf(/```sh\n(\(umask 077; docker run [^`]*secrets\.tar\))/));
        const before = fs.readFileSync(path.join(copies, 'convo-svc.db'));
        const [id] = await stack.containers('convo-svc');
        await docker('exec', id, 'mkdir', '/data/copy');   /* there is no room for it */
        await assert.rejects(stack.shell(copies, backup), /ended with 1/);
        assert.ok(fs.readFileSync(path.join(copies, 'convo-svc.db')).equals(before));
        expectAnswer(await kept.ask(conversation, 'lost'), answerFor('lost'), { messageId: 8 });
    });
    await step('down -v leaves nothing', async () => {
        await stack.down('-v');
        assert.deepEqual(await stack.things(), []);
    });
    await step('the backup of before brings all of it back to where nothing is', async () => {
        await stack.shell(copies, codeOf(/```sh\n(docker volume create [^`]*)```/));
        await stack.shell(copies, codeOf(/```sh\n(\(set -e; docker-compose run [^`]*--restore [^`]*)```/));
        await stack.compose('up', '-d');
        await hasAnswer(kept, conversation, question);   /* with the token of before, so jwt_secret is here, too */
        assert.equal((await kept.messages(conversation)).length, 6);
        await kept.login();
    });
}

/** A command that deploy/README.md has, word for word. */
function codeOf(pattern) {
    const found = pattern.exec(fs.readFileSync(path.join(ROOT, 'deploy/README.md'), 'utf8'));
    assert.ok(found, `deploy/README.md has ${pattern}`);
    return found[1];
}

/** What a service is known by on the bus, as the gateway has it. */
async function publicKeyOf(stack, service) {
    const [id] = await stack.containers('gateway');
    return docker('exec', id, 'grep', '^public ', `/secrets/bus/${service}.pub`);
}

/** The files in a folder that a service can read. */
async function secretsOf(stack, service, folder = '/secrets') {
    const [id] = await stack.containers(service);
    const readable = `for f in ${folder}/*; do [ ! -r "$f" ] || basename "$f"; done`;
    return (await docker('exec', id, 'sh', '-c', readable)).split('\n').filter(Boolean).sort();
}

function away(res) {
    expectError(res, 503, { code: 'unavailable' });
    assert.equal(res.headers['retry-after'], '1');
}

async function hasAnswer(user, conversation, question) {
    const messages = await user.messages(conversation);
    assert.deepEqual(messages.slice(0, 2).map((m) => m.content), [question, answerFor(question)]);
}

async function aSlowStream(client, provider) {
    const user = await client.user();
    const { stream, answer } = await openAnswer(provider, user, 'fake:pauses', 'one');
    const begun = Date.now();
    for (const word of [' two', ' three', ' four']) {
        await pause(SILENCE_MS);
        await answer.piece(word);
        await stream.shows(word);
    }
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two three four', { messageId: 2 });
    assert.ok(stream.comments.length >= 3, `${stream.comments.length} comments in three silences`);
    return `${Math.round((Date.now() - begun) / 1000)} s, ${stream.comments.length} comments`;
}

const STORIES = {
    'register, login, create, chat: ids, history, list': async (client) => {
        const user = await client.user();
        expectError(await client.register(user.name, 'another password'), 400, { code: 'username_taken' });
        expectError(await client.login(user.name, 'a wrong password'), 401);
        const id = await user.create('fake');
        const got = await user.ask(id, 'first');
        expectAnswer(got, answerFor('first'), { messageId: 2 });
        const ids = got.events.map((e) => e.id);
        assert.equal(new Set(ids).size, ids.length, 'every event has an id of its own');
        assert.ok(ids.every((i) => i.startsWith(`${got.headers['stream-id']}:`)), ids[0]);
        expectAnswer(await user.ask(id, 'second'), answerFor('second'), { messageId: 4 });
        assert.deepEqual((await user.messages(id)).map((m) => m.content), ['first', answerFor('first'), 'second', answerFor('second')]);
        assert.deepEqual((await user.list()).json.map((c) => c.conversation_id), [id]);
    },

    'a lost connection is read on by Last-Event-ID, to the byte': async (client, provider) => {
        const user = await client.user();
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:resume', 'Grüße 你好 ');
        const lastEventId = stream.events.at(-1).id;
        stream.leave();
        await answer.piece('aus dem 😀 ');
        const next = await user.watch(id, { lastEventId });
        await next.shows('aus dem 😀 ');
        await answer.piece('Tunnel');
        await answer.finish();
        const got = await next.rest();
        expectText(stream.shown + got.text, answer.record.sent, 'both parts');
        expectText(got.full, answer.record.sent, 'full_response');
        const again = await (await user.watch(id, { lastEventId })).rest();
        expectText(again.text, got.text, 'the same when it has ended');
    },

    'a stop ends the answer, with what there is, and at the provider': async (client, provider) => {
        const user = await client.user();
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:stop', 'half of ');
        const res = await until(15_000, async () => {   /* 202: it will end; a busy machine may take its time */
            const said = await user.stop(id);
            return said.status !== 202 && said;
        }, 'the answer has stopped');
        assert.equal(res.status, 200, res.text);
        assert.deepEqual(res.json, { state: 'stopped', message_id: 2, finish_reason: 'stopped', stream_id: stream.headers['stream-id'] });
        expectAnswer(await stream.rest(), 'half of ', { messageId: 2, finish: 'stopped' });
        await within(10_000, answer.closed, 'the provider sees that it is not wanted any more');
        assert.equal((await user.messages(id)).at(-1).content, 'half of ');
    },

    'an interrupted answer is retried, through a key, once': async (client, provider) => {
        const user = await client.user();
        const { stream, answer, id } = await openAnswer(provider, user, 'fake:again', 'half of ');
        await answer.cut();
        expectBroken(await stream.rest(), 'half of ', 'upstream_error');
        const hold = provider.hold('fake:again');
        const headers = { 'idempotency-key': 'the-same' };
        const opening = user.retry(id, { headers });
        const anew = await asked(hold, opening);
        await anew.piece('a whole one');
        await anew.finish();
        expectAnswer(await (await opening).rest(), 'a whole one', { messageId: 2 });
        expectAnswer(await (await user.retry(id, { headers })).rest(), 'a whole one', { messageId: 2 });
        assert.deepEqual((await user.messages(id)).map((m) => m.content), ['question', 'a whole one']);
    },

    'a ticket opens the stream of its conversation, and stands in no log of the proxy': async (client) => {
        const user = await client.user();
        const id = await user.create('fake');
        await user.ask(id, 'seen by an EventSource');
        const { ticket } = (await user.ticket(id)).json;
        const got = await (await client.watch(undefined, id, { ticket })).rest();
        expectAnswer(got, answerFor('seen by an EventSource'), { messageId: 2 });
        expectError(await client.watch(undefined, await user.create('fake'), { ticket }), 401);
        const [proxy] = await client.stack.containers('proxy');
        const log = await until(15_000, async () => {   /* nginx writes a line after its answer, the engine later still */
            const all = await docker('logs', proxy);
            return all.includes(`/api/chat/${id}/stream`) && all;
        }, 'the proxy has logged the stream');
        assert.ok(!log.includes(ticket));
    },

    'what is too large is refused by the gateway, not by the proxy': async (client) => {
        const user = await client.user();
        const id = await user.create('fake');
        expectError(await user.chat(id, 'x'.repeat(2 * 1024 * 1024)), 413);
        const long = 'y'.repeat(600 * 1024);
        await user.ask(await user.create('fake:empty'), long);
    },

    'two users see nothing of each other': async (client, provider) => {
        const [one, other] = await Promise.all([client.user(), client.user()]);
        const hold = provider.hold('fake:private');
        const id = await one.create('fake:private');
        const opening = one.chat(id, 'a secret');
        const answer = await asked(hold, opening);
        await answer.piece('shh');
        const stream = await opening;
        await stream.shows('shh');
        const tries = await Promise.all([other.history(id), other.watch(id), other.stop(id), other.chat(id, 'what?'), other.ticket(id), other.del(id)]);
        for (const res of tries)
            expectError(res, 404, { code: 'not_found' });
        assert.deepEqual((await other.list()).json, []);
        expectError(await client.api('GET', `/api/conversations/history/${id}`), 401);
        await answer.finish();
        expectAnswer(await stream.rest(), 'shh', { messageId: 2 });
    },
};
