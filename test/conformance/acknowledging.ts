/** Acknowledging, frame by frame: what each mode settles, and what comes again. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { needs, type BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { declaringHeaders, drainQueue, put, putAll } from '../support/messages.js';
import { connectRaw, settlingHeaders } from '../support/raw-client.js';

export function acknowledgingBehaviours(broker: BrokerUnderTest): void {
  it(
    'an un-acked message is redelivered as such when its connection ends, in order',
    needs(broker, 'returnsWhatWasCut'),
    async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      await putAll(broker, queue, [1, 2, 3]);
      const first = await connectRaw(broker);
      await first.subscribe(queue, declaringHeaders(broker, queue));
      await first.next('MESSAGE');
      await first.next('MESSAGE');
      const last = await first.next('MESSAGE');
      assert.notEqual(last.headers.redelivered, 'true');
      first.reset();
      const messages = await drainQueue(broker, queue, { atLeast: 3 });
      assert.deepEqual(
        messages.map(({ body }) => body.toString()),
        ['1', '2', '3'],
      );
      assert.deepEqual(
        messages.map(({ headers }) => headers.redelivered),
        ['true', 'true', 'true'],
      );
    },
  );

  it('client-individual acknowledges one message alone', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, [1, 2, 3]);
    const client = await connectRaw(broker);
    await client.subscribe(queue, declaringHeaders(broker, queue));
    await client.next('MESSAGE');
    await client.settle('ACK', await client.next('MESSAGE'));
    await client.disconnect();
    const rest = await drainQueue(broker, queue, { atLeast: 2 });
    assert.deepEqual(
      rest.map(({ body }) => body.toString()),
      ['1', '3'],
    );
  });

  it('client acknowledges all messages before', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, [1, 2, 3]);
    const client = await connectRaw(broker);
    await client.subscribe(queue, { ...declaringHeaders(broker, queue), ack: 'client' });
    await client.next('MESSAGE');
    await client.settle('ACK', await client.next('MESSAGE'));
    await client.disconnect();
    const rest = await drainQueue(broker, queue, { atLeast: 1 });
    assert.deepEqual(
      rest.map(({ body }) => body.toString()),
      ['3'],
    );
  });

  it('auto needs no acknowledgement', needs(broker, 'autoSettlesOnArrival'), async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await put(broker, queue, 1);
    const client = await connectRaw(broker);
    await client.subscribe(queue, { ...declaringHeaders(broker, queue), ack: 'auto' });
    await client.next('MESSAGE');
    await client.disconnect();
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('acks without receipts count when DISCONNECT is confirmed', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, [...Array(100).keys()]);
    const client = await connectRaw(broker);
    await client.subscribe(queue, declaringHeaders(broker, queue));
    for (let n = 0; n < 100; n++) client.send('ACK', settlingHeaders(await client.next('MESSAGE')));
    await client.disconnect();
    assert.equal((await drainQueue(broker, queue)).length, 0);
  });

  it('an acknowledgement of another connection settles nothing here', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, ['old', 'new']);
    const first = await connectRaw(broker);
    await first.subscribe(queue, { ...declaringHeaders(broker, queue), id: 'first-connection' });
    const stale = await first.next('MESSAGE');
    await first.disconnect();
    const second = await connectRaw(broker);
    await second.subscribe(queue, { ...declaringHeaders(broker, queue), id: 'second-connection' });
    await second.next('MESSAGE');
    second.send('ACK', settlingHeaders(stale));
    await second.next('ERROR');
    second.destroy();
    if (broker.capabilities.returnsWhatWasCut)
      assert.equal((await drainQueue(broker, queue, { atLeast: 2 })).length, 2);
  });

  it('messages are delivered again when NACKed with requeue', needs(broker, 'nackRequeues'), async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await put(broker, queue, 1);
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    await client.subscribe(queue, declaringHeaders(broker, queue));
    await client.settle('NACK', await client.next('MESSAGE'), { requeue: 'true' });
    const again = await client.next('MESSAGE');
    assert.equal(again.headers.redelivered, 'true');
  });
}
