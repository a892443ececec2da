/** A checkout as it is cloned, before and after what its user types first. */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { startBroker } from '../../src/testing.js';
import { packageRoot, run, runFile } from '../support/process.js';
import { until } from '../support/until.js';
import { fixture, temporaryFolder } from './commands.js';

/** What a clone has of what matters here. */
function clone(): string {
  const folder = temporaryFolder();
  for (const name of ['bin', 'scripts', 'package.json'])
    cpSync(join(packageRoot, name), join(folder, name), { recursive: true });
  return folder;
}

describe('a checkout', () => {
  it('that is not built says so, and what to type', async () => {
    const folder = clone();
    for (const bin of ['stomp-pubsub', 'pubsub', 'publish']) {
      const running = runFile(join(folder, 'bin', `${bin}.js`), ['--help']);
      assert.deepEqual(await running.exit(), { code: 2, signal: null });
      assert.match(running.stderr, new RegExp(`^${bin}: error: it is not built .*: run npm install\\n$`));
    }
  });

  it('whose compiler is left out says what to type, and lets npm end well', async () => {
    const prepare = runFile(join(clone(), 'scripts/prepare.js'), []);
    assert.deepEqual(await prepare.exit(), { code: 0, signal: null });
    assert.match(prepare.stderr, /not built.*\n?.*Run npm install, then npm prune --omit=dev/);
  });
});

describe('stomp-pubsub', () => {
  it('has everything as subcommands, and consumes without one', async () => {
    await using broker = await startBroker();
    const type = async (...args: string[]) => {
      const running = run('stomp-pubsub', args, { env: broker.env });
      assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
      return running.stdout;
    };
    for (const words of [['consume'], []]) {
      await type('publish', '/queue/x', '{"n":1}');
      assert.match(await type('peek', 'x', '--count', '1'), /\{\\"n\\":1\}/);
      const consumer = run('stomp-pubsub', [...words, '/queue/x', fixture('plain.js#ack')], {
        env: broker.env,
      });
      await until(() => broker.depth('x') === 0, 20_000, 'the message');
      consumer.signal('SIGTERM');
      assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
    }
  });
});
