/* stream_token.test.mjs - a token that ends while a stream is open ends the stream, and nothing else. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectError, expectText } from '../support/expect.mjs';
import { promised, promisedWithin } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';

let provider;
let s;      /* tokens are good for 4 s */
let often;  /* asks about a stream's token each second */
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { jwt: { ttl_s: 4 }, gateway: { verify_cache_s: 5 } } });
    often = await start({ provider, config: { gateway: { verify_cache_s: 0, verify_stream_s: 1 } } });
});
after(async () => {
    await Promise.all([s?.stopAll(), often?.stopAll()]);
    await provider?.stop();
});

story('the stream ends with an error, and goes on with a new token', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:expires', 'seen ');
    const { json: { ticket } } = await user.ticket(id);
    const byTicket = await s.watch(undefined, id, { ticket });
    await byTicket.shows('seen ');
    const ends = await promisedWithin(30_000, Promise.all([stream.rest(), byTicket.rest()]), 'both streams end with the token');
    for (const got of ends) {
        assert.deepEqual(got.kinds, ['message', 'error']);
        assert.equal(got.error.code, 'unauthorized');
        assert.equal(got.events.at(-1).id, got.events[0].id, 'a reconnect goes on from there');
    }
    expectError(await user.watch(id), 401, { code: 'unauthorized' });
    expectError(await s.watch(undefined, id, { ticket, lastEventId: ends[1].events.at(-1).id }), 401);
    await answer.piece('unseen');
    await user.login();
    const next = await user.watch(id, { lastEventId: ends[0].events.at(-1).id });
    await answer.finish();
    expectText((await next.rest()).text, 'unseen', 'the rest');
});

story('while auth-svc is away the stream goes on', async () => {
    const user = await often.user();
    const { stream, answer } = await openAnswer(provider, user, 'fake:away', 'one ');
    const verified = () => often.logs('auth-svc').split('op=auth.verify status=ok').length;
    const before_ = verified();
    await promised(10_000, () => verified() > before_, 'the token is asked about again');
    await often.kill('auth-svc');
    await promised(10_000, async () => (await often.api('GET', '/api/conversations/list', undefined, { token: user.token })).status === 503,
        'nobody can tell whose token it is');
    await answer.piece('two');
    await stream.shows('two');
    often.start('auth-svc');
    await often.ready();
    await answer.finish();
    assert.deepEqual((await stream.rest()).kinds.slice(-2), ['done', 'full_response']);
});
