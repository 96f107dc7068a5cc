/* A browser's own EventSource reads an answer through two gateways, one of which is killed.
 *
 * The page knows nothing of the backend: it opens a URL with a ticket, and its browser does the rest: it comes
 * back by itself with the last id, through a load balancer that has another gateway by then. */
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { start } from '../support/stack.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { startFront } from '../support/front.mjs';
import { browserMissing, startBrowser } from '../support/browser.mjs';
import { asked } from '../support/held.mjs';
import { until } from '../support/deadline.mjs';
import { expectText } from '../support/expect.mjs';
import { demand, story } from '../support/story.mjs';

const skip = demand(await browserMissing());

const PAGE = `<!doctype html><meta charset="utf-8"><title>a reader</title><pre id="answer"></pre><script>
window.got = { text: '', ids: [], done: null, full: null, errors: 0, opens: 0, events: [] };
window.read = (url) => {
    const source = window.source = new EventSource(url);
    source.onopen = () => { got.opens++; };
    source.addEventListener('message', (e) => {
        got.ids.push(e.lastEventId);
        got.text += JSON.parse(e.data).data;
        document.getElementById('answer').textContent = got.text;
    });
    source.addEventListener('done', (e) => { got.done = JSON.parse(e.data); got.events.push('done'); });
    source.addEventListener('full_response', (e) => { got.full = JSON.parse(e.data).data; got.events.push('full_response'); });
    source.addEventListener('error', (e) => { got.errors++; if (e.data) got.events.push(e.data); });
};
</script>`;

/** A web server with that page, as of another site. */
async function servePage(t) {
    const server = http.createServer((req, res) => {
        res.writeHead(200, { 'content-type': 'text/html; charset=utf-8' });
        res.end(PAGE);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
        server.close();
        server.closeAllConnections?.();
    });
    return `http://127.0.0.1:${server.address().port}/`;
}

async function scene(t) {
    const provider = await startProvider();
    t.after(() => provider.stop());
    const s = await start({ provider, replicas: { gateway: 2 } });
    t.after(() => s.stopAll());
    const front = await startFront([s.places.get('gateway').http, s.places.get('gateway-2').http]);
    t.after(() => front.stop());
    const browser = await startBrowser();
    t.after(() => browser.close());
    const page = await browser.newPage();
    await page.goto(await servePage(t));
    return { provider, s, front, page };
}

const shows = (page, text) => until(15_000, async () => (await page.evaluate(() => globalThis.got.text)).endsWith(text), `the page shows ${text}`);

story('an EventSource reads every byte once although its gateway is killed in mid-answer', async (t) => {
    const { provider, s, front, page } = await scene(t);
    const user = await s.user();
    const id = await user.create('fake:hold');
    const hold = provider.hold('fake:hold');
    const opening = user.through(s.at('gateway-2')).chat(id, 'a long story, please');
    const answer = await asked(hold, opening);
    const ticket = await user.call('POST', `/api/chat/${id}/ticket`);
    assert.equal(ticket.status, 200, ticket.text);
    await page.evaluate((url) => globalThis.read(url), `http://127.0.0.1:${front.port}/api/chat/${id}/stream?ticket=${ticket.json.ticket}`);

    const words = Array.from({ length: 120 }, (_, i) => `${i}: grün 你好 😀; `);
    const say = async (from, to) => {
        for (const word of words.slice(from, to))
            await answer.piece(word);
    };
    await say(0, 40);
    await shows(page, words[39]);
    assert.equal(front.taken.at(-1), s.places.get('gateway').http);
    const more = say(40, 80);
    await s.kill('gateway');
    await more;
    await shows(page, words[79]);
    assert.equal(front.taken.at(-1), s.places.get('gateway-2').http, 'the browser came back through the other gateway');
    await say(80, 120);
    await answer.finish();

    await until(15_000, () => page.evaluate(() => globalThis.source.readyState === 2), 'the EventSource is closed for good');
    const got = await page.evaluate(() => globalThis.got);
    expectText(got.text, words.join(''), 'what the page got');
    expectText(got.full, words.join(''), 'full_response');
    assert.deepEqual(got.events, ['done', 'full_response']);
    assert.equal(got.done.finish_reason, 'stop');
    const offsets = got.ids.map((i) => Number(i.split(':')[1]));
    assert.ok(offsets.every((n, i) => i === 0 || n > offsets[i - 1]), 'ids only grow');
    assert.equal(offsets.at(-1), Buffer.byteLength(words.join('')));
    assert.equal(await page.textContent('#answer'), words.join(''));
    assert.equal(got.opens, 2, 'the third time it was told that there is no more (204)');
    await (await opening).rest();
}, { skip, deadline: 60_000 });

story('an EventSource whose id points into a character ends for good', async (t) => {
    const { s, front, page } = await scene(t);
    const user = await s.user();
    const id = await user.create('echo');
    const { headers } = await user.ask(id, 'über alles');
    const ticket = await user.call('POST', `/api/chat/${id}/ticket`);
    const query = `ticket=${ticket.json.ticket}&after=${headers['stream-id']}:1`;
    await page.evaluate((url) => globalThis.read(url), `http://127.0.0.1:${front.port}/api/chat/${id}/stream?${query}`);
    await until(15_000, () => page.evaluate(() => globalThis.source.readyState === 2), 'the EventSource is closed for good');
    const got = await page.evaluate(() => globalThis.got);
    assert.deepEqual(got.events.map((data) => JSON.parse(data).code), ['invalid']);
    assert.equal(got.text, '');
    assert.equal(got.opens, 1, 'the second time it was told that there is no more (204)');
}, { skip, deadline: 60_000 });
