/* hardened.test.mjs - every service gives up at its start what it never needs, as the kernel tells.
 *
 * What that means (nothing is started, nobody is looked into) is tested by test_svc_harden. */
import { after, before } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { SERVICES, SLOW, start } from '../support/stack.mjs';
import { story } from '../support/story.mjs';

const SANITIZED = SLOW > 1;   /* sanitizers trace themselves: no filter then */

let s;
before(async () => {
    s = await start({ config: { test: { debuggable: false } } });
});
after(() => s?.stopAll());

story('each process runs without new privileges, under a filter of system calls, without core files', async () => {
    for (const name of SERVICES) {
        const { pid } = s.processes.get(name);
        const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
        assert.match(status, /^NoNewPrivs:\t1$/m, name);
        if (!SANITIZED)
            assert.match(status, /^Seccomp:\t2$/m, name);
        const isRoot = process.getuid() === 0;    /* others may not even read its limits */
        if (isRoot) {
            assert.match(fs.readFileSync(`/proc/${pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m, name);
            assert.equal(fs.statSync(`/proc/${pid}/environ`).uid, 0, name);
        } else {
            assert.throws(() => fs.readFileSync(`/proc/${pid}/environ`), /EACCES/, name);
        }
        /* each thread, too: whatever library has made it */
        for (const task of fs.readdirSync(`/proc/${pid}/task`)) {
            const of = fs.readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8');
            assert.match(of, SANITIZED ? /^NoNewPrivs:\t1$/m : /^Seccomp:\t2$/m, `${name}, thread ${task}`);
        }
    }
    for (const name of SERVICES)
        assert.doesNotMatch(s.logs(name), /this kernel/, name);
});
