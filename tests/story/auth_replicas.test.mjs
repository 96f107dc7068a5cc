/* auth_replicas.test.mjs - two auth-svc that share users in PostgreSQL and wrong passwords in Redis.
 *
 * The two gateways of the first stories each know one auth-svc only, so that a story can choose whom it
 * asks; in the storm both know both.
 */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { BIN_DIR, prepare } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { havePostgres, startPostgres } from '../support/postgres.mjs';
import { haveRedis, Redis } from '../support/redis.mjs';
import { freePorts } from '../support/ports.mjs';
import { pause, until } from '../support/deadline.mjs';
import { expectError } from '../support/expect.mjs';

const run = promisify(execFile);
const PASSWORD = 'correct horse battery';
const STORMERS = 24;
const skip = havePostgres ? false : 'there is no PostgreSQL here';

let postgres;
let redis;
let s;
let b;   /* the client of the gateway whose auth-svc is the second one */

before(async () => {
    if (skip)
        return;
    postgres = await startPostgres();
    if (haveRedis) {
        redis = new Redis((await freePorts(1))[0], 'sesame');
        await redis.start();
    }
    s = await twoOfEach();
    s.config.bus.auth.connect = endpoint('auth-svc');
    s.own['gateway-2'] = { bus: { auth: { connect: endpoint('auth-svc-2') } } };
    s.writeConfig();
    await s.startAll();
    b = s.at('gateway-2');
});
after(async () => {
    try {
        await s?.stopAll();
    } finally {
        await redis?.stop();
        await postgres?.remove();
    }
});

const endpoint = (name, stack = s) => `tcp://127.0.0.1:${stack.places.get(name).bus}`;

/** A stack that is not started: two gateways, two auth-svc on PostgreSQL. */
async function twoOfEach() {
    const storage = { driver: 'postgresql', postgresql: { url: postgres.url } };
    return prepare({
        replicas: { gateway: 2, 'auth-svc': 2 }, redis,
        config: {
            jwt: { secret: 'a secret that every auth-svc of a story shares' }, auth: { guess_limit: 10, guess_window_s: 300 },
            gateway: { verify_cache_s: 0 },
        },
        own: { 'auth-svc': { storage }, 'auth-svc-2': { storage } },
    });
}

/** One request on the bus, past every gateway: the body of its FINAL. */
async function bus(name, op, body) {
    const { stdout } = await run(path.join(BIN_DIR, 'tests/support/bus_call'), [endpoint(name), op, JSON.stringify(body)]).catch((e) => {
        throw new Error(`${op}: ${e.stdout}`);
    });
    return JSON.parse(stdout.trim()).body;
}

const hexOf = (text) => `hex:${Buffer.from(text).toString('hex')}`;

story('who registers at one logs in at both, and each takes the other\'s tokens and tickets', async () => {
    assert.equal((await s.register('anna', PASSWORD)).status, 201);
    expectError(await b.register('anna', PASSWORD), 400, { code: 'username_taken' });
    for (const [at, other] of [[s, b], [b, s]]) {
        const login = await at.login('anna', PASSWORD);
        assert.equal(login.status, 200, login.text);
        assert.equal((await other.api('GET', '/api/conversations/list', undefined, { token: login.json.token })).status, 200);
    }
    const expires = Math.floor(Date.now() / 1000) + 3600;
    const { ticket } = await bus('auth-svc', 'auth.ticket', { user: 7, conversation: 99, expires_s: expires });
    const redeemed = await bus('auth-svc-2', 'auth.redeem', { ticket });
    assert.deepEqual([redeemed.user, redeemed.conversation, redeemed.expires_s], [7, 99, expires]);
    await assert.rejects(bus('auth-svc-2', 'auth.verify', { token: ticket }), /unauthorized/);
    assert.ok(!s.logs('auth-svc').includes(ticket) && !s.logs('auth-svc-2').includes(ticket), 'a ticket is in a log');
}, { skip });

