import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type BrokerEvent, startEmbeddedBroker } from '../../../src/embedded/broker.js';
import { openRaw, type RawClient, type RawHeaders, settlingHeaders } from '../../support/raw-client.js';
import { until } from '../../support/until.js';
import { brokerFor, TestClock } from './support.js';

const DEADLINE_MS = 30_000;

const next = async (client: RawClient): Promise<string> => (await client.next('MESSAGE')).body.toString();
const take = async (client: RawClient, count: number): Promise<string[]> => {
  const taken: string[] = [];
  while (taken.length < count) taken.push(await next(client));
  return taken;
};
/** What a receipt proves: everything the broker had for this client before has arrived. */
const nothingMore = async (client: RawClient): Promise<void> => {
  await client.receipt('SEND', { destination: '/amq/queue/nowhere' });
  assert.deepEqual(client.takeArrived('MESSAGE'), []);
};

describe('a message', () => {
  test('comes with the headers RabbitMQ gives it, before those of its sender', async (context) => {
    const { connect } = await brokerFor(context);
    const client = await connect();
    const id = await client.subscribe('/queue/xpto', { id: 'a' });
    await client.put('xpto', 'hi', { 'x-y': 'a:b\\c\nd', redelivered: 'zz', receipt: '7' });
    const { headers, body } = await client.next('MESSAGE');
    assert.equal(id, 'a');
    assert.equal(body.toString(), 'hi');
    assert.match(headers['message-id']!, /^T_a@@session-[\w-]{22}@@1$/);
    assert.deepEqual(Object.entries(headers), [
      ['subscription', 'a'],
      ['destination', '/queue/xpto'],
      ['message-id', headers['message-id']],
      ['redelivered', 'false'],
      ['ack', headers['message-id']],
      ['persistent', 'true'],
      ['content-type', 'application/json;charset=utf-8'],
      ['x-y', 'a:b\\c\nd'],
      ['receipt', headers.receipt],
      ['content-length', '2'],
    ]);
  });

  test('keeps any bytes, large and small, and UTF-8 in headers', async (context) => {
    const { connect } = await brokerFor(context);
    const client = await connect();
    await client.subscribe('q');
    for (const size of [0, 256, 8192, 8193, 3_000_000]) {
      const bytes = Buffer.from(Array.from({ length: size }, (_, at) => at % 256));
      await client.put('q', bytes, { 'ké€y': 'vä€lue😀' });
      const { headers, body } = await client.next('MESSAGE');
      assert.ok(body.equals(bytes));
      assert.equal(headers['ké€y'], 'vä€lue😀');
      assert.equal(headers['content-length'], size === 0 ? undefined : String(size));
    }
  });

  for (const [version, mode, hasAck] of [
    ['1.2', 'client-individual', true],
    ['1.2', 'auto', false],
    ['1.1', 'client', false],
    ['1.0', 'client', false],
  ] as const) {
    test(`has ${hasAck ? 'an' : 'no'} ack header in ${version} with ack:${mode}`, async (context) => {
      const { broker, connect } = await brokerFor(context);
      const client = await connect({ version });
      await client.subscribe('q', { ack: mode });
      await client.put('q', 'x');
      const message = await client.next('MESSAGE');
      assert.equal(message.headers.ack !== undefined, hasAck);
      if (mode !== 'auto') await client.receipt('ACK', settlingHeaders(message));
      assert.equal(broker.depth('q'), 0);
    });
  }

  test('of a subscription without an id names none, and is settled all the same', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect({ version: '1.0' });
    await client.receipt('SUBSCRIBE', { destination: '/queue/q', ack: 'client' });
    await client.put('q', 'x');
    const message = await client.next('MESSAGE');
    assert.equal(message.headers.subscription, undefined);
    await client.receipt('ACK', { 'message-id': message.headers['message-id'] });
    assert.equal(broker.depth('q'), 0);
    await client.receipt('UNSUBSCRIBE', { destination: '/queue/q' });
  });
});

