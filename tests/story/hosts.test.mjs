/* Hosts of their own for single services, with links that are slow, cut, or lead somewhere else.
 *
 * The gateway, auth-svc and convo-svc share host a; llm-svc lives on b, llm-svc-2 on c. Each story has a network of
 * its own. */
import assert from 'node:assert/strict';
import { prepare } from '../support/stack.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { longText } from '../support/fake_behaviours.mjs';
import { Network, hostsMissing } from '../support/hosts.mjs';
import { pause, promised, promisedWithin, until, within } from '../support/deadline.mjs';
import { asked } from '../support/held.mjs';
import { expectAnswer, expectText } from '../support/expect.mjs';
import { demand, story } from '../support/story.mjs';

const skip = demand(hostsMissing());

/** A network with hosts a, b, c and a provider that all reach; `arrange` may change the stack's configuration. */
async function scene(t, { replicas = { 'llm-svc': 2 }, arrange = async () => {} } = {}) {
    const network = new Network();
    const ends = [() => network.remove()];
    t.after(async () => {
        for (const end of ends.reverse())
            await end();
    });
    const [a, b, c] = ['a', 'b', 'c'].map((name) => network.host(name));
    const provider = await startProvider({ host: '0.0.0.0' });
    ends.push(() => provider.stop());
    const url = `http://${network.here}:${provider.port}/v1`;
    const s = await prepare({
        replicas,
        hosts: { gateway: a, 'auth-svc': a, 'convo-svc': a, 'llm-svc': b, 'llm-svc-2': c },
        providers: [{ name: 'fake', models: ['fake*'], base_url: url, api_key: 'sk-fake', connect_s: 2 }],
    });
    await arrange({ network, a, b, c, s, place: s.places.get('llm-svc') });
    s.writeConfig();
    ends.push(() => s.stopAll());
    await s.startAll();
    return { network, a, b, c, provider, s };
}

/** An answer under way: {stream, answer, id, host} where host is the one whose llm-svc asks the provider. */
async function begin({ provider, b, c }, user, model, words) {
    const hold = provider.hold(model);
    const id = await user.create(model);
    const opening = user.chat(id, 'question');
    const answer = await asked(hold, opening);
    await answer.piece(words);
    const stream = await opening;
    await stream.shows(words);
    const from = answer.res.socket.remoteAddress.replace('::ffff:', '');
    return { stream, answer, id, host: [b, c].find((h) => h.address === from) };
}

/** Asks until somebody answers: a client with one retry. Gives the answer and how many tries it took. */
async function askWithRetry(user, model, message) {
    const id = await user.create(model);
    for (let tries = 1; ; tries++) {
        const got = await user.ask(id, message);
        if (got.status === 200 || tries === 2)
            return { got, tries };
        assert.equal(got.status, 503, JSON.stringify(got.json));
        await pause(500);
    }
}

story('a link that drops all packets: others answer, and what was shown of an answer is stored', async (t) => {
    const world = await scene(t);
    const { s } = world;
    const user = await s.user();
    const { stream, id, host } = await begin(world, user, 'fake:hold', 'shown before the link died');
    host.cut();
    await promised(8000, async () => {
        const { got } = await askWithRetry(user, 'echo', 'is there anybody?');
        return got.full === 'is there anybody?';
    }, 'the other llm-svc answers');
    for (let i = 0; i < 10; i++) {
        const { got, tries } = await askWithRetry(user, 'echo', `again ${i}`);
        expectAnswer(got, `again ${i}`);
        assert.equal(tries, 1, 'nothing is sent where nobody answers');
    }
    const got = await promisedWithin(40_000, stream.rest(40_000), 'the end of the stream');
    assert.equal(got.error?.code, 'interrupted', JSON.stringify(got.kinds));
    expectText(got.text, 'shown before the link died', 'pieces');
    const [, answer] = await user.messages(id);
    assert.equal(answer.state, 'interrupted');
    expectText(answer.content, 'shown before the link died', 'stored');
    host.heal();
    await until(20_000, async () => {
        const hold = world.provider.hold('fake:again');
        const opening = user.chat(await user.create('fake:again'), 'question');
        const next = await asked(hold, opening);
        const from = next.res.socket.remoteAddress.replace('::ffff:', '');
        await next.piece('x');
        await next.finish();
        await (await opening).rest();
        return from === host.address;
    }, 'the host is used again once its link is back');
}, { skip, deadline: 90_000 });

story('a link that is cut for 10 s and healed: the answer goes on where it was, every byte once', async (t) => {
    const world = await scene(t, { replicas: {} });
    const user = await world.s.user();
    const { stream, answer, host } = await begin(world, user, 'fake:hold', 'before, ');
    host.cut();
    await answer.piece('meanwhile, ');   /* stays in the sending kernel: this link is cut, too */
    await pause(10_000);
    host.heal();
    await stream.shows('before, meanwhile, ', 30_000);
    await answer.piece('after');
    await answer.finish();
    expectAnswer(await stream.rest(30_000), 'before, meanwhile, after');
}, { skip, deadline: 90_000 });

