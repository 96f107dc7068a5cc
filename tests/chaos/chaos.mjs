/* chaos.mjs - the whole system under several hundred clients while a seeded script breaks everything in it.
 *
 *     SEED=7 DURATION=600 CLIENTS=300 GAP=2500 node tests/chaos/chaos.mjs        (make chaos, make chaos-short)
 *
 * Two gateways, two auth-svc, three convo-svc, three llm-svc on PostgreSQL and Redis. Prints what was done and what
 * came of it; exit code 1, and all logs kept, when a byte was lost or doubled, an acknowledged write is gone, a client hung, or a
 * reply was wrong. The same seed makes the same faults and the same questions; what meets when is up to the machine.
 */
import { start } from '../support/stack.mjs';
import { startRedis, haveRedis } from '../support/redis.mjs';
import { startPostgres, havePostgres } from '../support/postgres.mjs';
import { pause, within } from '../support/deadline.mjs';
import { providerEntry } from '../support/stack.mjs';
import { MODEL, startChaosProvider } from './provider.mjs';
import { Hand, makeScript } from './faults.mjs';
import { Client, Person } from './clients.mjs';
import { intern } from './intern.mjs';
import { judge } from './judge.mjs';
import { Run } from './run.mjs';
import { selfTest } from './tamper.mjs';
import { Viewer } from './viewer.mjs';

const number = (name, value) => (process.env[name] ? Number(process.env[name]) : value);
const SEED = process.env.SEED || String(Date.now() % 1_000_000);
const DURATION_MS = 1000 * number('DURATION', 600);
const CLIENTS = number('CLIENTS', 300);
const GAP_MS = number('GAP', 2500);
const PER_PERSON = 5;            /* clients of one user: devices, tabs */
const SETTLE_MS = 100_000;       /* after the last fault everybody must have come to an end */
const END_MS = 20_000;           /* at the end nothing is broken any more: all that is stored must be readable within this time */
const AT_ONCE = 24;
const TOLD = 12;

const DROPS = { 'llm-svc-2': 0.05, 'llm-svc-3': 0.3 };   /* share of token frames */

async function startSystem(provider, postgres, redis) {
    return start({
        replicas: { gateway: 2, 'auth-svc': 2, 'convo-svc': 3, 'llm-svc': 3 },
        postgres, redis,
        providers: [providerEntry(provider, { models: [MODEL], idle_s: 30 })],
        config: {
            server: { lame_duck_s: 1, drain_s: 4 },
            gateway: { keepalive_s: 3 },
            log: { level: process.env.LOG ?? 'info' },
        },
        own: Object.fromEntries(Object.entries(DROPS).map(([name, share]) => [name, { test: { drop_token_frames: share } }])),
    });
}

/** Runs fn over a list, some at a time. */
async function each(list, fn) {
    const queue = [...list];
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
        for (let item; (item = queue.shift()) !== undefined;)
            await fn(item);
    }));
}

const isPassing = ({ status }) => status === 0 || status === 503 || status === 504;

/** Reads what is stored of every conversation, and its latest answer as a late viewer. */
async function collect(run) {
    await each(run.conversations, async (conversation) => {
        const { user, id } = conversation;
        const url = `/api/conversations/history/${id}`;
        const end = run.now() + END_MS;
        let got = await run.call(run.anyGateway(), user, 'GET', url);
        while (isPassing(got) && run.now() < end) {   /* a machine that has stood still longer than a lease */
            await pause(1000);
            got = await run.call(run.anyGateway(), user, 'GET', url);
        }
        if (got.status !== 200 && got.status !== 404)
            run.wrong(null, `at the end the history of ${id} got ${got.status} ${got.text}`);
        conversation.stored = got.status === 200 ? got.json : null;
        for (const message of conversation.stored?.messages ?? [])
            message.content = intern(message.content);
        const turn = conversation.turns.at(-1);
        if (!conversation.stored || !turn || conversation.isBeingDeleted)
            return;
        const viewer = new Viewer(run, user, turn, 'late viewer');
        turn.viewers.pop();
        await viewer.reopen();
        await viewer.follow(run.now() + END_MS);
        if (viewer.result?.kind !== 'gone')
            conversation.latest = viewer;
    });
}

