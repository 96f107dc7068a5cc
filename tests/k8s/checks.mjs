/* checks.mjs - what must be true of the rendered manifests; each check gives lines that say what is wrong.
 *
 * A check is given {objects, overlay, secrets, bin}: all objects of an overlay, its name, the Secrets that the
 * manual has people make (and the ConfigMap of the bus's public keys), and the folder of our binaries.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { arrows, selects } from './network.mjs';
import { parseAll, problemsOf } from './schema.mjs';

const SERVICES = ['gateway', 'auth-svc', 'convo-svc', 'llm-svc'];
const SELECTOR_LABELS = ['app.kubernetes.io/component', 'app.kubernetes.io/name'];
const GRACE_MARGIN_S = 15;      /* between the end of the drain and SIGKILL */

/* Which Secrets and claims each may mount, whatever the overlay. */
const BELONGINGS = { gateway: ['llmb-bus-gateway'], 'auth-svc': ['llmb-bus-auth-svc', 'llmb-jwt', 'llmb-postgresql', 'llmb-redis', 'auth-data'],
    'convo-svc': ['llmb-bus-convo-svc', 'llmb-seal', 'llmb-postgresql', 'llmb-redis', 'convo-data'], 'llm-svc': ['llmb-bus-llm-svc', 'llmb-providers'], redis: ['llmb-redis'] };

const PRIVATE = ['private machine', 'private machine (IPv6)'];
const PODS_ELSEWHERE = ['ingress controller', 'other pod of ingress-nginx', 'stranger elsewhere', 'dns', 'other pod of kube-system',
    'prometheus', 'other pod of monitoring'];

/* The picture of ARCHITECTURE.md. Whoever may reach private addresses may reach pods there, as far as those let them. */
const BASE_ARROWS = ['ingress controller -> gateway TCP 8080',
    'gateway -> auth-svc TCP 7101', 'gateway -> convo-svc TCP 7102', 'gateway -> llm-svc TCP 7103', 'gateway -> llm-svc TCP 7104',
    'convo-svc -> llm-svc TCP 7103', 'llm-svc -> internet TCP 443', 'llm-svc -> internet (IPv6) TCP 443',
    ...SERVICES.flatMap((s) => [`${s} -> dns TCP 53`, `${s} -> dns UDP 53`])];
const POSTGRESQL = ['auth-svc', 'convo-svc'].flatMap((s) => [...PRIVATE, ...PODS_ELSEWHERE].map((to) => `${s} -> ${to} TCP 5432`));
const REDIS = ['auth-svc -> redis TCP 6379', 'convo-svc -> redis TCP 6379'];
const METRICS = SERVICES.map((s, i) => `prometheus -> ${s} TCP ${7110 + i}`);
const ARROWS = { dev: BASE_ARROWS, prod: [...BASE_ARROWS, ...POSTGRESQL, ...REDIS], 'prod without redis': [...BASE_ARROWS, ...POSTGRESQL],
    'dev with metrics': [...BASE_ARROWS, ...METRICS] };

const ofKind = (c, kind) => c.objects.filter((o) => o.kind === kind);
const named = (c, kind, name) => ofKind(c, kind).find((o) => o.metadata.name === name);
const workloads = (c) => c.objects.filter((o) => ['Deployment', 'StatefulSet', 'DaemonSet'].includes(o.kind));
const containers = (c) => workloads(c).flatMap((w) => [...w.spec.template.spec.containers,
    ...(w.spec.template.spec.initContainers ?? [])].map((k) => ({ w, k, at: `${w.metadata.name}/${k.name}` })));
const portsOf = (w) => Object.fromEntries(w.spec.template.spec.containers.flatMap((k) => k.ports ?? []).map((p) => [p.name, p.containerPort]));
const made = (c, kind, name) => named(c, kind, name) ?? c.secrets.find((s) => s.kind === kind && s.metadata.name === name);
const secretKeys = (c, name) => {
    const found = made(c, 'Secret', name);
    return found && Object.keys({ ...found.data, ...found.stringData });
};

function everyObjectIsKnown(c) {
    return c.objects.flatMap((o) => problemsOf(o).map((p) => `${o.kind} ${o.metadata?.name}: ${p}`));
}

