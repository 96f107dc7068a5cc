/* random.mjs - numbers that are the same for the same seed, and the exact texts made of them.
 *
 * Every text of the fake provider is a function of the question and of how often that question has been
 * sent upstream, so that each byte a client sees can be looked up, and two texts spliced into one show.
 */

/** A generator (mulberry32) of numbers in [0, 1). */
export function randomFrom(seed) {
    let state = seed >>> 0;
    return () => {
        state = (state + 0x6d2b79f5) >>> 0;
        let t = state;
        t = Math.imul(t ^ (t >>> 15), t | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
}

/** Turns a text into a seed (FNV-1a). */
export function seedOf(text) {
    let hash = 0x811c9dc5;
    for (let i = 0; i < text.length; i++)
        hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    return hash >>> 0;
}

export class Random {
    constructor(seed) {
        this.next = randomFrom(typeof seed === 'string' ? seedOf(seed) : seed);
    }

    /** A whole number in low..high. */
    int(low, high) {
        return low + Math.floor(this.next() * (high - low + 1));
    }

    chance(share) {
        return this.next() < share;
    }

    pick(list) {
        return list[Math.floor(this.next() * list.length)];
    }

    /** One of [[weight, value], …]. */
    weighted(rows) {
        let at = this.next() * rows.reduce((sum, [weight]) => sum + weight, 0);
        return (rows.find(([weight]) => (at -= weight) < 0) ?? rows.at(-1))[1];
    }

    /** Time that passes between things that happen on their own: mean `ms`, at most five times that. */
    gap(ms) {
        return Math.min(5 * ms, -ms * Math.log(1 - this.next()));
    }

    shuffled(list) {
        const out = [...list];
        for (let i = out.length - 1; i > 0; i--) {
            const k = this.int(0, i);
            [out[i], out[k]] = [out[k], out[i]];
        }
        return out;
    }
}

const WORDS = ['river', 'Grüße', '你好', 'quick "quote"', 'back\\slash', 'naïve', 'tab\there', '😀', 'stone', 'line\nbreak', 'о мире', '𝄞', 'seven', '完'];

/** The text of the n-th answer to a question: at least `bytes` bytes of UTF-8, each place recognisable. */
export function answerText(question, n, bytes) {
    const random = randomFrom(seedOf(`${question}#${n}`));
    let text = `<${question.split(' ')[0]}#${n}>`;
    let length = Buffer.byteLength(text);
    for (let i = 0; length < bytes; i++) {
        const word = ` ${WORDS[Math.floor(random() * WORDS.length)]}.${i.toString(36)}`;
        text += word;
        length += Buffer.byteLength(word);
    }
    return text;
}
