/* reattach.test.mjs - convo-svc away for longer than gateway.reattach_s: the asker gets an error
 * event, the answer itself goes on and is whole in the history afterwards. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { promisedWithin, until } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { reattach_s: 2 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

story('the asker gets an error event after reattach_s, the answer goes on', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:away', 'one ');
    await s.kill('convo-svc');
    await answer.piece('two ');
    const got = await promisedWithin(20_000, stream.rest(20_000), 'the end of the stream, after reattach_s');
    assert.equal(got.kinds.at(-1), 'error', JSON.stringify(got.kinds));
    assert.match(got.error.code, /^[a-z_]+$/);
    assert.ok('one two '.startsWith(got.text), got.text);
    await answer.piece('three');
    s.start('convo-svc');
    await answer.finish();
    const m = await until(20_000, async () => {
        const last = (await user.messages(id)).at(-1);
        return last?.state !== 'streaming' && last;
    }, 'the answer has ended');
    assert.deepEqual([m.content, m.state], ['one two three', 'complete']);
    await s.ready();    /* each reactor of the gateway finds the service again for itself */
    provider.script('fake:away', async (a) => {
        await a.piece('back');
        await a.finish();
    });
    expectAnswer(await user.ask(id, 'and now?'), 'back', { messageId: 4 });
}, { deadline: 60_000 });
