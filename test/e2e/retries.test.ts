/** `pubsub --retries`, as its users run it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { activemqMissing, startActivemq } from '../support/activemq.js';
import { brokersUnderTest, brokerUnderTest } from '../support/brokers.js';
import { drainQueue, put } from '../support/messages.js';
import { run } from '../support/process.js';
import {
  anyBroker,
  fixture,
  printed,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  unique,
} from './commands.js';

const withId = { 'correlation-id': 'c-1' };

for (const broker of brokersUnderTest()) {
  describe(`retries on ${broker.name}`, { concurrency: 4 }, () => {
    for (const [where, flags] of [
      ['in a worker', []],
      ['inline', ['--inline']],
    ] as const) {
      it(`a throw is tried again, and said, ${where}`, async () => {
        const queue = `/queue/${unique('retries')}`;
        const running = await startPubsub(broker, queue, fixture('retry.mjs#secondTime'), {
          flags: ['--retries', '3', '--retry-delay', '100ms,1h', ...flags],
        });
        await put(broker, queue, { n: 1 }, withId);
        await running.waitFor(/"msg":"attempt 2"/);
        const summary = await stopPubsub(running);
        assert.deepEqual(printed(running), ['attempt 1', 'attempt 2']);
        assert.deepEqual([summary.received, summary.acked, summary.deadLettered], [2, 1, 0]);
        const line = running.said('to be tried again')[0]!;
        const { attempt, of, delayMs, err, correlationId, level } = line;
        assert.deepEqual(
          { attempt, of, delayMs, correlationId },
          { attempt: 1, of: 4, delayMs: 100, correlationId: 'c-1' },
        );
        assert.match(JSON.stringify(err), /not the first time/);
        assert.ok(['warn', 40].includes(level as string | number));
        assert.deepEqual(await drainQueue(broker, queue), []);
      });
    }

    it('a callback that heeds its time limit is tried again; one that has to be given up is not', async () => {
      for (const [callback, attempts] of [
        ['never', 2],
        ['blocks', 1],
      ] as const) {
        const queue = `/queue/${unique('retries')}`;
        const running = await startPubsub(broker, queue, fixture(`retry.mjs#${callback}`), {
          flags: ['--retries', '1', '--retry-delay', '50ms', '--timeout', '0.2'],
        });
        await put(broker, queue, { n: 1 }, withId);
        await running.says('dead-lettered');
        await stopPubsub(running);
        assert.equal(printed(running).length, attempts);
      }
    });
  });
}

describe('the settings of retries', () => {
  const broker = anyBroker();
  const bad: [flags: string[], pattern: RegExp][] = [
    [['--retries', '1', '--retry-delay', '5d'], /--retry-delay: delays like 500ms, 5s, 5m or 1h/],
    [['--retries', '1', '--retry-delay', '5s,'], /--retry-delay/],
    [['--retries', '1', '--retry-delay', '0s'], /--retry-delay/],
    [['--retries', '1', '--retry-delay', '169h'], /up to 168h/],
    [['--retries', '-1'], /--retries: a whole number from 0 to 1000 expected/],
    [['--retries', '1', '--exclusive'], /STOMP_RETRIES and STOMP_DEFAULT_EXCLUSIVE_QUEUE/],
  ];
  for (const [flags, pattern] of bad) {
    it(`${flags.join(' ')} is refused`, skipWithout(broker), async () => {
      const running = pubsub(broker!, '/queue/x', fixture('retry.mjs#secondTime'), { flags });
      assert.equal((await running.exit()).code, 2);
      assert.match(running.stderr, pattern);
    });
  }
});

describe('an ActiveMQ without a scheduler', () => {
  const isMissing = activemqMissing() !== undefined || brokerUnderTest('activemq') === undefined;
  it(
    'is refused at the start, with what to set',
    { skip: isMissing && 'no ActiveMQ in this run' },
    async () => {
      await using broker = await startActivemq({ hasScheduler: false });
      const queue = `/queue/${unique('retries')}`;
      const args = [queue, fixture('retry.mjs#secondTime')];
      const running = run('pubsub', [...args, '--retries', '1'], { env: broker.env });
      assert.equal((await running.exit()).code, 4);
      assert.match(running.stderr, /no scheduler.*schedulerSupport="true"/);
      await stopPubsub(await startPubsub(broker, queue, args[1]!));
    },
  );
});
