/* held.mjs - an answer that is under way and waits for the test's word. */
import { within } from './deadline.mjs';

/** The next answer of a hold; fails at once when the question was refused instead. */
export async function asked(hold, opening) {
    const refused = opening.then((stream) => {
        if (stream.status !== 200)
            throw new Error(`the question was refused: ${stream.status} ${JSON.stringify(stream.json)}`);
        return new Promise(() => {});
    });
    return within(10_000, Promise.race([hold.next(), refused]), 'the provider is asked');
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
