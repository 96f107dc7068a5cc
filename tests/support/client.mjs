/* client.mjs - an HTTP client of the backend, for stories.
 *
 * Built on node:http so that agents (keep-alive), headers and raw bytes stay in the story's
 * hands. api() is one call, chat() opens a stream and gives a ChatStream to read it event by
 * event, user() registers and logs in somebody new and gives an object with the seven calls.
 */
import http from 'node:http';
import https from 'node:https';
import { randomBytes } from 'node:crypto';
import { eventParser } from './event_parser.mjs';
import { PATIENCE, within } from './deadline.mjs';
import { trust } from './tls.mjs';

const PASSWORD = 'correct horse battery';

export class Client {
    constructor(port) {
        this.port = port;
        this.host = '127.0.0.1';
        this.localAddress = undefined;       /* an address of this machine to come from */
        this.agents = [];
    }

    get url() {
        return `http${trust(this.port) ? 's' : ''}://${this.host}:${this.port}`;
    }

    /** An agent that keeps connections alive; closed at stopAll(). */
    keepAliveAgent(options = {}) {
        const agent = new (trust(this.port) ? https : http).Agent({ keepAlive: true, ...options });
        this.agents.push(agent);
        return agent;
    }

    closeAgents() {
        for (const agent of this.agents)
            agent.destroy();
        this.agents = [];
    }

    /** Sends a request, resolves with node's response when its headers are there. */
    open(method, path, body, { token, lang, accept, headers = {}, agent = false, timeout = 30_000 } = {}) {
        const all = { ...headers };
        if (token !== undefined)
            all.authorization = `Bearer ${token}`;
        if (lang)
            all['accept-language'] = lang;
        if (accept)
            all.accept = accept;
        let bytes = null;
        if (body !== undefined) {
            bytes = typeof body === 'string' || Buffer.isBuffer(body) ? Buffer.from(body) : Buffer.from(JSON.stringify(body));
            if (all['transfer-encoding'] === undefined)
                all['content-length'] ??= bytes.length;
        } else if (method === 'POST') {
            all['content-length'] ??= 0;
        }
        const secure = trust(this.port);
        const req = (secure ? https : http).request({
            host: this.host, port: this.port, localAddress: this.localAddress, method, path, agent, headers: all, ...secure,
        });
        const answered = new Promise((resolve, reject) => {
            req.once('response', resolve);
            req.once('error', reject);
        });
        req.end(bytes ?? undefined);
        return within(timeout, answered, `${method} ${path} gets an answer`).catch((e) => {
            req.destroy();
            throw e;
        });
    }

    /** One call: {status, headers, text, json}. Objects are sent as JSON, strings and buffers as they are. */
    async api(method, path, body, options = {}) {
        const res = await this.open(method, path, body, options);
        return within(options.timeout ?? 30_000, readAll(res), `${method} ${path} ends its answer`);
    }

    register(username, password, options) {
        return this.api('POST', '/api/users/register', { username, password }, options);
    }

    login(username, password, options) {
        return this.api('POST', '/api/users/login', { username, password }, options);
    }

    /** Somebody new, registered and logged in. */
    async user(name = `user-${randomBytes(6).toString('hex')}`, password = PASSWORD) {
        const made = await this.register(name, password);
        if (made.status !== 201)
            throw new Error(`register: ${made.status} ${made.text}`);
        const user = new User(this, name, password);
        await user.login();
        return user;
    }

    /** Opens a chat stream. framing tells how to parse it; by default from `accept`. */
    async chat(token, conversation, message, options = {}) {
        const framing = options.framing ?? (options.accept?.includes('ndjson') ? 'ndjson' : 'sse');
        const body = options.body ?? { message };
        return this.stream('POST', options.path ?? `/api/chat/${conversation}`, body, framing, { ...options, token });
    }

    /** Reads the latest answer of a conversation on: from an event's id (lastEventId, or after), by token or ticket. */
    watch(token, conversation, { lastEventId, after, ticket, ...options } = {}) {
        const framing = options.framing ?? (options.accept?.includes('ndjson') ? 'ndjson' : 'sse');
        const headers = { ...options.headers, ...(lastEventId !== undefined && { 'last-event-id': lastEventId }) };
        return this.stream('GET', streamPath(conversation, { after, ticket }), undefined, framing,
            { ...options, headers, token: ticket ? undefined : token });
    }

    async stream(method, path, body, framing, options) {
        const res = await this.open(method, path, body, options);
        const stream = new ChatStream(res, framing);
        if (res.statusCode !== 200)
            await within(30_000, stream.readError(), 'the body of an error');
        else
            stream.readEvents();
        return stream;
    }
}

/** The path of a conversation's stream. */
function streamPath(id, { after, ticket }) {
    const query = new URLSearchParams({ ...(after && { after }), ...(ticket && { ticket }) }).toString();
    return `/api/chat/${id}/stream${query && `?${query}`}`;
}

/** Reads a whole response. */
export async function readAll(res) {
    const parts = [];
    for await (const part of res)
        parts.push(part);
    const bytes = Buffer.concat(parts);
    const text = bytes.toString('utf8');
    let json;
    try {
        json = JSON.parse(text);
    } catch {
        json = undefined;
    }
    return { status: res.statusCode, headers: res.headers, bytes, text, json };
}

/** One user's view of the API. */
export class User {
    constructor(client, name, password) {
        this.client = client;
        this.name = name;
        this.password = password;
        this.token = '';
    }

    async login() {
        const res = await this.client.login(this.name, this.password);
        if (res.status !== 200)
            throw new Error(`login: ${res.status} ${res.text}`);
        this.token = res.json.token;
    }

    /** The same user through another gateway: `user.through(stack.at('gateway-2'))`. */
    through(client) {
        const other = new User(client, this.name, this.password);
        other.token = this.token;
        return other;
    }

