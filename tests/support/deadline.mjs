/* deadline.mjs - waiting with a deadline, for stories.
 *
 * Nothing in a story sleeps and hopes: it waits for something that must become true, and fails
 * with a sentence when it does not in time. LLMB_STORY_SLOW multiplies every deadline, for
 * binaries that a sanitizer makes slow; LLMB_STORY_PATIENCE does at least so much where nothing else is different, for
 * machines that are slow themselves, or stand still at times. Who succeeds takes no longer for it.
 */

export const SLOW = Math.max(1, Number(process.env.LLMB_STORY_SLOW ?? 1) || 1);
export const PATIENCE = Math.max(SLOW, Number(process.env.LLMB_STORY_PATIENCE ?? 1) || 1);

/** The promise's value, or an error that names what was waited for. */
export const within = (ms, promise, what) => inTime(ms * PATIENCE, promise, what);

/** Asks again and again until fn() gives something true; returns that. `what`: a sentence, or a function that gives one at the end. */
export const until = (ms, fn, what) => ask(ms * PATIENCE, fn, what);

/* The same two for what the product promises in numbers (README.md: a frozen peer is out within 3 s, a dead convo-svc is replaced within 5 s,
 * a stop is seen upstream within 1 s, what an option says in seconds). LLMB_STORY_PATIENCE does not count here: with three times
 * their time a product that keeps its word no more would pass in CI. `ms`: the number, and what a machine of two cores may stand still. */
export const promisedWithin = (ms, promise, what) => inTime(ms * SLOW, promise, what);
export const promised = (ms, fn, what) => ask(ms * SLOW, fn, what);

function inTime(ms, promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function ask(ms, fn, what) {
    const end = Date.now() + ms;
    let last;
    for (;;) {
        try {
            const value = await fn();
            if (value)
                return value;
            last = undefined;
        } catch (e) {
            last = e;
        }
        if (Date.now() > end)
            throw new Error(`not within ${ms} ms: ${typeof what === 'function' ? what() : what}${last ? ` (last: ${last.message})` : ''}`);
        await pause(25);
    }
}

/** Lets time pass where time itself is the subject: a freeze of two seconds, the gap between two polls. */
export function pause(ms) {
    return new Promise((resolve) => {
        setTimeout(resolve, ms);
    });
}
