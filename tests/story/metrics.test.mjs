/* metrics.test.mjs - what every process tells of itself, read by a real Prometheus: dashboard and alerts on real numbers.
 *
 * The files are those of deploy/prometheus and deploy/grafana; only where to scrape, how often, and how long an alert
 * waits is made to fit a story. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { SERVICES, providerEntry, start } from '../support/stack.mjs';
import { demand, story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { havePrometheus, makePrometheus, promtool } from '../support/prometheus.mjs';
import { until } from '../support/deadline.mjs';

const DEPLOY = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../deploy');
const PANELS = JSON.parse(fs.readFileSync(path.join(DEPLOY, 'grafana/llm-backend-api.json'), 'utf8')).panels;
const ALERTS = fs.readFileSync(path.join(DEPLOY, 'prometheus/alerts.yml'), 'utf8');
const RULES = [...ALERTS.matchAll(/- alert: (\w+)\n\s+expr: '(.*)'/g)].map(([, name, expr]) => ({ name, expr: expr.replaceAll("''", "'") }));
const SECRET = 'sk-metrics-must-not-tell';
const LABELS = ['cause', 'ending', 'le', 'method', 'model', 'need', 'operation', 'pool', 'provider', 'route', 'service', 'status', 'version'];
const skip = demand(havePrometheus ? false : 'there is no prometheus here');

let dir;
let provider;
let s;
let prometheus;

/** The text of a process's /metrics. */
async function scrape(name) {
    const { status, headers, text } = await s.admin(name).api('GET', '/metrics');
    assert.equal(status, 200, name);
    assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
    return text;
}

/** The configuration that operators are given, for this stack: scraped each half second, alerts that do not wait. */
function writeConfig() {
    const rules = ALERTS.replace(/for: \d+[smh]/g, 'for: 0s');
    let config = fs.readFileSync(path.join(DEPLOY, 'prometheus/prometheus.yml'), 'utf8').replaceAll('_interval: 15s', '_interval: 500ms');
    for (const service of SERVICES) {
        const targets = s.replicasOf(service).map((name) => `"127.0.0.1:${s.places.get(name).admin}"`);
        const before_ = config;
        config = config.replace(new RegExp(`(job_name: ${service}\n    )dns_sd_configs: .*`), `$1static_configs: [{targets: [${targets.join(', ')}]}]`);
        assert.notEqual(config, before_, `the configuration has a job for ${service}`);
    }
    fs.writeFileSync(path.join(dir, 'alerts.yml'), rules);
    fs.writeFileSync(path.join(dir, 'prometheus.yml'), config);
    return path.join(dir, 'prometheus.yml');
}

/** Some of everything: registrations, a wrong password, chats, a retry, a stop, a provider that fails, paths that are none. */
async function load(user) {
    const id = await user.create('fake');
    for (let i = 0; i < 3; i++)
        await user.ask(id, `question ${i}`);
    await user.list();
    await user.messages(id);
    await user.messages(id);
    await user.ask(await user.create('echo'), 'one two three');
    await user.ask(await user.create('fake:500'), 'question');
    await s.login(user.name, 'a wrong password');
    await s.api('GET', '/no/such/path');
}

before(async () => {
    if (skip)
        return;
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-prometheus-'));
    provider = await startProvider();
    s = await start({ admin: true, replicas: { 'llm-svc': 2 }, providers: [providerEntry(provider, { api_key: SECRET })] });
    prometheus = await makePrometheus(dir);
    await prometheus.start(writeConfig());
});
after(async () => {
    await prometheus?.stop();
    await s?.stopAll();
    await provider?.stop();
    if (dir)
        fs.rmSync(dir, { recursive: true, force: true });
});

story('promtool finds nothing wrong with rules, their tests, the configuration, and what each process tells', async () => {
    for (const args of [['check', 'rules', path.join(DEPLOY, 'prometheus/alerts.yml')],
        ['test', 'rules', path.join(DEPLOY, 'prometheus/alerts.test.yml')],
        ['check', 'config', path.join(DEPLOY, 'prometheus/prometheus.yml')], ['check', 'config', path.join(dir, 'prometheus.yml')]]) {
        const { status, out } = promtool(args);
        assert.equal(status, 0, `promtool ${args.join(' ')}: ${out}`);
    }
    for (const name of s.names) {
        const { status, out } = promtool(['check', 'metrics'], await scrape(name));
        assert.equal(`${status} ${out}`, '0 ', name);
    }
    assert.notEqual(promtool(['check', 'metrics'], 'llmb_bad 1\n').out, '', 'promtool does look');
}, { skip });

