/** Queues as frames declare them, where they have arguments. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { declaringHeaders, drainQueue, put } from '../support/messages.js';
import { connectRaw, ErrorFrame } from '../support/raw-client.js';

export function declaringBehaviours(broker: BrokerUnderTest): void {
  it('BEGIN, SEND and ABORT declare a queue and send nothing', needs(broker, 'queueArguments'), async (t) => {
    const queue = uniqueName(t);
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    await assert.rejects(client.subscribe(`/amq/queue/${queue}`), ErrorFrame);
    const declaring = await connectRaw(broker);
    t.after(() => declaring.destroy());
    declaring.send('BEGIN', { transaction: 'a' });
    declaring.send('SEND', {
      destination: `/queue/${queue}`,
      transaction: 'a',
      ...declaringHeaders(broker, queue),
    });
    await declaring.receipt('ABORT', { transaction: 'a' });
    const again = await connectRaw(broker);
    await again.subscribe(`/amq/queue/${queue}`);
    again.destroy();
    await again.closed;
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('other arguments for an existing queue are refused', needs(broker, 'queueArguments'), async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await put(broker, queue, 1);
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const refused = client.subscribe(queue, {
      'x-dead-letter-exchange': '',
      'x-dead-letter-routing-key': 'other',
    });
    await assert.rejects(
      refused,
      /precondition_failed.*inequivalent arg 'x-dead-letter-routing-key' for queue/,
    );
    await client.closed;
  });

  it(
    'what is sent to a queue that /amq/queue/ does not find is confirmed and dropped',
    needs(broker, 'queueArguments'),
    async (t) => {
      const queue = uniqueName(t);
      const client = await connectRaw(broker);
      t.after(() => client.destroy());
      await client.put(`/amq/queue/${queue}`, 1);
      await assert.rejects(client.subscribe(`/amq/queue/${queue}`), /not_found/);
    },
  );
}
