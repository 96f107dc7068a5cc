/* reader.mjs - a client that wants its answer, whatever dies: it asks under a key, resumes by the last id it has seen.
 *
 * begin() is tried at one gateway after the other until there is a stream; when that breaks off, the
 * rest is read through the next gateway. Each piece must begin where its id says: no byte comes twice
 * or is left out. `text` is all that was shown, `through` the gateways that have shown any of it.
 */
import assert from 'node:assert/strict';
import { PATIENCE, pause } from './deadline.mjs';

const PATIENCE_MS = 25_000;
const AGAIN_MS = 100;
const PASSING = ['unavailable', 'busy', 'timeout', 'answering'];   /* errors after which one comes again */

export class Reader {
    /** user: whose; id: of the conversation; gateways: clients by name; begin: opens the stream at one of them, under a key. */
    constructor(user, id, gateways, begin) {
        this.user = user;
        this.id = id;
        this.gateways = [...gateways];       /* of [name, Client] */
        this.begin = begin;
        this.turn = 0;
        this.lastId = null;
        this.text = '';
        this.through = new Set();
        this.result = null;                  /* done, deleted, superseded, or the code of an error */
        this.finish = null;
        this.full = null;
        this.refused = [];                   /* what was answered instead of a stream */
    }

    /** Reads until the answer has ended. */
    async follow() {
        const end = Date.now() + PATIENCE_MS * PATIENCE;
        while (this.result === null) {
            const [name, client] = this.gateways[this.turn++ % this.gateways.length];
            try {
                await this.read(name, client);
            } catch (e) {
                if (e instanceof assert.AssertionError)
                    throw e;
                this.refused.push(e.code ?? e.message);
            }
            if (this.result === null) {
                assert.ok(Date.now() < end, `an answer does not end; shown ${JSON.stringify(this.text.slice(-60))}, ` +
                    `last ${this.lastId}, refused ${JSON.stringify(this.refused.slice(-5))}`);
                await pause(AGAIN_MS);
            }
        }
        return this;
    }

    async read(name, client) {
        const stream = this.lastId ? await client.watch(this.user.token, this.id, { lastEventId: this.lastId }) : await this.begin(client);
        if (stream.status !== 200) {
            this.refuse(stream);
            return;
        }
        this.lastId ??= `${stream.headers['stream-id']}:0`;
        let read = 0;
        while (!stream.ended) {
            await stream.when(PATIENCE_MS, () => stream.events.length > read, 'more of an answer');
            for (; read < stream.events.length; read++)
                this.take(stream.events[read], name);
        }
        for (; read < stream.events.length; read++)
            this.take(stream.events[read], name);
    }

    refuse(stream) {
        const code = stream.json?.code ?? stream.status;
        this.refused.push(code);
        if (stream.status === 204)
            this.result = 'ended';
        else if (!PASSING.includes(code))
            this.result = code;
    }

    take(event, name) {
        const { data } = event;
        if (event.id) {
            assert.equal(event.id.split(':')[0], this.lastId.split(':')[0], 'the stream is another one');
            this.lastId = event.id;
        }
        if (data.event === 'message') {
            this.text += data.data;
            this.through.add(name);
            assert.equal(Number(event.id.split(':')[1]), Buffer.byteLength(this.text), `a byte came twice or never: ${event.id}`);
        } else if (data.event === 'done') {
            this.finish = data.finish_reason;
        } else if (data.event === 'full_response') {
            this.full = data.data;
            this.result = 'done';
        } else if (data.event === 'error' && !PASSING.includes(data.code)) {
            this.result = data.code;
        }
    }

    /** Waits until something is shown, or it is over. */
    async shows(ms = 15_000) {
        const end = Date.now() + ms * PATIENCE;
        while (this.text === '' && this.result === null) {
            assert.ok(Date.now() < end, `nothing is shown; refused ${JSON.stringify(this.refused.slice(-5))}`);
            await pause(10);
        }
    }
}
