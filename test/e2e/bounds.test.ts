/** Consumers that end by themselves: after a number of messages, when nothing comes, after a time; and workers that are renewed. */
import assert from 'node:assert/strict';
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { drainQueue, put } from '../support/messages.js';
import type { Running } from '../support/process.js';
import { until } from '../support/until.js';
import {
  DEADLINE_MS,
  fixture,
  printed,
  pubsub,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';
import { late, slowly, startScriptedServer } from './scripted-server.js';
import { startBroker } from '../../src/testing.js';

const done = { code: 0, signal: null };
const ack = fixture('plain.js#ack');

async function fill(broker: BrokerUnderTest, queue: string, count: number): Promise<void> {
  for (let n = 0; n < count; n++)
    await put(broker, `/queue/${queue}`, { n }, { 'correlation-id': String(n) });
}

/** It must end by itself; resolves with its last line. */
async function ended(consumer: Running): Promise<Record<string, unknown>> {
  assert.deepEqual(await consumer.exit(), done, consumer.stderr);
  return consumer.said('stopped')[0]!;
}

for (const broker of brokersUnderTest()) {
  describe(`--limit on ${broker.name}`, () => {
    it('processes so many, with a prefetch no larger, and leaves the rest in its order', async () => {
      const queue = unique('bounds');
      await fill(broker, queue, 12);
      const consumer = pubsub(broker, queue, ack, { flags: ['--limit', '5', '--concurrency', '20'] });
      const { why, received, acked } = await ended(consumer);
      assert.deepEqual([why, received, acked], ['limit', 5, 5]);
      assert.equal(printed(consumer).length, 5);
      assert.equal(consumer.said('subscribed')[0]?.concurrency, 5);
      const rest = await drainQueue(broker, `/queue/${queue}`, { atLeast: 7 });
      assert.deepEqual(
        rest.map(({ body }) => (JSON.parse(body.toString()) as { n: number }).n),
        [5, 6, 7, 8, 9, 10, 11],
      );
    });

    it('loses nothing and runs no more than that, however often a consumer is killed', async () => {
      const queue = unique('bounds');
      const count = 30;
      await fill(broker, queue, count);
      const ledger = join(temporaryFolder(), 'ledger');
      appendFileSync(ledger, '');
      const seen: number[] = [];
      for (let round = 0; round < 4; round++) {
        const consumer = pubsub(broker, queue, fixture('bounds.mjs#record'), {
          flags: ['--limit', '6', '--concurrency', '3'],
        });
        await until(
          () => printed(consumer).length >= round,
          DEADLINE_MS,
          () => consumer.stderr,
        );
        await consumer.kill();
        assert.ok(printed(consumer).length <= 6, consumer.stderr);
        seen.push(...printed(consumer).map(Number));
      }
      const rest = pubsub(broker, queue, fixture('bounds.mjs#record'), { flags: ['--until-idle', '4s'] });
      assert.equal((await ended(rest)).why, 'idle');
      seen.push(...printed(rest).map(Number));
      assert.deepEqual(
        [...new Set(seen)].toSorted((a, b) => a - b),
        Array.from({ length: count }, (_, n) => n),
      );
    });
  });
}

describe('a consumer that ends by itself', () => {
  it('counts a message whose connection was lost when it is done, not when it was begun', async () => {
    await using broker = await startBroker();
    for (let n = 0; n < 5; n++) broker.publish('/queue/x', { n }, { 'correlation-id': 'c' });
    const flags = ['--limit', '3', '--wait-to-connect', '0.2'];
    const gate = join(temporaryFolder(), 'gate');
    const consumer = await startPubsub(broker, 'x', fixture('stop.mjs#held'), { flags, env: { GATE: gate } });
    await consumer.waitFor(/started/);
    broker.dropConnections();
    await consumer.says('subscribed', 2);
    writeFileSync(gate, '');
    const { why, acked, released } = await ended(consumer);
    assert.deepEqual([why, acked, released], ['limit', 3, 1]);
    assert.equal(broker.depth('x'), 2);
  });

  it('does so after one message with --once, which may be dead-lettered', async () => {
    await using broker = await startBroker();
    for (const body of ['no JSON', '1']) broker.publish('/queue/x', body, { 'correlation-id': 'c' });
    const { why, deadLettered } = await ended(pubsub(broker, 'x', ack, { flags: ['--once'] }));
    assert.deepEqual([why, deadLettered], ['limit', 1]);
    assert.deepEqual([broker.depth('x'), broker.depth('DLQ.x')], [1, 1]);
  });

  it('does so when its time is over, and lets what is in flight finish', async () => {
    await using broker = await startBroker();
    broker.publish('/queue/x', { n: 1 }, { 'correlation-id': 'c' });
    // Where the machine stands still for so long, nothing has begun: it gets more time.
    for (const limit of ['500ms', '5s', '15s']) {
      const flags = ['--time-limit', limit];
      const { why, received, acked } = await ended(
        pubsub(broker, 'x', fixture('bounds.mjs#slow'), { flags }),
      );
      assert.deepEqual([why, acked], ['time-limit', received]);
      if (acked === 1) break;
    }
    assert.equal(broker.depth('x'), 0);
  });

  it('is not idle while a message is in flight', async () => {
    await using broker = await startBroker();
    broker.publish('/queue/x', { n: 1 }, { 'correlation-id': 'c' });
    const consumer = pubsub(broker, 'x', fixture('bounds.mjs#slow'), { flags: ['--until-idle', '300ms'] });
    const { why, acked } = await ended(consumer);
    assert.deepEqual([why, acked], ['idle', 1]);
  });

  it('is not idle while its broker stands still', async () => {
    await using server = await startScriptedServer({ answer: late({ n: 1 }) });
    const consumer = pubsub(server, 'x', ack, { flags: ['--until-idle', '200ms', '--canary-interval', '0'] });
    const { why, acked } = await ended(consumer);
    assert.deepEqual([why, acked], ['idle', 1]);
  });

  it('waits for a message that takes longer to come than the broker has to answer', async () => {
    await using server = await startScriptedServer({ answer: slowly({ text: 'x'.repeat(1000) }, 12, 500) });
    const flags = ['--until-idle', '200ms', '--canary-interval', '0', '--receipt-timeout', '3'];
    const { why, acked } = await ended(pubsub(server, 'x', ack, { flags }));
    const subscribed = server.frames.filter(
      ({ command, headers }) => command === 'SUBSCRIBE' && headers.destination === '/queue/x',
    );
    assert.deepEqual([why, acked, subscribed.length], ['idle', 1, 1]);
  });

  it('says which signal stopped it otherwise', async () => {
    await using broker = await startBroker();
    const consumer = await startPubsub(broker, 'x', ack, { flags: ['--limit', '3', '--time-limit', '1h'] });
    await stopPubsub(consumer);
    assert.equal(consumer.said('stopped')[0]?.why, 'SIGTERM');
  });
});

describe('--worker-max-messages', () => {
  it('renews the worker after so many messages, and loses none', async () => {
    await using broker = await startBroker();
    for (let n = 0; n < 7; n++) broker.publish('/queue/x', { n }, { 'correlation-id': 'c' });
    const flags = ['--worker-max-messages', '3', '--limit', '7'];
    const consumer = pubsub(broker, 'x', fixture('bounds.mjs#who'), { flags });
    assert.equal((await ended(consumer)).acked, 7);
    const workers = printed(consumer);
    assert.deepEqual(
      [...new Set(workers)].map((pid) => workers.filter((one) => one === pid).length),
      [3, 3, 1],
    );
  });
});

it('time for which a consumer stood still is no silence of its queue', async () => {
  await using broker = await startBroker();
  const consumer = await startPubsub(broker, '/queue/x', ack, { flags: ['--until-idle', '3'] });
  consumer.signal('SIGSTOP');
  const sinceMs = performance.now();
  await until(() => performance.now() - sinceMs > 3200, DEADLINE_MS, 'more than the silence that ends it');
  broker.publish('/queue/x', { n: 1 }, { 'correlation-id': 'c' });
  consumer.signal('SIGCONT');
  await consumer.waitFor(/"source":"console"/);
  assert.equal((await stopPubsub(consumer)).acked, 1);
});
