/** What the product relies on, frame by frame: every broker it runs on must answer like this. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { BrokerUnderTest } from '../support/brokers.js';
import { uniqueName } from '../support/consuming.js';
import { declaringHeaders, drainQueue, put, putAll } from '../support/messages.js';
import { connectRaw, ErrorFrame, settlingHeaders } from '../support/raw-client.js';

export function wireBehaviours(broker: BrokerUnderTest): void {
  const { capabilities } = broker;

  for (const version of ['1.0', '1.1', '1.2'] as const) {
    it(`a client of STOMP ${version} is served`, async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      const client = await connectRaw(broker, { version });
      t.after(() => client.destroy());
      assert.equal(client.frames[0]!.headers.version, version);
      await client.put(queue, 1, declaringHeaders(broker, queue));
      const id = await client.subscribe(queue, { ...declaringHeaders(broker, queue), ack: 'client' });
      const message = await client.next('MESSAGE');
      assert.equal(message.headers.subscription, id);
      assert.equal(message.headers.ack === undefined, version !== '1.2');
      await client.settle('ACK', message);
      await client.disconnect();
      assert.equal((await drainQueue(broker, queue)).length, 0);
    });
  }

  it('CONNECTED names the server', async (t) => {
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    assert.match(
      client.frames[0]!.headers.server ?? '',
      /^(?:RabbitMQ|ActiveMQ|stomp-pubsub-embedded)\/[\d.]+/,
    );
  });

  it('heart-beats are answered as asked', async (t) => {
    const client = await connectRaw(broker, { headers: { 'heart-beat': '5000,0' } });
    t.after(() => client.destroy());
    assert.equal(client.frames[0]!.headers['heart-beat'], '0,5000');
  });

  it('STOMP is taken as CONNECT', async (t) => {
    const { openRaw } = await import('../support/raw-client.js');
    const client = await openRaw(broker);
    t.after(() => client.destroy());
    client.send('STOMP', {
      'accept-version': '1.2',
      host: broker.vhost ?? '/',
      login: broker.user,
      passcode: broker.password,
    });
    const answer = await client.next(({ command }) => command === 'CONNECTED' || command === 'ERROR');
    assert.equal(answer.command, 'CONNECTED');
  });

  it('an un-acked message is redelivered as such when its connection ends, in order', async (t) => {
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
  });

  it('client-individual acknowledges one message alone', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, [1, 2, 3]);
    const client = await connectRaw(broker);
    await client.subscribe(queue, declaringHeaders(broker, queue));
    await client.next('MESSAGE');
    await client.settle('ACK', await client.next('MESSAGE'));
    client.destroy();
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
    client.destroy();
    const rest = await drainQueue(broker, queue, { atLeast: 1 });
    assert.deepEqual(
      rest.map(({ body }) => body.toString()),
      ['3'],
    );
  });

  it('auto needs no acknowledgement', async (t) => {
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
    first.destroy();
    await first.closed;
    const second = await connectRaw(broker);
    await second.subscribe(queue, { ...declaringHeaders(broker, queue), id: 'second-connection' });
    await second.next('MESSAGE');
    second.send('ACK', settlingHeaders(stale));
    await second.next('ERROR');
    second.destroy();
    assert.equal((await drainQueue(broker, queue, { atLeast: 2 })).length, 2);
  });

  it(
    'messages are delivered again when NACKed with requeue',
    { skip: skipUnless(capabilities.nackRequeues, 'nackRequeues') },
    async (t) => {
      const queue = `/queue/${uniqueName(t)}`;
      await put(broker, queue, 1);
      const client = await connectRaw(broker);
      t.after(() => client.destroy());
      await client.subscribe(queue, declaringHeaders(broker, queue));
      await client.settle('NACK', await client.next('MESSAGE'), { requeue: 'true' });
      const again = await client.next('MESSAGE');
      assert.equal(again.headers.redelivered, 'true');
    },
  );

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

  it('an ABORT or a lost connection undoes a transaction, acks included', async (t) => {
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
  });

  it(
    'BEGIN, SEND and ABORT declare a queue and send nothing',
    { skip: skipUnless(capabilities.queueArguments, 'queueArguments') },
    async (t) => {
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
    },
  );

  it(
    'other arguments for an existing queue are refused',
    { skip: skipUnless(capabilities.queueArguments, 'queueArguments') },
    async (t) => {
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
    },
  );

  it(
    'what is sent to a queue that /amq/queue/ does not find is confirmed and dropped',
    { skip: skipUnless(capabilities.queueArguments, 'queueArguments') },
    async (t) => {
      const queue = uniqueName(t);
      const client = await connectRaw(broker);
      t.after(() => client.destroy());
      await client.put(`/amq/queue/${queue}`, 1);
      await assert.rejects(client.subscribe(`/amq/queue/${queue}`), /not_found/);
    },
  );

  it('an unknown transaction is an ERROR', async (t) => {
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    await assert.rejects(client.receipt('COMMIT', { transaction: 'nope' }), /nope/);
  });

  it('a body with NUL bytes and the headers of its sender arrive whole', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const body = Buffer.from([0, 1, 2, 0, 255]);
    await put(broker, queue, body, { tenant: ' a:b\\c\n', hasOwnProperty: '1', constructor: '2' });
    const [message] = await drainQueue(broker, queue);
    assert.deepEqual(message!.body, body);
    assert.equal(message!.headers.tenant, ' a:b\\c\n');
    assert.equal(new Map(Object.entries(message!.headers)).get('hasOwnProperty'), '1');
    assert.equal(message!.headers.constructor, '2');
  });

  it('of a repeated header the first counts', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const declaring = Object.entries(declaringHeaders(broker, queue)).map(
      ([name, value]) => `${name}:${value ?? ''}\n`,
    );
    client.write(
      `SEND\ndestination:${queue}\n${declaring.join('')}tenant:first\ntenant:second\nreceipt:r\n\nbody\0`,
    );
    await client.next('RECEIPT');
    const [message] = await drainQueue(broker, queue);
    assert.equal(message!.headers.tenant, 'first');
  });

  it('frames with CRLF, blank lines between them and split anywhere are understood', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const declaring = Object.entries(declaringHeaders(broker, queue)).map(
      ([name, value]) => `${name}:${value ?? ''}\r\n`,
    );
    const frame = `\r\n\n\nSEND\r\ndestination:${queue}\r\n${declaring.join('')}receipt:r\r\ncontent-length:3\r\n\r\nabc\0`;
    for (const character of frame) {
      client.write(character);
      await new Promise(setImmediate);
    }
    await client.next('RECEIPT');
    assert.equal((await drainQueue(broker, queue))[0]!.body.toString(), 'abc');
  });

  it('prefetch bounds what is delivered un-acked', async (t) => {
    const queue = `/queue/${uniqueName(t)}`;
    await putAll(broker, queue, [1, 2, 3, 4, 5]);
    const client = await connectRaw(broker);
    t.after(() => client.destroy());
    const prefetch = capabilities.queueArguments
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
    { skip: skipUnless(capabilities.scheduledDelivery, 'scheduledDelivery') },
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
      await client.receipt('COMMIT', { transaction: 'committed' });
      await client.put(queue, 'not delayed', declaring);
      assert.equal((await client.next('MESSAGE')).body.toString(), 'not delayed');
      const delayed = await client.next('MESSAGE');
      assert.ok(performance.now() - sinceMs > 150);
      assert.equal(delayed.body.toString(), 'committed');
      assert.equal(delayed.headers.AMQ_SCHEDULED_DELAY, undefined);
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

function skipUnless(has: boolean, capability: string): string | false {
  return has ? false : `needs ${capability}`;
}
