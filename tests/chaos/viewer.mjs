/* viewer.mjs - one device that reads one answer to its end, as a browser's EventSource would.
 *
 * It opens the stream, takes down every event, and when the connection breaks or ends before the
 * answer has, it comes back after a second with the last id that it has seen, at any gateway. What it got is kept piece by
 * piece for the judge: the offset that each piece's id names, its text, and through whom it came when.
 */
import { pause } from '../support/deadline.mjs';
import { flatten, intern } from './intern.mjs';

const RECONNECT_MS = 1000;
const OPEN_MS = 40_000;          /* longer than the longest freeze and the gateway's own time-outs */
const KEEP_BYTES = 512;          /* pieces that follow each other are kept as one of about that size */
const SILENCE_MS = 60_000;       /* comments come every few seconds: a stream that is silent for so long hangs */

/** Reads server-sent events, strictly: calls block({id, name, data}) for each block, data undefined without any. */
export function blockReader(onBlock) {
    const decoder = new TextDecoder('utf-8', { fatal: true });
    let rest = '';
    let block = {};
    return (bytes) => {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
        rest = lines.pop();
        for (const line of lines) {
            const at = line.indexOf(': ');
            if (line === '') {
                if (Object.keys(block).length > 0)
                    onBlock(block);
                block = {};
            } else if (at > 0 && ['id', 'event', 'data', 'retry'].includes(line.slice(0, at))) {
                block[line.slice(0, at)] = line.slice(at + 2);
            } else if (!line.startsWith(':')) {
                throw new Error(`not a line of an event stream: ${line.slice(0, 120)}`);
            }
        }
    };
}

export class Viewer {
    /** run: the Run; user: whose; turn: the question; role: asker, watcher … for the report. */
    constructor(run, user, turn, role) {
        this.run = run;
        this.user = user;
        this.turn = turn;
        this.role = role;
        this.stream = null;        /* hex */
        this.lastId = null;        /* what an EventSource would send */
        this.ends = [];            /* the offsets after each piece, as their ids say */
        this.texts = [];           /* the pieces */
        this.origins = [];         /* the segment each piece came in */
        this.segments = [];        /* {gateway, at, after, until, why} */
        this.result = null;        /* {kind: done|error|gone|superseded|deleted|unfinished, …} */
        this.full = null;          /* text of full_response */
        this.res = null;
        this.isLeft = false;
        turn.viewers.push(this);
    }

    get text() {
        return this.texts.join('');
    }

    /** Goes away in mid-answer; follow() brings it back. */
    leave() {
        this.isLeft = true;
        this.res?.destroy();
    }

    /** Opens by a POST or GET of `path`. Gives {status, code, retryAfter}; 200: the events come in. 0: no connection. */
    async open(gateway, method, path, body, headers = {}) {
        const { run } = this;
        const segment = { gateway, at: run.now(), after: this.lastId, until: Infinity, why: '' };
        let res;
        try {
            res = await run.open(gateway, method, path, body, { token: this.user.token, headers, timeout: OPEN_MS });
        } catch (e) {
            if (/^not within/.test(e.message))
                run.hung(this, `${method} ${path} at ${gateway} has no answer: ${e.message}`);
            return { status: 0, why: e.code ?? e.message };
        }
        if (res.statusCode !== 200) {
            let text = '';
            try {
                for await (const part of res)
                    text += part;
            } catch {
                return { status: 0, why: 'cut' };
            }
            return { status: res.statusCode, code: codeOf(text), text, retryAfter: Number(res.headers['retry-after'] ?? 0) };
        }
        this.segments.push(segment);
        this.res = res;
        this.reading = this.read(res, segment);
        return { status: 200 };
    }

    /** Takes in one connection's events until it ends. */
    read(res, segment) {
        return new Promise((resolve) => {
            const { run } = this;
            let timer;
            const close = (why) => {
                clearTimeout(timer);
                if (segment.until !== Infinity)
                    return;
                segment.until = run.now();
                segment.why = why;
                res.destroy();
                resolve();
            };
            const expectSomething = () => {
                clearTimeout(timer);
                timer = setTimeout(() => {
                    if (!run.isFaulted(segment.gateway, run.now() - SILENCE_MS, run.now()))
                        run.hung(this, `a stream at ${segment.gateway} was silent for ${SILENCE_MS} ms`);
                    close('silent');
                }, SILENCE_MS);
            };
            const read = blockReader((block) => this.take(block, segment));
            expectSomething();
            res.on('data', (bytes) => {
                expectSomething();
                try {
                    read(bytes);
                } catch (e) {
                    run.wrong(this, `a stream that cannot be read: ${e.message}`);
                    close('bad');
                }
            });
            res.once('end', () => close('end'));
            res.once('error', () => close('cut'));
            res.once('close', () => close(res.complete ? 'end' : 'cut'));
        });
    }

