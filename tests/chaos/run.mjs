/* run.mjs - what a chaos run knows: its stack, what was asked and acknowledged, what went wrong.
 *
 * Clients write down here what they were promised, viewers what they were shown, the faults what was done to
 * whom and when; the judge compares at the end. Times are ms since the run began.
 */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { readAll } from '../support/client.mjs';
import { Random } from './random.mjs';

const TOLD = 20;      /* offenders told in full */

export class Run {
    constructor(stack, seed) {
        this.stack = stack;
        this.seed = seed;
        this.random = new Random(`${seed}/run`);
        this.began = Date.now();
        this.gateways = stack.replicasOf('gateway');
        this.agents = new Map(this.gateways.map((name) => [name, new http.Agent({ keepAlive: true })]));
        this.users = [];
        this.conversations = [];
        this.byStream = new Map();      /* stream: its viewers */
        this.faults = [];               /* {kind, target, at, until} */
        this.counts = new Map();
        this.offences = [];             /* {kind, text} */
        this.totals = { requests: 0, retries: 0, compared: 0, lost: 0, doubled: 0, wrong: 0, writesLost: 0, hung: 0 };
        this.isOver = false;
        this.diary = fs.createWriteStream(path.join(stack.dir, 'clients.log'));
    }

    now() {
        return Date.now() - this.began;
    }

    /** A time of the run as the services' logs write it. */
    clock(ms) {
        return ms === Infinity ? 'the end' : `${(ms / 1000).toFixed(3)} (${new Date(this.began + ms).toISOString().slice(11, 23)})`;
    }

    count(what, n = 1) {
        this.counts.set(what, (this.counts.get(what) ?? 0) + n);
    }

    note(text) {
        this.diary.write(`${new Date().toISOString()} ${(this.now() / 1000).toFixed(3)} ${text}\n`);
    }

    anyGateway() {
        return this.random.pick(this.gateways);
    }

    otherGateway(gateway) {
        return this.random.pick(this.gateways.filter((name) => name !== gateway));
    }

    /** Sends a request to one gateway: node's response. */
    open(gateway, method, url, body, options = {}) {
        this.totals.requests++;
        return this.stack.at(gateway).open(method, url, body, { agent: this.agents.get(gateway), ...options });
    }

    /** One plain call: {status, json, text}, status 0 without an answer. */
    async call(gateway, user, method, url, body, headers = {}) {
        const began = this.now();
        try {
            const res = await this.open(gateway, method, url, body, { token: user?.token, headers, timeout: 40_000 });
            const got = await readAll(res);
            this.note(`${gateway} ${method} ${url} ${got.status} ${got.json?.code ?? ''} ${this.now() - began} ms`);
            return got;
        } catch (e) {
            if (/^not within/.test(e.message))
                this.hung(null, `${method} ${url} at ${gateway} from ${this.clock(began)}: ${e.message}`);
            this.note(`${gateway} ${method} ${url} failed: ${e.code ?? e.message} ${this.now() - began} ms`);
            return { status: 0, text: e.code ?? e.message };
        }
    }

    /* A viewer has learned which stream it reads. */
    learn(viewer) {
        const all = this.byStream.get(viewer.stream) ?? [];
        this.byStream.set(viewer.stream, all);
        all.push(viewer);
    }

    /** True when something was done to this process between two times. */
    isFaulted(name, from, until) {
        return this.faults.some((f) => f.target === name && f.at <= until && f.until >= from);
    }

    /** The faults between two times, for a report. */
    faultsAround(from, until) {
        return this.faults.filter((f) => f.at <= until && f.until >= from)
            .map((f) => `    ${f.kind} ${f.target}: ${this.clock(f.at)} to ${this.clock(f.until)}`).join('\n');
    }

    hung(viewer, text) {
        this.totals.hung++;
        this.offend('hung', viewer, text);
    }

    wrong(viewer, text) {
        this.totals.wrong++;
        this.offend('wrong', viewer, text);
    }

    offend(kind, viewer, text) {
        const words = `${kind}: ${text}${viewer ? `\n${this.describe(viewer)}` : ''}`;
        this.offences.push({ kind, text: words });
        this.note(words);
        if (this.offences.length <= TOLD && !this.isQuiet)
            console.log(`!! ${this.clock(this.now())} ${words}`);
    }

    /** Everything about a viewer that helps to find out what happened. */
    describe(viewer) {
        const from = viewer.segments[0]?.at ?? 0;
        const until = viewer.result?.at ?? this.now();
        const segments = viewer.segments.map((s) => {
            const ends = viewer.ends.filter((_, i) => viewer.origins[i] === s);
            return `    ${s.gateway} ${this.clock(s.at)} to ${this.clock(s.until)} after ${s.after}: pieces end at ` +
                `${ends.slice(0, 2)}..${ends.slice(-2)}, closed by ${s.why}`;
        });
        return `  stream ${viewer.stream} ${viewer.role} of ${viewer.turn.question} in conversation ${viewer.turn.conversation.id}\n` +
            `  result ${JSON.stringify(viewer.result)}, offset ${viewer.ends.at(-1) ?? 0}\n${segments.join('\n')}\n  faults:\n` +
            this.faultsAround(from - 5000, until + 2000);
    }

    close() {
        for (const agent of this.agents.values())
            agent.destroy();
        return new Promise((resolve) => {
            this.diary.end(resolve);
        });
    }
}
