/* postgres.mjs - a real PostgreSQL server of one story: started, stopped, restarted, killed, frozen.
 *
 * tests/support/postgres makes its folder and runs it, on a port that it keeps over restarts. It ends
 * with this process, whatever happens. Nothing is synced to the disk: a server that is killed
 * loses nothing by that, only a machine would.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { freePorts } from './ports.mjs';
import { until, within } from './deadline.mjs';

const SCRIPT = path.join(path.dirname(fileURLToPath(import.meta.url)), 'postgres');
const run = promisify(execFile);

export const havePostgres = spawnSync(SCRIPT, ['there']).status === 0;

export class Postgres {
    constructor(dir, url) {
        this.dir = dir;
        this.url = url;         /* for storage.postgresql.url; has the password in it */
        this.child = null;
        process.on('exit', () => {
            this.child?.kill('SIGQUIT');
            fs.rmSync(this.dir, { recursive: true, force: true });
        });
    }

    /** Starts the server and waits until it takes connections. */
    async start() {
        /* After a kill its last processes may still be ending: the next server refuses to start until they are gone. */
        await until(20_000, async () => {
            if (this.child === null)
                this.spawn();
            await Promise.race([run(SCRIPT, ['await', this.dir]), this.gone]);
            return this.child !== null;
        }, 'PostgreSQL takes connections');
    }

    spawn() {
        const child = spawn(SCRIPT, ['serve', this.dir], { stdio: 'ignore' });
        this.child = child;
        this.gone = new Promise((resolve) => {
            child.once('exit', () => {
                if (this.child === child)
                    this.child = null;
                resolve();
            });
        });
    }

    async end(signal) {
        if (this.child === null)
            return;
        const { child, gone } = this;
        child.kill('SIGCONT');
        child.kill(signal);
        await within(20_000, gone, `PostgreSQL ends after ${signal}`);
    }

    /** Ends all connections and the server, cleanly ("fast"). */
    stop() {
        return this.end('SIGINT');
    }

    /** Ends it as a crash would: what was committed is recovered from the log at the next start. */
    kill() {
        return this.end('SIGKILL');
    }

    async restart() {
        await this.stop();
        await this.start();
    }

    /** Stops the server's first process only: who is connected goes on, nobody new gets in. */
    freeze() {
        this.child.kill('SIGSTOP');
    }

    thaw() {
        this.child.kill('SIGCONT');
    }

    /** Ends all connections of others, as an operator can. */
    async disconnectAll() {
        await this.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            + " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'");
    }

    /** Rows of a query as arrays of texts. */
    async query(sql) {
        const { stdout } = await run('psql', [this.url, '-X', '-q', '-A', '-t', '-F', '\t', '-v', 'ON_ERROR_STOP=1', '-c', sql]);
        return stdout.split('\n').filter((line) => line !== '').map((line) => line.split('\t'));
    }

    /** Stops the server and removes its folder. */
    async remove() {
        await this.stop();
        fs.rmSync(this.dir, { recursive: true, force: true });
    }
}

/** Starts a server of its own on a free port. */
export async function startPostgres() {
    const [port] = await freePorts(1);
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-postgres-'));
    const { stdout } = await run(SCRIPT, ['make', dir, String(port)]);
    const postgres = new Postgres(dir, stdout.trim());
    await postgres.start();
    return postgres;
}
