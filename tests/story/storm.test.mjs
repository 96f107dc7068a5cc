/* storm.test.mjs - forty answers are being written while a service dies, freezes or is restarted, and
 * three of ten token frames are lost besides.
 *
 * Every asker gets an end or an error; nobody sees a byte that is not in the history afterwards,
 * and the history holds nothing that the provider did not send. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor, cut } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectNumbered, expectText } from '../support/expect.mjs';
import { pause, until } from '../support/deadline.mjs';

const STREAMS = 40;
const PIECES = 60;
const STEP_MS = 25;
const DOWN_MS = 300;

let provider;
let s;
let user;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { test: { drop_token_frames: 0.3 }, gateway: { verify_cache_s: 1 } } });
    user = await s.user();
    provider.script('fake:paced', async (a) => {
        const pieces = cut(textFor(a.question), Math.ceil(textFor(a.question).length / PIECES));
        for (const piece of pieces) {
            await a.piece(piece);
            await pause(STEP_MS);
            if (a.res.destroyed)
                return;
        }
        await a.finish();
    });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

function textFor(question) {
    return answerFor(question).repeat(3);
}

/** Opens the streams, lets the misfortune happen in their middle, reads all to their ends and compares with the history. */
async function storm(label, misfortune) {
    const ids = await Promise.all(Array.from({ length: STREAMS }, () => user.create('fake:paced')));
    const asks = ids.map((id, i) => user.chat(id, `${label} ${i}`));
    const streams = await Promise.all(asks);
    await Promise.all(streams.slice(0, 5).map((stream) => stream.when(10_000, () => stream.shown.length > 200, 'some text')));
    await misfortune();
    const got = await Promise.all(streams.map((stream) => stream.rest(60_000)));
    await s.ready();
    await user.login();
    return Promise.all(ids.map(async (id, i) => {
        const message = await until(30_000, async () => {
            const m = (await user.messages(id)).at(-1);
            return m.state !== 'streaming' && m;
        }, 'the answer has ended');
        expectNumbered(await user.messages(id));
        assert.ok(textFor(`${label} ${i}`).startsWith(message.content), 'the history holds what was never sent');
        assert.ok(message.content.startsWith(got[i].text), `shown, but not kept: ${JSON.stringify(got[i].text.slice(message.content.length - 20))}`);
        return { got: got[i], message, text: textFor(`${label} ${i}`) };
    }));
}

async function killed(name) {
    await s.kill(name);
    await pause(DOWN_MS);
    s.start(name);
}

function allComplete(results) {
    for (const { got, message, text } of results) {
        expectAnswer(got, text, { messageId: 2 });
        assert.equal(message.state, 'complete');
        expectText(message.content, text, 'history');
    }
}

for (const name of ['auth-svc', 'convo-svc']) {
    story(`${name} is killed and started again: all forty are complete`, async () => {
        allComplete(await storm(`kill ${name}`, () => killed(name)));
    }, { deadline: 90_000 });
}

story('llm-svc is killed and started again: each is complete, or interrupted with all that was shown', async () => {
    const results = await storm('kill llm', () => killed('llm-svc'));
    for (const { got, message } of results) {
        if (got.done) {
            assert.equal(message.state, 'complete');
        } else {
            assert.equal(got.error?.code, 'interrupted', JSON.stringify(got.kinds.slice(-3)));
            assert.equal(message.state, 'interrupted');
        }
        expectText(got.text, message.content, 'the asker\'s text');
    }
}, { deadline: 90_000 });

story('the gateway is killed and started again: connections break, all forty are complete in the history', async () => {
    const results = await storm('kill gateway', () => killed('gateway'));
    for (const { got, message, text } of results) {
        assert.equal(got.cut || got.done !== undefined, true);
        assert.equal(message.state, 'complete');
        expectText(message.content, text, 'history');
    }
}, { deadline: 90_000 });

for (const name of ['auth-svc', 'convo-svc', 'llm-svc', 'gateway']) {
    story(`${name} is frozen for two seconds: all forty are complete`, async () => {
        allComplete(await storm(`freeze ${name}`, async () => {
            s.freeze(name);
            await pause(2000);
            s.thaw(name);
        }));
    }, { deadline: 90_000 });
}

story('convo-svc is killed three times in a row: all forty are complete', async () => {
    allComplete(await storm('kill thrice', async () => {
        for (let i = 0; i < 3; i++)
            await killed('convo-svc');
    }));
}, { deadline: 90_000 });

story('convo-svc is restarted with SIGTERM: all forty are complete', async () => {
    allComplete(await storm('restart convo', async () => {
        await s.kill('convo-svc', 'SIGTERM');
        s.start('convo-svc');
    }));
}, { deadline: 90_000 });
