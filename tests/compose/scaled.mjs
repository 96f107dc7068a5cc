/* scaled.mjs - with deploy/compose.scale.yml: PostgreSQL, several of each service, and containers that come and go while people chat. */
import assert from 'node:assert/strict';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectBroken, expectError } from '../support/expect.mjs';
import { openAnswer } from '../support/held.mjs';
import { until } from '../support/deadline.mjs';
import { Client } from '../support/client.mjs';
import { docker, killProcess, startedAgain } from './engine.mjs';
import { Load } from './load.mjs';

const FILES = ['docker-compose.yml', 'deploy/compose.scale.yml'];
const NUMBERS = { gateway: 2, 'llm-svc': 3, 'convo-svc': 2, 'auth-svc': 2 };
const PEOPLE = 8;
const GUESSES = 10;
const PAUSE_MS = 1000;   /* after so many */
const BACK_MS = 60_000;

const scales = (numbers) => Object.entries(numbers).flatMap(([service, n]) => ['--scale', `${service}=${n}`]);

/** Everything about this stack. */
export async function scaled({ step, engine, provider, override, clientOf }, port) {
    const client = clientOf(port);
    const stack = engine.stack('scaled', port, [...FILES, override]);
    let kept;
    await step('PostgreSQL, two or three of each service: the first requests succeed', async () => {
        await stack.compose('up', '-d', ...scales(NUMBERS));
        kept = await client.user();
        kept.conversation = await kept.create('fake');
        expectAnswer(await kept.ask(kept.conversation, 'kept?'), answerFor('kept?'), { messageId: 2 });
        for (const [service, n] of Object.entries(NUMBERS))
            await stack.healthy(service, n);
    }, { critical: true });
    await step('the address of a client is what the proxy sees, not what the client says', () => guess(stack, client));
    const load = new Load(client, provider);
    await step(`${PEOPLE} people chat, through every gateway`, async () => {
        await load.start(PEOPLE);
        await load.answered(PEOPLE);
        await until(BACK_MS, async () => (await gatewaysOf(stack)).size === NUMBERS.gateway, 'the proxy has asked every gateway');
    }, { critical: true });
    await step('scaled up and down under load: no request fails, no stream breaks', async () => {
        await scale(stack, load, { gateway: 4, 'llm-svc': 4, 'convo-svc': 3, 'auth-svc': 3 });
        await scale(stack, load, { gateway: 1, 'llm-svc': 1, 'convo-svc': 1, 'auth-svc': 1 });
        await scale(stack, load, NUMBERS);
        return load.said();
    });
    await step('all four services rolled by compose-roll under load: no request fails, no stream breaks', async () => {
        const before = await everyId(stack);
        await stack.roll(...Object.keys(NUMBERS));
        const after = await everyId(stack);
        assert.ok(after.length === before.length && after.every((id) => !before.includes(id)), 'every container is a new one');
        await load.answered(PEOPLE);
        return load.said();
    });
    await step('one of each service killed under load: each comes back, no answer is lost', async () => {
        load.lenient = true;
        for (const service of Object.keys(NUMBERS))
            await crash(stack, load, service);
    });
    await step('nobody has missed anything', () => load.end());
    await step('every llm-svc is killed: what was shown is stored, and the next question is answered', async () => {
        const { stream, id } = await openAnswer(provider, kept, 'fake:killed', 'half of ');
        await docker('kill', ...await stack.containers('llm-svc'));
        expectBroken(await stream.rest(BACK_MS), 'half of ', 'interrupted');
        assert.equal((await kept.messages(id)).at(-1).content, 'half of ');
        await stack.compose('up', '-d', '--no-recreate', ...scales(NUMBERS));
        await stack.healthy('llm-svc', NUMBERS['llm-svc']);
        await until(BACK_MS, async () => (await kept.ask(await kept.create('fake'), 'now?')).status === 200, 'an answer');
    });
    await step('down, then up: users, tokens and conversations are there', async () => {
        await stack.down();
        await stack.compose('up', '-d', ...scales(NUMBERS));
        const messages = await kept.messages(kept.conversation);
        assert.deepEqual(messages.map((m) => m.content), ['kept?', answerFor('kept?')]);
        await kept.login();
        expectAnswer(await kept.ask(kept.conversation, 'still?'), answerFor('still?'), { messageId: 4 });
    });
    await step('down -v leaves nothing of PostgreSQL', async () => {
        await stack.down('-v');
        assert.deepEqual(await stack.things(), []);
    });
}

async function scale(stack, load, numbers) {
    await stack.compose('up', '-d', '--no-recreate', ...scales(numbers));
    for (const [service, n] of Object.entries(numbers))
        await stack.healthy(service, n);
    await load.answered(PEOPLE);
}

async function everyId(stack) {
    return (await Promise.all(Object.keys(NUMBERS).map((service) => stack.containers(service)))).flat();
}

/** The gateways that the proxy's log names. */
async function gatewaysOf(stack) {
    const [proxy] = await stack.containers('proxy');
    const log = await docker('logs', '--tail', '200', proxy);
    return new Set([...log.matchAll(/"gateway":"([\d.]+):\d+"/g)].map((m) => m[1]));
}

/** One process dies, and its container comes back. */
async function crash(stack, load, service) {
    const [id] = await stack.containers(service);
    await killProcess(id);
    await startedAgain(id);
    await stack.healthy(service, NUMBERS[service]);
    await load.answered(PEOPLE);
}

/** Guesses a password from one address, the bridge's, logs in from another one, a container's. (An engine that masquerades would give
 *  all addresses of this machine the one of the bridge.) */
async function guess(stack, client) {
    const [proxy] = await stack.containers('proxy');
    const guesser = new Client(8080);
    guesser.host = await docker('inspect', '-f', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', proxy);
    for (let tries = 1; ; tries++) {
        const victim = await client.user();
        let begun;
        for (let i = 0; i < GUESSES; i++) {
            begun = Date.now();
            expectError(await guesser.login(victim.name, `guess ${i}`, claim(i)), 401);
        }
        const got = await guesser.login(victim.name, victim.password, claim(GUESSES));
        if (got.status === 200 && Date.now() - begun > PAUSE_MS && tries < 5)
            continue;   /* the machine has stood still until the pause was over */
        expectError(got, 429, { code: 'throttled' });
        assert.equal(await loginInside(stack, victim), '200');
        return;
    }
}

/** Logs in from within the container of a gateway, through the proxy: the status. */
async function loginInside(stack, user) {
    const body = JSON.stringify({ username: user.name, password: user.password });
    const request = `POST /api/users/login HTTP/1.0\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    const [gateway] = await stack.containers('gateway');
    return docker('exec', gateway, 'bash', '-c',
        'exec 3<>/dev/tcp/proxy/8080 && printf %s "$0" >&3 && read -r _ status _ <&3 && echo "$status"', request);
}

const claim = (i) => ({ headers: { 'x-forwarded-for': `203.0.113.${i}` } });
