/* judge.mjs - compares what the provider sent, what is stored, and what every viewer got.
 *
 * Pure: takes what the run has collected (facts) and gives totals and offences, so that the self-test can tamper with a
 * copy and ask again. The rules:
 *   complete     stored = a text that the provider sent to its end = every viewer's pieces = full_response
 *   stopped      stored = the beginning of a text that the provider was sending, and what every viewer got (if its llm-svc
 *                was lost before the stop was done: as for interrupted)
 *   interrupted  stored = the beginning of such a text, with everything that a viewer of a gateway was shown to which
 *                nothing was done; others may have seen more of the same text, never of another
 *   superseded   (a retry came) the same among its viewers, against the provider alone
 */

/** The first place where two texts differ, in characters. */
function differsAt(a, b) {
    const n = Math.min(a.length, b.length);
    let at = 0;
    while (at < n && a[at] === b[at])
        at++;
    return at;
}

const bytesOf = (text) => Buffer.byteLength(text);

class Verdict {
    constructor() {
        this.totals = { compared: 0, lost: 0, doubled: 0, wrong: 0, writesLost: 0, hung: 0 };
        this.offences = [];
        this.states = new Map();
    }

    offend(kind, n, text, viewer = null) {
        this.totals[kind] += Math.max(1, n);
        this.offences.push({ kind, n, text, viewer });
    }
}

/** A viewer's pieces by themselves: each begins where the last one ended. */
function judgePieces(verdict, viewer) {
    let at = 0;
    viewer.texts.forEach((text, i) => {
        const end = viewer.ends[i];
        const from = end - bytesOf(text);
        if (from > at)
            verdict.offend('lost', from - at, `bytes ${at}..${from} were skipped before the piece ${JSON.stringify(text.slice(0, 40))}`, viewer);
        else if (from < at)
            verdict.offend('doubled', at - from, `bytes ${from}..${at} came twice, with the piece ${JSON.stringify(text.slice(0, 40))}`, viewer);
        at = end;
    });
}

/* Got against wanted: what is missing, what is too much, what is different. */
function compare(verdict, viewer, got, wanted, what, { mayBeShort = false, mayBeLong = false } = {}) {
    verdict.totals.compared += Math.min(bytesOf(got), bytesOf(wanted));
    if (got === wanted)
        return;
    const at = differsAt(got, wanted);
    if (at < got.length && at < wanted.length)
        verdict.offend('wrong', 1, `${what}: different from byte ${bytesOf(got.slice(0, at))} on: ${JSON.stringify(got.slice(Math.max(0, at - 10), at + 40))} ` +
            `instead of ${JSON.stringify(wanted.slice(Math.max(0, at - 10), at + 40))}`, viewer);
    else if (at < wanted.length && !mayBeShort)
        verdict.offend('lost', bytesOf(wanted) - bytesOf(got), `${what}: ends at byte ${bytesOf(got)} of ${bytesOf(wanted)}`, viewer);
    else if (at < got.length && !mayBeLong)
        verdict.offend('lost', bytesOf(got) - bytesOf(wanted), `${what}: has ${bytesOf(got)} bytes, there are only ${bytesOf(wanted)}`, viewer);
}

/* The provider's request that this text is the beginning of. */
function sourceOf(records, text) {
    return records.find((r) => r.full === text && r.sent === text) ?? records.find((r) => r.full.startsWith(text) && r.sent.startsWith(text));
}

/** One answer as stored, against the provider's records of its question. */
function judgeStored(verdict, turn, answer, records) {
    const { state, content } = answer;
    const where = `${turn.question} in ${turn.conversation.id}, stored as ${state}`;
    const source = sourceOf(records, content);
    verdict.states.set(state, (verdict.states.get(state) ?? 0) + 1);
    if (state === 'streaming') {
        verdict.offend('hung', 1, `${where}: the answer has not ended`);
    } else if (!source && content !== '') {
        const best = records.map((r) => differsAt(r.sent, content)).reduce((a, b) => Math.max(a, b), 0);
        verdict.offend('wrong', 1, `${where}: ${bytesOf(content)} bytes that the provider never sent so, the same up to character ${best}: ` +
            JSON.stringify(content.slice(Math.max(0, best - 20), best + 40)));
    } else if (state === 'complete') {
        verdict.totals.compared += bytesOf(content);
        if (!source || source.full !== content)
            verdict.offend('lost', source ? bytesOf(source.full) - bytesOf(content) : 1, `${where}: ${bytesOf(content)} bytes of ${source ? bytesOf(source.full) : '?'}`);
        else if (!source.finished)
            verdict.offend('wrong', 1, `${where}: complete, but the provider has not ended it`);
    } else {
        verdict.totals.compared += bytesOf(content);
        if (records.some((r) => !r.finished && !r.closedEarly))
            verdict.offend('wrong', 1, `${where}: the provider is still asked`);
    }
    return source;
}

