/* replicas.mjs - what more than one of a service costs and brings, and the rows for it.
 *
 * Each measure has systems of its own, which stand one after the other before the same provider:
 * chats with one and with three llm-svc, one and three viewers of an answer, SQLite and PostgreSQL
 * (which syncs to the disk here), the time from a SIGKILL to the first answers by others, and how long a
 * resumed stream waits for its first byte.
 */
import { sum, pause } from './stage.mjs';

export const FULL = { rounds: 5, chats: 2560, paced: 100, pacedCount: 250, kills: 20, resumes: 300 };
export const QUICK = { rounds: 1, chats: 320, paced: 40, pacedCount: 25, kills: 2, resumes: 20 };

const QUESTIONS_AT_A_KILL = 4;
const GIVE_UP_MS = 20_000;
const RETRY_MS = 20;

function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)];
}

/** The rows; `of` picks {ours, nginx, value}: in the middle column stands what it is compared with. */
export function rows() {
    const more = (reach, aim) => ({ better: 'more', reach, aim });
    const less = (reach, aim) => ({ better: 'less', reach, aim });
    const pair = (ours, other, value) => ({ ours, nginx: other, value });
    return [
        { name: '3 llm-svc instead of 1, bursts: tokens/s, share', ...more(0.9, 1),
            of: (r) => pair(r.three.result.tokens_per_s, r.one.result.tokens_per_s, r.three.result.tokens_per_s / r.one.result.tokens_per_s) },
        { name: 'same: CPU µs per token, multiple', ...less(1.2, 1),
            of: (r) => pair(perToken(r.three), perToken(r.one), perToken(r.three) / perToken(r.one)) },
        { name: '3 viewers of an answer, paced: gateway CPU µs per token and viewer beyond the first', ...less(6, 4),
            of: (r) => pair(gatewayPerToken(r.watched), gatewayPerToken(r.alone), (gatewayPerToken(r.watched) - gatewayPerToken(r.alone)) / 2) },
        { name: 'same, token by token', ...less(6, 4),
            of: (r) => pair(gatewayPerToken(r.watchedTokens), gatewayPerToken(r.oneTokens),
                (gatewayPerToken(r.watchedTokens) - gatewayPerToken(r.oneTokens)) / 2) },
        { name: 'from SIGKILL of a replica to first answers by another, median, s', ...less(1, 0.3),
            of: (r) => pair(median(r.kills) / 1000, null, median(r.kills) / 1000) },
        { name: 'same, worst, s', ...less(4, 1), of: (r) => pair(Math.max(...r.kills) / 1000, null, Math.max(...r.kills) / 1000) },
        { name: 'resume of a live answer: first byte p50, ms', ...less(5, 2), of: (r) => pair(median(r.live), null, median(r.live)) },
        { name: 'resume of a finished answer: first byte p50, ms', ...less(5, 2), of: (r) => pair(median(r.finished), null, median(r.finished)) },
        { name: 'PostgreSQL, 32 chats in a burst: tokens/s, share of SQLite\'s', ...more(0.7, 1),
            of: (r) => pair(r.postgres.result.tokens_per_s, r.one.result.tokens_per_s, r.postgres.result.tokens_per_s / r.one.result.tokens_per_s) },
        { name: 'PostgreSQL, token by token: likewise', ...more(0.7, 1),
            of: (r) => pair(r.postgresTokens.result.tokens_per_s, r.oneTokens.result.tokens_per_s,
                r.postgresTokens.result.tokens_per_s / r.oneTokens.result.tokens_per_s) },
    ];
}

const perToken = (got) => sum(got.cpuUs) / got.result.tokens;
const gatewayPerToken = (got) => got.cpuUs.gateway / got.result.tokens;

const burst = (c) => ['chats', '--model', 'bench:burst:200', '--parallel', 32, '--count', c.chats];
const tokens = (c) => ['chats', '--model', 'bench:tokens:200', '--parallel', 32, '--count', c.chats / 4];
const paced = (c, viewers) => ['chats', '--model', `bench:paced:20:${c.pacedCount}`, '--parallel', c.paced, '--count', c.paced, '--viewers', viewers];

