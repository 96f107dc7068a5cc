/* scaled.mjs - with deploy/compose.scale.yml: PostgreSQL, several of each, and containers that come and go while people chat. */
import assert from 'node:assert/strict';
import { expectAnswer, expectBroken } from '../support/expect.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { openAnswer } from '../support/held.mjs';
import { slowly, whilePeopleChat } from '../support/rolling.mjs';
import { pause, until } from '../support/deadline.mjs';
import { docker } from './engine.mjs';

const COUNTS = { gateway: 2, 'llm-svc': 3, 'convo-svc': 2, 'auth-svc': 2 };
const CLIENTS = 12;

const scale = (counts) => Object.entries(counts).flatMap(([service, n]) => ['--scale', `${service}=${n}`]);

/** Everything about this stack. */
export async function scaled({ step, engine, provider, override, clientOf }, port) {
    const client = clientOf(port);
    const stack = engine.stack('scaled', port, ['docker-compose.yml', 'deploy/compose.scale.yml', override]);
    const one = { at: () => client, replicasOf: () => ['proxy'], user: () => client.user() };
    const busy = (act) => whilePeopleChat(one, act, { clients: CLIENTS });
    let user;
    let conversation;
    provider.script('fake:slow', slowly);
    await step('on PostgreSQL, two or three of each: the first requests succeed', async () => {
        await stack.compose('up', '-d', ...scale(COUNTS));
        user = await client.user();
        conversation = await user.create('fake');
        expectAnswer(await user.ask(conversation, 'first'), answerFor('first'), { messageId: 2 });
        for (const [service, count] of Object.entries(COUNTS))
            assert.equal((await stack.containers(service)).length, count, service);
    }, { critical: true });
    await step(`scaled up and down while ${CLIENTS} people chat: nobody fails`, async () => {
        const answers = await busy(async () => {
            for (const counts of [{ gateway: 3, 'llm-svc': 4, 'convo-svc': 3, 'auth-svc': 3 }, { gateway: 1, 'llm-svc': 2, 'convo-svc': 1, 'auth-svc': 1 }, COUNTS]) {
                await stack.compose('up', '-d', '--no-recreate', ...scale(counts));
                for (const [service, count] of Object.entries(counts))
                    await stack.healthy(service, count);
                await pause(2000);
            }
        });
        return `${answers} answers`;
    });
    await step(`rolling update by compose-roll while ${CLIENTS} people chat: nobody fails`, async () => {
        const services = Object.keys(COUNTS);
        const before = (await Promise.all(services.map((s) => stack.containers(s)))).flat();
        const answers = await busy(() => stack.roll(...services));
        const after = (await Promise.all(services.map((s) => stack.containers(s)))).flat();
        assert.equal(after.length, before.length);
        assert.ok(after.every((id) => !before.includes(id)), 'each container is a new one');
        return `${answers} answers`;
    });
    await step(`one gateway, auth-svc and convo-svc after the other is killed while ${CLIENTS} people chat: nobody fails`, async () => {
        const answers = await busy(async () => {
            for (const service of ['gateway', 'auth-svc', 'convo-svc']) {
                await docker('kill', (await stack.containers(service))[0]);
                await pause(5000);
                await stack.compose('up', '-d', '--no-recreate', ...scale(COUNTS));
                await stack.healthy(service, COUNTS[service]);
            }
        });
        return `${answers} answers`;
    });
    await step('every llm-svc is killed: what was shown is stored, and the next question is answered', async () => {
        const { stream, id } = await openAnswer(provider, user, 'fake:killed', 'half of ');
        await docker('kill', ...await stack.containers('llm-svc'));
        expectBroken(await stream.rest(60_000), 'half of ', 'interrupted');
        assert.equal((await user.messages(id)).at(-1).content, 'half of ');
        await stack.compose('up', '-d', '--no-recreate', ...scale(COUNTS));
        await stack.healthy('llm-svc', COUNTS['llm-svc']);
        const next = await until(15_000, async () => {
            const got = await user.ask(conversation, 'second');
            return got.status === 200 && got;
        }, 'an answer');
        expectAnswer(next, answerFor('second'), { messageId: 4 });
    });
    await step('down, then up: what PostgreSQL holds is there', async () => {
        await stack.compose('down');
        await stack.compose('up', '-d', ...scale(COUNTS));
        await user.login();
        assert.deepEqual((await user.messages(conversation)).map((m) => m.content), ['first', answerFor('first'), 'second', answerFor('second')]);
        expectAnswer(await user.ask(conversation, 'third'), answerFor('third'), { messageId: 6 });
    });
    await step('down -v leaves nothing', async () => {
        await stack.compose('down', '-v');
        assert.deepEqual(await stack.things(), []);
    });
}