describe('settling', () => {
  test('ack:client settles everything before it, over all subscriptions', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    await client.subscribe('a', { ack: 'client' });
    await client.subscribe('b', { ack: 'client-individual' });
    for (const queue of ['a', 'b', 'a', 'b']) await client.put(queue, queue);
    const messages = [];
    for (let at = 0; at < 4; at++) messages.push(await client.next('MESSAGE'));
    await client.receipt('ACK', settlingHeaders(messages[2]!));
    assert.deepEqual([broker.depth('a'), broker.depth('b')], [0, 1]);
  });

  test('NACK requeues, and dead-letters with requeue:false', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    broker.publish('DLQ.q', '', { expiration: '0' });
    await client.subscribe('q', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'DLQ.q' });
    await client.put('q', 'x', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'DLQ.q' });
    for (const headers of [{}, { requeue: 'true' }, { requeue: 'FALSE' }] as RawHeaders[]) {
      await client.receipt('NACK', { ...settlingHeaders(await client.next('MESSAGE')), ...headers });
    }
    const last = await client.next('MESSAGE');
    assert.equal(last.headers.redelivered, 'true');
    await client.receipt('NACK', { ...settlingHeaders(last), requeue: 'False' });
    const [dead] = broker.messages('/queue/DLQ.q');
    assert.equal(dead?.headers['x-first-death-reason'], 'rejected');
    assert.equal(dead.headers.destination, '/queue/DLQ.q');
    assert.equal(dead.headers.redelivered, 'false');
  });

  test('an ack id kept over a reconnect settles nothing on the new connection', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const old = await connect();
    await old.subscribe('q', { id: 's' });
    await old.put('q', 'x');
    const stale = settlingHeaders(await old.next('MESSAGE'));
    await old.disconnect();
    const client = await connect();
    await client.subscribe('q', { id: 's' });
    assert.equal((await client.next('MESSAGE')).headers.redelivered, 'true');
    client.send('ACK', { ...stale, receipt: 'r' });
    assert.equal((await client.next('ERROR')).headers.message, 'precondition_failed');
    await client.closed;
    assert.equal(broker.depth('q'), 1);
  });

  test('after UNSUBSCRIBE an ACK is refused and the message held until the connection ends', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    const id = await client.subscribe('q');
    await client.put('q', 'x');
    const message = await client.next('MESSAGE');
    await client.receipt('UNSUBSCRIBE', { id });
    await assert.rejects(client.receipt('ACK', settlingHeaders(message)), /Subscription not found/);
    assert.equal(broker.queues()[0]?.unsettled, 1);
    await client.disconnect();
    assert.equal(broker.queues()[0]?.unsettled, 0);
    assert.equal(broker.messages('q')[0]?.headers.redelivered, 'true');
  });

  test('what was not settled comes back in order at DISCONNECT and when the connection is dropped', async (context) => {
    const { broker, connect } = await brokerFor(context);
    for (const leave of ['disconnect', 'reset'] as const) {
      const client = await connect();
      for (const body of ['a', 'b', 'c', 'd']) await client.put(leave, body);
      await client.subscribe(leave, { 'prefetch-count': '3' });
      await client.next('MESSAGE');
      await client.receipt('ACK', settlingHeaders(await client.next('MESSAGE')));
      if (leave === 'disconnect') await client.disconnect();
      else broker.dropConnections();
      assert.deepEqual(
        broker.messages(leave).map(({ headers, body }) => `${body.toString()} ${headers.redelivered ?? ''}`),
        ['a true', 'c true', 'd true'],
      );
    }
  });
});

