/**
 * Consumers in processes of their own that are stopped, started and killed while messages flow, as at a deploy. The
 * ledger has a line for each call of a callback. TEST_MESSAGES makes it longer: 100000 take about a minute for each test.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { publisherTo, uniqueName } from '../support/consuming.js';
import { followFile, Ledger } from '../support/ledger.js';
import { drainQueue } from '../support/messages.js';
import { packageRoot, run, type Running } from '../support/process.js';
import { until } from '../support/until.js';

const MESSAGES = Number(process.env.TEST_MESSAGES ?? 4000);
/** Between two faults: about a second's worth, the start of a process included. */
const STEP = Math.min(2000, MESSAGES / 4);
const CONCURRENCY = 10;
const PROGRESS_MS = 60_000;

interface Fleet {
  /** The oldest first. */
  readonly consumers: Running[];
  readonly ledger: Ledger;
  /** Resolves when another one consumes. */
  start(): Promise<void>;
  /** Calls `harm` again and again, each time that a STEP more has been processed. Resolves when all are. */
  whileProcessing(harm: () => Promise<void>): Promise<void>;
  /** Resolves when each has ended with 0; what is left counts as one more time, and nothing is dead-lettered. */
  stop(): Promise<void>;
}

/** Starts `size` consumers on one queue, and a publisher. */
async function startFleet(
  t: TestContext,
  broker: BrokerUnderTest,
  size: number,
  flags: readonly string[] = [],
): Promise<Fleet> {
  const queue = uniqueName(t);
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-ledger-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'ledger');
  const ledger = new Ledger(MESSAGES);
  const read = followFile(file, ledger);
  const callback = join(packageRoot, 'test/fixtures/callbacks/ledger.mjs#record');
  const consumers: Running[] = [];
  const start = async () => {
    const args = [`/queue/${queue}`, callback, '--concurrency', String(CONCURRENCY), ...flags];
    const consumer = run('pubsub', args, { env: { ...broker.env, LEDGER: file } });
    await consumer.says('subscribed');
    consumers.push(consumer);
  };
  await Promise.all(Array.from({ length: size }, start));
  const publisher = publisherTo(t, broker);
  const publishing = Promise.all(ledger.bodies().map((body) => publisher.send(`/queue/${queue}`, body)));
  const processed = (count: number) => {
    const hasCome = () => {
      read();
      return ledger.processed >= count;
    };
    return until(hasCome, PROGRESS_MS, () => `${count} messages processed; so far ${ledger.processed}`);
  };
  return {
    consumers,
    ledger,
    start,
    whileProcessing: async (harm) => {
      for (let next = STEP; next < MESSAGES; next += STEP) {
        await processed(next);
        await harm();
      }
      await publishing;
      await processed(MESSAGES);
    },
    stop: async () => {
      for (const consumer of consumers) consumer.signal('SIGTERM');
      for (const consumer of consumers) await assertEndedWell(consumer);
      read();
      // A broker may notice late that a consumer was killed: what that had in flight is there once more.
      for (const { body } of await drainQueue(broker, queue))
        ledger.count((JSON.parse(body.toString()) as { n: number }).n);
      assert.equal((await drainQueue(broker, `DLQ.${queue}`)).length, 0);
    },
  };
}

async function assertEndedWell(consumer: Running): Promise<void> {
  assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
}

for (const broker of brokersUnderTest()) {
  describe(`consumer faults: ${broker.name}`, { concurrency: false }, () => {
    for (const inline of [[], ['--inline']]) {
      test(['a rolling restart of three consumers under load', ...inline].join(', '), async (t) => {
        const fleet = await startFleet(t, broker, 3, inline);
        await fleet.whileProcessing(async () => {
          const oldest = fleet.consumers.shift()!;
          oldest.signal('SIGTERM');
          await assertEndedWell(oldest);
          await fleet.start();
        });
        await fleet.stop();
        fleet.ledger.report(t, broker);
        assert.equal(fleet.ledger.repeated, 0);
      });
    }

    test('kill -9 of one of two consumers under load, again and again', async (t) => {
      let kills = 0;
      let slowestMs = 0;
      const fleet = await startFleet(t, broker, 2);
      await fleet.whileProcessing(async () => {
        const oldest = fleet.consumers.shift()!;
        await oldest.kill();
        const sinceMs = performance.now();
        kills++;
        await fleet.start();
        slowestMs = Math.max(slowestMs, performance.now() - sinceMs);
      });
      await fleet.stop();
      fleet.ledger.report(t, broker, slowestMs);
      fleet.ledger.assertRepeatedAtMost(kills * CONCURRENCY);
    });
  });
}
