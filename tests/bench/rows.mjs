/* rows.mjs - what the bench measures in a round, and the rows of its table.
 *
 * A round runs every load against our system and against nginx, one after the other, and gives one
 * number a row. A row's `value` is what is compared with `reach` and `aim`; `better` says which way.
 */
import { each, residentKb, sum, pause } from './stage.mjs';

/* How much of everything. A full round takes about a minute, a quick one a third of that. */
export const FULL = {
    rounds: 5, burstChats: 2560, tokenChats: 640, paced: 1000, pacedCount: 250, many: 5000, manyCount: 80,
    saturatedCount: 60, rampMs: 2000, firstChats: 300, requestMs: 2000, creates: 10_000, loginMs: 3000, quietMs: 2000,
    longChats: 4,
};
export const QUICK = {
    rounds: 2, burstChats: 640, tokenChats: 320, paced: 400, pacedCount: 50, many: 1000, manyCount: 15,
    saturatedCount: 20, rampMs: 500, firstChats: 50, requestMs: 500, creates: 2000, loginMs: 800, quietMs: 500,
    longChats: 2,
};

const perToken = (got) => sum(got.cpuUs) / got.result.tokens;
const ms = (us) => us / 1000;

/** The rows; `of` picks {ours, nginx, value} out of what a round has measured. */
export function rows(c) {
    const more = (reach, aim) => ({ better: 'more', reach, aim });
    const less = (reach, aim) => ({ better: 'less', reach, aim });
    return [
        { name: `32 chats of 200 tokens in one burst: tokens/s, share of nginx's`, ...more(0.3, 0.5),
            of: (r) => share(r.burst, (g) => g.result.tokens_per_s) },
        { name: 'same, token by token: CPU µs per token, multiple of nginx\'s', ...less(2.5, 1.5),
            of: (r) => share(r.tokens, perToken) },
        { name: `${c.paced} streams, a token every 20 ms: CPU µs per token, multiple`, ...less(1.6, 1.2),
            of: (r) => share(r.paced, perToken) },
        { name: 'same: added latency p50, ms', ...less(2, 'nginx'), of: (r) => own(r.paced, (g) => ms(g.result.added_us.p50)) },
        { name: 'same: added latency p99, ms', ...less(30, 'nginx'), of: (r) => own(r.paced, (g) => ms(g.result.added_us.p99)) },
        { name: `${c.many} streams, a token every 100 ms: resident KiB per stream`, ...less(32, 24),
            of: (r) => own(r.many, (g) => g.openKb ?? NaN) },
        { name: `${c.many} streams, a token every 20 ms: failed chats`, ...less(0, 0),
            of: (r) => own(r.saturated, (g) => g.result.failed) },
        { name: 'same: tokens/s, share', ...more(0.6, 0.8), of: (r) => share(r.saturated, (g) => g.result.tokens_per_s) },
        { name: '1 chat: time to first token p50, ms', ...less(1.2, 0.7),
            of: (r) => own(r.first, (g) => ms(g.result.first_us.p50)) },
        { name: 'list of 20, 32 connections: requests/s, share of a static file', ...more(0.5, 0.8),
            of: (r) => share(r.list, (g) => g.result.per_s) },
        { name: 'history of 10 messages, likewise', ...more(0.5, 0.7), of: (r) => share(r.history, (g) => g.result.per_s) },
        { name: 'create, 32 connections, durable: /s', ...more(5000, 10_000), of: (r) => alone(r.create.result.per_s) },
        { name: 'login at bcrypt cost 10: share of what the cores can hash', ...more(0.9, 0.98),
            of: (r) => ({ ours: r.login.result.per_s, nginx: r.yard.bcrypts_per_s, value: r.login.result.per_s / r.yard.bcrypts_per_s }) },
        { name: 'list p99 in a storm of logins, multiple of its quiet p99', ...less(4, 2),
            of: (r) => ({ ours: ms(r.storm.result.first_us.p99), nginx: ms(r.quiet.result.first_us.p99),
                value: r.storm.result.first_us.p99 / r.quiet.result.first_us.p99 }) },
        { name: 'answers of 80,000 tokens: tokens/s, share of 200-token answers\'', ...more(0.9, 1),
            of: (r) => ({ ours: r.long.ours.result.tokens_per_s, nginx: r.long.nginx.result.tokens_per_s,
                value: r.long.ours.result.tokens_per_s / r.burst.ours.result.tokens_per_s }) },
        { name: 'idle: resident MB of all four services', ...less(60, 30), of: (r) => alone(sum(r.idle.idleKb) / 1024) },
        { name: 'idle: s from start to ready', ...less(1, 0.3), of: (r) => alone(r.idle.readyS) },
    ];
}