describe('prefetch', () => {
  for (const [headers, delivered] of [
    [{ 'prefetch-count': '3' }, 3],
    [{ 'prefetch-count': '0' }, 10],
    [{ 'prefetch-count': '-1' }, 0],
    [{ 'activemq.prefetchSize': undefined }, 10],
    [{ 'activemq.prefetchSize': '4' }, 4],
    [{ 'activemq.prefetchSize': '4', 'prefetch-count': '2' }, 2],
  ] as const) {
    test(`${JSON.stringify(headers)} delivers ${delivered} of 10`, async (context) => {
      const { connect } = await brokerFor(context);
      const client = await connect();
      for (let at = 0; at < 10; at++) await client.put('q', String(at));
      await client.subscribe('q', { 'activemq.prefetchSize': undefined, ...headers });
      await take(client, delivered);
      await nothingMore(client);
    });
  }

  test('is inherited by a later SUBSCRIBE without one', async (context) => {
    const { connect } = await brokerFor(context);
    const client = await connect();
    for (const queue of ['a', 'b']) for (const body of ['1', '2']) await client.put(queue, queue + body);
    await client.subscribe('a', { 'prefetch-count': '1' });
    await client.subscribe('b', { 'activemq.prefetchSize': undefined });
    assert.deepEqual(await take(client, 2), ['a1', 'b1']);
    await nothingMore(client);
  });

  test('competing consumers of two connections share', async (context) => {
    const { connect } = await brokerFor(context);
    const [a, b] = [await connect(), await connect()];
    for (const client of [a, b]) await client.subscribe('q');
    for (let at = 0; at < 6; at++) await a.put('q', String(at));
    assert.deepEqual(await take(a, 3), ['0', '2', '4']);
    assert.deepEqual(await take(b, 3), ['1', '3', '5']);
  });
});

describe('virtual topics', () => {
  const queue = 'Consumer.app.VirtualTopic.n';
  const toDlq = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': `DLQ.${queue}` };
  const ways: Record<string, [string, RawHeaders]> = {
    "RabbitMQ's way": [
      '/topic/VirtualTopic.n',
      { 'x-queue-name': queue, durable: 'true', 'auto-delete': 'false', ...toDlq },
    ],
    "ActiveMQ's way": [queue, toDlq],
    "ActiveMQ's way with a prefix": [`/queue/${queue}`, toDlq],
  };
  for (const [way, [destination, headers]] of Object.entries(ways)) {
    test(`${way} collects what is sent to the topic, also while nobody consumes`, async (context) => {
      const { broker, connect } = await brokerFor(context);
      const first = await connect();
      await first.subscribe(destination, headers);
      await first.disconnect();
      const client = await connect();
      await client.put('/topic/VirtualTopic.n', 'x');
      assert.equal(broker.depth(queue), 1);
      for (const [other, more] of Object.values(ways)) await client.subscribe(other, more);
      assert.equal((await client.next('MESSAGE')).headers.destination, '/topic/VirtualTopic.n');
      await nothingMore(client);
      assert.equal(broker.queues().length, 1);
    });
  }

  test('every application gets its own copy', async (context) => {
    const { connect } = await brokerFor(context);
    const client = await connect();
    await client.subscribe('Consumer.a.VirtualTopic.x.y');
    await client.subscribe('Consumer.b.VirtualTopic.x.y');
    await client.put('/topic/VirtualTopic.x.y', 'm');
    assert.deepEqual(await take(client, 2), ['m', 'm']);
  });
});

