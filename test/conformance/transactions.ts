/** Transactions, frame by frame. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { declaringHeaders, drainQueue, put } from '../support/messages.js';
import { connectRaw, settlingHeaders } from '../support/raw-client.js';

export function transactionBehaviours(broker: BrokerUnderTest): void {
  it('a transaction is carried out at COMMIT and not before', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    client.send('BEGIN', { transaction: 'a' });
    client.send('SEND', { ...declaringHeaders(broker, queue), destination: queue, transaction: 'a' }, '1');
    await client.receipt(
      'SEND',
      {
        ...declaringHeaders(broker, queue),
        destination: `${queue}-2`,
        ...declaringHeaders(broker, `${queue}-2`),
      },
      '2',
    );
    assert.equal((await drainQueue(broker, queue)).length, 0);
    await client.receipt('COMMIT', { transaction: 'a' });
    assert.equal((await drainQueue(broker, queue, { atLeast: 1 })).length, 1);
  });

  it(
    'an ABORT or a lost connection undoes a transaction, acks included',
    needs(broker, 'undoesAcks'),
    async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      await put(broker, queue, 'kept');
      for (const undo of ['ABORT', 'drop'] as const) {
        const client = await connectRaw(broker);
        await client.subscribe(queue, declaringHeaders(broker, queue));
        const message = await client.next('MESSAGE');
        client.send('BEGIN', { transaction: 'a' });
        client.send(
          'SEND',
          { ...declaringHeaders(broker, queue), destination: queue, transaction: 'a' },
          'never',
        );
        client.send('ACK', { ...settlingHeaders(message), transaction: 'a' });
        if (undo === 'ABORT') await client.receipt('ABORT', { transaction: 'a' });
        client.destroy();
        await client.closed;
      }
      const bodies = (await drainQueue(broker, queue, { atLeast: 1 })).map(({ body }) => body.toString());
      assert.deepEqual(bodies, ['kept']);
    },
  );

  it('an unknown transaction is an ERROR', async (t) => {
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    await assert.rejects(client.receipt('COMMIT', { transaction: 'nope' }), /nope/);
  });
}
