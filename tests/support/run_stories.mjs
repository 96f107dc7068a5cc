/* run_stories.mjs - runs story files side by side and counts their tests.
 *
 *     node tests/support/run_stories.mjs [DIRECTORY|FILE|PREFIX …]   (default: tests/story)
 *
 * Each file is a child process `node --test FILE` in a process group of its own, so that a file
 * that hangs is killed with everything it started. STORY_JOBS files run at once (default 2),
 * LLMB_STORY_SLOW multiplies the time each may take. In CI (LLMB_CI), where a red run costs more than a late one, single waits have
 * three times theirs at least (deadline.mjs), a file not quite twice. Of what fails a few lines are shown at once, one line
 * (`failed: FILE: TEST: why`) again at the end, and everything is kept in <build>/failed/FILE.tap. The last line is
 * `stories: N passed, N failed`; the exit code says the same.
 */
import fs from 'node:fs';
import path from 'node:path';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { BIN_DIR, SERVICES } from './stack.mjs';
import { failuresOf, tell, tellShortly } from './failures.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));
if (process.env.LLMB_CI)
    process.env.LLMB_STORY_PATIENCE ??= '3';   /* for the children; what is imported here has read it already */
const SLOW = Math.max(1, Number(process.env.LLMB_STORY_SLOW ?? 1) || 1);
const FILE_TIMEOUT_MS = Math.max(180_000 * SLOW, process.env.LLMB_CI ? 300_000 : 0);
const JOBS = Math.max(1, Number(process.env.STORY_JOBS ?? 2) || 2);

const running = new Set();

/* Paths are taken as they are; a word that is no path picks the files whose name begins with it. */
function filesOf(args) {
    const paths = args.filter((a) => fs.existsSync(a));
    const words = args.filter((a) => !fs.existsSync(a));
    const out = [];
    for (const arg of paths.length > 0 ? paths : [path.join(HERE, '../story')]) {
        if (fs.statSync(arg).isDirectory())
            out.push(...fs.readdirSync(arg).filter((f) => f.endsWith('.test.mjs')).sort().map((f) => path.join(arg, f)));
        else
            out.push(arg);
    }
    return words.length === 0 ? out : out.filter((f) => words.some((w) => path.basename(f).startsWith(w)));
}

function killGroup(child) {
    try {
        process.kill(-child.pid, 'SIGKILL');
    } catch {
        /* already gone */
    }
}

/** The number after "# word " in the summary of TAP output, 0 when there is none. */
function count(output, word) {
    const found = [...output.matchAll(new RegExp(`^# ${word} (\\d+)$`, 'gm'))];
    return found.length > 0 ? Number(found.at(-1)[1]) : 0;
}

/** Why tests were skipped, each reason once. */
function reasons(output) {
    return [...new Set([...output.matchAll(/^\s*ok \d+ .* # SKIP ?(.*)$/gm)].map((m) => m[1]))].join('; ');
}

function runFile(file) {
    const began = Date.now();
    return new Promise((resolve) => {
        const child = spawn(process.execPath, ['--test', '--test-reporter=tap', file],
            { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
        running.add(child);
        let output = '';
        let late = false;
        child.stdout.on('data', (d) => { output += d; });
        child.stderr.on('data', (d) => { output += d; });
        const timer = setTimeout(() => {
            late = true;
            killGroup(child);
        }, FILE_TIMEOUT_MS);
        child.once('close', (code) => {
            clearTimeout(timer);
            running.delete(child);
            killGroup(child);   /* whatever it left behind */
            const passed = count(output, 'pass');
            let failed = count(output, 'fail') + count(output, 'cancelled');
            if (failed === 0 && (code !== 0 || passed + count(output, 'skipped') === 0))
                failed = 1;
            if (late)
                output += `\n# ${file}: killed after ${FILE_TIMEOUT_MS} ms\n`;
            resolve({ file, passed, failed, skipped: count(output, 'skipped'), output, seconds: (Date.now() - began) / 1000 });
        });
    });
}

/** Shows what failed in a file and keeps its whole output; gives a line for each failure. */
function tellFailures(name, output) {
    const found = failuresOf(output);
    if (found.length === 0)
        found.push({ number: 0, name: 'the file', place: '', lines: output.trim().split('\n').slice(-6) });
    for (const failure of found)
        console.log(tell(failure));
    try {
        fs.mkdirSync(path.join(BIN_DIR, 'failed'), { recursive: true });
        fs.writeFileSync(path.join(BIN_DIR, 'failed', `${name}.tap`), output);
    } catch {
        /* a folder that is not ours: what was shown has to do */
    }
    return found.map((failure) => tellShortly(name, failure));
}

async function main(args) {
    const missing = SERVICES.map((name) => path.join(BIN_DIR, name)).filter((file) => !fs.existsSync(file));
    if (missing.length > 0) {
        console.log(`${missing.join(', ')} missing: run make first\nstories: 0 passed, 1 failed`);
        process.exitCode = 1;
        return;
    }
    const queue = filesOf(args);
    let passed = 0;
    let failed = 0;
    const shortly = [];
    const worker = async () => {
        for (let file; (file = queue.shift()) !== undefined;) {
            const result = await runFile(file);
            passed += result.passed;
            failed += result.failed;
            const name = path.basename(file);
            const skipped = result.skipped ? `, ${result.skipped} skipped: ${reasons(result.output)}` : '';
            console.log(`${result.failed ? 'FAIL' : 'ok  '} ${name}: ${result.passed} passed, ${result.failed} failed${skipped} (${result.seconds.toFixed(1)} s)`);
            if (result.failed)
                shortly.push(...tellFailures(name, result.output));
        }
    };
    await Promise.all(Array.from({ length: JOBS }, worker));
    for (const line of shortly)
        console.log(line);
    console.log(`stories: ${passed} passed, ${failed} failed`);
    process.exitCode = failed > 0 ? 1 : 0;
}

for (const signal of ['SIGINT', 'SIGTERM']) {
    process.prependListener(signal, () => {
        for (const child of running)
            killGroup(child);
        process.exit(1);
    });
}
await main(process.argv.slice(2));