describe('topics', () => {
  test('wildcards, one delivery however many bindings match', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    await client.subscribe('/topic/a.*', { 'x-queue-name': 't' });
    await client.subscribe('/topic/a.#', { 'x-queue-name': 't' });
    await client.put('/topic/a.b', '1');
    await client.put('/exchange/amq.topic/a', '2');
    await client.put('/topic/b', '3');
    assert.deepEqual(await take(client, 2), ['1', '2']);
    await nothingMore(client);
    assert.equal(broker.counters.dropped, 2);
  });

  test('a plain subscription goes with its connection, a durable one keeps its messages', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    const durable = { id: 'd', durable: 'true', 'auto-delete': 'false' };
    await client.subscribe('/topic/t');
    await client.subscribe('/topic/t', durable);
    assert.equal(broker.queues().length, 2);
    await client.disconnect();
    const again = await connect();
    await again.put('/topic/t', 'x');
    await again.subscribe('/topic/t', durable);
    assert.equal(await next(again), 'x');
    assert.match(broker.queues()[0]!.name, /^stomp-subscription-[\w-]+$/);
    await again.receipt('UNSUBSCRIBE', { id: 'd', durable: 'true' });
    assert.deepEqual(broker.queues(), []);
  });

  test('a queue deleted under a consumer cancels its subscription', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const [a, b] = [await connect(), await connect()];
    const headers = { 'x-queue-name': 'x', durable: 'true', 'auto-delete': 'false' };
    await a.subscribe('/topic/t', { ...headers, id: 's' });
    const id = await b.subscribe('/topic/t', headers);
    await b.receipt('UNSUBSCRIBE', { id, durable: 'true', 'x-queue-name': 'x' });
    const error = await a.next('ERROR');
    assert.equal(error.headers.message, 'Server cancelled subscription');
    assert.equal(error.headers.subscription, 's');
    assert.match(error.body.toString(), /No more messages will be delivered for "id='s'"\.\n$/);
    await a.subscribe('/topic/t', { ...headers, id: 's' });
    assert.equal(broker.queues().length, 1);
  });
});

test('a temporary queue takes the answer to a request', async (context) => {
  const { broker, connect } = await brokerFor(context);
  const [asking, answering] = [await connect(), await connect()];
  await answering.subscribe('questions');
  for (const question of ['1', '2']) {
    await asking.put('questions', question, { 'reply-to': '/temp-queue/me' });
    const request = await answering.next('MESSAGE');
    assert.match(request.headers['reply-to']!, /^\/reply-queue\/amq\.gen-[\w-]{22}$/);
    await answering.put(request.headers['reply-to']!, `answer ${question}`);
    const answer = await asking.next('MESSAGE');
    assert.equal(answer.headers.subscription, '/temp-queue/me');
    assert.equal(answer.body.toString(), `answer ${question}`);
  }
  assert.equal(broker.queues().length, 2);
  await asking.disconnect();
  assert.equal(broker.queues().length, 1);
});

test('an exclusive queue is refused to others and goes with its connection', async (context) => {
  const { broker, connect } = await brokerFor(context);
  const [a, b] = [await connect(), await connect()];
  await a.subscribe('q', { exclusive: 'true' });
  await assert.rejects(b.subscribe('/amq/queue/q'), /RESOURCE_LOCKED/);
  await b.closed;
  broker.publish('/amq/queue/q', 'x');
  assert.equal(await next(a), 'x');
  await a.disconnect();
  assert.deepEqual(broker.queues(), []);
});

test('an auto-delete queue goes with its last consumer', async (context) => {
  const { broker, connect } = await brokerFor(context);
  const client = await connect();
  const ids = [];
  for (let at = 0; at < 2; at++) ids.push(await client.subscribe('q', { 'auto-delete': 'true' }));
  await client.receipt('UNSUBSCRIBE', { id: ids[0] });
  assert.equal(broker.queues().length, 1);
  await client.receipt('UNSUBSCRIBE', { id: ids[1] });
  assert.equal(broker.queues().length, 0);
});

