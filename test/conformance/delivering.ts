/** Delivery: how many at once, to whom, and when. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { declaringHeaders, putAll } from '../support/messages.js';
import { connectRaw } from '../support/raw-client.js';

export function deliveryBehaviours(broker: BrokerUnderTest): void {
  it('prefetch bounds what is delivered un-acked', needs(broker, 'prefetchInMessages'), async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, [1, 2, 3, 4, 5]);
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const prefetch = broker.capabilities.queueArguments
      ? { 'prefetch-count': '2' }
      : { 'activemq.prefetchSize': '2' };
    await client.subscribe(queue, { ...declaringHeaders(broker, queue), ...prefetch });
    const first = await client.next('MESSAGE');
    await client.next('MESSAGE');
    await client.put(`${queue}-other`, 1, declaringHeaders(broker, `${queue}-other`));
    assert.equal(client.takeArrived('MESSAGE').length, 0);
    await client.settle('ACK', first);
    assert.equal((await client.next('MESSAGE')).body.toString(), '3');
  });

  it(
    'AMQ_SCHEDULED_DELAY holds a message back, in a transaction from its COMMIT on, and is gone on arrival',
    needs(broker, 'scheduledDelivery'),
    async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      const declaring = declaringHeaders(broker, queue);
      const client = await connectRaw(broker);
      t.after(() => client.destroy());
      await client.subscribe(queue, declaring);
      for (const transaction of ['aborted', 'committed']) {
        client.send('BEGIN', { transaction });
        const headers = { ...declaring, transaction, AMQ_SCHEDULED_DELAY: '200' };
        client.send('SEND', { destination: queue, ...headers }, transaction);
      }
      await client.receipt('ABORT', { transaction: 'aborted' });
      const sinceMs = performance.now();
      const coming = client
        .next(({ body }) => body.toString() === 'committed')
        .then((message) => ({ message, afterMs: performance.now() - sinceMs }));
      await client.receipt('COMMIT', { transaction: 'committed' });
      await client.put(queue, 'not delayed', declaring);
      assert.equal((await client.next('MESSAGE')).body.toString(), 'not delayed');
      const { message: delayed, afterMs } = await coming;
      assert.ok(afterMs > 150, `${afterMs} ms`);
      assert.equal(delayed.headers.AMQ_SCHEDULED_DELAY, undefined);
      if (!broker.capabilities.delaysOnce) return;
      assert.ok(delayed.headers.scheduledJobId);
      // What has been delayed is not delayed again.
      const again = { ...declaring, AMQ_SCHEDULED_DELAY: '3600000', scheduledJobId: 'x' };
      await client.put(queue, 'again', again);
      assert.equal((await client.next('MESSAGE')).body.toString(), 'again');
    },
  );

  it('competing consumers are served in turn', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const clients = await Promise.all([1, 2, 3].map(() => connectRaw(broker)));
    t.after(() => clients.forEach((client) => client.destroy()));
    for (const client of clients) {
      await client.subscribe(queue, {
        ...declaringHeaders(broker, queue),
        'prefetch-count': '1',
        'activemq.prefetchSize': '1',
      });
    }
    await putAll(broker, queue, [1, 2, 3]);
    const bodies = await Promise.all(
      clients.map(async (client) => (await client.next('MESSAGE')).body.toString()),
    );
    assert.deepEqual(bodies.sort(), ['1', '2', '3']);
  });
}
