/* keys.mjs - keys of the bus, made as an operator makes them: by scripts/make-keys. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const BIN_DIR = path.resolve(ROOT, process.env.LLMB_BIN_DIR ?? 'build/release');

/** Runs scripts/make-keys on a directory; gives what it said. */
export function runMakeKeys(dir, ...args) {
    const { status, stdout, stderr } = spawnSync(path.join(ROOT, 'scripts/make-keys'), [dir, ...args],
        { encoding: 'utf8', env: { PATH: process.env.PATH, LLMB_BIN_DIR: BIN_DIR } });
    if (status !== 0)
        throw new Error(`make-keys ${args.join(' ')}: ${stderr}`);
    return stdout;
}

/** Makes all pairs in a directory; gives its path. */
export function makeKeys(dir) {
    runMakeKeys(dir);
    return dir;
}

let shared = null;

/** One set for all stacks of this process. */
export function sharedKeys() {
    if (shared === null) {
        shared = makeKeys(fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-keys-')));
        process.on('exit', () => fs.rmSync(shared, { recursive: true, force: true }));
    }
    return shared;
}
