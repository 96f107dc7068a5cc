/* original.mjs - data of the original backend, as it leaves them: a SQLite file made by sqlite3, and keys in a real Redis.
 *
 * Hashes are made by libcrypt through perl, as $2b$, and may be called $2a$ (what Go writes) or $2y$: the same algorithm.
 */
import fs from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';
import { startRedis } from './redis.mjs';

const SALT = 'abcdefghijklmnopqrstuu';

/** A bcrypt hash of cost 4 that is called by this prefix. */
export function bcrypt(password, prefix = '2a') {
    const hash = execFileSync('perl', ['-e', 'print crypt($ARGV[0], $ARGV[1])', password, `$2b$04$${SALT}`]).toString();
    if (hash.length !== 60)
        throw new Error(`crypt gave "${hash}"`);
    return `$${prefix}${hash.slice(3)}`;
}

/** A value in SQL: numbers, null, texts with any characters, {hex} as a text of these bytes. */
function literal(value) {
    if (value === null || typeof value === 'number')
        return String(value);
    const hex = value.hex ?? Buffer.from(value).toString('hex');
    return `CAST(x'${hex}' AS TEXT)`;
}

/** The messages of a conversation: the system prompt, then questions and answers in turn, or {role, content} as they are. */
export function messages(...texts) {
    const all = [{ role: 'system', content: 'You are a helpful assistant.' }, ...texts];
    return all.map((m, i) => (typeof m === 'string' ? { role: i % 2 === 1 ? 'user' : 'assistant', content: m, message_id: i }
        : { message_id: i, ...m }));
}

/** Makes the data. users: [id, name, hash]; conversations: [id, title, user, time, body], where body is an object, which gets what it does
 *  not have itself, a text as it is, or undefined. Gives {file, redis, remove()}. */
export async function makeOriginal(dir, users, conversations) {
    const file = path.join(dir, 'original.db');
    const redis = await startRedis();
    const rows = [
        'CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT UNIQUE NOT NULL, password TEXT NOT NULL);',
        'CREATE TABLE conversations (id TEXT PRIMARY KEY, title TEXT, user_id INTEGER, create_time);', 'BEGIN;',
        ...users.map((row) => `INSERT INTO users VALUES (${row.map(literal).join(', ')});`),
        ...conversations.map((row) => `INSERT INTO conversations VALUES (${row.slice(0, 4).map(literal).join(', ')});`), 'COMMIT;',
    ];
    fs.rmSync(file, { force: true });
    execFileSync('sqlite3', ['-bail', file], { input: rows.join('\n') });
    for (const [id, title, , , body] of conversations) {
        const value = body !== null && typeof body === 'object'
            ? JSON.stringify({ conversation_id: Number(id), title, model: 'fake', api_key: '', messages: messages(), ...body }) : body;
        if (value !== undefined)
            await redis.command('SET', `conversation:${id}`, value);
    }
    return {
        file, redis,
        async remove() {
            await redis.stop();
            fs.rmSync(file, { force: true });
        },
    };
}
