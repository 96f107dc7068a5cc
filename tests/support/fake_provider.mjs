/* fake_provider.mjs - an OpenAI-compatible provider that behaves as badly as real ones do.
 *
 * Answers POST …/chat/completions. What it does is chosen by the request's `model`: a built-in
 * behaviour (fake_behaviours.mjs, "fake:crlf" and so on), a script that the test registered, or a
 * "hold", where the test itself writes the answer piece by piece. Every request is recorded with
 * headers, body, the text that was sent and whether the client hung up early, so that tests
 * compare bytes. Nothing here sleeps: pace is under the test's control.
 *
 * In a test:     const provider = await startProvider();  … await provider.stop();
 * By hand:       node tests/support/fake_provider.mjs --port 9099
 */
import http from 'node:http';
import http2 from 'node:http2';
import { once } from 'node:events';
import { pathToFileURL } from 'node:url';
import { behaviours } from './fake_behaviours.mjs';

const BODY_MAX_BYTES = 64 * 1024 * 1024;

/** One answer being written: what scripts and holds work with. */
export class Answer {
    constructor(res, record, provider) {
        this.res = res;
        this.record = record;
        this.provider = provider;
        this.body = record.body;
        this.question = record.question;
        this.model = record.model;
        this.eol = '\n';
        this.prefix = 'data: ';
        this.created = 1700000000;
        this.ended = new Promise((resolve) => {
            this.markEnded = resolve;
        });
        /* resolves when the connection is gone, whoever closed it */
        this.closed = new Promise((resolve) => {
            res.once('close', resolve);
        });
    }

    /** Sends status and headers. An event stream unless told otherwise. */
    head(status = 200, headers = {}) {
        if (this.res.headersSent)
            return this;
        this.record.status = status;
        this.res.writeHead(status, { 'content-type': 'text/event-stream', ...headers });
        this.res.flushHeaders?.();
        return this;
    }

    /** Writes raw bytes as one write; resolves when they have left this process. */
    raw(bytes) {
        this.head();
        if (this.res.destroyed || this.res.writableEnded)
            return this.closed;
        const written = new Promise((resolve) => {
            this.res.write(bytes, () => resolve());
        });
        return Promise.race([written, this.closed]);
    }

    /** The line of one event with this JSON value, or this string as it is. */
    line(value) {
        const json = typeof value === 'string' ? value : JSON.stringify(value);
        return this.prefix + json + this.eol + this.eol;
    }

    /** The JSON object of one chunk with this delta. */
    chunk(delta, finish = null, extra = {}) {
        return {
            id: 'chatcmpl-fake', object: 'chat.completion.chunk', created: this.created, model: this.model,
            choices: [{ index: 0, delta, finish_reason: finish }], ...extra,
        };
    }

    /** Remembers text as sent, for tests to compare with. */
    note(text) {
        this.record.sent += text;
    }

    /** Sends one piece of text as a chunk. */
    async piece(text) {
        this.note(text);
        await this.raw(this.line(this.chunk({ content: text })));
    }

    /** Ends properly: finish_reason, usage when given, [DONE], end of body. */
    async finish(reason = 'stop', usage = null) {
        await this.raw(this.line(this.chunk({}, reason)));
        if (usage)
            await this.raw(this.line({ ...this.chunk({}), choices: [], usage }));
        await this.raw(this.line('[DONE]'));
        this.end();
    }

    /** Ends the body without any further event. */
    end(bytes) {
        this.record.finished = true;
        this.head();
        this.res.end(bytes);
        this.markEnded();
    }

    /** Cuts the connection in mid-stream, without the end of the body. */
    async cut() {
        this.record.finished = true;
        this.head();
        if (this.res.stream)
            this.res.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
        else
            this.res.socket?.destroy();
        this.markEnded();
    }

    /** Answers with an error status and a JSON (or other) body. */
    fail(status, body, headers = {}) {
        const text = typeof body === 'string' ? body : JSON.stringify(body);
        this.head(status, { 'content-type': 'application/json', ...headers });
        this.end(text);
    }
}

/** Answers of one model that wait for the test to write them. */
class Hold {
    constructor() {
        this.ready = [];
        this.waiting = [];
    }

    offer(answer) {
        const taker = this.waiting.shift();
        if (taker)
            taker(answer);
        else
            this.ready.push(answer);
        return answer.ended;
    }

    /** The next request's Answer, in the order of arrival. Wrap in a deadline. */
    next() {
        if (this.ready.length > 0)
            return Promise.resolve(this.ready.shift());
        return new Promise((resolve) => {
            this.waiting.push(resolve);
        });
    }
}