async function play(run, script, hand) {
    const people = Array.from({ length: Math.ceil(CLIENTS / PER_PERSON) }, (_, i) => new Person(run, `person-${i}`));
    run.users = people;
    await each(people, (person) => person.join());
    run.began = Date.now();
    const clients = Array.from({ length: CLIENTS }, (_, i) => new Client(run, people[i % people.length], i));
    const living = Promise.all(clients.map((c) => c.live()));
    const playing = hand.play(script);
    await pause(DURATION_MS);
    await within(60_000, playing, 'the last fault is over');
    run.isOver = true;
    try {
        await within(SETTLE_MS, living, 'all clients have come to an end');
    } catch (e) {
        run.hung(null, e.message);
    }
}

function factsOf(run, provider) {
    return {
        conversations: run.conversations,
        recordsOf: (question) => provider.recordsOf(question),
        isFaulted: (name, from, until) => run.isFaulted(name, from, until),
        endedAt: run.now(),
    };
}

function report(run, verdict, seconds) {
    const { totals } = run;
    const sum = (key) => totals[key] + verdict.totals[key];
    const rows = [...run.counts].sort(([a], [b]) => (a < b ? -1 : 1));
    const those = (prefix) => rows.filter(([k]) => k.startsWith(prefix)).map(([k, n]) => `${k.slice(prefix.length)} ${n}`).join(', ');
    console.log(`seed                      ${run.seed}, ${seconds.toFixed(0)} s, ${CLIENTS} clients`);
    console.log(`faults injected           ${those('fault ')}`);
    console.log(`requests                  ${totals.requests}`);
    console.log(`retries                   ${totals.retries} (${those('retried: ')}); failed even so: ${those('failed after a retry: ') || 'none'}`);
    console.log(`answers by state          ${[...verdict.states].map(([k, n]) => `${k} ${n}`).join(', ')}`);
    console.log(`streams ended for askers  ${those('asker saw: ')}`);
    console.log(`error events              ${those('error events: ') || 'none'}`);
    console.log(`stops                     ${those('stop: ')}`);
    for (const [key, n] of rows.filter(([k]) => !/^(fault |retried: |failed after|asker saw|error events|stop: )/.test(k)))
        console.log(`  ${key.padEnd(24)}${n}`);
    console.log(`bytes compared            ${sum('compared')}`);
    console.log(`wrong replies or bytes    ${sum('wrong')}`);
    console.log(`bytes lost                ${sum('lost')}`);
    console.log(`bytes doubled             ${sum('doubled')}`);
    console.log(`acknowledged writes lost  ${sum('writesLost')}`);
    console.log(`clients hung              ${sum('hung')}`);
    return sum('wrong') + sum('lost') + sum('doubled') + sum('writesLost') + sum('hung');
}

async function main() {
    if (!haveRedis || !havePostgres) {
        console.log('chaos: needs redis-server and PostgreSQL (scripts/install-deps test)\n0 passed, 1 failed');
        process.exitCode = 1;
        return;
    }
    console.log(`chaos: seed ${SEED} (SEED=${SEED} runs the same script again)`);
    const [provider, postgres, redis] = await Promise.all([startChaosProvider(), startPostgres(), startRedis()]);
    const stack = await startSystem(provider, postgres, redis);
    const run = new Run(stack, SEED);
    const hand = new Hand(run, { postgres, redis });
    const script = makeScript(SEED, stack.names, DURATION_MS - 15_000, GAP_MS);
    const began = Date.now();
    await play(run, script, hand);
    await collect(run);
    const facts = factsOf(run, provider);
    const verdict = judge(facts);
    for (const offence of verdict.offences.slice(0, TOLD))
        console.log(`!! ${offence.kind} (${offence.n}): ${offence.text}${offence.viewer ? `\n${run.describe(offence.viewer)}` : ''}`);
    let bad = report(run, verdict, (Date.now() - began) / 1000);
    const missed = selfTest(facts);
    for (const text of missed)
        console.log(`self-test: not noticed: ${text}`);
    bad += missed.length;
    await run.close();
    try {
        await stack.stopAll({ keepDir: true });
    } catch (e) {
        console.log(`at the end: ${e.message.slice(0, 4000)}`);
        bad++;
    }
    await Promise.all([redis.stop(), postgres.remove(), provider.stop()]);
    if (bad > 0)
        console.log(`logs, and what each client did, are kept in ${stack.dir}`);
    else
        stack.removeDir();
    console.log(bad > 0 ? '0 passed, 1 failed' : '1 passed, 0 failed');
    process.exitCode = bad > 0 ? 1 : 0;
}

await main();
