/** How the library answers to what the compiler would refuse. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { consume, openPublisher, PubsubError, type ConsumeOptions } from '../../src/index.js';
import { packageRoot, runProgram } from '../support/process.js';
import { within } from '../support/until.js';
import { fixture } from './commands.js';
import { startScriptedServer } from './scripted-server.js';

describe('consume refuses, before it connects,', () => {
  const callback = () => undefined;
  const wrong: [what: string, options: object, expected: RegExp][] = [
    ['a missing callback', { destination: '/queue/x' }, /callback must be a function.* not undefined/],
    [
      'a callback of another type',
      { destination: '/queue/x', callback: {} },
      /callback must be .* not object/,
    ],
    ['a missing destination', { callback }, /destination must be a string, not undefined/],
    [
      'a destination of another type',
      { destination: 5, callback },
      /destination must be a string, not number/,
    ],
  ];
  for (const [what, options, expected] of wrong) {
    it(what, async () => {
      await using server = await startScriptedServer();
      const address = { host: '127.0.0.1', port: server.port };
      await assert.rejects(consume({ ...address, ...options } as ConsumeOptions), (error) => {
        assert.ok(error instanceof PubsubError);
        assert.equal(error.code, 'invalid-usage');
        assert.match(error.message, expected);
        return true;
      });
      assert.equal(server.connections, 0);
    });
  }
});

it('consume resolves at once when it is stopped while a callback is being set up', async (t) => {
  process.env.SETUP_HANGS = '1';
  t.after(() => Reflect.deleteProperty(process.env, 'SETUP_HANGS'));
  await using server = await startScriptedServer();
  const stop = new AbortController();
  const consuming = consume({
    ...{ host: '127.0.0.1', port: server.port, destination: 'x', signal: stop.signal },
    ...{ callback: fixture('lifecycle.mjs#ack'), setupTimeoutSeconds: 1 },
  });
  stop.abort();
  const { received } = await within(consuming, 500, 'nothing is waited for');
  assert.deepEqual([received, server.connections], [0, 0]);
});

it('importing the library loads no embedded broker and no command', async () => {
  const fixtures = join(packageRoot, 'test/fixtures');
  const script = "await import('stomp-pubsub')";
  const flags = ['--import', join(fixtures, 'print-loaded.mjs'), '--input-type=module', '--eval', script];
  const running = runProgram(process.execPath, flags);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  const own = running.stdout
    .split('\n')
    .map((url) => /\/dist\/src\/(.*)\.js$/.exec(url)?.[1])
    .filter((name) => name !== undefined);
  assert.ok(own.includes('index') && own.includes('consumer/consumer'), running.stdout);
  assert.deepEqual(
    own.filter((name) => /^(?:embedded|commands|cli)\b/.test(name)),
    [],
  );
});

describe('an option that there is not', () => {
  const warnings: object[] = [];
  const quiet = () => undefined;
  const warn = (fields: object, message: string) => warnings.push({ ...fields, message });
  const log = { debug: quiet, info: quiet, warn, error: quiet, isLevelEnabled: () => false };
  const expected = [{ option: 'concurency', message: 'unknown option; is it misspelt?' }];
  const misspelt = { log, concurency: 5 };

  it('is told by consume', async () => {
    const drained = AbortSignal.abort();
    warnings.length = 0;
    await consume({ ...misspelt, destination: 'x', callback: () => undefined, signal: drained });
    assert.deepEqual(warnings, expected);
  });

  it('is told by openPublisher', async () => {
    warnings.length = 0;
    await openPublisher(misspelt).close();
    assert.deepEqual(warnings, expected);
  });
});
