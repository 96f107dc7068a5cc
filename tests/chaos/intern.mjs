/* intern.mjs - one copy of each text, however often it is heard.
 *
 * In ten minutes the same answers come from the provider, to each viewer, in each later prompt and in the
 * history: hundreds of megabytes, and what is put together of pieces is kept by Node.js as a tree of them.
 */
const known = new Map();

/** The same text, in one piece, as whoever asked for it before got it. */
export function intern(text) {
    const found = known.get(text);
    if (found !== undefined)
        return found;
    const flat = flatten(text);
    known.set(flat, flat);
    return flat;
}

/** The same text in one piece. */
export function flatten(text) {
    return Buffer.from(text).toString();
}
