/** What callbacks publish, counted on the wire: many messages of one callback, and headers that would change a queue. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import { brokersUnderTest, type BrokerUnderTest } from '../support/brokers.js';
import { startConsuming, uniqueName } from '../support/consuming.js';
import { bodiesIn, drainQueue, put } from '../support/messages.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';

const COMPLETE_MS = 120_000;
const withId = { 'correlation-id': 'c' };

/** The broker behind a proxy that counts what is sent to `destination`. */
async function countedSends(t: TestContext, broker: BrokerUnderTest, destination: string) {
  const proxy = await startProxy(broker);
  t.after(() => proxy.close());
  const unconfirmed = new Set<string>();
  const counts = { sent: 0, mostUnconfirmed: 0 };
  proxy.onFrame((_direction, { command, headers }) => {
    if (command === 'RECEIPT') unconfirmed.delete(headers['receipt-id'] ?? '');
    if (command !== 'SEND' || headers.destination !== destination) return;
    counts.sent++;
    unconfirmed.add(headers.receipt ?? '');
    counts.mostUnconfirmed = Math.max(counts.mostUnconfirmed, unconfirmed.size);
  });
  return { behind: { ...broker, host: proxy.host, port: proxy.port }, counts };
}

for (const broker of brokersUnderTest()) {
  describe(`forwarding, on the wire: ${broker.name}`, { concurrency: 2 }, () => {
    test('5,000 messages of one callback arrive, in order, with a thousand unconfirmed at most', async (t) => {
      const [from, count] = [uniqueName(t), 5000];
      const target = `/queue/${from}-to`;
      const { behind, counts } = await countedSends(t, broker, target);
      const settlements: string[] = [];
      const consuming = await startConsuming(t, behind, `/queue/${from}`, async (payload) => {
        for (let n = 0; n < count; n++) payload.publish(target, n);
        settlements.push(await payload.ack());
      });
      await put(broker, `/queue/${from}`, '1', withId);
      await until(
        () => settlements.length > 0,
        COMPLETE_MS,
        () => `${count} messages; sent: ${counts.sent}`,
      );
      assert.deepEqual(settlements, ['sent']);
      assert.equal((await consuming.stop()).acked, 1);
      assert.equal(counts.sent, count);
      const { mostUnconfirmed: most } = counts;
      assert.ok(most > 1 && most <= 1000, `${most} unconfirmed at a time`);
      const arrived = (await bodiesIn(broker, target, count)).map(Number);
      assert.deepEqual(
        arrived,
        Array.from({ length: count }, (_, n) => n),
      );
    });

    test('headers of a message that would change a queue or a connection are not passed on with it', async (t) => {
      const [from, count] = [uniqueName(t), 20];
      const target = `/queue/${from}-to`;
      const { behind, counts } = await countedSends(t, broker, target);
      const forward = (payload: Payload) => {
        payload.publish(target, payload.body, { headers: payload.headers });
        return payload.ack();
      };
      const consuming = await startConsuming(t, behind, `/queue/${from}`, forward, { concurrency: 10 });
      // By a name that declares nothing, where there is one.
      const source = broker.capabilities.queueArguments ? `/amq/queue/${from}` : `/queue/${from}`;
      const odd = {
        ...{ exclusive: 'true', durable: 'false', 'auto-delete': 'true', 'x-message-ttl': '1' },
        ...{ 'reply-to': '/temp-queue/x', tenant: '7' },
      };
      for (let n = 0; n < count; n++)
        await put(broker, source, n, { ...withId, ...(n % 5 === 2 ? odd : { tenant: '7' }) });
      for (let n = 0; n < count; n++) assert.equal((await consuming.settled()).outcome, 'acked');
      const { acked, released } = await consuming.stop();
      assert.deepEqual([acked, released], [count, 0]);
      assert.ok(consuming.payloads.some(({ headers }) => headers.exclusive === 'true'));
      assert.equal(counts.sent, count);
      const arrived = await drainQueue(broker, target, { atLeast: count });
      const numbers = arrived.map(({ body }) => Number(body)).sort((a, b) => a - b);
      assert.deepEqual(
        numbers,
        Array.from({ length: count }, (_, n) => n),
      );
      for (const { headers } of arrived)
        assert.deepEqual(
          [headers.tenant, headers.exclusive, headers['x-message-ttl']],
          ['7', undefined, undefined],
        );
    });
  });
}
