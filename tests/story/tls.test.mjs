/* tls.test.mjs - a gateway that speaks TLS itself: streams, odd clients, addresses, a renewed certificate, SIGTERM.
 *
 * That everything else is as without TLS is shown by the other stories: LLMB_STORY_TLS=1 (tls.mjs). */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { execFile, spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { BIN_DIR, CLEAN_ENV, start } from '../support/stack.mjs';
import { Client } from '../support/client.mjs';
import { story } from '../support/story.mjs';
import { startProvider } from '../support/fake_provider.mjs';
import { answerFor } from '../support/fake_behaviours.mjs';
import { expectAnswer, expectError } from '../support/expect.mjs';
import { openAnswer } from '../support/held.mjs';
import { RawConnection, rawRequest } from '../support/raw.mjs';
import { promised, promisedWithin, until, within } from '../support/deadline.mjs';
import { makeCertificate, secured, signCertificate } from '../support/tls.mjs';

/* Good in 2020 only. */
const EXPIRED = [
    '-----BEGIN CERTIFICATE-----',
    'MIIBCDCBr6ADAgECAgEBMAoGCCqGSM49BAMCMA4xDDAKBgNVBAMMA29sZDAeFw0y',
    'MDAxMDEwMDAwMDBaFw0yMTAxMDEwMDAwMDBaMA4xDDAKBgNVBAMMA29sZDBZMBMG',
    'ByqGSM49AgEGCCqGSM49AwEHA0IABIXkXhzjJPY40RkJOctyQ6y01AP40BmBwp/H',
    'vHe/0KHVzLsYRpyafYuzCUXQBwa2uW9PR0TJ81RbFi9ng3ya7dAwCgYIKoZIzj0E',
    'AwIDSAAwRQIhAPUrh479laVh9lLtQH0q6IqoSWU0YqOceXROiDUTNzqWAiB3l9HQ',
    'NiKWpAvX4ylTEu6mKCvBI9+o4GgTZcik2eNpCQ==',
    '-----END CERTIFICATE-----',
    '',
].join('\n');

let provider;
let dir;            /* of certificates */
let certificate;    /* the one that the gateway starts with */
let s;
before(async () => {
    dir = fs.mkdtempSync(path.join(os.tmpdir(), 'llmb-tls-'));
    certificate = makeCertificate(dir);
    provider = await startProvider();
    s = await start({
        provider, tls: certificate,
        config: { server: { header_timeout_s: 2, drain_s: 4 }, gateway: { viewer_backlog_kb: 64, viewer_idle_s: 2 } },
    });
});
after(async () => {
    await s?.stopAll();
    await provider?.stop();
    fs.rmSync(dir, { recursive: true, force: true });
});

/** Runs a program to its end: {code, out}, out being all that it printed. */
function run(program, args, input = '') {
    return new Promise((resolve) => {
        const child = execFile(program, args, { env: CLEAN_ENV, timeout: 20_000 }, (e, stdout, stderr) => {
            resolve({ code: e ? e.code : 0, out: stdout + stderr });
        });
        child.stdin.on('error', () => {});
        child.stdin.end(input);
    });
}

/** openssl s_client on the gateway. */
const sClient = (args, input) => run('openssl', ['s_client', '-connect', `127.0.0.1:${s.port}`, '-CAfile', certificate.caFile, ...args], input);

/** What a client that comes now is shown. */
async function shown() {
    const socket = tls.connect({ port: s.port, host: '127.0.0.1', ca: certificate.ca });
    try {
        await within(10_000, once(socket, 'secureConnect'), 'the handshake');
        return socket.getPeerX509Certificate().serialNumber;
    } finally {
        socket.destroy();
    }
}

const serial = ({ cert }) => new X509Certificate(cert).serialNumber;

story('curl and node verify the certificate and are served; the log says https', async () => {
    const got = await run('curl', ['-sS', '--noproxy', '*', '--cacert', certificate.caFile, '-o', '/dev/null',
        '-w', '%{http_code} %{ssl_verify_result} %{http_version}', `https://localhost:${s.port}/readyz`]);
    assert.deepEqual(got, { code: 0, out: '200 0 1.1' });
    const stranger = await run('curl', ['-sS', '--noproxy', '*', `https://localhost:${s.port}/readyz`]);
    assert.equal(stranger.code, 60);
    const user = await s.user();
    expectAnswer(await user.ask(await user.create('fake'), 'hello'), answerFor('hello'), { messageId: 2 });
    assert.match(s.logs('gateway'), /listens on https:\/\/127\.0\.0\.1:\d+ with 2 reactors/);
    assert.match(s.logs('gateway'), /the certificate of CN=localhost is good until 20/);
});

story('a stream that breaks off is read on by its last id, as an EventSource does', async () => {
    const user = await s.user();
    const { stream, answer, id } = await openAnswer(provider, user, 'fake:tls-resume', 'one ');
    const lastEventId = stream.events.at(-1).id;
    stream.leave();
    const again = await user.watch(id, { lastEventId });
    await answer.piece('two ');
    await again.shows('two ');
    const third = await user.watch(id, { lastEventId: again.events.at(-1).id });
    await answer.piece('three');
    await answer.finish();
    assert.equal((await again.rest()).full, 'one two three');
    const got = await third.rest();
    assert.deepEqual([got.text, got.full, got.cut], ['three', 'one two three', false]);
});

story('who does not speak TLS is told so, or closed in time; old versions and new keys are refused', async () => {
    const plain = new Client(s.port);
    secured.delete(s.port);
    try {
        expectError(await plain.api('GET', '/readyz'), 400, { code: 'invalid' });
        const noise = await rawRequest(s.port, '\x00\x01\x02\x03\r\n\r\n');
        assert.equal(noise.status, 0);
        const half = new RawConnection(s.port);
        half.send(Buffer.from('160301020001', 'hex'));
        const silent = new RawConnection(s.port);
        await promisedWithin(10_000, Promise.all([half.untilClosed(), silent.untilClosed()]), 'both are closed');
    } finally {
        secured.set(s.port, certificate.ca);
    }
    const old = await sClient(['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0']);
    assert.match(old.out, /alert protocol version|no protocols available/);
    const weak = await sClient(['-tls1_2', '-cipher', 'AES128-SHA:AES256-SHA256:@SECLEVEL=0']);
    assert.match(weak.out, /handshake failure/);
    const h2 = await sClient(['-alpn', 'h2']);
    assert.match(h2.out, /no application protocol/);
    const good = await sClient(['-tls1_2', '-alpn', 'h2,http/1.1'], 'Q');
    assert.match(good.out, /ALPN protocol: http\/1\.1/);
    assert.match(good.out, /Verify return code: 0 \(ok\)/);
    const child = spawn('openssl', ['s_client', '-tls1_2', '-connect', `127.0.0.1:${s.port}`], { env: CLEAN_ENV });
    const gone = once(child, 'exit');
    let out = '';
    child.stdout.on('data', (bytes) => {
        out += bytes;
    });
    child.stderr.on('data', (bytes) => {
        out += bytes;
    });
    try {
        await until(10_000, () => out.includes('Verify return code'), 's_client is through');
        child.stdin.write('R\n');
        await until(10_000, () => /RENEGOTIATING[^]*no renegotiation/i.test(out), `no new keys: ${out.slice(-300)}`);
        await within(10_000, gone, 's_client ends');
    } finally {
        child.kill('SIGKILL');
    }
    assert.equal((await s.api('GET', '/readyz')).status, 200);
});

story('a ticket spares a client the second handshake', async () => {
    const file = path.join(dir, 'session.pem');
    const first = await sClient(['-sess_out', file, '-ign_eof'], `GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    assert.match(first.out, /New, TLSv1\.3/);
    assert.doesNotMatch(first.out, /unexpected eof/);    /* the end of all is said */
    const again = await sClient(['-sess_in', file], 'Q');
    assert.match(again.out, /Reused, TLSv1\.3/);
});

story('one that takes nothing is closed, and nobody else waits for it', async () => {
    const user = await s.user();
    const id = await user.create('fake:megabyte');
    const dead = new RawConnection(s.port);
    dead.send(`POST /api/chat/${id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${user.token}\r\nX-Request-Id: takes-none\r\nContent-Length: 15\r\n\r\n{"message":"x"}`);
    await dead.until('200 OK');
    dead.socket.pause();
    for (let i = 0; i < 3; i++)
        expectAnswer(await user.ask(await user.create('fake'), `q${i}`), answerFor(`q${i}`), { messageId: 2 });
    await promised(20_000, () => s.logs('gateway').includes('takes-none'), 'the one that takes nothing is closed');
    dead.socket.resume();
    const text = await dead.untilClosed();
    assert.ok(!text.includes('full_response'), 'it was bounded by nothing');
    dead.destroy();
});

story('the address of a client is its own: in the log, and for who guesses passwords', async () => {
    const victim = await s.user();
    const guesser = new Client(s.port);
    guesser.localAddress = '127.0.0.77';
    for (let i = 0; i < 10; i++)
        expectError(await guesser.login(victim.name, `guess ${i}`), 401, {});
    expectError(await guesser.login(victim.name, victim.password), 429, { code: 'throttled' });
    assert.equal((await s.login(victim.name, victim.password)).status, 200);
    await until(5000, () => s.logs('gateway').includes('127.0.0.77'), 'the log names it');
});

story('SIGHUP shows a renewed certificate to who comes then; one that is no good changes nothing', async () => {
    const user = await s.user();
    const { stream, answer } = await openAnswer(provider, user, 'fake:tls-renew', 'begun, ');
    const old = serial(certificate);
    assert.equal(await shown(), old);
    const renewed = signCertificate(dir, 'ca', { as: 'renewed' });
    const use = ({ cert, key }) => {
        fs.writeFileSync(certificate.certFile, cert);
        fs.writeFileSync(certificate.keyFile, key);
        s.processes.get('gateway').kill('SIGHUP');
    };
    use(renewed);
    await until(10_000, async () => await shown() === serial(renewed), 'the new one is shown');
    for (const [bad, why] of [
        [{ ...renewed, key: certificate.key }, /does not fit the certificate/],
        [{ ...renewed, cert: 'nonsense' }, /holds no certificates in PEM/],
    ]) {
        const logged = s.logs('gateway').length;
        use(bad);
        await until(10_000, () => why.test(s.logs('gateway').slice(logged)), 'it is refused');
        assert.equal(await shown(), serial(renewed));
    }
    use(certificate);
    await until(10_000, async () => await shown() === old, 'the old one is good enough, too');
    await answer.piece('and ended');
    await answer.finish();
    expectAnswer(await stream.rest(), 'begun, and ended', { messageId: 2 });
});

story('files that cannot serve keep it from starting, with one line, and --check-config says the same', async () => {
    const expired = path.join(dir, 'expired.pem');
    const encrypted = path.join(dir, 'encrypted.key');
    fs.writeFileSync(expired, EXPIRED);
    await run('openssl', ['pkey', '-in', certificate.keyFile, '-aes256', '-passout', 'pass:secret', '-out', encrypted]);
    const config = path.join(dir, 'config.yaml');
    const good = fs.readFileSync(s.configFile, 'utf8').replace(/^( *port: )".*"$/m, '$1"127.0.0.1:1"');
    for (const [from, to, why] of [
        [certificate.certFile, '/nowhere.pem', /^gateway: server\.tls\.cert: cannot read \/nowhere\.pem: No such file or directory\n$/],
        [certificate.certFile, expired, /^gateway: server\.tls\.cert: the certificate in \S+ has expired on 20.*\n$/],
        [certificate.keyFile, encrypted, /^gateway: server\.tls\.key: the key in \S+ is encrypted.*\n$/],
        [certificate.keyFile, '', /server\.tls\.key: expected a file, since server\.tls\.cert is set\n$/],
    ]) {
        fs.writeFileSync(config, good.replace(JSON.stringify(from), JSON.stringify(to)));
        for (const args of [['--check-config'], []]) {
            const got = await run(path.join(BIN_DIR, 'gateway'), ['--config', config, ...args]);
            assert.equal(got.code, 1, got.out);
            assert.match(got.out, why);
        }
    }
});

story('SIGTERM: what is under way comes whole', async () => {
    const user = await s.user();
    const { stream, answer } = await openAnswer(provider, user, 'fake:tls-drain', 'begun, ');
    const idle = new RawConnection(s.port);
    idle.send('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n');
    await idle.until('HTTP/1.1 200 OK');
    const ending = s.kill('gateway', 'SIGTERM');
    await idle.untilClosed();
    await answer.piece('and ended');
    await answer.finish();
    expectAnswer(await stream.rest(), 'begun, and ended', { messageId: 2 });
    assert.deepEqual(await ending, { code: 0, signal: null });
    await s.bring('gateway');
}, { deadline: 60_000 });