function containersAreWhole(c) {
    return containers(c).flatMap(({ k, at }) => [
        ...['cpu', 'memory'].flatMap((r) => ['requests', 'limits'].filter((x) => !k.resources?.[x]?.[r]).map((x) => `${at}: no ${x}.${r}`)),
        ...['startupProbe', 'livenessProbe', 'readinessProbe'].filter((p) => !k[p]).map((p) => `${at}: no ${p}`),
        ...Object.entries({ startupProbe: '/healthz', livenessProbe: '/healthz', readinessProbe: '/readyz' })
            .filter(([p, want]) => k.name === 'service' && k[p] && (k[p].httpGet?.path !== want || k[p].httpGet?.port !== 'admin'))
            .map(([p, want]) => `${at}: ${p} does not ask ${want} of port admin`)]);
}

/* What the level "restricted" of Pod Security admits, and a little more. */
function podsAreRestricted(c) {
    const out = [];
    const want = (good, text) => good || out.push(text);
    for (const w of workloads(c)) {
        const pod = w.spec.template.spec;
        const at = w.metadata.name;
        want(!pod.hostNetwork && !pod.hostPID && !pod.hostIPC, `${at}: in the host's namespaces`);
        want(pod.automountServiceAccountToken === false, `${at}: gets a token of the service account`);
        want(pod.enableServiceLinks === false, `${at}: gets variables for every Service`);
        want(pod.securityContext?.seccompProfile?.type === 'RuntimeDefault', `${at}: no seccomp profile`);
        for (const v of pod.volumes ?? [])
            want(['configMap', 'secret', 'emptyDir', 'persistentVolumeClaim', 'projected', 'downwardAPI'].some((t) => v[t]), `${at}: volume ${v.name}`);
    }
    for (const { w, k, at } of containers(c)) {
        const s = k.securityContext ?? {};
        const user = s.runAsUser ?? w.spec.template.spec.securityContext?.runAsUser;
        want(s.allowPrivilegeEscalation === false && !s.privileged, `${at}: may become more than it is`);
        want(s.readOnlyRootFilesystem === true, `${at}: may write to its root`);
        want(s.runAsNonRoot === true && user > 0, `${at}: may be root`);
        want(k.name !== 'service' || user === 10001, `${at}: is not the image's user`);
        want(JSON.stringify(s.capabilities) === '{"drop":["ALL"]}', `${at}: keeps capabilities`);
        want(!(k.ports ?? []).some((p) => p.hostPort), `${at}: a port of the host`);
    }
    const level = ofKind(c, 'Namespace')[0]?.metadata.labels?.['pod-security.kubernetes.io/enforce'];
    want(level === 'restricted', 'the namespace does not enforce the level restricted');
    return out;
}

function servicesSelect(c) {
    return ofKind(c, 'Service').flatMap((s) => {
        const found = workloads(c).filter((w) => selects({ matchLabels: s.spec.selector }, w.spec.template.metadata.labels));
        if (found.length !== 1)
            return [`Service ${s.metadata.name} selects ${found.length} workloads`];
        const headless = ['auth-svc', 'convo-svc', 'llm-svc'].includes(s.metadata.name);
        return [...s.spec.ports.filter((p) => portsOf(found[0])[p.targetPort] === undefined).map((p) => `Service ${s.metadata.name}: no port ${p.targetPort}`),
            ...(headless && !(s.spec.clusterIP === 'None' && s.spec.publishNotReadyAddresses) ? [`Service ${s.metadata.name}: does not tell all pods`] : [])];
    });
}

function namedPortsExist(c) {
    const out = containers(c).flatMap(({ w, k, at }) => ['startupProbe', 'livenessProbe', 'readinessProbe']
        .map((p) => k[p]?.httpGet?.port ?? k[p]?.tcpSocket?.port).filter((p) => p !== undefined && portsOf(w)[p] === undefined).map((p) => `${at}: no port ${p}`));
    for (const i of ofKind(c, 'Ingress'))
        for (const { backend: { service } } of i.spec.rules.flatMap((r) => r.http.paths))
            if (!named(c, 'Service', service.name)?.spec.ports.some((p) => p.name === service.port.name))
                out.push(`Ingress ${i.metadata.name}: no port ${service.port.name} of ${service.name}`);
    for (const n of ofKind(c, 'NetworkPolicy'))
        for (const p of (n.spec.ingress ?? []).flatMap((r) => r.ports ?? []))
            if (typeof p.port === 'string' && !workloads(c).some((w) => selects(n.spec.podSelector, w.spec.template.metadata.labels) && portsOf(w)[p.port]))
                out.push(`NetworkPolicy ${n.metadata.name}: no port ${p.port}`);
    return out;
}

