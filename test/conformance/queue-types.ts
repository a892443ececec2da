/** Queue types: one setting, for consumers and publishers alike. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { BrokerUnderTest } from '../support/brokers.js';
import { launchConsuming, publisherTo, startConsuming, uniqueName } from '../support/consuming.js';
import { drainQueue } from '../support/messages.js';

const quorum = { queueType: 'quorum' } as const;

export function queueTypeBehaviours(broker: BrokerUnderTest): void {
  it('a quorum queue is declared by publisher and consumer alike, and has its dead letters', async (t) => {
    const queue = uniqueName(t);
    const publisher = publisherTo(t, broker, quorum);
    await publisher.send(`/queue/${queue}`, { n: 1 });
    const consuming = await startConsuming(
      t,
      broker,
      `/queue/${queue}`,
      (payload) => ((payload.body as { n: number }).n === 1 ? payload.ack() : payload.nack()),
      quorum,
    );
    await publisher.send(`/queue/${queue}`, { n: 2 });
    await consuming.received(2);
    const { acked, deadLettered } = await consuming.stop();
    assert.deepEqual({ acked, deadLettered }, { acked: 1, deadLettered: 1 });
    if (broker.ctl !== undefined) {
      const types = await broker.ctl('list_queues', '--no-table-headers', 'name', 'type');
      assert.ok(types.includes(`DLQ.${queue}\tquorum`), types);
      assert.ok(types.split('\n').includes(`${queue}\tquorum`), types);
    }
    const dead = await drainQueue(broker, `DLQ.${queue}`, { atLeast: 1 });
    assert.deepEqual(
      dead.map(({ body }) => body.toString()),
      ['{"n":2}'],
    );
  });

  it('an application of a virtual topic may have a quorum queue', async (t) => {
    const topic = `VirtualTopic.${uniqueName(t)}`;
    const consuming = await startConsuming(
      t,
      broker,
      `Consumer.app.${topic}`,
      (payload) => payload.ack(),
      quorum,
    );
    await publisherTo(t, broker).send(`/topic/${topic}`, 1);
    await consuming.received(1);
    assert.equal((await consuming.stop()).acked, 1);
  });

  const skip = broker.capabilities.queueArguments ? false : 'queues have no type';
  it('another type than the queue has is refused with what to set', { skip }, async (t) => {
    const queue = uniqueName(t);
    const advised = { code: 'broker-refused', message: /STOMP_QUEUE_TYPE \(--queue-type\)/ };
    await publisherTo(t, broker).send(`/queue/${queue}`, 1);
    const consuming = launchConsuming(t, broker, `/queue/${queue}`, (payload) => payload.ack(), quorum);
    await assert.rejects(consuming.ended, advised);
    await assert.rejects(publisherTo(t, broker, quorum).send(`/queue/${queue}`, 2), advised);
  });
}