story('every query of the dashboard has an answer after some load, and the numbers are right', async () => {
    const user = await s.user();
    const queries = PANELS.flatMap((panel) => (panel.targets ?? []).map((t) => ({ title: panel.title, expr: t.expr.replaceAll('$__rate_interval', '1m') })));
    assert.ok(queries.length > 60);
    await until(20_000, async () => (await prometheus.number('sum(up)')) === 5, 'all five processes are scraped');
    const before_ = (await prometheus.number('sum(llmb_generations_total{provider="fake"})')) ?? 0;
    assert.equal(await prometheus.number('count(llmb_generations_total{provider="fake"})'), 2, 'a model is told before its first answer');
    await load(user);
    await load(await s.user());
    /* Two scrapes at least have seen all of it: a rate needs two. */
    await until(10_000, async () => (await prometheus.number('sum(llmb_generations_total{provider="fake"})')) === before_ + 8, 'all generations are counted');
    let empty;
    await until(10_000, async () => {
        empty = [];
        for (const { title, expr } of queries) {
            if ((await prometheus.query(expr)).length === 0)
                empty.push(`${title}: ${expr}`);
        }
        return empty.length === 0;
    }, () => `every query has an answer; without: ${empty.join('\n')}`);
    /* Each process is scraped at a moment of its own: what one tells may be older than what another does. */
    const right = {
        'sum(llmb_generations_ended_total{provider="fake", model="fake*", ending="complete"})': 6,
        'sum(llmb_generations_ended_total{provider="fake", model="fake*", ending="failed"})': 2,
        'sum(llmb_generations_ended_total{provider="fake", ending=~"failed|complete"})': 8,
        'sum(llmb_upstream_errors_total{provider="fake", cause="server_error"})': 2,
        'sum(llmb_http_requests_total{route="other", status="404"})': 2,
        'llmb_logins_refused_total': 2,
        'sum(llmb_streams_open)': 0,
        'sum(llmb_generations_running)': 0,
        'sum(llmb_generation_completion_tokens_total{model="echo"}) >= bool 6': 1,
        'llmb_stream_first_text_seconds_count >= bool 8': 1,
        'sum(llmb_http_overhead_seconds_sum) / sum(llmb_http_request_seconds_sum) < bool 1': 1,   /* a part of the time */
        'sum(llmb_metrics_left_out)': 0,
    };
    const told = {};
    await until(10_000, async () => {
        for (const expr of Object.keys(right))
            told[expr] = await prometheus.number(expr);
        return isDeepStrictEqual(told, right);
    }, () => `the numbers are right: ${JSON.stringify(told)}`);
}, { skip });

story('nothing that is told is a secret, or names a user, a conversation or what a client wrote', async () => {
    const user = await s.user('very-private-name');
    await user.ask(await user.create('fake'), 'a very private question');
    await user.ask(await user.create('fake:private-model'), 'question');
    assert.equal((await user.call('POST', '/api/conversations/create', { title: 't', model: 'no-such-model-of-mine' })).status < 500, true);
    await s.api('GET', '/api/very/private/path?ticket=secret-ticket');
    await s.api('VERYPRIVATE', '/api/chat/active');
    for (const name of s.names) {
        const text = await scrape(name);
        for (const word of [SECRET, 'private', 'PRIVATE', user.token, 'no-such-model', 'secret'])
            assert.ok(!text.includes(word), `${name} tells ${word}`);
        for (const [, label] of text.replace(/^#.*$/gm, '').matchAll(/[{,]([a-z_]+)="/g))
            assert.ok(LABELS.includes(label), `${name} has a label ${label}`);
    }
}, { skip });

story('when all is well no alert fires; when llm-svc is away it does, and ends when it is back', async () => {
    assert.ok(RULES.length > 20);
    for (const { name, expr } of RULES)
        await prometheus.query(expr).catch((e) => assert.fail(`${name}: ${e.message}`));
    const { groups } = await prometheus.json('/api/v1/rules');
    assert.equal(groups.flatMap((g) => g.rules).length, RULES.length);
    assert.ok(groups.flatMap((g) => g.rules).every((r) => r.health !== 'err'));
    /* What the stories before have done on purpose: a failing provider, some 5xx of few requests. What the harness does: it looks
     * whether somebody listens on the bus, and leaves. And what a busy machine does. */
    const expected = ['LlmbHttpErrors', 'LlmbBusRefused', 'LlmbUpstreamErrors', 'LlmbAnswersInterrupted',
        'LlmbHttpSlow', 'LlmbFirstTextSlow', 'LlmbGatewayBusy', 'LlmbCommitSlow', 'LlmbLoopStalls', 'LlmbLeasesLost'];
    let fires;
    const isQuiet = async () => {
        fires = (await prometheus.firing()).map((a) => a.alertname).filter((a) => !expected.includes(a));
        return fires.length === 0;
    };
    await until(20_000, isQuiet, () => `no alert fires: ${fires}`);
    await s.kill('llm-svc');
    const isAbout = (alert, labels) => Object.entries(labels).every(([k, v]) => alert[k] === v);
    const fired = (labels) => async () => (await prometheus.firing()).some((a) => isAbout(a, labels));
    await until(15_000, fired({ alertname: 'LlmbProcessDown', job: 'llm-svc', severity: 'critical' }), 'one that is dead is told');
    await until(15_000, fired({ alertname: 'LlmbReplicasUnreachable', job: 'gateway', service: 'llm-svc' }), 'the gateway says so, too');
    /* A scrape that came too late on a busy machine is told as an absence until the next one. */
    await until(10_000, async () => !(await prometheus.firing()).some((a) => a.alertname === 'LlmbServiceAbsent'), 'there is a second one');
    await s.kill('llm-svc-2');
    await until(15_000, fired({ alertname: 'LlmbServiceAbsent', job: 'llm-svc' }), 'none is left');
    await until(15_000, fired({ alertname: 'LlmbMissing', job: 'gateway', need: 'llm-svc' }), 'the gateway misses it');
    await until(15_000, fired({ alertname: 'LlmbNotReady', job: 'gateway' }), 'and serves no more');
    s.start('llm-svc');
    s.start('llm-svc-2');
    await until(20_000, isQuiet, () => `all is well again: ${fires}`);
}, { skip, deadline: 60_000 });