/* A container's files: {path: text} of what is mounted from ConfigMaps and Secrets, and its folders that can be written. */
function filesOf(c, w, k) {
    const files = {};
    const folders = [];
    const missing = [];
    for (const mount of k.volumeMounts ?? []) {
        const v = w.spec.template.spec.volumes?.find((x) => x.name === mount.name);
        if (v === undefined)
            missing.push(`volume ${mount.name}`);
        else if (v.persistentVolumeClaim && !named(c, 'PersistentVolumeClaim', v.persistentVolumeClaim.claimName))
            missing.push(`claim ${v.persistentVolumeClaim.claimName}`);
        else if (v.persistentVolumeClaim || v.emptyDir)
            folders.push(mount.mountPath);
        for (const source of v?.projected?.sources ?? []) {
            const of = source.secret ? made(c, 'Secret', source.secret.name) : made(c, 'ConfigMap', source.configMap?.name);
            if (!of)
                missing.push(source.secret?.name ?? source.configMap?.name);
            for (const [key, text] of Object.entries({ ...of?.data, ...of?.stringData }))
                files[`${mount.mountPath}/${key}`] = text;
        }
        const map = v?.configMap && named(c, 'ConfigMap', v.configMap.name);
        const keys = v?.secret && secretKeys(c, v.secret.secretName);
        if ((v?.configMap && !map) || (v?.secret && !keys))
            missing.push(`${v.configMap?.name ?? v.secret.secretName}`);
        for (const [key, text] of Object.entries(map?.data ?? {}))
            files[`${mount.mountPath}/${key}`] = text;
        for (const key of keys ?? [])
            files[`${mount.mountPath}/${key}`] = key === 'url' ? 'postgresql://u:p@h/n' : '0123456789abcdef'.repeat(4);
    }
    return { files, folders, missing };
}

function keysExist(c) {
    return containers(c).flatMap(({ w, k, at }) => {
        const { files, folders, missing } = filesOf(c, w, k);
        const config = files['/etc/llm-backend-api/config.yaml'] ?? '';
        const used = [...(k.env ?? []).filter((e) => e.name !== 'LLMB_BUS_KEYS').map((e) => e.value ?? ''), ...(k.args ?? []),
            ...(w.metadata.name === 'llm-svc' ? config.split('\n').filter((l) => l.includes('api_key_file')) : [])]
            .flatMap((t) => t.match(/\/(run|data|etc)\/[\w./-]+/g) ?? []);
        return [...missing.map((m) => `${at}: no ${m}`),
            ...used.filter((f) => !(f in files) && !folders.includes(path.dirname(f))).map((f) => `${at}: nothing is mounted as ${f}`)];
    });
}

/* Names that kustomize makes from files end with a hash of the content. */
function secretsAreTheirs(c) {
    return workloads(c).flatMap((w) => {
        const pod = w.spec.template.spec;
        const mounted = (pod.volumes ?? []).flatMap((v) => [v, ...v.projected?.sources ?? []])
            .map((v) => v.secret?.secretName ?? v.secret?.name ?? v.persistentVolumeClaim?.claimName);
        const variables = pod.containers.flatMap((k) => [...(k.env ?? []).map((e) => e.valueFrom?.secretKeyRef?.name), ...(k.envFrom ?? []).map((e) => e.secretRef?.name)]);
        return [...mounted, ...variables].filter((name) => name && !(BELONGINGS[w.metadata.name] ?? []).includes(name.replace(/-[bcdfghkmt2-9]{10}$/, '')))
            .map((name) => `${w.metadata.name}: gets ${name}`);
    });
}

function networkIsThePicture(c) {
    const pods = workloads(c).map((w) => ({ name: w.metadata.name, namespace: w.metadata.namespace, labels: w.spec.template.metadata.labels, ports: portsOf(w) }));
    const got = arrows(ofKind(c, 'NetworkPolicy'), pods);
    const want = ARROWS[c.overlay];
    return [...got.filter((a) => !want.includes(a)).map((a) => `open: ${a}`), ...want.filter((a) => !got.includes(a)).map((a) => `closed: ${a}`)];
}

