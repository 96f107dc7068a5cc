/* faults.mjs - the seeded script of a chaos run, and the hand that carries it out.
 *
 * The script is made before the run from the seed alone: who, what, when, for how long. It begins with each
 * kind of fault for each service once, in random order, and goes on at random. Mostly one replica of a service is spared;
 * now and then none is.
 */
import { pause, until } from '../support/deadline.mjs';
import { Random } from './random.mjs';
import { serviceOf } from '../support/stack.mjs';

const FREEZES_MS = [300, 1500, 2500, 4000, 8000, 14_000];
const DOWN_MS = [0, 500, 2000, 6000];
const AFTER_MS = 2000;           /* a replica that is back is left alone for so long */
const DRAIN_MS = 9000;           /* how long a drain may take, for planning */
const SPARE_NOBODY = 0.1;

/** What a service can suffer, with weights. */
const REPLICA = [[4, 'kill'], [3, 'freeze'], [2, 'drain']];
const DATABASE = [[2, 'restart'], [2, 'kill'], [1, 'disconnect']];
const REDIS = [[1, 'stop'], [1, 'empty'], [2, 'poison'], [1, 'freeze']];

/** The script: a list of {at, kind, target, ms}, times in ms from the start. names: all replicas. */
export function makeScript(seed, names, durationMs, gapMs, { database = true, redis = true } = {}) {
    const random = new Random(`${seed}/faults`);
    const targets = [...new Set(names.map(serviceOf))];
    const busy = new Map();      /* target: when it is well again */
    const script = [];
    const first = [
        ...targets.flatMap((service) => REPLICA.map(([, kind]) => [service, kind])),
        ...(database ? DATABASE.map(([, kind]) => ['postgres', kind]) : []),
        ...(redis ? REDIS.map(([, kind]) => ['redis', kind]) : []),
    ];
    const queue = random.shuffled(first);
    const rows = [
        ...targets.map((service) => [service === 'convo-svc' || service === 'llm-svc' ? 3 : 2, service]),
        ...(database ? [[1, 'postgres']] : []), ...(redis ? [[1, 'redis']] : []),
    ];

    for (let at = 1500; at < durationMs; at += 200 + random.gap(gapMs)) {
        const [service, planned] = queue.shift() ?? [random.weighted(rows), null];
        const isReplica = service !== 'postgres' && service !== 'redis';
        const all = isReplica ? names.filter((name) => serviceOf(name) === service) : [service];
        const well = all.filter((name) => (busy.get(name) ?? 0) <= at);
        const spared = all.length > 1 && !random.chance(SPARE_NOBODY) ? 1 : 0;
        const kind = planned ?? random.weighted(isReplica ? REPLICA : service === 'redis' ? REDIS : DATABASE);
        const target = random.pick(all);
        const ms = kind === 'freeze' ? random.pick(FREEZES_MS) : random.pick(DOWN_MS);
        if (well.length <= spared) {
            if (planned)
                queue.push([service, planned]);
            continue;
        }
        const chosen = well.includes(target) ? target : well[0];
        script.push({ at: Math.round(at), kind, target: chosen, ms });
        busy.set(chosen, at + ms + AFTER_MS + (kind === 'drain' ? DRAIN_MS : 0));
    }
    return script;
}

/** Carries out a script. Each fault is a promise of its own; done resolves when all is well again. */
export class Hand {
    constructor(run, { postgres = null, redis = null }) {
        this.run = run;
        this.postgres = postgres;
        this.redis = redis;
        this.stale = [];
        this.busy = new Map();   /* target: the end of what is being done to it */
    }

    async play(script) {
        const all = [];
        for (const fault of script) {
            await pause(Math.max(0, fault.at - this.run.now()));
            if (this.run.isOver)
                break;
            const before = this.busy.get(fault.target) ?? Promise.resolve();
            const done = before.then(() => this.inflict(fault));
            this.busy.set(fault.target, done);
            all.push(done);
        }
        await Promise.all(all);
    }

    async inflict({ kind, target, ms }) {
        const { run } = this;
        const record = { kind: ms > 0 ? `${kind} ${ms} ms` : kind, target, at: run.now(), until: Infinity };
        run.faults.push(record);
        run.note(`fault: ${record.kind} ${target}`);
        try {
            if (target === 'postgres')
                await this.onPostgres(kind, ms);
            else if (target === 'redis')
                await this.onRedis(kind, ms);
            else
                await this.onReplica(kind, target, ms);
        } catch (e) {
            run.wrong(null, `${kind} of ${target} at ${run.clock(record.at)}: ${e.message}`);
        }
        record.until = run.now();
        run.count(`fault ${target === 'postgres' || target === 'redis' ? `${target} ` : ''}${kind}`);
    }

    async onReplica(kind, name, ms) {
        const { stack } = this.run;
        if (kind === 'freeze') {
            stack.freeze(name);
            await pause(ms);
            stack.thaw(name);
            await until(20_000, () => stack.isServing(name), `${name} serves after a freeze`);
            return;
        }
        if (kind === 'kill')
            await stack.kill(name);
        else
            await stack.drain(name);
        await pause(ms);
        await stack.bring(name, 30_000);
    }

    async onPostgres(kind, ms) {
        if (kind === 'disconnect') {
            await this.postgres.disconnectAll();
            return;
        }
        await (kind === 'kill' ? this.postgres.kill() : this.postgres.stop());
        await pause(ms);
        await this.postgres.start();
    }

    async onRedis(kind, ms) {
        const { redis } = this;
        switch (kind) {
        case 'stop':
            this.stale = await redis.snapshot();
            await redis.stop();
            await pause(ms);
            await redis.start();
            await redis.restore(this.stale);      /* as old as the outage: a cache that came back from a copy */
            break;
        case 'empty':
            await redis.command('FLUSHALL');
            break;
        case 'poison':
            await redis.restore(this.stale);
            this.stale = await redis.snapshot();
            await pause(ms);
            await redis.restore(this.stale);
            break;
        case 'freeze':
            redis.freeze();
            await pause(ms);
            redis.thaw();
            break;
        default:
        }
    }
}