    take(block, segment) {
        if (block.id !== undefined) {
            const [stream, offset] = block.id.split(':');
            if (this.stream === null) {
                this.stream = stream;
                this.run.learn(this);
            } else if (this.stream !== stream) {
                throw new Error(`the stream changed from ${this.stream} to ${stream}`);
            }
            this.lastId = block.id;
            if (block.event === 'message') {
                this.keep(JSON.parse(block.data).data, Number(offset), segment);
                segment.last = this.run.now();
                return;
            }
        }
        if (block.data === undefined)
            return;
        const event = JSON.parse(block.data);
        switch (event.event) {
        case 'done':
            this.result = { kind: 'done', finish: event.finish_reason, message: event.message_id, at: this.run.now() };
            break;
        case 'full_response':
            this.full = intern(event.data);
            break;
        case 'error':
            this.run.count(`error events: ${event.code}`);
            if (!isPassing(event.code))
                this.result = { kind: 'error', code: event.code, stored: event.stored, at: this.run.now(), text: event.data };
            break;
        default:
            throw new Error(`unknown event: ${block.data.slice(0, 120)}`);
        }
    }

    /* One that begins where the last one ended joins it; any other stays by itself, for the judge. */
    keep(text, end, segment) {
        const last = this.texts.length - 1;
        const from = end - Buffer.byteLength(text);
        if (last >= 0 && from === this.ends[last] && segment === this.origins[last] && this.texts[last].length < KEEP_BYTES) {
            this.texts[last] += text;
            this.ends[last] = end;
            return;
        }
        if (last >= 0)
            this.texts[last] = flatten(this.texts[last]);
        this.texts.push(text);
        this.ends.push(end);
        this.origins.push(segment);
    }

    get isEnded() {
        return this.result !== null && (this.result.kind !== 'done' || this.full !== null);
    }

    /** Reads on until the answer has ended, the viewer left, or it is hopeless. */
    async follow(deadline) {
        for (;;) {
            await this.reading;
            if (this.isEnded || this.isLeft)
                return;
            if (this.run.now() > deadline) {
                this.result = { kind: 'unfinished', at: this.run.now() };
                this.run.hung(this, 'the answer does not end');
                return;
            }
            await pause(RECONNECT_MS * (0.5 + this.run.random.next()));
            await this.reopen();
        }
    }

    /** Comes back for the rest, at any gateway. */
    async reopen() {
        const headers = this.lastId ? { 'last-event-id': this.lastId } : {};
        const got = await this.open(this.run.anyGateway(), 'GET', `/api/chat/${this.turn.conversation.id}/stream`, undefined, headers);
        this.reading ??= Promise.resolve();
        this.run.count('resumed');
        switch (got.status) {
        case 200:
            break;
        case 204:
            this.result ??= { kind: 'gone', at: this.run.now() };
            if (this.result.kind === 'done' && this.full === null)
                this.result = { kind: 'gone', at: this.run.now() };
            if (this.lastId && !this.lastId.endsWith(':e'))
                this.run.wrong(this, `204 after the id ${this.lastId}`);
            break;
        case 410:
            this.result = { kind: 'superseded', at: this.run.now() };
            if (this.turn.retries === 0 && this.turn === this.turn.conversation.turns.at(-1) &&
                !this.turn.conversation.isMixed && !this.turn.conversation.interjecting)
                this.run.wrong(this, `410 after ${this.lastId}, which nothing has superseded`);
            break;
        case 404:
            this.result = { kind: 'deleted', at: this.run.now() };
            if (!this.turn.conversation.isDeleted && !this.turn.conversation.isBeingDeleted)
                this.run.wrong(this, `404 for a conversation that nobody deleted: ${got.text}`);
            break;
        case 0: case 502: case 503: case 504:
            this.run.count(`resume refused: ${got.status || got.why} ${got.code ?? ''}`);
            break;
        default:
            this.run.wrong(this, `resume got ${got.status} ${got.text}`);
            this.result = { kind: 'gone', at: this.run.now() };
        }
    }
}

/* Error events after which the answer goes on. */
function isPassing(code) {
    return code === 'unavailable' || code === 'busy' || code === 'timeout';
}

function codeOf(text) {
    try {
        return JSON.parse(text).code;
    } catch {
        return undefined;
    }
}
