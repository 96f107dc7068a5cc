/* report.mjs - the rounds of a bench as a table for people and as JSON for programs. */
import fs from 'node:fs';
import os from 'node:os';
import { execFileSync } from 'node:child_process';

export function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const half = sorted.length / 2;
    return sorted.length % 2 ? sorted[Math.floor(half)] : (sorted[half - 1] + sorted[half]) / 2;
}

function short(x) {
    if (x === null || x === undefined || Number.isNaN(x))
        return '–';
    if (x !== 0 && Math.abs(x) < 0.1)
        return x.toFixed(3);
    if (Math.abs(x) < 10)
        return x.toFixed(2);
    return Math.abs(x) < 100 ? x.toFixed(1) : String(Math.round(x));
}

function met(row, value, nginx) {
    const good = (limit) => {
        const to = limit === 'nginx' ? nginx : limit;
        return row.better === 'more' ? value >= to : value <= to;
    };
    return good(row.aim) ? 'aim' : good(row.reach) ? 'reach' : 'no';
}

/** The rows with medians over the rounds. */
export function summarise(rows, rounds) {
    return rows.map((row) => {
        const got = rounds.map((r) => row.of(r));
        const values = got.map((g) => g.value);
        const nginx = got[0].nginx === null ? null : median(got.map((g) => g.nginx));
        const value = median(values);
        return {
            name: row.name, better: row.better, reach: row.reach, aim: row.aim,
            ours: median(got.map((g) => g.ours)), nginx, value, min: Math.min(...values), max: Math.max(...values),
            met: met(row, value, nginx), rounds: got,
        };
    });
}

/** CPU µs per token of each process, medians. */
export function cpuTable(rounds) {
    const out = {};
    for (const load of ['burst', 'tokens', 'paced', 'many', 'saturated', 'long']) {
        out[load] = {};
        for (const where of ['ours', 'nginx']) {
            for (const name of Object.keys(rounds[0][load][where].cpuUs)) {
                out[load][name] = median(rounds.map((r) => r[load][where].cpuUs[name] / r[load][where].result.tokens));
            }
        }
    }
    return out;
}

/** KiB of each process per open stream, medians. */
export function memoryTable(rounds) {
    const out = {};
    for (const where of ['ours', 'nginx']) {
        for (const name of Object.keys(rounds[0].many[where].cpuUs))
            out[name] = median(rounds.map((r) => r.many[where].openKbOf?.[name] ?? NaN));
    }
    return out;
}

export function machine() {
    const git = (() => {
        try {
            return execFileSync('git', ['describe', '--always', '--dirty'], { encoding: 'utf8' }).trim();
        } catch {
            return '';
        }
    })();
    return {
        date: new Date().toISOString().slice(0, 16).replace('T', ' '), cpu: os.cpus()[0]?.model ?? '',
        cores: os.cpus().length, memory_gb: Math.round(os.totalmem() / 2 ** 30), kernel: os.release(), commit: git,
    };
}

function table(head, lines) {
    const row = (cells) => `| ${cells.join(' | ')} |`;
    return [row(head), row(head.map(() => '---')), ...lines.map(row)].join('\n');
}

/** Rows as a table; `other`: what the middle column is. */
export function rowsTable(rows, other) {
    return table(['measure', 'ours', other, 'value', 'spread', 'reach', 'aim', 'met'], rows.map((r) => [
        r.name, short(r.ours), short(r.nginx), `**${short(r.value)}**`, `${short(r.min)} – ${short(r.max)}`,
        String(r.reach), r.aim === 'nginx' ? 'nginx\'s' : String(r.aim), r.met,
    ]));
}

function total(calls) {
    return Object.values(calls).reduce((a, b) => a + b, 0);
}

function mostFrequent(calls) {
    return Object.entries(calls).sort((a, b) => b[1] - a[1]).slice(0, 6).map(([name, n]) => `${name} ${short(n)}`).join(', ');
}

/** The whole report as Markdown. */
export function markdown(all) {
    const m = all.machine;
    const out = [`\`${all.command}\`, ${m.date}, ${m.commit}: ${m.cores} × ${m.cpu}, Linux ${m.kernel}, ` +
        `${all.rounds} rounds; ${all.yard.bcrypt_ms} ms a bcrypt of cost 10 (${all.yard.bcrypts_per_s}/s on all cores), ` +
        `${all.yard.fdatasync_us} µs an fdatasync.`, ''];
    out.push(rowsTable(all.rows, 'nginx or yardstick'));
    if (all.replicas) {
        out.push('', 'More than one of a service, PostgreSQL, and resuming:', '', rowsTable(all.replicas, 'compared with'));
    }
    const loads = Object.keys(all.cpu);
    const names = Object.keys(all.cpu[loads[0]]);
    out.push('', 'CPU µs per token of each process:', '',
        table(['', ...loads], names.map((n) => [n, ...loads.map((l) => short(all.cpu[l][n]))])));
    out.push('', 'Resident KiB of each process per open stream:', '', table(names, [names.map((n) => short(all.memory[n]))]));
    if (all.calls) {
        out.push('', 'System calls per token (under strace, which slows down and so merges more):', '',
            table(['', ...names], Object.entries(all.calls).map(([load, by]) =>
                [load, ...names.map((n) => short(total(by.ours[n] ?? by.nginx[n])))])));
        out.push('', 'The most frequent ones, per token:', '');
        for (const [load, by] of Object.entries(all.calls)) {
            for (const [name, calls] of Object.entries(by.ours)) {
                if (total(calls) >= 0.1)
                    out.push(`- ${load}, ${name}: ${mostFrequent(calls)}`);
            }
        }
    } else {
        out.push('', 'System calls per token: skipped, strace is not installed or may not attach.');
    }
    return out.join('\n');
}

export function writeJson(file, all) {
    fs.writeFileSync(file, JSON.stringify(all, null, 1) + '\n');
}