/* Runs a service's --check-config on what its container sees; paths of mounts are moved into a folder of ours. */
function configPasses(c) {
    return containers(c).filter(({ k }) => k.name === 'service').flatMap(({ w, k, at }) => {
        const root = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-k8s-'));
        const { files, folders } = filesOf(c, w, k);
        const moved = (text) => Object.keys(files).map((f) => path.dirname(f)).concat(folders)
            .reduce((t, dir) => t.replaceAll(new RegExp(`(?<![\\w/])${dir}/`, 'g'), `${root}${dir}/`), text);
        for (const [file, text] of Object.entries(files)) {
            fs.mkdirSync(path.dirname(root + file), { recursive: true });
            fs.writeFileSync(root + file, moved(text), { mode: 0o600 });
        }
        const env = Object.fromEntries((k.env ?? []).map((e) => [e.name, e.name === 'LLMB_BUS_KEYS' ? root + e.value : moved(e.value)]));
        const run = spawnSync(path.join(c.bin, w.metadata.name), ['--config', `${root}/etc/llm-backend-api/config.yaml`, '--check-config'],
            { env: { PATH: process.env.PATH, ...env }, encoding: 'utf8', timeout: 20_000 });
        fs.rmSync(root, { recursive: true });
        return run.status === 0 ? [] : [`${at}: ${run.error?.message ?? run.stderr.trim()}`];
    });
}

function variablesAreKnown(c) {
    const table = spawnSync(path.join(c.bin, 'gateway'), ['--config-table'], { encoding: 'utf8' }).stdout;
    const known = new Set([...table.matchAll(/^\| `([a-z_.]+)`/gm)].map((m) => `LLMB_${m[1].replaceAll('.', '_').toUpperCase()}`));
    return containers(c).flatMap(({ k, at }) => (k.env ?? []).map((e) => e.name)
        .filter((n, i, all) => all.indexOf(n) !== i || (n.startsWith('LLMB_') && !known.has(n) && !known.has(n.replace(/_FILE$/, ''))))
        .map((n) => `${at}: ${n} is not known, or stands there twice`));
}

/* The bus has keys; each service sees its own pair and no other, and all public ones, and no other user may read them. */
function busIsLocked(c) {
    return containers(c).filter(({ k }) => k.name === 'service').flatMap(({ w, k, at }) => {
        const of = (name) => k.env?.find((e) => e.name === name)?.value;
        const dir = of('LLMB_BUS_KEYS');
        const seen = Object.keys(filesOf(c, w, k).files).filter((f) => path.dirname(f) === dir).map((f) => path.basename(f)).sort();
        const want = [`${w.metadata.name}.key`, ...[...SERVICES, 'tool'].map((s) => `${s}.pub`)].sort();
        const mount = k.volumeMounts?.find((m) => m.mountPath === dir);
        const mode = w.spec.template.spec.volumes?.find((v) => v.name === mount?.name)?.projected?.defaultMode;
        return [...(JSON.stringify(seen) === JSON.stringify(want) ? [] : [`${at}: sees ${seen} in ${dir}`]),
            ...(of('LLMB_BUS_INSECURE') ? [`${at}: does without keys`] : []),
            ...(mount && (mode === undefined || (mode & 0o337) !== 0) ? [`${at}: its keys have mode ${mode?.toString(8)}`] : [])];
    });
}

/* Addresses: what is bound is a port of the container, what is called is a port of a Service. */
function wiresMeet(c) {
    return containers(c).filter(({ k }) => k.name === 'service').flatMap(({ w, k, at }) => (k.env ?? []).flatMap(({ name, value }) => {
        const [, host, port] = /^(?:tcp:\/\/)?([\w.-]+):(\d+)$/.exec(value) ?? [];
        if (port === undefined || host === '127.0.0.1')
            return [];
        const there = host === '0.0.0.0' ? Object.values(portsOf(w)).includes(Number(port))
            : named(c, 'Service', host)?.spec.ports.some((p) => p.port === Number(port));
        return there ? [] : [`${at}: ${name}: nobody is at ${value}`];
    }));
}