story('one name registered at both at the same moment has one winner, one request has one user', async () => {
    for (let i = 0; i < 5; i++) {
        const all = await Promise.all(Array.from({ length: 8 }, (_, k) => (k % 2 ? s : b).register(`race ${i}`, PASSWORD)));
        assert.deepEqual(all.map((r) => r.status).sort(), [201, ...Array(7).fill(400)]);
        const again = { username: `again ${i}`, password: PASSWORD, key: hexOf(`request ${i}`) };
        const users = await Promise.all(['auth-svc', 'auth-svc-2', 'auth-svc'].map((name) => bus(name, 'auth.register', again)));
        assert.equal(new Set(users.map((r) => r.user)).size, 1, JSON.stringify(users));
    }
}, { skip });

story('wrong passwords at both add up, and the pause holds at both', async () => {
    assert.equal((await s.register('guessed', PASSWORD)).status, 201);
    for (let i = 0; i < 10; i++)
        expectError(await (i % 2 ? s : b).login('guessed', 'wrong'), 401, { code: 'bad_credentials' });
    /* Each new pause is longer than the one before: sooner or later one is long enough to be seen from both sides. */
    await until(20_000, async () => {
        const [x, y] = await Promise.all([s.login('guessed', PASSWORD), b.login('guessed', PASSWORD)]);
        if (x.status === 429 && y.status === 429)
            return Number(x.headers['retry-after']) >= 1;
        assert.ok([200, 429].includes(x.status) && [200, 429].includes(y.status), `${x.text} ${y.text}`);
        for (let i = 0; i < 10; i++)
            await (i % 2 ? s : b).login('guessed', 'wrong');
        return false;
    }, 'both refuse the right password');
    assert.equal((await s.register('not guessed', PASSWORD)).status, 201);
    assert.equal((await b.login('not guessed', PASSWORD)).status, 200);
}, { skip: skip || (haveRedis ? false : 'there is no redis-server here') });

story('Redis away, frozen or emptied: logins go on, and each counts alone', async () => {
    assert.equal((await s.register('patient', PASSWORD)).status, 201);
    const misfortunes = [
        [() => redis.command('FLUSHALL'), async () => {}],
        [async () => redis.freeze(), async () => redis.thaw()],
        [() => redis.stop(), () => redis.start()],
    ];
    for (const [strike, heal] of misfortunes) {
        await strike();
        for (let i = 0; i < 5; i++) {
            assert.equal((await s.login('patient', PASSWORD)).status, 200);
            assert.equal((await b.login('patient', PASSWORD)).status, 200);
            expectError(await b.login('patient', 'wrong'), 401, { code: 'bad_credentials' });
        }
        await heal();
    }
}, { skip: skip || (haveRedis ? false : 'there is no redis-server here') });

story('PostgreSQL restarts: 503 for that time, tokens go on, then all is well without a restart of ours', async () => {
    const pids = ['auth-svc', 'auth-svc-2'].map((name) => s.processes.get(name).pid);
    assert.equal((await s.register('stayer', PASSWORD)).status, 201);
    const { token } = (await s.login('stayer', PASSWORD)).json;
    await postgres.stop();
    for (const at of [s, b]) {
        for (const refused of [await at.login('stayer', PASSWORD), await at.register('latecomer', PASSWORD)]) {
            expectError(refused, 503, {});
            assert.ok(Number(refused.headers['retry-after']) >= 1, 'no Retry-After');
        }
        assert.equal((await at.api('GET', '/api/conversations/list', undefined, { token })).status, 200);
    }
    await postgres.start();
    for (const at of [s, b])
        await until(10_000, async () => (await at.login('stayer', PASSWORD)).status === 200, 'logins work again');
    assert.equal((await b.register('latecomer', PASSWORD)).status, 201);
    await postgres.disconnectAll();   /* a fail-over as a client sees it */
    const both = await Promise.all([s.login('latecomer', PASSWORD), b.login('latecomer', PASSWORD)]);
    assert.deepEqual(both.map((r) => r.status), [200, 200]);
    assert.deepEqual(['auth-svc', 'auth-svc-2'].map((name) => s.processes.get(name).pid), pids);
}, { skip });