    call(method, path, body, options = {}) {
        return this.client.api(method, path, body, { token: this.token, ...options });
    }

    /** Creates a conversation, gives its id. */
    async create(model = 'fake', extra = {}) {
        const res = await this.call('POST', '/api/conversations/create', { title: `about ${model}`, model, ...extra });
        if (res.status !== 200)
            throw new Error(`create: ${res.status} ${res.text}`);
        return res.json.conversation_id;
    }

    history(id, options) {
        return this.call('GET', `/api/conversations/history/${id}`, undefined, options);
    }

    async messages(id) {
        const res = await this.history(id);
        if (res.status !== 200)
            throw new Error(`history: ${res.status} ${res.text}`);
        return res.json.messages;
    }

    list(options) {
        return this.call('GET', '/api/conversations/list', undefined, options);
    }

    del(id, options) {
        return this.call('POST', `/api/conversations/del/${id}`, undefined, options);
    }

    chat(id, message, options = {}) {
        return this.client.chat(this.token, id, message, options);
    }

    /** Reads the latest answer on, see Client.watch; options.at: another gateway's client. */
    watch(id, { at = this.client, ...options } = {}) {
        return at.watch(this.token, id, options);
    }

    /** Has the last question answered anew. */
    retry(id, options = {}) {
        return this.client.chat(this.token, id, undefined, { ...options, body: options.body ?? '', path: `/api/chat/${id}/retry` });
    }

    stop(id, { at = this.client, ...options } = {}) {
        return at.api('POST', `/api/chat/${id}/stop`, undefined, { token: this.token, ...options });
    }

    ticket(id, options) {
        return this.call('POST', `/api/chat/${id}/ticket`, undefined, options);
    }

    active({ at = this.client } = {}) {
        return at.api('GET', '/api/chat/active', undefined, { token: this.token });
    }

    /** Asks and reads to the end: what ChatStream.rest() gives. */
    async ask(id, message, options = {}) {
        const stream = await this.chat(id, message, options);
        return stream.rest(options.deadline ?? 30_000);
    }
}

/** A stream being read. `status` other than 200: `json` holds the error. */
export class ChatStream {
    constructor(res, framing) {
        this.res = res;
        this.framing = framing;
        this.status = res.statusCode;
        this.headers = res.headers;
        this.events = [];        /* all events so far */
        this.comments = [];      /* {text, at} of comment lines */
        this.bytes = [];         /* chunks as they came */
        this.read = 0;           /* events handed out by next() */
        this.ended = false;
        this.cut = false;        /* the connection broke before the body's end */
        this.fault = null;       /* what the parser refused */
        this.wakers = [];
    }

    async readError() {
        const all = await readAll(this.res);
        this.json = all.json;
        this.text = all.text;
        this.ended = true;
    }

    readEvents() {
        const parser = eventParser(this.framing);
        this.res.on('data', (bytes) => {
            this.bytes.push(bytes);
            this.guard(() => {
                for (const item of parser.feed(bytes)) {
                    if (item.comment !== undefined)
                        this.comments.push({ text: item.comment, at: Date.now() });
                    else
                        this.events.push(item);
                }
            });
            this.wake();
        });
        this.res.once('end', () => {
            this.guard(() => parser.end());
            this.finish(false);
        });
        this.res.once('error', () => this.finish(true));
        this.res.once('close', () => this.finish(!this.res.complete));
    }

    guard(fn) {
        try {
            if (!this.fault)
                fn();
        } catch (e) {
            this.fault = e;
        }
    }

    finish(cut) {
        if (!this.ended) {
            this.ended = true;
            this.cut = cut;
        }
        this.wake();
    }

    wake() {
        for (const waker of this.wakers.splice(0))
            waker();
    }

    /** Waits until test() is true or the stream has ended. */
    async when(ms, test, what) {
        const end = Date.now() + ms * PATIENCE;
        while (!this.fault && !this.ended && !test()) {
            const left = Math.max(1, end - Date.now());
            const woken = new Promise((resolve) => {
                this.wakers.push(resolve);
            });
            await within(left / PATIENCE, woken, `${what}; so far ${JSON.stringify(this.events.slice(-3)).slice(0, 300)}`);
        }
        if (this.fault)
            throw this.fault;
    }

    /** The next event, null at the end. */
    async next(ms = 10_000) {
        await this.when(ms, () => this.events.length > this.read, 'another event');
        return this.events[this.read++] ?? null;
    }

    /** Waits until the pieces so far contain this text. */
    async shows(text, ms = 10_000) {
        await this.when(ms, () => this.shown.includes(text), `the stream shows ${JSON.stringify(text.slice(0, 80))}`);
        if (!this.shown.includes(text))
            throw new Error(`the stream ended without ${JSON.stringify(text.slice(0, 80))}: ` +
                JSON.stringify(this.events.slice(-3)).slice(0, 500));
    }

    /** All pieces so far, put together. */
    get shown() {
        return this.events.filter((e) => e.data.event === 'message').map((e) => e.data.data).join('');
    }

    /** Reads to the end: everything about the answer in one object. */
    async rest(ms = 30_000) {
        if (this.status !== 200)
            return { status: this.status, json: this.json, headers: this.headers, text: '', kinds: [] };
        await this.when(ms, () => false, 'the end of the stream');
        const one = (kind) => this.events.find((e) => e.data.event === kind)?.data;
        return {
            status: 200, headers: this.headers, cut: this.cut, stream: this,
            events: this.events, kinds: this.events.map((e) => e.data.event),
            text: this.shown, done: one('done'), full: one('full_response')?.data, error: one('error'),
        };
    }

    /** Goes away without a word. */
    leave() {
        this.res.destroy();
    }
}
