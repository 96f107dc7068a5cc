/* provider.mjs - the provider of a chaos run: exact texts at a pace, and a record of what was sent.
 *
 * The question says how: `q17 bytes=4000 pace=30 piece=40`. Its n-th request is answered with
 * answerText(question, n). The record of a request (fake_provider.mjs) gains `full` and `nth`.
 */
import { startProvider } from '../support/fake_provider.mjs';
import { cut } from '../support/fake_behaviours.mjs';
import { pause } from '../support/deadline.mjs';
import { intern } from './intern.mjs';
import { answerText } from './random.mjs';

export const MODEL = 'chaos';

/** What a question asks for. */
export function planOf(question) {
    const number = (name) => Number(new RegExp(`${name}=(\\d+)`).exec(question)?.[1] ?? 0);
    return { bytes: number('bytes'), pace: number('pace'), piece: Math.max(1, number('piece')) };
}

/** How long the provider needs for it, in ms. */
export function plannedMs(question) {
    const { bytes, pace, piece } = planOf(question);
    return bytes / piece * pace;
}

export async function startChaosProvider() {
    const provider = await startProvider();
    const byQuestion = new Map();
    provider.recordsOf = (question) => byQuestion.get(question) ?? [];
    provider.script(MODEL, async (answer) => {
        const { question, record } = answer;
        const records = byQuestion.get(question) ?? [];
        byQuestion.set(question, records);
        records.push(record);
        const { bytes, pace, piece } = planOf(question);
        record.nth = records.length;
        record.full = intern(answerText(question, record.nth, bytes));
        record.raw = '';
        for (const message of record.body.messages)
            message.content = intern(message.content);
        let isGone = false;
        answer.closed.then(() => {
            isGone = true;
            record.sent = intern(record.sent);
        });
        for (const text of cut(record.full, piece)) {
            if (isGone)
                return;
            await answer.piece(text);
            if (pace > 0)
                await pause(pace);
        }
        if (!isGone)
            await answer.finish();
    });
    return provider;
}
