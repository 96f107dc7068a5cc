/* story.mjs - a test that shows the services' last log lines when it fails. */
import { test } from 'node:test';
import { lastWords } from './stack.mjs';
import { within } from './deadline.mjs';

const DEADLINE_MS = 30_000;

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
        error.message += `\n${lastWords()}`;
    } catch {
        /* some errors are frozen: the logs are a courtesy */
    }
    return error;
}
