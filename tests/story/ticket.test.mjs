/* ticket.test.mjs - opening a stream where no token can be sent: a ticket in the URL. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer, expectError, expectText } from '../support/expect.mjs';
import { promised, until } from '../support/deadline.mjs';
import { openAnswer } from '../support/held.mjs';

let provider;
let s;      /* tickets open streams for 60 s */
let brief;  /* for a second */
before(async () => {
    provider = await startProvider();
    s = await start({ provider, replicas: { gateway: 2 }, config: { log: { level: 'debug' } } });
    brief = await start({ provider, config: { auth: { ticket_s: 1 } } });
});
after(async () => {
    await Promise.all([s?.stopAll(), brief?.stopAll()]);
    await provider?.stop();
});

async function ticketFor(user, id) {
    const made = await user.ticket(id);
    assert.equal(made.status, 200, made.text);
    assert.deepEqual(Object.keys(made.json).sort(), ['expires_in', 'ticket']);
    assert.match(made.json.ticket, /^[\w.~-]+$/);
    return made.json.ticket;
}

story('a ticket opens the stream of its conversation, through any gateway', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    const ticket = await ticketFor(user, id);   /* before anything was asked, too */
    assert.equal((await user.ticket(id)).json.expires_in, 60);
    await user.ask(id, 'hello there');
    const got = await (await s.at('gateway-2').watch(undefined, id, { ticket })).rest();
    expectAnswer(got, 'hello there', { messageId: 2 });
    const again = await s.watch(undefined, id, { ticket, lastEventId: got.events.at(-2).id });
    assert.deepEqual((await again.rest()).kinds, ['full_response']);
    assert.equal((await s.watch(undefined, id, { ticket, lastEventId: got.events.at(-1).id })).status, 204);
});

story('a ticket opens nothing else, and a token is none', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    await user.ask(id, 'secret');
    const ticket = await ticketFor(user, id);
    const second = await user.create('echo');
    expectError(await s.watch(undefined, second, { ticket }), 401, { code: 'unauthorized' });
    expectError(await s.watch(undefined, id, { ticket: user.token }), 401, { code: 'unauthorized' });
    expectError(await s.watch(undefined, id, { ticket: `${ticket}x` }), 401);
    expectError(await s.watch(undefined, id, { ticket: 'x', lang: 'zh' }), 401, { lang: 'zh' });
    expectError(await s.api('GET', '/api/conversations/list', undefined, { token: ticket }), 401);
    expectError(await s.api('GET', `/api/conversations/list?ticket=${ticket}`), 401);
    expectError(await s.api('POST', `/api/chat/${id}/ticket?ticket=${ticket}`), 401);
    expectError(await (await s.user()).ticket(id), 404, { code: 'not_found' });
    expectError(await user.ticket('x'), 400);
});

story('an old ticket reconnects a stream, and opens none', async () => {
    const user = await brief.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:old', 'one ');
    let ticket;
    const opened = await until(10_000, async () => {   /* on a busy machine it may be too old before it is used */
        ticket = await ticketFor(user, id);
        const res = await brief.watch(undefined, id, { ticket });
        return res.status === 200 && res;
    }, 'a fresh ticket opens the stream');
    await opened.shows('one ');
    opened.leave();
    await promised(10_000, async () => {
        const res = await brief.watch(undefined, id, { ticket });
        res.leave();
        return res.status === 401;
    }, 'the ticket is too old to open a stream');
    const next = await brief.watch(undefined, id, { ticket, lastEventId: opened.events.at(-1).id });
    await answer.piece('two');
    await answer.finish();
    const got = await next.rest();
    expectText(opened.shown + got.text, 'one two', 'both parts');
    assert.equal((await brief.watch(undefined, id, { ticket, lastEventId: got.events.at(-1).id })).status, 204);
    expectError(await brief.watch(undefined, id, { ticket, lastEventId: `${'0'.repeat(32)}:0` }), 410, { code: 'superseded' });
    await stream.rest();
});

story('no ticket and no token stands in a log', async () => {
    const user = await s.user();
    const id = await user.create('echo');
    await user.ask(id, 'hello');
    const ticket = await ticketFor(user, id);
    const told = () => s.logs('gateway').split('GET /api/chat/:id/stream').length;
    const before_ = told();
    await (await s.watch(undefined, id, { ticket })).rest();
    expectError(await s.watch(undefined, id, { ticket: 'not-a-ticket-at-all' }), 401);
    expectError(await s.api('GET', `/api/nowhere?ticket=${ticket}`), 404);
    await s.api('GET', `/api/chat/${id}/stream?ticket=${ticket}&ticket=${ticket}`, undefined, {});
    await until(5000, () => told() >= before_ + 3, 'all three are logged');
    for (const name of s.names) {
        const log = s.logs(name);
        assert.ok(!log.includes(ticket) && !log.includes('not-a-ticket') && !log.includes(user.token), `${name} logs a secret`);
    }
});