story('200 ms each way: slow, but every byte once, and nobody is taken for dead', async (t) => {
    const world = await scene(t, {
        replicas: {},
        arrange: async ({ network, b, s, place }) => {
            const forwarded = async (port) => `tcp://${network.here}:${await network.forwarder(b.address, port, 200)}`;
            s.config.bus.llm.connect = await forwarded(place.bus);
            s.config.bus.tokens.connect = await forwarded(place.tokens);
        },
    });
    const { s, provider } = world;
    const user = await s.user();
    const text = longText(300_000);
    provider.script('fake:long', async (answer) => {
        for (let i = 0; i < text.length; i += 5000)
            await answer.piece(text.slice(i, i + 5000));
        await answer.finish();
    });
    const id = await user.create('fake:long');
    expectAnswer(await user.ask(id, 'long'), text);
    const echoes = await Promise.all(Array.from({ length: 10 }, async (_, i) => user.ask(await user.create('echo'), `echo ${i}`)));
    echoes.forEach((got, i) => expectAnswer(got, `echo ${i}`));
    await pause(4000);   /* longer than what a silent service is given */
    for (const name of ['gateway', 'convo-svc'])
        assert.doesNotMatch(s.logs(name), /llm-svc.*is down|down.*llm-svc/);
}, { skip, deadline: 60_000 });

story('a host name that changes its addresses is followed without a restart', async (t) => {
    const name = 'llm.example';
    const world = await scene(t, {
        arrange: async ({ a, b, s, place }) => {
            a.setNames({ [name]: [b.address] });
            s.config.bus.llm.connect = `tcp://${name}:${place.bus}`;
            s.config.bus.tokens.connect = `tcp://${name}:${place.tokens}`;
        },
    });
    const { s, a, b, c, provider } = world;
    const user = await s.user();
    /* which host answers a question now */
    const answering = async () => {
        const hold = provider.hold('fake:who');
        const opening = user.chat(await user.create('fake:who'), 'who?');
        const answer = await asked(hold, opening);
        const from = answer.res.socket.remoteAddress.replace('::ffff:', '');
        await answer.piece('me');
        await answer.finish();
        expectAnswer(await (await opening).rest(), 'me');
        return from;
    };
    for (let i = 0; i < 5; i++)
        assert.equal(await answering(), b.address);
    a.setNames({ [name]: [b.address, c.address] });
    await promised(15_000, async () => (await answering()) === c.address, 'the new address is used');
    a.setNames({ [name]: [c.address] });
    await s.kill('llm-svc');
    for (let i = 0; i < 5; i++) {
        await promised(5000, async () => (await user.ask(await user.create('echo'), 'x')).status === 200, 'only refused at the moment of the kill');
        assert.equal(await answering(), c.address);
    }
    /* the name is looked up every 2 s: until then one that comes back is the service's */
    const gone = `llm-svc is at tcp://${b.address}:${s.places.get('llm-svc').bus} no more`;
    await promised(15_000, () => s.logs('convo-svc').includes(gone), gone);
    await s.bring('llm-svc');
    for (let i = 0; i < 5; i++)
        assert.equal(await answering(), c.address, 'an address that is no longer of the name is not used');
}, { skip, deadline: 60_000 });

story('an address that another service has taken over gets no work', async (t) => {
    const world = await scene(t);
    const { s, b } = world;
    const user = await s.user();
    const place = s.places.get('llm-svc');
    await s.kill('llm-svc');
    /* the address of llm-svc now belongs to an auth-svc with an own file of users */
    s.places.set('auth-svc-2', { ...place, tokens: undefined });
    s.own['auth-svc-2'] = { sqlite: { path: `${s.dir}/other.db` } };
    s.names.push('auth-svc-2');
    s.writeConfig();
    await s.bring('auth-svc-2');
    for (let i = 0; i < 10; i++) {
        const { got } = await askWithRetry(user, 'echo', `hello ${i}`);
        expectAnswer(got, `hello ${i}`);
    }
    /* With keys it does not come to a hello that would name it. */
    const said = s.keys ? /llm-svc at \S+: it ended the handshake: is it that service/ : /auth-svc/;
    await until(10_000, () => said.test(s.logs('convo-svc')), 'convo-svc says who answers at that address');
    await s.kill('auth-svc-2');
    await s.bring('llm-svc');
    await within(20_000, (async () => {
        for (let from; from !== b.address;) {
            const hold = world.provider.hold('fake:who');
            const opening = user.chat(await user.create('fake:who'), 'who?');
            const answer = await asked(hold, opening);
            from = answer.res.socket.remoteAddress.replace('::ffff:', '');
            await answer.piece('me');
            await answer.finish();
            await (await opening).rest();
        }
    })(), 'llm-svc is used again at its address');
}, { skip, deadline: 60_000 });