/* Each monitor sees all pods of ours and nobody else, on a port that they have, as jobs that alerts and dashboard know. */
function monitorsSee(c) {
    return ofKind(c, 'PodMonitor').flatMap((m) => {
        const found = workloads(c).filter((w) => selects(m.spec.selector, w.spec.template.metadata.labels));
        const jobs = found.map((w) => w.spec.template.metadata.labels[m.spec.jobLabel]);
        return [...(JSON.stringify(jobs.sort()) === JSON.stringify([...SERVICES].sort()) ? [] : [`PodMonitor ${m.metadata.name}: jobs ${jobs}`]),
            ...m.spec.podMetricsEndpoints.flatMap((e) => found.filter((w) => portsOf(w)[e.port] === undefined || e.path !== '/metrics')
                .map((w) => `PodMonitor ${m.metadata.name}: ${w.metadata.name} has no ${e.port}${e.path}`))];
    });
}

function selectorsCanStay(c) {
    return workloads(c).flatMap((w) => {
        const labels = w.spec.selector.matchLabels ?? {};
        const ours = Object.keys(labels).every((k) => SELECTOR_LABELS.includes(k));
        return !ours || w.spec.selector.matchExpressions || !selects(w.spec.selector, w.spec.template.metadata.labels)
            ? [`${w.metadata.name}: selector ${JSON.stringify(w.spec.selector)}`] : [];
    });
}

function updatesLeaveNobodyOut(c) {
    return workloads(c).filter((w) => {
        const { type, rollingUpdate } = w.spec.strategy ?? {};
        const sqlite = w.spec.template.spec.volumes?.some((v) => v.persistentVolumeClaim);
        return sqlite ? type !== 'Recreate' || (w.spec.replicas ?? 1) !== 1 : type !== 'RollingUpdate' || rollingUpdate?.maxUnavailable !== 0;
    }).map((w) => `${w.metadata.name}: strategy ${JSON.stringify(w.spec.strategy)}`);
}

function budgetsLeaveRoom(c) {
    const out = [];
    for (const h of ofKind(c, 'HorizontalPodAutoscaler')) {
        const w = named(c, h.spec.scaleTargetRef.kind, h.spec.scaleTargetRef.name);
        if (!w || w.spec.replicas !== undefined || h.spec.minReplicas < 2 || h.spec.maxReplicas <= h.spec.minReplicas)
            out.push(`HorizontalPodAutoscaler ${h.metadata.name}: no target, replicas set, or no room`);
    }
    for (const p of ofKind(c, 'PodDisruptionBudget')) {
        const found = workloads(c).filter((w) => selects(p.spec.selector, w.spec.template.metadata.labels));
        const least = ofKind(c, 'HorizontalPodAutoscaler').find((h) => h.spec.scaleTargetRef.name === found[0]?.metadata.name)?.spec.minReplicas ?? 1;
        if (found.length !== 1 || !(p.spec.maxUnavailable >= 1 || p.spec.minAvailable < least))
            out.push(`PodDisruptionBudget ${p.metadata.name}: no target, or no pod may ever go`);
    }
    if (c.overlay.startsWith('prod'))
        for (const s of SERVICES)
            for (const kind of ['HorizontalPodAutoscaler', 'PodDisruptionBudget'])
                if (!named(c, kind, s))
                    out.push(`${s}: no ${kind}`);
    return out;
}

function graceIsLonger(c) {
    return containers(c).filter(({ k }) => k.name === 'service').flatMap(({ w, k, at }) => {
        const config = parseAll(filesOf(c, w, k).files['/etc/llm-backend-api/config.yaml'] ?? '{}')[0];
        const drain = Number(k.env.find((e) => e.name === 'LLMB_SERVER_DRAIN_S')?.value ?? config?.server?.drain_s ?? 5);
        const grace = w.spec.template.spec.terminationGracePeriodSeconds ?? 30;
        return grace >= drain + GRACE_MARGIN_S ? [] : [`${at}: ${grace} s of grace, ${drain} s of drain`];
    });
}

export const CHECKS = { everyObjectIsKnown, containersAreWhole, podsAreRestricted, servicesSelect, namedPortsExist, keysExist,
    secretsAreTheirs, networkIsThePicture, configPasses, variablesAreKnown, busIsLocked, wiresMeet, monitorsSee, selectorsCanStay, updatesLeaveNobodyOut, budgetsLeaveRoom, graceIsLonger };