function share(pair, pick) {
    const ours = pick(pair.ours);
    const nginx = pick(pair.nginx);
    return { ours, nginx, value: ours / nginx };
}

function own(pair, pick) {
    const ours = pick(pair.ours);
    return { ours, nginx: pick(pair.nginx), value: ours };
}

function alone(value) {
    return { ours: value, nginx: null, value };
}

/** One round on a stage that stands. `odd` rounds begin with nginx. */
export async function round(stage, c, odd, say) {
    const r = {};
    const both = async (name, args, options) => {
        const order = odd ? ['nginx', 'ours'] : ['ours', 'nginx'];
        say(name);
        r[name] = {};
        for (const where of order)
            r[name][where] = await stage.run(where, args, options);
    };
    const chats = (model, parallel, count, more = []) =>
        ['chats', '--model', model, '--parallel', parallel, '--count', count, ...more];

    /* memory first: later, the heaps keep what they once had */
    const ramp = ['--ramp-ms', c.rampMs];
    await both('many', chats(`bench:paced:100:${c.manyCount}`, c.many, c.many, ramp));
    await both('burst', chats('bench:burst:200', 32, c.burstChats));
    await both('tokens', chats('bench:tokens:200', 32, c.tokenChats));
    await both('paced', chats(`bench:paced:20:${c.pacedCount}`, c.paced, c.paced, ['--ramp-ms', 500]));
    await both('saturated', chats(`bench:paced:20:${c.saturatedCount}`, c.many, c.many, ramp), { mayFail: true });
    await both('first', chats('bench:tokens:20', 1, c.firstChats));
    await both('long', chats('bench:burst:80000', c.longChats, c.longChats));
    await plain(stage, c, r, odd, say);
    r.rssAfterKb = each(stage.ours, residentKb);
    return r;
}

/* Requests: nginx serves a file of the same size instead. */
async function plain(stage, c, r, odd, say) {
    const load = (what, more, parallel = 32) => [what, '--parallel', parallel, ...more];
    for (const what of ['list', 'history']) {
        say(what);
        const ours = () => stage.run('ours', load(what, ['--ms', c.requestMs]));
        const nginx = (bytes) => {
            stage.serveFile(what, Buffer.alloc(bytes, 'x'));
            return stage.run('nginx', load('get', ['--path', `/${what}`, '--ms', c.requestMs]));
        };
        const size = stage.sizes?.[what];
        if (odd && size) {
            const first = await nginx(size);
            r[what] = { ours: await ours(), nginx: first };
        } else {
            const first = await ours();
            r[what] = { ours: first, nginx: await nginx(first.result.bytes) };
        }
        stage.sizes = { ...stage.sizes, [what]: r[what].ours.result.bytes };
    }
    say('create');
    r.create = await stage.run('ours', load('create', ['--count', c.creates]));
    say('login');   /* what the cores can hash changes with the neighbours: the better of before and after */
    const before = await stage.yardstick();
    r.login = await stage.run('ours', load('login', ['--ms', c.loginMs], 16));
    const after = await stage.yardstick();
    r.yard = {
        cores: after.cores, bcrypt_ms: Math.min(before.bcrypt_ms, after.bcrypt_ms),
        bcrypts_per_s: Math.max(before.bcrypts_per_s, after.bcrypts_per_s),
        fdatasync_us: Math.min(before.fdatasync_us, after.fdatasync_us),
    };
    say('list in a storm of logins');
    r.quiet = await stage.run('ours', load('list', ['--ms', c.quietMs], 4));
    const storm = stage.run('ours', load('login', ['--ms', c.quietMs + 1000], 8));
    await pause(500);   /* registering, logging in */
    r.storm = await stage.run('ours', load('list', ['--ms', c.quietMs], 4));
    await storm;
}

/** System calls per token, by load, side, process and name, with everything slowed down by strace: an order of magnitude. */
export async function systemCalls(stage) {
    const out = {};
    for (const [name, args] of Object.entries({
        'burst': ['chats', '--model', 'bench:burst:200', '--parallel', 32, '--count', 32],
        'token by token': ['chats', '--model', 'bench:tokens:200', '--parallel', 32, '--count', 32],
        'paced, 20 ms': ['chats', '--model', 'bench:paced:20:25', '--parallel', 100, '--count', 100],
    })) {
        out[name] = {};
        for (const where of ['ours', 'nginx']) {
            const got = await stage.run(where, args, { strace: true });
            out[name][where] = {};
            for (const [process, calls] of Object.entries(got.calls))
                out[name][where][process] = Object.fromEntries(Object.entries(calls).map(([k, n]) => [k, n / got.result.tokens]));
        }
    }
    return out;
}
