/* tls.mjs - a certificate authority and a server certificate of one test, made by openssl. */
import fs from 'node:fs';
import path from 'node:path';
import { execFileSync } from 'node:child_process';

function openssl(dir, ...args) {
    execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Makes a CA and a certificate for 127.0.0.1 and localhost under dir: {key, cert, caFile}. */
export function makeCertificate(dir, name = 'ca') {
    const file = (suffix) => path.join(dir, `${name}-${suffix}`);
    fs.writeFileSync(file('ext.cnf'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    openssl(dir, 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', `/CN=Test ${name}`,
        '-keyout', file('ca.key'), '-out', file('ca.pem'));
    openssl(dir, 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=localhost',
        '-keyout', file('server.key'), '-out', file('server.csr'));
    openssl(dir, 'x509', '-req', '-days', '2', '-in', file('server.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'),
        '-CAcreateserial', '-extfile', file('ext.cnf'), '-out', file('server.pem'));
    return {
        key: fs.readFileSync(file('server.key')), cert: fs.readFileSync(file('server.pem')), caFile: file('ca.pem'),
    };
}
