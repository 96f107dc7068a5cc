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
export function within(ms, promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`not within ${ms * PATIENCE} ms: ${what}`)), ms * PATIENCE);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Asks again and again until fn() gives something true; returns that. `what`: a sentence, or a function that gives one at the end. */
export async function until(ms, fn, what) {
    const end = Date.now() + ms * PATIENCE;
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
            throw new Error(`not within ${ms * PATIENCE} ms: ${typeof what === 'function' ? what() : what}${last ? ` (last: ${last.message})` : ''}`);
        await pause(25);
    }
}

/** Lets time pass where time itself is the subject: a freeze of two seconds, the gap between two polls. */
export function pause(ms) {
    return new Promise((resolve) => {
        setTimeout(resolve, ms);
    });
}
