/* story.mjs - a test that shows the services' last log lines when it fails. */
import { test } from 'node:test';
import { lastWords } from './stack.mjs';
import { within } from './deadline.mjs';

const DEADLINE_MS = 30_000;

/** What a story cannot do without: gives the reason for `skip`; in CI as root, where everything is to be had, it throws. */
export function demand(reason) {
    if (reason && process.env.LLMB_CI && process.getuid() === 0)
        throw new Error(`not in CI without it: ${reason}`);
    return reason;
}

/** Registers a story test with a deadline of its own. */
export function story(name, fn, { deadline = DEADLINE_MS, skip = false } = {}) {
    test(name, { skip }, async (t) => {
        try {
            await within(deadline, fn(t), name);
        } catch (e) {
            throw withLogs(e);
        }
    });
}

function withLogs(e) {
    const error = e instanceof Error ? e : new Error(String(e));
    try {
        if (!error.message.includes('\n--- '))   /* a stack that did not start has said it already */
            error.message += `\n${lastWords()}`;
    } catch {
        /* some errors are frozen: the logs are a courtesy */
    }
    return error;
}