/** Clients with one retry each: asks again when it gets no answer or a 503, as its Retry-After says. Whoever gets something
 *  else than `wanted` in the end is told of with all that it got, and when. */
class Patience {
    constructor() {
        this.began = Date.now();
        this.phase = 'all is well';
        this.retries = {};   /* phase: how many, and the first one */
    }

    now() {
        return `${((Date.now() - this.began) / 1000).toFixed(2)} s, ${this.phase}`;
    }

    async once(ask, got) {
        const at = this.now();
        try {
            const res = await ask();
            got.push(`${at}: ${res.status} ${res.text.slice(0, 120)} (${this.now()})`);
            return res;
        } catch (e) {
            got.push(`${at}: ${e.code ?? e.message} (${this.now()})`);
            return null;
        }
    }

    async get(wanted, what, ask) {
        const got = [];
        let res = await this.once(ask, got);
        if (!res || res.status === 503) {
            const seen = this.retries[this.phase] ??= { n: 0, first: `${what}: ${got[0]}` };
            seen.n++;
            await pause(res ? 1000 * Math.min(2, Number(res.headers['retry-after'] ?? 1)) : 200);
            res = await this.once(ask, got);
        }
        assert.equal(res?.status, wanted, `${what}: ${got.join('; then ')}`);
        return res;
    }
}

story('one of two killed, frozen or drained in a storm of logins, registers and requests: no client with one retry fails', async (t) => {
    const stack = await twoOfEach();
    await stack.startAll();
    let goesOn = true;
    const done = { logins: 0, requests: 0, registers: 0 };
    const patience = new Patience();
    const stormer = async (i) => {
        const at = i % 2 ? stack : stack.at('gateway-2');
        const name = `stormer ${i}`;
        await patience.get(201, `${name} registers`, () => at.register(name, PASSWORD));
        for (let k = 0; goesOn; k++) {
            const login = await patience.get(200, `${name} logs in`, () => at.login(name, PASSWORD));
            await patience.get(200, `${name} lists`,
                () => at.api('GET', '/api/conversations/list', undefined, { token: login.json.token }));
            await patience.get(201, `${name}.${k} registers`, () => at.register(`${name}.${k}`, PASSWORD));
            done.logins++;
            done.requests++;
            done.registers++;
        }
    };
    const storm = Promise.all(Array.from({ length: STORMERS }, (_, i) => stormer(i)));
    storm.catch(() => {});   /* told by whoever waits for it next */
    const rounds = async (n) => {
        const wanted = done.logins + n;
        await Promise.race([storm, until(20_000, () => done.logins >= wanted, `the storm goes on: ${patience.now()}`)]);
    };
    const step = async (what, strike) => {
        patience.phase = what;
        const struck = strike();
        struck.catch(() => {});   /* the storm may have failed before */
        await Promise.race([storm, struck]);
        await rounds(STORMERS);
    };
    const back = async (name) => {
        await stack.bring(name);
        await stack.known(name);
    };
    try {
        await Promise.all([stack.known('auth-svc'), stack.known('auth-svc-2'), rounds(STORMERS)]);
        for (const name of ['auth-svc-2', 'auth-svc']) {
            await step(`${name} killed`, () => stack.kill(name));
            await step(`${name} back`, () => back(name));
        }
        await step('auth-svc-2 frozen', () => {
            stack.freeze('auth-svc-2');
            return stack.known('auth-svc-2', false);
        });
        await step('auth-svc-2 thawed', () => {
            stack.thaw('auth-svc-2');
            return stack.known('auth-svc-2');
        });
        await step('auth-svc drained', () => stack.drain('auth-svc'));
        await step('auth-svc back from its drain', () => back('auth-svc'));
    } finally {
        goesOn = false;
    }
    await storm;
    t.diagnostic(`${done.logins} rounds in ${patience.now()}; asked twice: ${JSON.stringify(patience.retries)}`);
    await stack.stopAll();
}, { skip, deadline: 90_000 });