describe('transactions', () => {
  test('sends and settles at COMMIT, all at once', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    await client.put('in', 'a');
    await client.put('in', 'b');
    await client.subscribe('in');
    const [a, b] = [await client.next('MESSAGE'), await client.next('MESSAGE')];
    await client.receipt('BEGIN', { transaction: 't' });
    client.send('SEND', { destination: 'out', transaction: 't', receipt: 's' }, 'x');
    client.send('ACK', { ...settlingHeaders(a), transaction: 't' });
    client.send('NACK', { ...settlingHeaders(b), transaction: 't', requeue: 'false' });
    await nothingMore(client);
    assert.deepEqual([broker.depth('in'), broker.depth('out')], [2, 0]);
    assert.deepEqual(
      client.takeArrived('RECEIPT').map(({ headers }) => headers['receipt-id']),
      [],
    );
    client.send('COMMIT', { transaction: 't', receipt: 'c' });
    const receipts = [await client.next('RECEIPT'), await client.next('RECEIPT')];
    assert.deepEqual(
      receipts.map(({ headers }) => headers['receipt-id']),
      ['c', 's'],
    );
    assert.deepEqual([broker.depth('in'), broker.depth('out')], [0, 1]);
  });

  test('ABORT and the end of the connection drop it; its acks can be given again', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    await client.put('in', 'a');
    await client.subscribe('in');
    const message = await client.next('MESSAGE');
    for (const end of ['ABORT', 'end']) {
      client.send('BEGIN', { transaction: 't' });
      client.send('SEND', { destination: 'out', transaction: 't', 'x-max-length': '9' }, 'x');
      client.send('ACK', { ...settlingHeaders(message), transaction: 't' });
      if (end === 'ABORT') await client.receipt('ABORT', { transaction: 't' });
      else await client.disconnect();
      assert.equal(broker.depth('in'), 1);
    }
    const out = broker.queues().find(({ name }) => name === 'out');
    assert.deepEqual([out?.depth, out?.arguments], [0, { 'x-max-length': 9 }]);
  });

  test('one that cannot be done in whole is not done in part', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    await client.put('in', 'a');
    await client.subscribe('in');
    const message = await client.next('MESSAGE');
    client.send('BEGIN', { transaction: 't' });
    client.send('SEND', { destination: 'out', transaction: 't' }, 'x');
    for (let twice = 0; twice < 2; twice++)
      client.send('ACK', { ...settlingHeaders(message), transaction: 't' });
    await assert.rejects(client.receipt('COMMIT', { transaction: 't' }), /unknown delivery tag 1/);
    await client.closed;
    assert.deepEqual([broker.depth('in'), broker.depth('out')], [1, 0]);
  });

  test('their number and their frames are bounded, and what they hold is counted', async (context) => {
    const limits = { transactionsPerConnection: 2, framesPerTransaction: 3, totalBytes: 100_000 };
    const { connect } = await brokerFor(context, { limits });
    for (const [frames, size, text] of [
      [4, 1, /no more than 3 frames/],
      [3, 60_000, /no more than 100000 bytes/],
    ] as const) {
      const client = await connect();
      client.send('BEGIN', { transaction: 't' });
      for (let at = 0; at < frames; at++)
        client.send('SEND', { destination: 'q', transaction: 't' }, 'x'.repeat(size));
      assert.match((await client.next('ERROR')).body.toString(), text);
      await client.closed;
    }
    const client = await connect();
    for (const transaction of ['1', '2', '3']) client.send('BEGIN', { transaction });
    assert.match((await client.next('ERROR')).body.toString(), /no more than 2 open transactions/);
  });
});

