import assert from 'node:assert/strict';
import { describe, mock, test, type TestContext } from 'node:test';
import { declarationOf } from '../../../src/embedded/arguments.js';
import { Channel } from '../../../src/embedded/channel.js';
import { addressOf } from '../../../src/embedded/destinations.js';
import { defaultLimits } from '../../../src/embedded/limits.js';
import { type Message, NEVER } from '../../../src/embedded/message.js';
import { Queues } from '../../../src/embedded/queues.js';
import { ReadyList } from '../../../src/embedded/ready.js';
import { Topics } from '../../../src/embedded/topics.js';
import { openRaw, type RawClient } from '../../support/raw-client.js';
import { until } from '../../support/until.js';
import { brokerFor, TestClock } from './support.js';

const DEADLINE_MS = 30_000;
/** Of the processor: a tenth of what quadratic work takes on any machine, and far more than linear work does. */
const LINEAR_MS = 5000;

function message(queue: string, more: Partial<Message> = {}): Message {
  const times = { ttlMs: NEVER, delayMs: 0, expiresAt: NEVER };
  const rest = { priority: 0, ...times, redelivered: false, deaths: undefined };
  return { sequence: 0, address: addressOf('', queue), head: '', body: '', ...rest, ...more };
}

function channelFor(queues: Queues): Channel {
  const nothing = (): void => undefined;
  return new Channel(queues, { isWritable: true, deliver: nothing, cancelled: nothing });
}

function start() {
  const queues = new Queues(defaultLimits, new TestClock(), () => undefined);
  const channel = channelFor(queues);
  const declare = (name: string) => queues.declare(declarationOf(name, 'queue', {}), channel);
  const subscribe = (tag: string, queue = 'q') =>
    channel.subscribe(
      { tag, destination: queue, ackMode: 'client', prefetch: 0, opening: '', idStart: '' },
      declare(queue),
    );
  return { queues, channel, declare, subscribe };
}

function withinLinearTime(work: () => void): void {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  const tookMs = (user + system) / 1000;
  assert.ok(tookMs < LINEAR_MS, `${tookMs} ms`);
}

describe('work is not quadratic in what a peer sends', () => {
  test('ids of a hundred kilobytes', async (context) => {
    const { connect } = await brokerFor(context, { limits: { errorsInARow: Infinity } });
    const client = await connect();
    const ids = ['@@'.repeat(50_000), `a@@${'b'.repeat(99_000)}`, `${'@@1'.repeat(33_000)}x`];
    for (let times = 0; times < 10; times++) for (const id of ids) client.send('ACK', { id });
    // 30 times 9 s of a regular expression with two open ends.
    await (await connect()).receipt('SEND', { destination: 'q' });
    client.send('SEND', { destination: 'q', receipt: 'end' });
    await client.next('RECEIPT');
    const errors = client.takeArrived('ERROR').map(({ headers }) => headers.message);
    assert.deepEqual(errors, Array(30).fill('Invalid header'));
  });

  test('cumulative ACKs of one message each', () => {
    const { queues, channel, declare, subscribe } = start();
    const count = 200_000;
    declare('q');
    subscribe('s');
    queues.publish(Array.from({ length: count }, () => message('q')));
    withinLinearTime(() => {
      for (let tag = 1; tag <= count; tag++) channel.settle({ tag, isCumulative: true, settlement: 'ack' });
    });
    assert.equal(queues.get('q')?.unsettled, 0);
  });

  test('turns of many consumers', () => {
    const limits = { ...defaultLimits, subscriptionsPerConnection: Infinity };
    const queues = new Queues(limits, new TestClock(), () => undefined);
    const queue = queues.declare(declarationOf('q', 'queue', {}), queues);
    const count = 70_000;
    let taken = 0;
    for (let at = 0; at < count; at++)
      queue.addConsumer({ hasCredit: true, deliver: () => taken++, cancelled: () => undefined });
    withinLinearTime(() => {
      for (let at = 0; at < 4 * count; at++) queue.push(message('q'));
    });
    assert.equal(taken, 4 * count);
  });

  test('messages that come back one by one, the oldest first', () => {
    const list = new ReadyList();
    const count = 20_000;
    let looks = 0;
    const watched = (sequence: number): Message =>
      Object.defineProperty(message('q'), 'sequence', { get: () => (looks++, sequence) });
    for (let sequence = 0; sequence < count; sequence++) list.putBack([watched(sequence)]);
    for (let left = count; left > 0; left--) list.shift();
    assert.ok(looks < count * 100, `${looks} looks at ${count} messages`);
  });

  test('the end of a connection with many bindings among many', () => {
    const topics = new Topics<object>();
    const queues = Array.from({ length: 2000 }, () => ({}));
    for (const [at, queue] of queues.entries()) topics.bind(`key.${at}`, queue);
    const deleting = mock.method(Set.prototype, 'delete');
    try {
      for (const queue of queues) topics.unbind(queue);
      assert.ok(deleting.mock.callCount() <= queues.length, `${deleting.mock.callCount()} steps`);
    } finally {
      deleting.mock.restore();
    }
    assert.equal(topics.size, 0);
  });

  test('a message that multiplies through queues that dead-letter into their own topic', async (context) => {
    const { broker, connect } = await brokerFor(context);
    const client = await connect();
    for (let at = 0; at < 12; at++) {
      client.send('SUBSCRIBE', {
        destination: '/topic/k',
        id: String(at),
        'x-queue-name': `q${at}`,
        'x-max-length': '0',
        'x-dead-letter-exchange': 'amq.topic',
        'x-dead-letter-routing-key': 'k',
        durable: 'true',
        'auto-delete': 'false',
      });
      client.send('UNSUBSCRIBE', { id: String(at) });
    }
    await client.put('/topic/k', 'x');
    await (await connect()).receipt('SEND', { destination: 'others' });
    const { deadLettered, dropped } = broker.counters;
    assert.ok(deadLettered > 1000 && deadLettered <= 12 * 20_000, `${deadLettered} dead letters`);
    assert.ok(dropped > 0);
  });

  test('names that a connection can make the broker remember are short', async (context) => {
    const { connect } = await brokerFor(context);
    const headers = { destination: 'q', 'reply-to': `/temp-queue/${'x'.repeat(1000)}` };
    await assert.rejects((await connect()).receipt('SEND', headers), /reply-to '.*' is longer than 255/);
  });
});

