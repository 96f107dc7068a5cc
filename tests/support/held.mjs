/* held.mjs - an answer that is under way and waits for the test's word. */
import { randomBytes } from 'node:crypto';
import { until, within } from './deadline.mjs';

/** The next answer of a hold; fails at once when the question was refused instead. */
export async function asked(hold, opening) {
    const refused = opening.then((stream) => {
        if (stream.status !== 200)
            throw new Error(`the question was refused: ${stream.status} ${JSON.stringify(stream.json)}`);
        return new Promise(() => {});
    });
    return within(10_000, Promise.race([hold.next(), refused]), 'the provider is asked');
}

/** Asks a question in a new conversation, and waits until the provider has it and the gateway has heard that it is stored: from then on the
 *  asker's stream outlives a convo-svc, before it would be told 503. Nothing is shown. Gives {opening, answer, id, hold}. */
export async function heldQuestion(s, provider, user, model, options = {}) {
    const hold = provider.hold(model);
    const id = await user.create(model);
    const trace = randomBytes(16).toString('hex');
    const opening = user.chat(id, 'question', { ...options, headers: { ...options.headers, traceparent: `00-${trace}-00f067aa0ba902b7-01` } });
    const answer = await asked(hold, opening);
    const isFollowed = (line) => line.includes(trace) && line.includes('it is followed');
    await until(10_000, () => s.replicasOf('gateway').some((n) => s.logs(n).split('\n').some(isFollowed)), 'the gateway knows that it is stored');
    return { opening, answer, id, hold };
}

/** Asks a question in a new conversation and shows its first words: {stream, answer, id, hold}. */
export async function openAnswer(provider, user, model, words, options = {}) {
    const hold = provider.hold(model);
    const id = await user.create(model);
    const opening = user.chat(id, 'question', options);
    const answer = await asked(hold, opening);
    await answer.piece(words);
    const stream = await opening;
    await stream.shows(words);
    return { stream, answer, id, hold };
}
