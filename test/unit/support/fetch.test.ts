/** What the gate fetches: what a registry that answers does not give fails it, what one that is out of reach has is named. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { packageRoot } from '../../support/process.js';

/** Runs fetch.js with a Maven that is this script, and an empty cache. */
function fetchWith(t: TestContext, mvn: string) {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-fetch-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'mvn'), `#!/bin/sh\n${mvn}\n`);
  chmodSync(join(folder, 'mvn'), 0o755);
  const cache = join(folder, 'cache');
  const run = (...names: string[]) => {
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [join(packageRoot, 'dist/test/support/fetch.js'), ...names],
      { env: { PATH: `${folder}:/usr/bin:/bin`, TEST_CACHE: cache }, encoding: 'utf8' },
    );
    return { stdout, stderr, status };
  };
  return { run, cached: () => (existsSync(cache) ? readdirSync(cache) : []) };
}

/** Fills the folder that Maven is told to fill. */
const gives = 'for a; do case $a in -DoutputDirectory=*) mkdir -p "${a#*=}" && : >"${a#*=}/one";; esac; done';

describe('what the gate fetches', () => {
  it('is named where its registry does not answer, which fails nothing', (t) => {
    const { run, cached } = fetchWith(t, 'exit 1');
    const { stdout, stderr, status } = run('activemq-6', 'artemis');
    assert.equal(status, 0, stderr);
    assert.equal(stdout, '');
    assert.match(stderr, /^activemq-6: NOT EXERCISED: .*\nartemis: NOT EXERCISED: .*\n$/);
    assert.deepEqual(cached(), []);
  });

  it('must be there where its registry answers', (t) => {
    const { run, cached } = fetchWith(t, `case "$*" in *:get*) exit 0;; esac; ${gives}; exit 1`);
    const { stdout, stderr, status } = run('artemis');
    assert.equal(status, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /mvn unpack failed/);
    // A half of it is no cache.
    assert.deepEqual(cached(), []);
  });

  it('is fetched once', (t) => {
    const { run, cached } = fetchWith(t, `${gives}; echo called >>"$0.calls"; [ $(wc -l <"$0.calls") = 1 ]`);
    for (let times = 0; times < 2; times++)
      assert.deepEqual(run('artemis'), { stdout: 'artemis\n', stderr: '', status: 0 });
    assert.equal(cached().length, 1);
  });

  it('is none of what nobody knows', (t) => {
    const { stderr, status } = fetchWith(t, 'exit 1').run('artemis', 'kafka');
    assert.equal(status, 1);
    assert.match(stderr, /"kafka" is none of activemq-6, artemis, django-stomp/);
  });
});
