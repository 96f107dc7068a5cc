/* redis.test.mjs - the cache may be stopped, emptied, made stale, filled with rubbish or stalled in
 * mid-story: no answer ever differs from what the story itself remembers. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { haveRedis, startRedis } from '../support/redis.mjs';
import { freePorts } from '../support/ports.mjs';
import { SLOW, until } from '../support/deadline.mjs';

const skip = haveRedis ? false : 'no redis-server here';
const PASSWORD = 'redis needs one';

let provider;
let redis;
let s;
let talk;
before(async () => {
    if (skip)
        return;
    provider = await startProvider();
    redis = await startRedis({ password: PASSWORD });
    s = await start({ provider, config: { redis: { address: redis.address, password: PASSWORD, ttl_s: 3600 } } });
    talk = new Talk(await s.user());
    await talk.begin();
});
after(async () => {
    if (skip)
        return;
    await s?.stopAll();
    await redis?.stop();
    await provider?.stop();
});

/** A conversation, and what the story knows of it without asking anybody. */
class Talk {
    constructor(user) {
        this.user = user;
        this.contents = [];
    }

    async begin() {
        this.id = await this.user.create('fake', { api_key: 'sk-never-in-redis' });
    }

    async ask(question) {
        expectAnswer(await this.user.ask(this.id, question), answerFor(question), { messageId: this.contents.length + 2 });
        const prompt = provider.last('fake').body.messages.slice(1).map((m) => m.content);
        assert.deepEqual(prompt, [...this.contents, question], 'the prompt was made of something else');
        this.contents.push(question, answerFor(question));
    }

    async check() {
        for (let i = 0; i < 3; i++) {
            const messages = await this.user.messages(this.id);
            assert.deepEqual(messages.map((m) => m.content), this.contents);
            assert.deepEqual(messages.map((m) => m.message_id), this.contents.map((_, n) => n + 1));
        }
        assert.ok((await this.user.list()).json.some((c) => c.conversation_id === this.id));
    }

    async round(name) {
        await this.check();
        await this.ask(`${name}?`);
        await this.check();
    }
}

story('Redis is used, and holds no key in the clear', async () => {
    await talk.round('warm');
    await until(10_000, async () => {
        await talk.check();
        return (await redis.command('DBSIZE')) > 0;
    }, 'something is cached');
    for (const [key, dump] of await redis.snapshot()) {
        assert.ok(!dump.includes('sk-never-in-redis'), `the api key is in ${key}`);
        assert.ok((await redis.command('TTL', key)) > 0, `${key} never expires`);
    }
}, { skip });

story('emptied', async () => {
    await redis.command('FLUSHALL');
    await talk.check();
    await redis.command('FLUSHALL');
    await talk.round('emptied');
}, { skip });

story('made stale: old values over new ones', async () => {
    const old = await redis.snapshot();
    await talk.ask('newer?');
    await redis.restore(old);
    await talk.round('stale');
    await redis.restore(old);
    await talk.check();
}, { skip });

story('filled with rubbish, or with values of another type', async () => {
    for (const rubbish of ['', '{', '[]', '{"messages":[{"role":"user","content":"forged","message_id":1}]}', '\x00\xff'.repeat(1000), 'x'.repeat(3_000_000)]) {
        for (const [key] of await redis.snapshot())
            await redis.command('SET', key, rubbish);
        await talk.check();
    }
    for (const [key] of await redis.snapshot()) {
        await redis.command('DEL', key);
        await redis.command('LPUSH', key, 'a list');
    }
    await talk.round('rubbish');
    await redis.command('FLUSHALL');
}, { skip });

story('values cut short or with a byte changed', async () => {
    await talk.check();
    for (const key of await redis.command('KEYS', '*')) {
        if (await redis.command('TYPE', key) !== 'string')
            continue;
        const value = await redis.command('GET', key);
        for (const cut of [0, 1, value.length >> 1, value.length - 1]) {
            await redis.command('SET', key, value.subarray(0, cut));
            await talk.check();
        }
    }
    await talk.round('cut short');
}, { skip });

story('another conversation\'s value under this one\'s key', async () => {
    const other = new Talk(talk.user);
    await other.begin();
    await other.ask('the other one');
    await other.check();
    await talk.check();
    const values = await redis.snapshot();
    for (let i = 0; i < values.length; i++)
        await redis.command('RESTORE', values[i][0], '0', values[(i + 1) % values.length][1], 'REPLACE');
    await talk.round('swapped');
    await other.round('swapped');
}, { skip });

story('stalled: answers come without it, hardly later', async () => {
    redis.freeze();
    const began = Date.now();
    await talk.round('stalled');
    await talk.round('stalled again');
    assert.ok(Date.now() - began < 10_000 * SLOW, `two rounds took ${Date.now() - began} ms`);
    redis.thaw();
    await talk.round('thawed');
}, { skip });

story('stopped, and started again empty', async () => {
    await redis.stop();
    await talk.round('stopped');
    await talk.round('still stopped');
    await redis.start();
    await talk.round('started');
    await until(20_000, async () => {
        await talk.check();
        return (await redis.command('DBSIZE')) > 0;
    }, 'it is used again');
}, { skip });

story('an answer that runs while Redis stalls is whole', async () => {
    const hold = provider.hold('fake:stalled-redis');
    const id = await talk.user.create('fake:stalled-redis');
    const opening = talk.user.chat(id, 'go');
    const answer = await hold.next();
    await answer.piece('one ');
    const stream = await opening;
    await stream.shows('one ');
    redis.freeze();
    await answer.piece('two ');
    await stream.shows('two ');
    await answer.finish();
    expectAnswer(await stream.rest(), 'one two ', { messageId: 2 });
    assert.equal((await talk.user.messages(id))[1].content, 'one two ');
    redis.thaw();
    assert.equal((await talk.user.messages(id))[1].content, 'one two ');
}, { skip });

story('all four services restarted with a cache of yesterday', async () => {
    const old = await redis.snapshot();
    await talk.ask('after the snapshot');
    await s.stopAll({ keepDir: true });
    await redis.restore(old);
    await s.startAll();
    await talk.round('restarted');
}, { skip });

story('deleting removes a conversation from Redis, and a stale copy does not bring it back', async () => {
    const doomed = new Talk(talk.user);
    await doomed.begin();
    await doomed.ask('remember me');
    await doomed.check();
    const old = await redis.snapshot();
    assert.equal((await talk.user.del(doomed.id)).status, 200);
    await until(10_000, async () => {
        const now = await redis.snapshot();
        return !now.some(([key, dump]) => String(key).includes(String(doomed.id)) || dump.includes('remember me'));
    }, 'its copy is gone');
    await redis.restore(old);
    expectError(await talk.user.history(doomed.id), 404, { code: 'not_found' });
    expectError(await talk.user.ask(doomed.id, 'still there?'), 404, { code: 'not_found' });
    assert.ok(!(await talk.user.list()).json.some((c) => c.conversation_id === doomed.id));
}, { skip });

story('a Redis that is not there, or wants another password, costs nothing but speed', async () => {
    const [port] = await freePorts(1);
    for (const [address, password] of [[`127.0.0.1:${port}`, ''], [redis.address, 'the wrong one'], ['no-such-host.invalid:6379', '']]) {
        const other = await start({ provider, config: { redis: { address, password, db: 3 } } });
        try {
            const own = new Talk(await other.user());
            await own.begin();
            await own.round('without');
            assert.ok(!other.logs('convo-svc').includes('the wrong one'), 'the password is in the log');
        } finally {
            await other.stopAll();
        }
    }
}, { skip, deadline: 60_000 });
