/* support.test.mjs - what the stories stand on: ports that nobody else is given, failures told in few words. */
import assert from 'node:assert/strict';
import net from 'node:net';
import path from 'node:path';
import { once } from 'node:events';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { freePorts, rangeBeside } from '../support/ports.mjs';
import { failuresOf, tell, tellShortly } from '../support/failures.mjs';
import { prepare } from '../support/stack.mjs';
import { story } from '../support/story.mjs';

const run = promisify(execFile);
const PORTS = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../support/ports.mjs');

story('who draws ports at the same time gets different ones, in one process and in several', async () => {
    const here = (await Promise.all(Array.from({ length: 60 }, () => freePorts(2)))).flat();
    assert.equal(new Set(here).size, 120);
    /* Each holds its ports until all have drawn: it ends when its input does. */
    const program = `const { freePorts } = await import(${JSON.stringify(PORTS)});
        console.log(JSON.stringify((await Promise.all(Array.from({ length: 60 }, () => freePorts(2)))).flat()));
        process.stdin.resume();`;
    const others = Array.from({ length: 3 }, () => {
        const running = run(process.execPath, ['--input-type=module', '-e', program]);
        const drawn = new Promise((resolve) => {
            running.child.stdout.once('data', resolve);
        });
        return { running, drawn };
    });
    await Promise.all(others.map(({ running, drawn }) => Promise.race([drawn, running])));
    for (const { running } of others)
        running.child.stdin.end();
    const theirs = (await Promise.all(others.map(({ running }) => running))).flatMap(({ stdout }) => JSON.parse(stdout));
    assert.equal(new Set([...here, ...theirs]).size, 4 * 120);
});

story('ports are drawn beside those that the kernel gives by itself, wherever these are', async () => {
    assert.deepEqual(rangeBeside(32_768, 61_000), [10_000, 31_000, false]);
    assert.deepEqual(rangeBeside(16_000, 65_536), [10_000, 16_000, false]);
    assert.deepEqual(rangeBeside(9000, 60_000), [60_000, 65_536, false]);
    assert.deepEqual(rangeBeside(10_000, 65_000), [1024, 10_000, false]);
    assert.deepEqual(rangeBeside(1024, 65_536), [10_000, 31_000, true]);
});

story('a service that ends while the system starts: the first line says which one, and what it said itself', async () => {
    const somebody = net.createServer().listen(0, '127.0.0.1');
    await once(somebody, 'listening');
    const { port } = somebody.address();
    const stack = await prepare({ httpPort: port });
    const refused = await stack.startAll().catch((e) => e);
    somebody.close();
    stack.crashes = [];
    await stack.stopAll();
    assert.equal(refused.message, `gateway ended by itself: exit 1: gateway: port ${port} is in use`);
});

story('a failure is told by its name, its place and its first lines', async () => {
    const tap = `TAP version 13
# Subtest: group
    not ok 3 - stands still: for good
      ---
      duration_ms: 254.0
      location: '/x/tests/support/story.mjs:17:5'
      failureType: 'testCodeFailure'
      error: |-
        gateway ended by itself: exit 1: port 4711 is in use
        gateway (exit 1): ${'a long complaint '.repeat(100)}
        --- auth-svc (pid 1)
        the log of somebody else
        
      code: 'ERR_TEST_FAILURE'
      stack: |-
        start (file:///x/tests/support/stack.mjs:1:2)
        file:///x/tests/story/stall.test.mjs:40:7
      ...
    ok 4 - goes on
      ---
      duration_ms: 1
      ...
not ok 1 - group
  ---
  failureType: 'subtestsFailed'
  error: '1 subtest failed'
  ...
not ok 2 - isn't quoted
  ---
  failureType: 'testCodeFailure'
  error: 'it isn''t'
  ...
# pass 1`;
    const found = failuresOf(tap);
    assert.deepEqual(found.map((f) => [f.name, f.place, f.lines[0]]), [
        ['stands still: for good', 'stall.test.mjs:40', 'gateway ended by itself: exit 1: port 4711 is in use'],
        ['isn\'t quoted', '', 'it isn\'t'],
    ]);
    assert.ok(tell(found[0]).length < 1000);
    assert.ok(!tell(found[0]).includes('somebody else'));
    assert.equal(tellShortly('stall.test.mjs', found[0]),
        'failed: stall.test.mjs: stands still: for good: gateway ended by itself: exit 1: port 4711 is in use');
    assert.deepEqual(failuresOf('# Error: cannot be loaded\n#     at somewhere\n# pass 0').map((f) => f.lines),
        [['Error: cannot be loaded']]);
});
