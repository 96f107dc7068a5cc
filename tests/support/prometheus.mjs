/* prometheus.mjs - a real Prometheus of one story: started on a configuration, asked, ended; and promtool.
 *
 * The server runs on a free port, with its data in a folder of its own, and ends with this process, whatever happens.
 */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { spawn, spawnSync } from 'node:child_process';
import { freePorts } from './ports.mjs';
import { until, within } from './deadline.mjs';

export const havePrometheus = ['prometheus', 'promtool'].every((tool) => spawnSync(tool, ['--version']).status === 0);

/** Runs promtool; gives {status, out}. `input` goes to its standard input. */
export function promtool(args, input) {
    const run = spawnSync('promtool', args, { input, encoding: 'utf8' });
    return { status: run.status, out: `${run.stdout}${run.stderr}` };
}

export class Prometheus {
    constructor(dir, port) {
        this.dir = dir;
        this.port = port;
        process.on('exit', () => this.child?.kill('SIGKILL'));
    }

    /** Starts on a configuration and waits until it answers. */
    async start(configFile) {
        const log = fs.openSync(path.join(this.dir, 'prometheus.log'), 'a');
        this.child = spawn('prometheus', [`--config.file=${configFile}`, `--storage.tsdb.path=${path.join(this.dir, 'tsdb')}`,
            `--web.listen-address=127.0.0.1:${this.port}`, '--log.level=warn'], { stdio: ['ignore', log, log] });
        fs.closeSync(log);
        this.gone = new Promise((resolve) => {
            this.child.once('exit', resolve);
        });
        await until(20_000, async () => (await this.get('/-/ready')).status === 200,
            () => `Prometheus is ready: ${fs.readFileSync(path.join(this.dir, 'prometheus.log'), 'utf8').slice(-500)}`);
    }

    async stop() {
        if (!this.child)
            return;
        this.child.kill('SIGTERM');
        await within(20_000, this.gone, 'Prometheus ends');
        this.child = null;
    }

    /** GET of a path: {status, text}; status 0 while nobody listens. */
    get(where) {
        return new Promise((resolve) => {
            http.get({ host: '127.0.0.1', port: this.port, path: where, agent: false, timeout: 10_000 }, (res) => {
                let text = '';
                res.on('data', (d) => { text += d; });
                res.on('end', () => resolve({ status: res.statusCode, text }));
            }).on('error', (e) => resolve({ status: 0, text: e.message }));
        });
    }

    async json(where) {
        const { status, text } = await this.get(where);
        if (status !== 200)
            throw new Error(`${decodeURIComponent(where)}: ${status} ${text}`);
        return JSON.parse(text).data;
    }

    /** What an expression gives now: [{metric, value}]. */
    async query(expr) {
        const { result } = await this.json(`/api/v1/query?query=${encodeURIComponent(expr)}`);
        return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
    }

    /** The one number that an expression gives; undefined: none. */
    async number(expr) {
        return (await this.query(expr))[0]?.value;
    }

    /** Names and labels of the alerts that fire. */
    async firing() {
        const { alerts } = await this.json('/api/v1/alerts');
        return alerts.filter((a) => a.state === 'firing').map((a) => a.labels);
    }
}

export async function makePrometheus(dir) {
    const [port] = await freePorts(1);
    return new Prometheus(dir, port);
}
