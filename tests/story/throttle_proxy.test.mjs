/* throttle_proxy.test.mjs - whose address counts when passwords are guessed through a proxy.
 *
 * With loopback as a trusted proxy the address is the last untrusted one of X-Forwarded-For;
 * without, that header is worth nothing. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import { start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';
import { expectError, expectThrottled } from '../support/expect.mjs';

let trusting;
let plain;
before(async () => {
    trusting = await start({ config: { server: { trusted_proxies: ['127.0.0.0/8', '10.0.0.0/8'] } } });
    plain = await start();
});
after(() => Promise.all([trusting?.stopAll(), plain?.stopAll()]));

const from = (chain) => ({ headers: { 'x-forwarded-for': chain } });

const guessUntilThrottled = (s, name, options) => expectThrottled(10, (i) => s.login(name, `guess ${i}`, options(i)));

story('a right password from another address is not affected by somebody else guessing', async () => {
    const victim = await trusting.user();
    await guessUntilThrottled(trusting, victim.name, () => from('203.0.113.9'));
    expectError(await trusting.login(victim.name, victim.password, from('203.0.113.9')), 429, { code: 'throttled' });
    assert.equal((await trusting.login(victim.name, victim.password, from('198.51.100.7'))).status, 200);
    assert.equal((await trusting.login(victim.name, victim.password, from('2001:db8::7'))).status, 200);
});

story('the last untrusted address of the chain counts, whatever the client wrote before it', async () => {
    const victim = await trusting.user();
    await guessUntilThrottled(trusting, victim.name, (i) => from(`192.0.2.${i}, 203.0.113.50, 10.1.2.3`));
    assert.equal((await trusting.login(victim.name, victim.password, from('203.0.113.51, 10.1.2.3'))).status, 200);
});

story('without trusted proxies X-Forwarded-For does not move the guesser', async () => {
    const victim = await plain.user();
    await guessUntilThrottled(plain, victim.name, (i) => from(`203.0.113.${i}`));
});
