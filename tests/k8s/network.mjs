/* network.mjs - who may reach whom on which port, computed from NetworkPolicies.
 *
 * As Kubernetes does: a pod that no policy selects for a direction is open in it; else what some rule names is
 * allowed. A connection needs both ends. Everybody has addresses, so a block of addresses may mean pods, too.
 */

const OUTSIDE = [
    { name: 'ingress controller', namespace: 'ingress-nginx', labels: { 'app.kubernetes.io/name': 'ingress-nginx' }, ip: '10.244.9.1' },
    { name: 'other pod of ingress-nginx', namespace: 'ingress-nginx', labels: {}, ip: '10.244.9.2' },
    { name: 'stranger elsewhere', namespace: 'default', labels: { 'app.kubernetes.io/name': 'ingress-nginx' }, ip: '10.244.9.3' },
    { name: 'stranger here', namespace: null, labels: {}, ip: '10.244.9.4' },
    { name: 'dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' }, ip: '10.244.9.5' },
    { name: 'other pod of kube-system', namespace: 'kube-system', labels: {}, ip: '10.244.9.6' },
    { name: 'prometheus', namespace: 'monitoring', labels: { 'app.kubernetes.io/name': 'prometheus' }, ip: '10.244.9.7' },
    { name: 'other pod of monitoring', namespace: 'monitoring', labels: {}, ip: '10.244.9.8' },
    { name: 'private machine', ip: '10.1.2.3' },
    { name: 'private machine (IPv6)', ip: 'fd00::3' },
    { name: 'metadata service', ip: '169.254.169.254' },
    { name: 'internet', ip: '198.51.100.7' },
    { name: 'internet (IPv6)', ip: '2001:db8::7' },
];
const PROBED = [['TCP', 22], ['TCP', 53], ['UDP', 53], ['TCP', 80], ['TCP', 443], ['TCP', 5432], ['TCP', 6379], ['TCP', 9999]];

function bits(ip) {
    if (!ip.includes(':'))
        return ip.split('.').map((n) => Number(n).toString(2).padStart(8, '0')).join('');
    const [head, tail] = ip.split('::').map((half) => half === '' ? [] : half.split(':'));
    const all = tail === undefined ? head : [...head, ...Array(8 - head.length - tail.length).fill('0'), ...tail];
    return all.map((n) => parseInt(n, 16).toString(2).padStart(16, '0')).join('');
}

function inBlock(ip, cidr) {
    const [net, n] = cidr.split('/');
    return ip.includes(':') === net.includes(':') && bits(ip).slice(0, Number(n)) === bits(net).slice(0, Number(n));
}

export function selects(selector, labels) {
    const has = (key) => Object.hasOwn(labels, key);
    return Object.entries(selector?.matchLabels ?? {}).every(([k, v]) => labels[k] === v) &&
        (selector?.matchExpressions ?? []).every(({ key, operator, values }) => ({
            In: () => has(key) && values.includes(labels[key]), NotIn: () => !has(key) || !values.includes(labels[key]),
            Exists: () => has(key), DoesNotExist: () => !has(key),
        })[operator]());
}

function peerIs(peer, policyNamespace, who) {
    if (peer.ipBlock)
        return inBlock(who.ip, peer.ipBlock.cidr) && !(peer.ipBlock.except ?? []).some((c) => inBlock(who.ip, c));
    if (who.labels === undefined)
        return false;
    const there = peer.namespaceSelector
        ? selects(peer.namespaceSelector, { 'kubernetes.io/metadata.name': who.namespace }) : who.namespace === policyNamespace;
    return there && (peer.podSelector === undefined || selects(peer.podSelector, who.labels));
}

function portIs(port, protocol, number, target) {
    if ((port.protocol ?? 'TCP') !== protocol)
        return false;
    const wanted = typeof port.port === 'string' ? target.ports?.[port.port] : port.port;
    return port.port === undefined || wanted === number || (port.endPort !== undefined && number >= wanted && number <= port.endPort);
}

function allows(policies, direction, subject, peer, target, protocol, port) {
    if (subject.labels === undefined || subject.foreign)
        return true;    /* not ours to judge */
    const mine = policies.filter((p) => p.metadata.namespace === subject.namespace && selects(p.spec.podSelector, subject.labels) &&
        (p.spec.policyTypes ?? ['Ingress']).includes(direction));
    const [rules, peers] = direction === 'Ingress' ? ['ingress', 'from'] : ['egress', 'to'];
    return mine.length === 0 || mine.some((p) => (p.spec[rules] ?? []).some((rule) =>
        (rule[peers] === undefined || rule[peers].some((x) => peerIs(x, p.metadata.namespace, peer))) &&
        (rule.ports === undefined || rule.ports.some((x) => portIs(x, protocol, port, target)))));
}

/** All arrows as sorted lines "from -> to TCP 1"; pods: our workloads as {name, namespace, labels, ports}. */
export function arrows(policies, pods) {
    const ours = pods.map((p, i) => ({ ...p, ip: `10.244.1.${i + 1}` }));
    const others = OUTSIDE.map((o) => ({ ...o, foreign: o.namespace !== null, namespace: o.namespace === null ? ours[0].namespace : o.namespace }));
    const ports = new Map([...PROBED, ...ours.flatMap((p) => Object.values(p.ports).map((n) => ['TCP', n]))].map((p) => [p.join(' '), p]));
    const out = [];
    for (const from of [...ours, ...others])
        for (const to of [...ours, ...others])
            for (const [protocol, port] of ports.values())
                if (from !== to && !(from.foreign && to.foreign) && (ours.includes(from) || ours.includes(to)) &&
                    allows(policies, 'Egress', from, to, to, protocol, port) && allows(policies, 'Ingress', to, from, to, protocol, port))
                    out.push(`${from.name} -> ${to.name} ${protocol} ${port}`);
    return out.sort();
}
