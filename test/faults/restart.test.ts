import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { brokerUnderTest, type BrokerName } from '../support/brokers.js';
import { activemqMissing, startActivemq } from '../support/activemq.js';
import { publisherTo, slowestRecovery, startConsuming, uniqueName } from '../support/consuming.js';
import { Ledger } from '../support/ledger.js';
import { drainQueue, putAll } from '../support/messages.js';
import type { OwnBroker } from '../support/own-broker.js';
import { keepDeclarations, rabbitmqMissing, startRabbitmq } from '../support/rabbitmq.js';

const COMPLETE_MS = 120_000;

const products: [BrokerName, () => string | undefined, () => Promise<OwnBroker>][] = [
  ['rabbitmq', rabbitmqMissing, startRabbitmq],
  ['activemq', activemqMissing, startActivemq],
];

for (const [name, missing, start] of products) {
  const skip = brokerUnderTest(name) === undefined ? 'not in this run' : (missing() ?? false);
  describe(`broker faults: ${name}`, { skip }, () => {
    let broker: OwnBroker;
    before(async () => {
      broker = await start();
    });
    after(() => broker.stop());

    test('a broker that is killed, stopped and started again under load loses nothing', async (t) => {
      const queue = uniqueName(t);
      const ledger = new Ledger(3000);
      await putAll(broker, `/queue/${queue}`, ledger.bodies(), { 'correlation-id': 'c' });
      await keepDeclarations(broker);
      const consuming = await startConsuming(
        t,
        broker,
        `/queue/${queue}`,
        async (payload) => {
          if ((await payload.ack()) === 'sent') ledger.record(payload);
          await new Promise(setImmediate);
        },
        { concurrency: 10 },
      );
      await consuming.received(500);
      let slowestMs = 0;
      for (const how of ['kill', 'clean'] as const) {
        await broker.restart(how);
        const sinceMs = performance.now();
        const { atMs } = await consuming.turned('subscribed');
        slowestMs = Math.max(slowestMs, atMs - sinceMs);
        if (how === 'kill') await consuming.received(1500);
      }
      await ledger.complete(COMPLETE_MS);
      ledger.report(t, broker, slowestMs);
      await publisherTo(t, broker).send(`/queue/${queue}`, { n: 3000 });
      const summary = await consuming.stop();
      assert.ok(summary.acked >= 3000);
      assert.equal((await drainQueue(broker, `DLQ.${queue}`)).length, 0);
    });

    test('a message in flight when its broker is killed comes again, and is counted as repeated', async (t) => {
      const queue = uniqueName(t);
      const ledger = new Ledger(1);
      const settlements: unknown[] = [];
      let finish: () => void = () => undefined;
      const finished = new Promise<void>((resolve) => (finish = resolve));
      const consuming = await startConsuming(t, broker, `/queue/${queue}`, async (payload) => {
        await finished;
        ledger.record(payload);
        settlements.push(await payload.ack());
      });
      await publisherTo(t, broker).send(`/queue/${queue}`, { n: 0 });
      await consuming.received(1);
      await keepDeclarations(broker);
      await broker.down('kill');
      await consuming.turned('lost');
      await broker.up();
      const sinceMs = performance.now();
      finish();
      const { atMs } = await consuming.turned('subscribed');
      await consuming.received(2);
      // ActiveMQ 5.17 does not mark it as redelivered.
      const { redelivered, acked, released } = await consuming.stop();
      assert.deepEqual({ redelivered, acked, released }, { redelivered: 1, acked: 1, released: 1 });
      assert.deepEqual(settlements, ['connection-lost', 'sent']);
      ledger.report(t, broker, atMs - sinceMs);
    });

    test('a broker that is stopped in its tracks is left by heart-beat, and served again when it goes on', async (t) => {
      const queue = uniqueName(t);
      // A test that stands still for a while is not hung up on.
      const beats = { incomingHeartbeatMs: 1000, outgoingHeartbeatMs: 60_000 };
      const consuming = await startConsuming(t, broker, `/queue/${queue}`, (payload) => payload.ack(), beats);
      broker.pause();
      const { reason } = await consuming.turned('lost');
      assert.match(reason ?? '', /no heart-beat within/);
      broker.resume();
      const sinceMs = performance.now();
      const { atMs } = await consuming.turned('subscribed');
      const ledger = new Ledger(1);
      await publisherTo(t, broker).send(`/queue/${queue}`, { n: 0 });
      for (const payload of await consuming.received(1)) ledger.record(payload);
      ledger.report(t, broker, atMs - sinceMs);
    });
  });
}

describe(
  'broker faults: a queue is deleted',
  { skip: brokerUnderTest('rabbitmq')?.ctl === undefined && 'needs rabbitmqctl' },
  () => {
    test('a queue deleted under its consumer is declared again and consumed', async (t) => {
      const broker = brokerUnderTest('rabbitmq')!;
      const queue = uniqueName(t);
      const consuming = await startConsuming(t, broker, `/queue/${queue}`, (payload) => payload.ack());
      await broker.ctl!('delete_queue', queue);
      const { reason } = await consuming.turned('lost');
      assert.match(reason ?? '', /the queue was deleted/);
      await consuming.turned('subscribed');
      const ledger = new Ledger(1);
      await publisherTo(t, broker).send(`/queue/${queue}`, { n: 0 });
      for (const payload of await consuming.received(1)) ledger.record(payload);
      assert.equal((await consuming.stop()).acked, 1);
      ledger.report(t, broker, slowestRecovery(consuming.events));
    });
  },
);