describe('the connection', () => {
  for (const [accepted, version] of [
    [undefined, '1.0'],
    ['1.0', '1.0'],
    ['1.0,1.1', '1.1'],
    ['1.2,1.1,1.0', '1.2'],
    ['1.1,2.0', '1.1'],
  ] as const) {
    test(`accept-version ${accepted ?? 'left out'} makes it STOMP ${version}`, async (context) => {
      const { login } = await brokerFor(context);
      const client = await openRaw(login);
      context.after(() => client.destroy());
      client.send('STOMP', { 'accept-version': accepted });
      const { headers } = await client.next('CONNECTED');
      assert.equal(headers.version, version);
      assert.match(headers.session!, /^session-[\w-]{22}$/);
      assert.match(headers.server!, /^stomp-pubsub-embedded\/\d/);
      assert.equal(headers['heart-beat'], '0,0');
    });
  }

  test('heart-beats go both ways, in whole seconds; a client that is silent three times too long is dropped', async (context) => {
    const clock = new TestClock();
    const { broker, connect } = await brokerFor(context, { clock });
    const client = await connect({ headers: { 'heart-beat': '2500,1' } });
    assert.equal(client.frames[0]?.headers['heart-beat'], '1000,2000');
    const before = client.bytesReceived;
    clock.advance(500);
    await until(() => client.bytesReceived === before + 1, DEADLINE_MS, 'a heart-beat after half a second');
    clock.advance(5000);
    client.write('\n');
    await client.receipt('BEGIN', { transaction: 'heard' });
    clock.advance(5999);
    assert.equal(broker.connections, 1);
    await client.receipt('ABORT', { transaction: 'heard' });
    clock.advance(6000);
    await client.closed;
  });

  test('a client has ten seconds to CONNECT', async (context) => {
    const clock = new TestClock();
    const { broker, login } = await brokerFor(context, { clock });
    const client = await openRaw(login);
    await until(() => broker.connections === 1, DEADLINE_MS, 'the connection is accepted');
    clock.advance(9999);
    assert.equal(broker.connections, 1);
    clock.advance(1);
    await client.closed;
  });

  test('what waits to be read is in time, however long the broker stood still', async (context) => {
    const clock = new TestClock();
    const { broker, connect, login } = await brokerFor(context, { clock });
    const client = await connect({ headers: { 'heart-beat': '2000,0' } });
    const stranger = await openRaw(login);
    context.after(() => stranger.destroy());
    await until(() => broker.connections === 2, DEADLINE_MS, 'both are accepted');
    // An event loop that was blocked runs timers first, and then reads.
    await new Promise((resolve) => setTimeout(resolve, 1));
    client.write('\n');
    stranger.send('CONNECT', { 'accept-version': '1.2' });
    clock.advance(3_600_000);
    await Promise.all([client.receipt('BEGIN', { transaction: 't' }), stranger.next('CONNECTED')]);
  });

  test('everything sent before the end of the stream counts', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    for (let at = 0; at < 50; at++) client.send('SEND', { destination: 'q' }, String(at));
    await client.disconnect();
    assert.equal(broker.depth('q'), 50);
  });

  test('one too many is told so and closed', async (context) => {
    const { broker, connect, login } = await brokerFor(context, { limits: { connections: 1 } });
    const client = await connect();
    const second = await openRaw(login);
    assert.equal((await second.next('ERROR')).headers.message, 'Too many connections');
    await second.closed;
    await client.disconnect();
    await until(() => broker.connections === 0, DEADLINE_MS, 'the broker has seen both end');
    await connect();
  });

  for (const [what, frame, text] of [
    ['a body', `SEND\ndestination:q\n\n${'x'.repeat(1001)}\0`, /body is over the limit of 1000 bytes/],
    ['an announced body', 'SEND\ndestination:q\ncontent-length:1001\n\n', /body is over the limit/],
    ['a head', `SEND\nx:${'x'.repeat(3001)}`, /headers are over the limit of 3000 bytes/],
    ['a header line', `SEND\nx:${'x'.repeat(2000)}\n\n\0`, /header is longer than 2000 bytes/],
    [
      'a number of headers',
      `SEND\n${Array.from({ length: 11 }, (_, at) => `${at}:x\n`).join('')}\n\0`,
      /more than 10 headers/,
    ],
  ] as const) {
    test(`${what} over the limit ends it with an ERROR`, async (context) => {
      const limits = { bodyBytes: 1000, headerBytes: 3000, headerLineBytes: 2000, headers: 10 };
      const { connect } = await brokerFor(context, { limits });
      const [client, other] = [await connect(), await connect()];
      client.write(frame);
      const error = await client.next('ERROR');
      assert.equal(error.headers.message, 'Malformed frame');
      assert.match(error.body.toString(), text);
      await client.closed;
      await other.put('q', 'the others go on');
    });
  }

  test('subscriptions are bounded', async (context) => {
    const { connect } = await brokerFor(context, { limits: { subscriptionsPerConnection: 1 } });
    const client = await connect();
    await client.subscribe('q');
    await assert.rejects(client.subscribe('q'), /no more than 1 subscriptions/);
  });
});

