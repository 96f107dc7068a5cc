/* tls.mjs - certificates of one test, made by openssl, and the ports of gateways that speak TLS.
 *
 * A stack whose gateway speaks TLS says so in `secured`; clients (client.mjs, raw.mjs) look there. With LLMB_STORY_TLS=1
 * every stack does: `LLMB_STORY_TLS=1 node tests/support/run_stories.mjs streaming resume` runs stories that way.
 */
import fs from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';

function openssl(dir, ...args) {
    execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** The ports that speak TLS: what a client has to trust there. */
export const secured = new Map();

/** What node's tls and https need to speak to this port; null: it is plain. The address in a story is what its network
 *  says, so the name in the certificate is not looked at. */
export function trust(port) {
    return secured.has(port) ? { ca: secured.get(port), checkServerIdentity: () => undefined } : null;
}

/** Makes a CA and a certificate for 127.0.0.1 and localhost under dir: {key, cert, ca, keyFile, certFile, caFile}. */
export function makeCertificate(dir, name = 'ca', { days = 2 } = {}) {
    const file = (suffix) => path.join(dir, `${name}-${suffix}`);
    fs.writeFileSync(file('ext.cnf'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    openssl(dir, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=Test ${name}`,
        '-keyout', file('ca.key'), '-out', file('ca.pem'));
    return signCertificate(dir, name, { days });
}

/** Another certificate of the same authority; its files go by `as`. */
export function signCertificate(dir, name, { as = name, days = 2 } = {}) {
    const file = (suffix, of = as) => path.join(dir, `${of}-${suffix}`);
    openssl(dir, 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost',
        '-keyout', file('server.key'), '-out', file('server.csr'));
    openssl(dir, 'x509', '-req', '-days', `${days}`, '-in', file('server.csr'), '-CA', file('ca.pem', name),
        '-CAkey', file('ca.key', name), '-CAcreateserial', '-extfile', file('ext.cnf', name), '-out', file('server.pem'));
    return {
        key: fs.readFileSync(file('server.key')), cert: fs.readFileSync(file('server.pem')), ca: fs.readFileSync(file('ca.pem', name)),
        keyFile: file('server.key'), certFile: file('server.pem'), caFile: file('ca.pem', name),
    };
}
