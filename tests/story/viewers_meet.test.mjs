/* viewers_meet.test.mjs - many read one answer through one gateway of several reactors: most come in at a reactor
 * that does not read it yet, and are brought to the one that does. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { BIN_DIR, CLEAN_ENV, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { expectAnswer } from '../support/expect.mjs';
import { openAnswer } from '../support/held.mjs';

const run = promisify(execFile);
const REACTORS = 4;
const VIEWERS = 24;

let provider;
let s;
before(async () => {
    provider = await startProvider();
    s = await start({ provider, config: { gateway: { workers: REACTORS }, server: { drain_s: 20 } } });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
});

/** How many connections the gateway's reactors have handed to one another. */
async function countMoved() {
    const { stdout } = await run(path.join(BIN_DIR, 'tests/support/bus_call'),
        [`tcp://127.0.0.1:${s.places.get('gateway').bus}`, 'svc.stats', '--timeout-ms', '5000'], { env: CLEAN_ENV });
    return JSON.parse(stdout).body.counters.find((c) => c.name === 'viewers_moved')?.value ?? 0;
}

story('two dozen viewers of one answer, through a gateway of four reactors: each gets every byte', async () => {
    const user = await s.user();
    const earlier = await countMoved();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:many', 'eins ');
    const early = await Promise.all(Array.from({ length: VIEWERS }, () => user.watch(id)));
    const kept = s.keepAliveAgent({ maxSockets: 1 });
    await user.call('GET', '/api/conversations/list', undefined, { agent: kept });
    const reused = await user.watch(id, { agent: kept });    /* its connection has a reactor already */
    const lines = await user.watch(id, { accept: 'application/x-ndjson' });
    const stranger = await s.user();
    assert.equal((await stranger.watch(id)).status, 404);    /* wherever it is asked */
    await answer.piece('zwei 😀 ');
    for (const viewer of [stream, ...early, reused, lines])
        await viewer.shows('zwei 😀 ');
    const late = await Promise.all(Array.from({ length: VIEWERS }, () => user.watch(id, { after: early[0].events.at(-1).id })));
    await answer.piece('drei');
    for (const viewer of early.slice(0, VIEWERS / 2))
        viewer.leave();
    await answer.finish();
    for (const viewer of [stream, ...early.slice(VIEWERS / 2), reused, lines])
        expectAnswer(await viewer.rest(), answer.record.sent, { messageId: 2 });
    for (const viewer of late)
        assert.equal((await viewer.rest()).text, 'drei');
    const moved = await countMoved() - earlier;
    if (process.env.LLMB_STORY_PLAIN === '1')
        assert.equal(moved, 0);
    else
        assert.ok(moved >= 1 && moved <= 2 * VIEWERS + 2, `${moved} connections were handed over`);
}, { deadline: 60_000 });

story('a gateway that is drained while viewers come: those that are answered get whole events, and it ends', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:drain', 'begun, ');
    const coming = Array.from({ length: VIEWERS }, () => user.watch(id).catch(() => null));   /* it may be gone already */
    const ending = s.drain('gateway', 40_000);
    const viewers = (await Promise.all(coming)).filter((viewer) => viewer?.status === 200);
    await answer.piece('and ended');
    await answer.finish();
    expectAnswer(await stream.rest(), answer.record.sent, { messageId: 2 });
    for (const viewer of viewers)
        expectAnswer(await viewer.rest(), answer.record.sent, { messageId: 2 });
    await ending;
    await s.bring('gateway');
}, { deadline: 60_000 });