export class FakeProvider {
    constructor(server, scheme) {
        this.server = server;
        this.scheme = scheme;
        this.requests = [];
        this.scripts = new Map();
        this.sockets = new Set();
        this.watchers = new Set();
        server.on(scheme === 'https' ? 'secureConnection' : 'connection', (socket) => {
            socket.setNoDelay?.(true);
            this.sockets.add(socket);
            socket.on('error', () => {});
            socket.once('close', () => this.sockets.delete(socket));
        });
        server.on('sessionError', () => {});
        server.on('tlsClientError', () => {
            this.tlsRefusals = (this.tlsRefusals ?? 0) + 1;
        });
        server.on('request', (req, res) => {
            this.handle(req, res).catch((e) => {
                if (req.complete)   /* else its sender died in the middle of the request */
                    this.failure ??= e;
                res.destroy?.();
            });
        });
    }

    get port() {
        return this.server.address().port;
    }

    get url() {
        return `${this.scheme}://127.0.0.1:${this.port}/v1`;
    }

    /** Registers what happens for a model: async (answer) => {…}. */
    script(model, fn) {
        this.scripts.set(model, fn);
    }

    /** Registers a model whose answers the test writes itself. */
    hold(model) {
        const hold = new Hold();
        this.scripts.set(model, (answer) => hold.offer(answer));
        return hold;
    }

    /** Requests of one model, oldest first. */
    of(model) {
        return this.requests.filter((r) => r.model === model);
    }

    /** The newest request of one model. */
    last(model) {
        return this.of(model).at(-1);
    }

    async handle(req, res) {
        const record = {
            n: this.requests.length, at: Date.now(), method: req.method, path: req.url,
            headers: req.headers, httpVersion: req.httpVersion, body: null, model: '', question: '',
            status: 0, sent: '', finished: false, closedEarly: false, closedAt: 0,
        };
        res.on('error', () => {});
        res.once('close', () => {
            record.closedAt = Date.now();
            record.closedEarly = !record.finished;
        });
        const raw = await readBody(req);
        record.raw = raw;
        try {
            record.body = JSON.parse(raw);
        } catch {
            record.body = null;
        }
        record.model = String(record.body?.model ?? '');
        record.question = String(record.body?.messages?.at(-1)?.content ?? '');
        this.requests.push(record);
        const answer = new Answer(res, record, this);
        if (req.method !== 'POST' || !req.url.endsWith('/chat/completions') || !record.body) {
            answer.fail(404, { error: { message: 'no such path' } });
            return;
        }
        const act = this.scripts.get(record.model) ?? behaviours[record.model.replace(/^fake:?/, '') || 'plain'];
        if (!act) {
            answer.fail(404, { error: { message: `The model ${record.model} does not exist` } });
            return;
        }
        await (act.run ?? act)(answer, req, res);
    }

    /** Closes every connection at once, keeps listening. */
    dropConnections() {
        for (const socket of this.sockets)
            socket.destroy();
    }

    async stop() {
        const closed = once(this.server, 'close');
        this.server.close();
        this.dropConnections();
        await closed;
        if (this.failure)
            throw this.failure;
    }
}

async function readBody(req) {
    const parts = [];
    let n = 0;
    for await (const part of req) {
        n += part.length;
        if (n > BODY_MAX_BYTES)
            throw new Error('request body too big');
        parts.push(part);
    }
    return Buffer.concat(parts).toString('utf8');
}

/** Starts a provider. tls: {key, cert} makes it HTTPS with HTTP/2 (and HTTP/1.1) by ALPN. */
export async function startProvider({ port = 0, host = '127.0.0.1', tls = null } = {}) {
    const server = tls ? http2.createSecureServer({ ...tls, allowHTTP1: true }) : http.createServer();
    server.keepAliveTimeout = 60_000;
    const provider = new FakeProvider(server, tls ? 'https' : 'http');
    server.listen(port, host);
    await once(server, 'listening');
    server.unref();    /* a story that failed early must not hang for its provider */
    return provider;
}

async function main(argv) {
    const at = argv.indexOf('--port');
    const provider = await startProvider({ port: at >= 0 ? Number(argv[at + 1]) : 9099 });
    console.log(`fake provider at ${provider.url}`);
    console.log(`models: ${Object.keys(behaviours).map((m) => `fake:${m}`).join(' ')}`);
    provider.server.ref();
    const stop = () => provider.stop().then(() => process.exit(0));
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href)
    await main(process.argv.slice(2));