describe('back-pressure', () => {
  const body = 'x'.repeat(10_000);
  const COUNT = 5000;

  test('a consumer that does not read is delivered what its socket takes, and the rest once it reads', async (context) => {
    const { broker, connect } = await brokerFor(context);
    for (let at = 0; at < COUNT; at++) broker.publish('q', body);
    const client = await connect();
    const other = await connect();
    client.send('SUBSCRIBE', { destination: 'q', id: 's', ack: 'client-individual' });
    await client.next('MESSAGE');
    client.stopReading();
    let before = -1;
    await until(
      async () => {
        await other.receipt('BEGIN', { transaction: String(Math.random()) }).catch(() => undefined);
        const isSteady = before === broker.counters.delivered;
        before = broker.counters.delivered;
        return isSteady;
      },
      DEADLINE_MS,
      'deliveries come to a stop',
    );
    assert.ok(before < COUNT, `${before} delivered`);
    client.startReading();
    await until(() => broker.counters.delivered === COUNT, DEADLINE_MS, 'the rest is delivered');
  });

  test('a client that does not read its receipts is not read from', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    client.stopReading();
    const receipt = 'r'.repeat(50_000);
    const FRAMES = 1000;
    for (let at = 0; at < FRAMES; at++) client.send('SEND', { destination: 'q', receipt });
    let before = -1;
    await until(
      () => {
        const isSteady = before > 0 && before === broker.counters.published;
        before = broker.counters.published;
        return isSteady;
      },
      DEADLINE_MS,
      'publishing comes to a stop',
    );
    assert.ok(before < FRAMES, `${before} published`);
    client.startReading();
    for (let left = FRAMES; left > 0; left--) await client.next('RECEIPT');
    assert.equal(broker.counters.published, FRAMES);
  });

  test('a thousand idle connections', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const clients = await Promise.all(Array.from({ length: 1000 }, () => connect()));
    assert.equal(broker.connections, 1000);
    await clients[0]!.subscribe('q');
    await clients[999]!.put('q', 'x');
    assert.equal(await next(clients[0]!), 'x');
    broker.dropConnections();
    await Promise.all(clients.map(({ closed }) => closed));
    assert.equal(broker.connections, 0);
  });
});

describe('as a library', () => {
  test('publish does what a SEND does and says why it cannot', async (context) => {
    const { broker } = await brokerFor(context);
    broker.publish('/queue/q', '{"a":1}', { 'content-type': 'application/json', 'x-max-length': '5' });
    assert.equal(broker.messages('q')[0]?.body.toString(), '{"a":1}');
    assert.throws(() => broker.publish('q', '', { 'x-max-length': '6' }), {
      code: 'broker-refused',
      message: /inequivalent arg 'x-max-length'/,
    });
    assert.throws(() => broker.depth('/topic/x'), { code: 'invalid-destination' });
    assert.equal(broker.depth('none'), 0);
  });

  test('events tell what happens, for a display', async (context) => {
    const events: BrokerEvent[] = [];
    const { connect } = await brokerFor(context, { onEvent: (event) => events.push(event) });
    const client = await connect();
    await client.subscribe('/queue/q');
    client.send('FOO');
    await client.next('ERROR');
    await client.disconnect();
    assert.deepEqual(
      events.map(({ kind }) => kind),
      ['connected', 'subscribed', 'error', 'disconnected'],
    );
  });

  test('an address that others can reach needs a user and a password', async () => {
    await assert.rejects(startEmbeddedBroker({ host: '0.0.0.0' }), { code: 'invalid-usage' });
    await assert.rejects(startEmbeddedBroker({ user: 'u' }), { code: 'invalid-usage' });
    const broker = await startEmbeddedBroker({ host: '0.0.0.0', user: 'u', password: 'p' });
    await broker.close();
  });

  test('a port in use is an error', async (context) => {
    const { broker } = await brokerFor(context);
    await assert.rejects(startEmbeddedBroker({ port: broker.port }), { code: 'EADDRINUSE' });
  });

  test('close ends its clients, also those that keep their side open', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    client.stopReading();
    await broker.close();
    assert.equal(broker.connections, 0);
  });
});