/* What viewers of one stream got against its stored text (null: superseded, only the provider knows). */
function judgeViewer(facts, verdict, viewer, stored, records) {
    judgePieces(verdict, viewer);
    const { result, text } = viewer;
    const what = `${viewer.role} of ${viewer.turn.question}`;
    const isWhole = result?.kind === 'done';
    if (isWhole && viewer.full !== text)
        compare(verdict, viewer, viewer.full ?? '', text, `${what}: full_response against its pieces`);
    if (stored === null || stored.stream !== viewer.stream) {
        if (text !== '' && !sourceOf(records, text))
            verdict.offend('wrong', 1, `${what}: pieces that the provider never sent so`, viewer);
        return;
    }
    /* A stop was wanted when the llm-svc was lost, and this viewer's gateway is gone as well: as of an interrupted one. */
    const isCutShort = stored.state === 'stopped' && result?.kind === 'error' && result.code === 'interrupted' && result.stored === bytesOf(stored.content);
    if (stored.state !== 'interrupted' && !isCutShort) {
        compare(verdict, viewer, text, stored.content, what, { mayBeShort: !isWhole });
        if (isWhole && (result.finish === 'stopped') !== (stored.state === 'stopped'))
            verdict.offend('wrong', 1, `${what}: done with ${result.finish}, stored as ${stored.state}`, viewer);
        if (result?.kind === 'error' && result.code !== 'deleted' && result.code !== 'unauthorized')
            verdict.offend('wrong', 1, `${what}: ended by ${result.code}, stored as ${stored.state}`, viewer);
        return;
    }
    if (isWhole)
        verdict.offend('wrong', 1, `${what}: done, but stored as interrupted`, viewer);
    if (result?.kind === 'error' && result.stored !== undefined && result.stored !== bytesOf(stored.content))
        verdict.offend('wrong', 1, `${what}: told that ${result.stored} bytes are stored, there are ${bytesOf(stored.content)}`, viewer);
    compare(verdict, viewer, text, stored.content, what, { mayBeShort: true, mayBeLong: true });
    const shown = shownBySurvivors(facts, viewer, stored.endedAt);
    if (shown > bytesOf(stored.content))
        verdict.offend('lost', shown - bytesOf(stored.content), `${what}: interrupted at ${bytesOf(stored.content)}, but a gateway that nothing happened to showed ${shown}`, viewer);
}

/* The last offset that came through a gateway to which nothing was done between then and the answer's end. Also of those who
 * have left by themselves meanwhile. */
function shownBySurvivors(facts, viewer, endedAt) {
    let shown = 0;
    viewer.ends.forEach((end, i) => {
        const segment = viewer.origins[i];
        if (!facts.isFaulted(segment.gateway, segment.at - 1000, endedAt + 1000))
            shown = Math.max(shown, end);
    });
    return shown;
}

/* Whose answer a stream is: a watcher reads the latest one, which may be of the question before or after the one that it
 * was sent for. Who asked knows; otherwise the text's first word says it. */
function gatherViewers(conversation) {
    const all = conversation.turns.flatMap((t) => t.viewers);
    const owners = new Map(all.filter((v) => v.role !== 'watcher' && v.stream).map((v) => [v.stream, v.turn]));
    const named = (text) => conversation.turns.find((t) => text.startsWith(`<${t.question.split(' ')[0]}#`));
    const out = new Map(conversation.turns.map((t) => [t, []]));
    /* Of a watcher that got no text nobody knows whether it read the interjected one. */
    const isLost = (v) => conversation.isMixed && v.role === 'watcher' && v.text === '' && !owners.has(v.stream);
    for (const viewer of all.filter((v) => !v.text.startsWith('<interjected') && !isLost(v)))
        out.get(owners.get(viewer.stream) ?? named(viewer.text) ?? viewer.turn).push(viewer);
    return out;
}

