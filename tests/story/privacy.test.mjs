/* privacy.test.mjs - two users who must not see each other, and keys that nobody may see.
 *
 * An api_key is answered by create alone and goes to the provider as Bearer token; it is in no
 * other answer, in no log, and not readable in any file that the system wrote. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { SERVICES, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { within } from '../support/deadline.mjs';

const KEY = 'sk-very-secret-0123456789abcdef';
const PASSWORD = 'the password that nobody logs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { log: { level: 'debug' } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

/** Every file of the stack's directory but its own configuration, whole. */
function files() {
    return fs.readdirSync(s.dataDir, { recursive: true, withFileTypes: true })
        .filter((f) => f.isFile() && f.name !== 'config.yaml')
        .map((f) => [f.name, fs.readFileSync(path.join(f.path ?? s.dataDir, f.name))]);
}

story('a conversation of another user does not exist for you', async () => {
    const [anna, ben] = [await s.user(), await s.user()];
    const id = await anna.create('echo');
    await anna.ask(id, 'my secret');
    const unknown = await ben.history(1);
    const foreign = await ben.history(id);
    expectError(foreign, 404, { code: 'not_found' });
    assert.deepEqual(foreign.json, unknown.json, 'another answer than for an id that nobody has');
    expectError(await ben.del(id), 404, { code: 'not_found' });
    expectError(await ben.ask(id, 'tell me'), 404, { code: 'not_found' });
    assert.deepEqual((await ben.list()).json, []);
    assert.deepEqual((await anna.messages(id)).map((m) => m.content), ['my secret', 'my secret']);
});

story('a running answer of another user is a 404, not a 409', async () => {
    const [anna, ben] = [await s.user(), await s.user()];
    const hold = provider.hold('fake:private');
    const id = await anna.create('fake:private');
    const opening = anna.chat(id, 'go');
    const answer = await within(10_000, hold.next(), 'the provider is asked');
    await answer.piece('private ');
    const stream = await opening;
    await stream.shows('private ');
    expectError(await ben.ask(id, 'and me?'), 404, { code: 'not_found' });
    expectError(await ben.del(id), 404, { code: 'not_found' });
    await answer.piece('words');
    await answer.finish();
    expectAnswer(await stream.rest(), 'private words', { messageId: 2 });
});

story('the conversation\'s api_key goes upstream as Bearer, without one the provider\'s key does', async () => {
    const user = await s.user();
    const keyed = await user.create('fake', { api_key: KEY });
    const plain = await user.create('fake');
    await user.ask(keyed, 'with my key');
    assert.equal(provider.last('fake').headers.authorization, `Bearer ${KEY}`);
    await user.ask(plain, 'without a key');
    assert.equal(provider.last('fake').headers.authorization, 'Bearer sk-from-the-configuration');
});

story('the api_key is in no answer but that of create', async () => {
    const user = await s.user();
    const id = await user.create('fake', { api_key: KEY });
    const got = await user.ask(id, 'hello');
    const refused = await user.create('fake:401', { api_key: KEY });
    const error = await user.ask(refused, 'hello');
    expectError(error, 502, { code: 'upstream_auth', says: 'Incorrect API key' });
    for (const text of [(await user.history(id)).text, (await user.list()).text, JSON.stringify(got.events), JSON.stringify(error.json),
        (await user.history(refused)).text])
        assert.ok(!text.includes(KEY), text);
});

story('the provider\'s own key is cut out of the error that it passes on', async () => {
    const user = await s.user();
    const error = await user.ask(await user.create('fake:401'), 'hello');
    expectError(error, 502, { code: 'upstream_auth', says: 'Incorrect API key' });
    assert.ok(!JSON.stringify(error.json).includes('sk-from-the-configuration'), error.json.error);
});

story('no file of the system holds a key, a password or a token in the clear', async () => {
    const user = await s.user(undefined, PASSWORD);
    const id = await user.create('fake', { api_key: KEY });
    await user.ask(id, 'hello');
    await user.ask(await user.create('fake:401', { api_key: KEY }), 'hello');
    await s.login(user.name, 'a wrong password that nobody logs');
    const written = files();
    assert.ok(written.some(([name]) => name.endsWith('.db')), `files: ${written.map(([n]) => n)}`);
    const secrets = { 'the api key': KEY, 'the key in hex': Buffer.from(KEY).toString('hex'), 'the key in base64': Buffer.from(KEY).toString('base64').slice(0, 40),
        'the password': PASSWORD, 'a wrong password': 'a wrong password that nobody logs', 'the token': user.token, 'its signature': user.token.split('.')[2],
        'the configured key': 'sk-from-the-configuration' };
    for (const [name, bytes] of written) {
        for (const [what, secret] of Object.entries(secrets))
            assert.ok(!bytes.includes(secret), `${what} is in ${name}`);
    }
    assert.ok(SERVICES.every((name) => s.logs(name).length > 0));
    assert.ok(written.some(([name, bytes]) => /users\.db/.test(name) && bytes.includes('$2b$04$')), 'no bcrypt hash with the configured cost');
});

story('secret files and databases are readable by their owner alone', async () => {
    const secret = fs.readdirSync(s.dataDir).filter((f) => /secret|seal|jwt|key/.test(f));
    assert.ok(secret.length >= 2, `files: ${fs.readdirSync(s.dataDir)}`);
    for (const name of secret)
        assert.equal(fs.statSync(path.join(s.dataDir, name)).mode & 0o077, 0, name);
});
