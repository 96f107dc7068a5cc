/* expect.mjs - what every good answer and every good error looks like. */
import assert from 'node:assert/strict';

const HAN = /\p{Script=Han}/u;

/** A complete answer with exactly this text: pieces, one done, one full_response, nothing else. */
export function expectAnswer(got, text, { messageId, finish = 'stop', usage } = {}) {
    assert.equal(got.status, 200, JSON.stringify(got.json));
    assert.equal(got.error, undefined, `an error event: ${JSON.stringify(got.error)}`);
    assert.equal(got.cut, false, 'the connection was cut');
    expectText(got.text, text, 'pieces');
    expectText(got.full, text, 'full_response');
    const pieces = got.kinds.slice(0, -2);
    assert.ok(pieces.every((k) => k === 'message'), `events: ${got.kinds.slice(-6)}`);
    assert.deepEqual(got.kinds.slice(-2), ['done', 'full_response']);
    assert.ok(got.events.every((e) => e.data.event !== 'message' || e.data.data !== ''), 'an empty piece was sent');
    assert.equal(got.done.data, 'Stream finished');
    assert.equal(got.done.finish_reason, finish);
    if (messageId !== undefined)
        assert.equal(got.done.message_id, messageId);
    else
        assert.ok(Number.isSafeInteger(got.done.message_id));
    if (usage)
        assert.deepEqual(got.done.usage, usage);
}

/** Compares long texts without printing megabytes. */
export function expectText(got, want, what) {
    if (got === want)
        return;
    const a = String(got);
    let at = 0;
    while (at < a.length && at < want.length && a[at] === want[at])
        at++;
    const near = (s) => JSON.stringify(s.slice(Math.max(0, at - 20), at + 40));
    assert.fail(`${what}: ${a.length} characters instead of ${want.length}, ` +
        `first difference at ${at}: ${near(a)} instead of ${near(want)}`);
}

/** A refusal: status, JSON {"error", "code"}, English or Chinese. */
export function expectError(res, status, { code, lang = 'en', says } = {}) {
    assert.equal(res.status, status, res.text ?? JSON.stringify(res.json));
    assert.match(String(res.headers['content-type']), /^application\/json/);
    assert.equal(typeof res.json?.error, 'string', `no "error" in ${JSON.stringify(res.json)}`);
    assert.ok(res.json.error.length > 0);
    assert.match(String(res.json.code), /^[a-z][a-z0-9_]*$/, `code: ${JSON.stringify(res.json)}`);
    if (code)
        assert.equal(res.json.code, code, res.json.error);
    if (lang === 'zh')
        assert.match(res.json.error, HAN);
    else if (!says)
        assert.doesNotMatch(res.json.error, HAN);
    if (says)
        assert.ok(res.json.error.includes(says), `"${res.json.error}" does not say "${says}"`);
}

/** Guesses until it is too often: `limit` wrong ones get 401, the next one 429. After those there is a pause of a second, then two,
 *  then four: a machine that stood still for longer has one more 401. Gives the refusal. */
export async function expectThrottled(limit, guess) {
    for (let i = 0, since = 0; ; i++) {
        const begun = Date.now();
        const got = await guess(i);
        if (i >= limit && (got.status !== 401 || Date.now() - since < 1000 * 2 ** (i - limit))) {
            expectError(got, 429, { code: 'throttled' });
            return got;
        }
        expectError(got, 401, { code: 'bad_credentials' });
        since = begun;
    }
}

/** A stream that ends in an error event after exactly this text, without done. */
export function expectBroken(got, text, code) {
    assert.equal(got.status, 200, JSON.stringify(got.json));
    assert.equal(got.kinds.at(-1), 'error', `events: ${got.kinds.slice(-6)}`);
    assert.ok(got.kinds.slice(0, -1).every((k) => k === 'message'), `events: ${got.kinds.slice(-6)}`);
    expectText(got.text, text, 'pieces');
    assert.equal(typeof got.error.data, 'string');
    assert.ok(got.error.data.length > 0);
    assert.match(String(got.error.code), /^[a-z][a-z0-9_]*$/);
    if (code)
        assert.equal(got.error.code, code, got.error.data);
}

/** Message ids 1, 2, 3 … and alternating roles. */
export function expectNumbered(messages) {
    assert.deepEqual(messages.map((m) => m.message_id), messages.map((_, i) => i + 1));
    assert.deepEqual(messages.map((m) => m.role), messages.map((_, i) => (i % 2 === 0 ? 'user' : 'assistant')));
}
