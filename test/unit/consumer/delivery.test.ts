import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { consume } from '../../../src/consume.js';
import { Delivery } from '../../../src/consumer/delivery.js';
import type { Payload, Settlement } from '../../../src/consumer/payload.js';
import type { ConsumeSummary } from '../../../src/consumer/account.js';
import { retriesOf } from '../../../src/consumer/retries.js';
import type { Settings } from '../../../src/settings.js';
import { resolve } from '../../../src/settings/resolve.js';
import { parseSource } from '../../../src/brokers/destinations.js';
import type { Frame } from '../../../src/stomp/frames.js';
import { DeclaredQueues } from '../../../src/sending/declare.js';
import { HandOver } from '../../../src/sending/hand-over.js';
import {
  type ScriptedConnection,
  messageHeaders,
  type ScriptedServer,
  startScriptedServer,
} from '../../support/scripted-server.js';
import { until, within } from '../../support/until.js';
import {
  DEADLINE_MS,
  openPair,
  type Pair,
  RecordedLog,
  roundTrip,
  subscribe,
} from '../stomp/session-under-test.js';

/** The next delivery of a session, as the consumer sees it. */
async function deliver(pair: Pair, log = new RecordedLog(), isConfirmed = false): Promise<Delivery> {
  let frame: Frame | undefined;
  const id = await subscribe(pair, (received) => (frame = received));
  pair.peer.deliver(id, 'm-1');
  const received = await until(() => frame, DEADLINE_MS, 'the message arrives');
  const source = parseSource('orders');
  const drain = new AbortController().signal;
  const handOver = new HandOver({ session: pair.session, log, drain, onReleased: () => undefined });
  const retries = retriesOf(source, resolve({}, {}));
  const queueType = 'classic';
  return new Delivery(
    received,
    { handOver, queues: new DeclaredQueues(pair.session, [], log) },
    {
      ...{ source, retries, log, isNackPreferred: false, isConfirmed: () => isConfirmed },
      onPublished: undefined,
      deadLetters: { source, queueType, callback: '', tellsError: true },
    },
  );
}

describe('a delivery', () => {
  it('T3: is acked on its own session, by its ack id', async () => {
    await using pair = await openPair();
    const delivery = await deliver(pair);
    assert.equal(delivery.ack(), 'sent');
    const ack = await pair.peer.expect('ACK');
    assert.deepEqual({ ...ack.headers }, { id: 'm-1' });
    assert.equal(delivery.state, 'acked');
  });

  it('is settled once', async () => {
    await using pair = await openPair();
    const delivery = await deliver(pair);
    assert.deepEqual(
      [delivery.ack(), delivery.ack(), delivery.deadLetter({ reason: 'nack' })],
      ['sent', 'already-settled', 'already-settled'],
    );
    await roundTrip(pair);
    assert.deepEqual(pair.peer.commands, ['CONNECT', 'SUBSCRIBE', 'ACK', 'SEND']);
  });

  it('T3: acked after the end of its session sends nothing, and says so', async () => {
    await using pair = await openPair();
    const log = new RecordedLog();
    const delivery = await deliver(pair, log);
    pair.peer.reset();
    await within(pair.session.closed, DEADLINE_MS, 'the session ends');
    assert.equal(delivery.ack(), 'connection-lost');
    assert.equal(delivery.state, 'released');
    assert.equal(log.find(/it will be delivered again/).length, 1);
  });

  it('T7: acked while its session is closing sends nothing, and does not break the closing', async () => {
    await using pair = await openPair();
    const delivery = await deliver(pair);
    const closed = pair.session.close();
    assert.equal(delivery.ack(), 'connection-lost');
    const disconnect = await pair.peer.expect('DISCONNECT');
    assert.equal(delivery.deadLetter({ reason: 'nack' }), 'already-settled');
    pair.peer.confirm(disconnect);
    await within(closed, DEADLINE_MS, 'close() resolves');
    await pair.peer.waitForClose();
    assert.deepEqual(pair.peer.commands, ['CONNECT', 'SUBSCRIBE', 'DISCONNECT']);
    assert.equal((await pair.session.closed).kind, 'closed');
  });

  it('T21: whose ack is to be confirmed is released when the session ends before that', async () => {
    await using pair = await openPair();
    const delivery = await deliver(pair, new RecordedLog(), true);
    assert.equal(delivery.ack(), 'sent');
    const ack = await pair.peer.expect('ACK');
    assert.notEqual(ack.headers.receipt, undefined);
    pair.peer.reset();
    await within(delivery.settling!, DEADLINE_MS, 'settling ends');
    assert.equal(delivery.state, 'released');
  });
});

