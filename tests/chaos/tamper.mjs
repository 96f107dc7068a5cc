/* tamper.mjs - does the judge notice? One byte flipped, doubled, dropped in what a viewer got, and the like.
 *
 * Each row changes a copy of one fact of a run that was judged good; the judge, asked again, must count it under the
 * given heading. A row that finds nothing to change counts as a failure, too: then nothing was proved.
 */
import { judge } from './judge.mjs';

function copyOf(viewer) {
    return Object.assign(Object.create(Object.getPrototypeOf(viewer)), viewer,
        { texts: [...viewer.texts], ends: [...viewer.ends], origins: [...viewer.origins] });
}

/* A viewer of a complete answer with some pieces, whose place in its turn can be taken by a copy. */
function findViewer(facts) {
    for (const conversation of facts.conversations) {
        const turn = conversation.turns.at(-1);
        if (!conversation.stored || conversation.isMixed || !turn || turn.retries > 0)
            continue;
        const i = turn.viewers.findIndex((v) => v.result?.kind === 'done' && v.result.finish === 'stop' && v.texts.length > 4);
        if (i >= 0)
            return { conversation, turn, i };
    }
    return null;
}

const flip = (text) => text.slice(0, -1) + (text.endsWith('!') ? '?' : '!');

/* [what, heading, change of a viewer's copy] */
const OF_VIEWERS = [
    ['a byte flipped', 'wrong', (v) => { v.texts[2] = flip(v.texts[2]); }],
    ['a piece doubled', 'doubled', (v) => {
        for (const list of [v.texts, v.ends, v.origins])
            list.splice(2, 0, list[2]);
    }],
    ['a piece dropped', 'lost', (v) => {
        for (const list of [v.texts, v.ends, v.origins])
            list.splice(2, 1);
    }],
    ['a byte doubled', 'doubled', (v) => { v.texts[2] += v.texts[2].at(-1); }],
    ['a byte dropped', 'lost', (v) => { v.texts[2] = v.texts[2].slice(1); }],
    ['the last piece dropped', 'lost', (v) => {
        for (const list of [v.texts, v.ends, v.origins])
            list.pop();
    }],
];

/* [what, heading, change of the facts, which gives how to undo it] */
const OF_STORED = [
    ['an answer cut short in the database', 'lost', ({ answer }) => {
        const { content } = answer;
        answer.content = content.slice(0, -1);
        return () => { answer.content = content; };
    }],
    ['a turn gone from the database', 'writesLost', ({ conversation }) => {
        const { messages } = conversation.stored;
        conversation.stored.messages = messages.slice(0, -2);
        return () => { conversation.stored.messages = messages; };
    }],
    ['a conversation gone', 'writesLost', ({ conversation }) => {
        const { stored } = conversation;
        conversation.stored = null;
        return () => { conversation.stored = stored; };
    }],
    ['a question there twice', 'doubled', ({ conversation }) => {
        const { messages } = conversation.stored;
        conversation.stored.messages = [...messages, ...messages.slice(-2)];
        return () => { conversation.stored.messages = messages; };
    }],
    ['an answer that has not ended', 'hung', ({ answer }) => {
        const { state } = answer;
        answer.state = 'streaming';
        return () => { answer.state = state; };
    }],
];

/** Gives the sentences of what was not noticed. */
export function selfTest(facts) {
    const found = findViewer(facts);
    if (!found)
        return ['there was no complete answer to tamper with'];
    const { conversation, turn, i } = found;
    const missed = [];
    const alone = { ...facts, conversations: [conversation] };
    const before = judge(alone).totals;
    const check = (what, heading) => {
        const after = judge(alone).totals;
        if (after[heading] <= before[heading])
            missed.push(`${what}: nothing more ${heading}: ${JSON.stringify(after)}`);
    };
    for (const [what, heading, change] of OF_VIEWERS) {
        const original = turn.viewers[i];
        turn.viewers[i] = copyOf(original);
        change(turn.viewers[i]);
        check(what, heading);
        turn.viewers[i] = original;
    }
    const at = conversation.stored.messages.findIndex((m) => m.content === turn.question);
    for (const [what, heading, change] of OF_STORED) {
        const undo = change({ conversation, answer: conversation.stored.messages[at + 1] });
        check(what, heading);
        undo();
    }
    if (JSON.stringify(judge(alone).totals) !== JSON.stringify(before))
        missed.push('tampering was not undone');
    return missed;
}
