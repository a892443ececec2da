/** The runner of the tests: what it says in its last lines, and when it fails. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { packageRoot } from '../../support/process.js';

function runTests(t: TestContext, args: string[], env: Readonly<Record<string, string>>) {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-run-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const summary = join(folder, 'summary');
  writeFileSync(summary, 'an earlier run\n');
  const { stdout, stderr, status } = spawnSync(
    process.execPath,
    [join(packageRoot, 'dist/test/support/run.js'), ...args],
    {
      env: { PATH: process.env.PATH, TEST_SUMMARY: summary, TEST_CACHE: join(folder, 'cache'), ...env },
      encoding: 'utf8',
    },
  );
  return { lines: stdout.trimEnd().split('\n'), stderr, status, summary: readFileSync(summary, 'utf8') };
}

describe('npm test', () => {
  it('ends with what earlier runs said, each broker, and the counts', (t) => {
    const env = { TEST_BROKERS: 'embedded' };
    const { lines, status, summary } = runTests(t, ['conformance/embedded.test.ts'], env);
    assert.equal(status, 0);
    const [last = '', ...others] = lines.slice(-6).reverse();
    assert.match(last, /^\d+ passed, 0 failed, \d+ skipped$/);
    assert.deepEqual(others.slice(-1), ['an earlier run']);
    const embedded = lines.find((line) => line.startsWith('embedded'));
    assert.equal(embedded, `embedded of this checkout: exercised, conformance: ${last}`);
    assert.ok(summary.startsWith('an earlier run\nNode v'), summary);
    assert.ok(summary.includes(`: ${embedded}\n`), summary);
  });

  it('fails where a broker that is named cannot be had, and says which', (t) => {
    const env = { PATH: '/nonexistent', TEST_BROKERS: 'artemis' };
    const { stderr, status } = runTests(t, ['conformance/artemis.test.ts'], env);
    assert.equal(status, 1);
    assert.match(stderr, /^artemis is required: no mvn on this machine/);
  });

  for (const [broker, variable, text] of [
    ['rabbitmq', 'TEST_RABBITMQ_VERSION', 'is none of 4, 4-newest'],
    ['activemq', 'TEST_ACTIVEMQ_VERSION', 'is not 6'],
  ] as const) {
    it(`refuses a ${variable} that nobody knows`, (t) => {
      const { stderr, status } = runTests(t, ['conformance/embedded.test.ts'], {
        [variable]: '1',
        TEST_BROKERS: broker,
      });
      assert.equal(status, 1);
      assert.match(stderr, new RegExp(`${variable}: "1" ${text}`));
    });
  }
});