interface Running {
  readonly done: Promise<ConsumeSummary>;
  stop(): void;
}

function startConsumer(
  { host, port }: ScriptedServer,
  callback: (payload: Payload) => unknown,
  given: Partial<Settings> = {},
): Running {
  const drain = new AbortController();
  const done = consume({
    host,
    port,
    destination: 'orders',
    // ActiveMQ needs no declarations, so that every connection here is the consumer's.
    broker: 'activemq',
    outgoingHeartbeatMs: 0,
    incomingHeartbeatMs: 0,
    waitToConnectSeconds: 0.1,
    log: new RecordedLog(),
    signal: drain.signal,
    callback,
    ...given,
  });
  return { done, stop: () => drain.abort() };
}

/** A script that accepts, confirms everything and delivers this message to the first subscription. */
async function deliverTo(connection: ScriptedConnection, id: string): Promise<void> {
  await connection.accept();
  const subscription = await connection.acceptSubscription();
  connection.deliver(subscription, id);
  await connection.confirmAll();
}

describe('a consumer', () => {
  it('T3: sends nothing for a message of a lost connection on the next one', async () => {
    await using server = await startScriptedServer((connection) =>
      deliverTo(connection, `m-${server.connections.length}`),
    );
    const settlements: [string | undefined, Settlement][] = [];
    let finishFirst: (() => void) | undefined;
    const callback = async (payload: Payload) => {
      const id = payload.headers['message-id'];
      if (id === 'm-1') await new Promise<void>((resolve) => (finishFirst = resolve));
      settlements.push([id, await payload.ack()]);
    };
    const consumer = startConsumer(server, callback, { concurrency: 2 });
    const first = await server.connection(0);
    const finish = await until(() => finishFirst, DEADLINE_MS, 'the first callback runs');
    first.reset();
    const second = await server.connection(1);
    await until(() => second.commands.includes('ACK'), DEADLINE_MS, 'the second message is acked');
    finish();
    await until(() => settlements.length === 2, DEADLINE_MS, 'both callbacks end');
    consumer.stop();
    const summary = await within(consumer.done, DEADLINE_MS, 'the consumer stops');
    assert.deepEqual(settlements, [
      ['m-2', 'sent'],
      ['m-1', 'connection-lost'],
    ]);
    assert.deepEqual(second.commands, ['CONNECT', 'SUBSCRIBE', 'ACK', 'DISCONNECT']);
    assert.equal(second.frames[2]!.headers.id, 'm-2');
    assert.deepEqual([summary.acked, summary.released], [1, 1]);
    const ids = [first, second].map(({ frames }) => frames[1]!.headers.id);
    assert.notEqual(ids[0], ids[1]);
  });

  it('T4: that stops lets its callbacks finish, then disconnects, and never unsubscribes', async () => {
    await using server = await startScriptedServer((connection) => deliverTo(connection, 'm-1'));
    let finish: (() => void) | undefined;
    const callback = async ({ ack }: Payload) => {
      await new Promise<void>((resolve) => (finish = resolve));
      await ack();
    };
    const consumer = startConsumer(server, callback);
    const release = await until(() => finish, DEADLINE_MS, 'the callback runs');
    consumer.stop();
    const peer = await server.connection();
    // What arrives during a drain is left alone.
    peer.deliver(peer.frames[1]!.headers.id!, 'm-2');
    release();
    const summary = await within(consumer.done, DEADLINE_MS, 'the consumer stops');
    await peer.waitForClose();
    assert.deepEqual(peer.commands, ['CONNECT', 'SUBSCRIBE', 'ACK', 'DISCONNECT']);
    // Confirmed, so that it is known to count before the connection ends.
    assert.notEqual(peer.frames[2]!.headers.receipt, undefined);
    assert.deepEqual([summary.received, summary.acked], [1, 1]);
  });

  for (const [name, body] of [
    ['what its callback nacks', '{"a":"é"}'],
    ['a body that is no JSON', 'é\0\n\0'],
  ] as const) {
    it(`T28: dead-letters ${name} by a copy over another connection, and acks it when that is confirmed`, async () => {
      await using server = await startScriptedServer(async (connection) => {
        await connection.accept();
        if (server.connections.length > 1) return;
        const subscription = await connection.acceptSubscription();
        connection.deliver(subscription, 'm-1', body, { persistent: undefined, own: 'a:b\n' });
        await connection.confirmAll();
      });
      const consumer = startConsumer(server, ({ nack }) => nack());
      const [peer, beside] = [await server.connection(0), await server.connection(1)];
      const copy = await beside.expect('SEND');
      // Nothing may be acked before the copy is safe.
      await peer.expectNothing();
      beside.confirm(copy);
      await until(() => peer.commands.includes('ACK'), DEADLINE_MS, 'the message is acked');
      consumer.stop();
      const [summary] = await Promise.all([
        within(consumer.done, DEADLINE_MS, 'the consumer stops'),
        beside.expect('DISCONNECT').then((frame) => beside.confirm(frame)),
      ]);
      assert.equal(summary.deadLettered, 1);
      assert.deepEqual(peer.commands, ['CONNECT', 'SUBSCRIBE', 'ACK', 'DISCONNECT']);
      assert.equal(peer.frames[2]!.headers.id, 'm-1');
      assert.equal(copy.body.toString(), body);
      assert.equal(copy.headers['content-length'], String(copy.body.length));
      assert.equal(copy.headers.destination, '/queue/DLQ.orders');
      assert.equal(copy.headers.own, 'a:b\n');
      assert.equal(copy.headers.persistent, 'true');
      assert.equal(copy.headers['message-id'], undefined);
    });
  }

  it('T11: dead-letters a message with a header that cannot be sent, without that header', async () => {
    await using server = await startScriptedServer(async (connection) => {
      await connection.accept();
      if (server.connections.length > 1) return connection.confirmAll();
      const subscription = await connection.acceptSubscription();
      const lines = Object.entries({ ...messageHeaders(subscription, 'm-1'), persistent: 'false' });
      const head = lines.map(([name, value]) => `${name}:${value}\n`).join('');
      connection.write(`MESSAGE\n${head}bad:a\0b\nba\0d:1\ngood:1\n\n{}\0`);
      await connection.confirmAll();
    });
    const consumer = startConsumer(server, ({ nack }) => nack());
    const peer = await server.connection();
    await until(() => peer.commands.includes('ACK'), DEADLINE_MS, 'the message is acked');
    consumer.stop();
    await within(consumer.done, DEADLINE_MS, 'the consumer stops');
    const copy = (await server.connection(1)).frames.find(({ command }) => command === 'SEND')!;
    assert.deepEqual([copy.headers.good, copy.headers.bad, copy.body.toString()], ['1', undefined, '{}']);
  });

  it('T28: told to, on RabbitMQ nacks without requeueing, after declaring the dead-letter queue beside', async () => {
    await using server = await startScriptedServer(async (connection) => {
      await connection.accept({ server: 'RabbitMQ/3.10.8' });
      await connection.confirmAll((frame) => {
        if (frame.command === 'SUBSCRIBE') connection.deliver(frame.headers.id!, 'm-1');
      });
    });
    const consumer = startConsumer(server, ({ nack }) => nack(), { broker: 'auto', deadLetterBy: 'nack' });
    const [peer, beside] = [await server.connection(0), await server.connection(1)];
    await until(() => peer.commands.includes('NACK'), DEADLINE_MS, 'the message is nacked');
    consumer.stop();
    await within(consumer.done, DEADLINE_MS, 'the consumer stops');
    assert.deepEqual(peer.commands, ['CONNECT', 'SUBSCRIBE', 'NACK', 'DISCONNECT']);
    assert.deepEqual({ ...peer.frames[2]!.headers }, { id: 'm-1', requeue: 'false' });
    assert.deepEqual(beside.commands, ['CONNECT', 'SUBSCRIBE', 'DISCONNECT']);
    assert.equal(beside.frames[1]!.headers.destination, '/queue/DLQ.orders');
    assert.equal(beside.frames[1]!.headers['prefetch-count'], '-1');
  });

  it('dead-letters what is too large by a NACK, and goes on with the next message', async () => {
    await using server = await startScriptedServer(async (connection) => {
      await connection.accept();
      const subscription = await connection.acceptSubscription();
      connection.deliver(subscription, 'm-1', Buffer.alloc(2000, 'x'));
      await connection.expect('NACK');
      connection.deliver(subscription, 'm-2', '2');
      await connection.confirmAll();
    });
    const bodies: unknown[] = [];
    const callback = ({ body, ack }: Payload) => {
      bodies.push(body);
      return ack();
    };
    const consumer = startConsumer(server, callback, { maxMessageBytes: 1000 });
    await until(() => bodies.length === 1, DEADLINE_MS, 'the second message arrives');
    consumer.stop();
    const summary = await within(consumer.done, DEADLINE_MS, 'the consumer stops');
    assert.deepEqual(bodies, [2]);
    assert.deepEqual([summary.acked, summary.deadLettered], [1, 1]);
  });
});