/** Turns of one conversation against its history; each turn gets what is stored of it. */
function judgeConversation(facts, verdict, conversation) {
    const { stored } = conversation;
    const where = `conversation ${conversation.id} (${conversation.title})`;
    if (conversation.isDeleted || conversation.isBeingDeleted) {
        if (conversation.isDeleted && stored)
            verdict.offend('writesLost', 1, `${where} is there though it was deleted`);
        return;
    }
    if (!stored) {
        verdict.offend('writesLost', 1, `${where} is gone`);
        return;
    }
    const questions = stored.messages.filter((m) => m.role === 'user').map((m) => m.content);
    const expected = conversation.turns.map((t) => t.question);
    const viewers = gatherViewers(conversation);
    for (const turn of conversation.turns) {
        const at = stored.messages.findIndex((m) => m.role === 'user' && m.content === turn.question);
        if (at < 0) {
            if (turn.state === 'asked')
                verdict.offend('writesLost', 1, `${where}: ${turn.question} was acknowledged and is gone`);
            continue;
        }
        const isLast = turn === conversation.turns.at(-1) && !conversation.isMixed;
        judgeTurn(facts, verdict, turn, viewers.get(turn), at, isLast ? conversation.latest : null);
    }
    if (new Set(questions).size !== questions.length)
        verdict.offend('doubled', 1, `${where}: a question is there twice: ${questions}`);
    if (!conversation.isMixed && questions.some((q) => !expected.includes(q)))
        verdict.offend('wrong', 1, `${where}: questions ${questions}, asked were ${expected}`);
    const order = questions.filter((q) => expected.includes(q)).map((q) => expected.indexOf(q));
    if (order.some((n, i) => i > 0 && n < order[i - 1]))
        verdict.offend('wrong', 1, `${where}: not in the order asked: ${questions}`);
}

function judgeTurn(facts, verdict, turn, viewers, at, latest) {
    const answer = turn.conversation.stored.messages[at + 1];
    const records = facts.recordsOf(turn.question);
    if (answer?.role !== 'assistant') {
        verdict.offend('writesLost', 1, `${turn.question} in ${turn.conversation.id} has no answer`);
        return;
    }
    judgeStored(verdict, turn, answer, records);
    /* Which of a question's streams is stored: the one that a late viewer got; without retries there is but one. */
    const streams = [...new Set(viewers.map((v) => v.stream).filter(Boolean))];
    const stream = latest?.stream ?? (turn.retries === 0 ? streams[0] : null);
    if (turn.retries === 0 && streams.length > 1)
        verdict.offend('doubled', 1, `${turn.question} has ${streams.length} streams: ${streams}`, viewers.at(-1));
    const endedAt = Math.min(...viewers.filter((v) => v.stream === stream && v.result?.kind === 'error').map((v) => v.result.at), facts.endedAt);
    const stored = stream ? { stream, state: answer.state, content: answer.content, endedAt } : null;
    for (const viewer of latest ? [...viewers, latest] : viewers)
        judgeViewer(facts, verdict, viewer, stored, records);
    for (const stop of turn.stops) {
        if (stored && stop.stream === stream && ['complete', 'stopped', 'interrupted'].includes(stop.state) && stop.state !== answer.state)
            verdict.offend('writesLost', 1, `${turn.question}: stop was answered with ${stop.state}, stored is ${answer.state}`);
    }
    judgePrompts(verdict, turn, at, records);
}

/* What the provider was told: the turns so far that have an answer, and the question. */
function judgePrompts(verdict, turn, at, records) {
    const before = turn.conversation.stored.messages.slice(0, at);
    const wanted = [];
    for (let i = 0; i + 1 < before.length; i += 2) {
        if (before[i + 1].content !== '')
            wanted.push(before[i].content, before[i + 1].content);
    }
    wanted.push(turn.question);
    for (const record of records) {
        const told = record.body.messages.filter((m) => m.role !== 'system').map((m) => m.content);
        if (told.length !== wanted.length || told.some((t, i) => t !== wanted[i]))
            verdict.offend('wrong', 1, `${turn.question}: the provider was told ${told.length} messages, not the ${wanted.length} of the history`);
    }
}

/** facts: {conversations (each with stored, latest), recordsOf(question), isFaulted(name, from, until), endedAt}. */
export function judge(facts) {
    const verdict = new Verdict();
    for (const conversation of facts.conversations)
        judgeConversation(facts, verdict, conversation);
    return verdict;
}