/** One round: every system in turn; `postgres` is a server that syncs. */
export async function round(stage, c, postgres, say) {
    const r = {};
    await withStack(stage, {}, async () => {
        say('one of each');
        r.one = await stage.run('ours', burst(c));
        r.oneTokens = await stage.run('ours', tokens(c));
        say('viewers');
        r.alone = await stage.run('ours', paced(c, 1));
        r.watched = await stage.run('ours', paced(c, 3));
        r.watchedTokens = await stage.run('ours', [...tokens(c), '--viewers', 3]);
        say('resume');
        Object.assign(r, await resumes(stage.stack, c));
    });
    await withStack(stage, { replicas: { 'llm-svc': 3 } }, async () => {
        say('three llm-svc');
        r.three = await stage.run('ours', burst(c));
    });
    await withStack(stage, { postgres }, async () => {
        say('PostgreSQL');
        r.postgres = await stage.run('ours', burst(c));
        r.postgresTokens = await stage.run('ours', tokens(c));
    });
    await withStack(stage, { postgres, replicas: { 'auth-svc': 2, 'convo-svc': 2, 'llm-svc': 2 } }, async () => {
        say('kills');
        r.kills = await kills(stage.stack, c);
    });
    return r;
}

async function withStack(stage, options, fn) {
    await stage.startStack(options);
    try {
        await fn();
    } finally {
        await stage.stopStack();
    }
}

/* --- failover -------------------------------------------------------------------------------- */

/** ms from now until the answer's first piece; asks again when it is told to. */
async function untilFirstPiece(user, conversation) {
    const begun = performance.now();
    while (performance.now() - begun < GIVE_UP_MS) {
        try {
            const stream = await user.chat(conversation, 'is anybody there', { deadline: GIVE_UP_MS });
            if (stream.status === 200) {
                const event = await stream.next(GIVE_UP_MS);
                if (event?.data.event === 'message') {
                    const ms = performance.now() - begun;
                    await stream.rest(GIVE_UP_MS);
                    return ms;
                }
            }
        } catch { /* asked again */ }
        await pause(RETRY_MS);
    }
    return GIVE_UP_MS;
}

/* Kills one replica after the other, each of a kind in turn; at that moment some ask. */
async function kills(stack, c) {
    const names = ['llm-svc', 'convo-svc', 'auth-svc', 'llm-svc-2', 'convo-svc-2', 'auth-svc-2'];
    const user = await stack.user();
    const out = [];
    for (let i = 0; i < c.kills; i++) {
        const ids = await Promise.all(Array.from({ length: QUESTIONS_AT_A_KILL }, () => user.create('echo')));
        const name = names[i % names.length];
        const dead = stack.kill(name);
        const waits = await Promise.all(ids.map((id) => untilFirstPiece(user, id)));
        out.push(Math.max(...waits));
        await dead;
        stack.start(name);
        await stack.ready();
        await pause(500);   /* everybody has found it again */
    }
    return out;
}

/* --- resume ---------------------------------------------------------------------------------- */

async function firstByteMs(stack, user, conversation, id, agent) {
    const begun = performance.now();
    const res = await stack.open('GET', `/api/chat/${conversation}/stream`, undefined,
        { token: user.token, agent, headers: { 'last-event-id': id } });
    await new Promise((resolve, reject) => {
        res.once('data', resolve);
        res.once('error', reject);
        res.once('end', resolve);
    });
    const ms = performance.now() - begun;
    res.destroy();
    return ms;
}

async function resumes(stack, c) {
    const user = await stack.user();
    const out = { live: [], finished: [] };
    const asked = await user.create('bench:paced:20:1500:a');
    const live = await user.chat(asked, 'how does it go on', { deadline: 120_000 });
    const first = await live.next(10_000);
    const done = await user.create('bench:burst:200:a');
    const ended = await user.ask(done, 'and then');
    const finished = ended.events.find((e) => e.id !== undefined);
    for (let i = 0; i < c.resumes; i++) {
        out.live.push(await firstByteMs(stack, user, asked, first.id, false));
        out.finished.push(await firstByteMs(stack, user, done, finished.id, false));
    }
    live.leave();
    await user.del(asked);
    return out;
}
