/* The previous commit's programs beside these: replaced replica by replica while people chat, in every mixture.
 *
 * They are built from the history, once a commit, into build/previous. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CLEAN_ENV, SERVICES, serviceOf } from '../support/stack.mjs';
import { havePostgres } from '../support/postgres.mjs';
import { roll, rollingStack } from '../support/rolling.mjs';
import { demand, story } from '../support/story.mjs';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');

function git(...args) {
    const got = spawnSync('git', ['-C', ROOT, ...args], { encoding: 'utf8', env: CLEAN_ENV });
    return got.status === 0 ? got.stdout.trim() : null;
}

/** Why there are no binaries of the previous commit, or false. */
function previousMissing() {
    return git('rev-parse', '--verify', '-q', 'HEAD^') === null ? 'needs the previous commit (a clone with history)' : false;
}

/** Builds the previous commit beside this build, once a commit; gives the folder of its programs. */
function buildPrevious() {
    const commit = git('rev-parse', 'HEAD^');
    const out = path.join(ROOT, 'build', 'previous', commit.slice(0, 12));
    const programs = path.join(out, 'release');
    if (SERVICES.every((name) => fs.existsSync(path.join(programs, name))))
        return programs;
    fs.rmSync(path.dirname(out), { recursive: true, force: true });
    const tree = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-previous-'));
    fs.rmdirSync(tree);
    try {
        assert.notEqual(git('worktree', 'add', '--detach', tree, commit), null, 'git worktree add');
        const made = spawnSync('make', ['-j2', `O=${out}`, 'all'], { cwd: tree, encoding: 'utf8', env: CLEAN_ENV });
        assert.equal(made.status, 0, `building the previous commit: ${made.stderr.slice(-2000)}`);
    } finally {
        git('worktree', 'remove', '--force', tree);
    }
    return programs;
}

/** Leaves out of a configuration what these programs do not know yet. */
function simplify(s, name) {
    const program = path.join(s.binDirs.get(name), serviceOf(name));
    for (;;) {
        const checked = spawnSync(program, ['--check-config', '--config', s.configOf(name)], { encoding: 'utf8', env: CLEAN_ENV });
        const line = Number(/\.yaml:(\d+): unknown key/.exec(checked.stderr)?.[1] ?? 0);
        if (line === 0)
            return;
        const lines = fs.readFileSync(s.configOf(name), 'utf8').split('\n');
        lines.splice(line - 1, 1);
        fs.writeFileSync(s.configOf(name), lines.join('\n'));
    }
}

story('the previous commit is replaced by this one, replica by replica, under load', async (t) => {
    const previous = buildPrevious();
    const s = await rollingStack(t);
    for (const name of s.names) {
        s.binDirs.set(name, previous);
        simplify(s, name);
    }
    await s.startAll();
    await roll(s, async (name) => {
        await s.drain(name, 15_000);
        s.binDirs.delete(name);
        await s.bring(name);
    });
}, { skip: demand(!havePostgres && 'needs PostgreSQL') || previousMissing(), deadline: 170_000 });