describe('whoever is not logged in', () => {
  const credentials = { user: 'app', password: 'secret' };
  const connectFrame = 'CONNECT\naccept-version:1.2\nlogin:app\npasscode:secret\n\n\0';

  async function stranger(context: TestContext, address: { host: string; port: number }): Promise<RawClient> {
    const client = await openRaw(address);
    context.after(() => client.destroy());
    return client;
  }

  for (const [what, frame, text] of [
    ['a head', `CONNECT\nlogin:${'x'.repeat(9000)}`, /headers are over the limit of 8192 bytes/],
    ['a body', `CONNECT\n\n${'x'.repeat(1025)}`, /body is over the limit of 1024 bytes/],
    ['an announced body', 'SEND\ncontent-length:1025\n\n', /body is over the limit of 1024 bytes/],
  ] as const) {
    test(`may not send ${what} that is longer than a CONNECT needs`, async (context) => {
      const { login } = await brokerFor(context, credentials);
      const client = await stranger(context, login);
      client.write(frame);
      assert.match((await client.next('ERROR')).body.toString(), text);
      await client.closed;
    });
  }

  test('may send as much as anyone right behind a good CONNECT', async (context) => {
    const { broker, login } = await brokerFor(context, credentials);
    const client = await stranger(context, login);
    const [head, body] = ['h'.repeat(50_000), 'b'.repeat(1_000_000)];
    client.write(`${connectFrame}SEND\ndestination:q\nh:${head}\nreceipt:1\n\n${body}\0`);
    await client.next('RECEIPT');
    assert.equal(broker.messages('q')[0]?.body.length, body.length);
  });

  test('is not told more than ten times what is wrong', async (context) => {
    const { login } = await brokerFor(context, credentials);
    const client = await stranger(context, login);
    for (let at = 0; at < 20; at++) client.write('SEND\ndestination:q\n\n\0');
    await client.closed;
    const told = client.frames.map(({ headers }) => headers.message);
    assert.deepEqual(told, [...Array<string>(10).fill('Illegal command'), 'Too many errors']);
  });

  test('gives way to others when too many wait; who is logged in does not', async (context) => {
    const limits = { connectionsBeforeLogin: 2 };
    const { broker, login, connect } = await brokerFor(context, { ...credentials, limits });
    const good = await connect();
    const [first, second] = [await stranger(context, login), await stranger(context, login)];
    await until(() => broker.connections === 3, DEADLINE_MS, 'all are accepted');
    const other = await connect();
    await first.closed;
    assert.deepEqual(first.frames, []);
    second.write(connectFrame);
    await second.next('CONNECTED');
    for (const client of [good, second, other]) await client.put('q', 'x');
  });

  test('waits among those also when it was refused and does not go', async (context) => {
    const limits = { connectionsBeforeLogin: 1 };
    const { broker, login, connect } = await brokerFor(context, { ...credentials, limits });
    const refused = await stranger(context, login);
    refused.stopReading();
    refused.write('CONNECT\nlogin:app\npasscode:wrong\n\n\0');
    await connect();
    await until(() => broker.connections === 1, DEADLINE_MS, 'the refused one is closed');
  });
});

test('frames that are refused again and again end their connection, others in between do not count', async (context) => {
  const { broker, connect } = await brokerFor(context);
  const client = await connect();
  const wrong = (times: number) => {
    for (let at = 0; at < times; at++) client.send('NONSENSE');
  };
  wrong(99);
  await client.receipt('SEND', { destination: 'q' }).catch(() => undefined);
  client.takeArrived('ERROR');
  wrong(99);
  await client.put('q', 'still here').catch(() => undefined);
  await until(() => broker.depth('q') === 2, DEADLINE_MS, 'good frames are obeyed');
  wrong(100);
  await client.closed;
  assert.equal(client.frames.at(-1)?.headers.message, 'Too many errors');
});
