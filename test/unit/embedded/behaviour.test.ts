import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { BrokerEvent } from '../../../src/embedded/broker.js';
import { startProxy } from '../../support/proxy.js';
import { connectRaw, openRaw, type RawClient, settlingHeaders } from '../../support/raw-client.js';
import { until } from '../../support/until.js';
import { brokerFor } from './support.js';

const DEADLINE_MS = 30_000;
const LONGEST = 1000;

/** All that came for a client until the broker answered once more. */
async function receiptsOf(client: RawClient): Promise<(string | undefined)[]> {
  await client.receipt('SEND', { destination: '/amq/queue/nowhere' });
  return client.takeArrived('RECEIPT').map(({ headers }) => headers['receipt-id']);
}

const deferring = {
  'the embedded broker': async (context: TestContext) => {
    const { broker, connect } = await brokerFor(context, { defersTransactions: true });
    return { broker, client: await connect() };
  },
  'the proxy before a broker that does not': async (context: TestContext) => {
    const { broker, login } = await brokerFor(context);
    const proxy = await startProxy(login, { defersTransactions: true });
    context.after(() => proxy.close());
    const client = await connectRaw({ ...login, port: proxy.port });
    context.after(() => client.destroy());
    return { broker, client };
  },
};

for (const [what, start] of Object.entries(deferring)) {
  describe(`transactions that wait for COMMIT whole: ${what}`, () => {
    test('ABORT erases a SEND and the declaration of its queue', async (context) => {
      const { broker, client } = await start(context);
      client.send('BEGIN', { transaction: 't', receipt: 'begin' });
      client.send('SEND', { transaction: 't', destination: '/queue/q', receipt: 'send' }, 'x');
      client.send('ABORT', { transaction: 't', receipt: 'abort' });
      assert.deepEqual((await receiptsOf(client)).sort(), ['abort', 'begin']);
      assert.deepEqual(broker.queues(), []);
      assert.equal(broker.counters.published, 1);
    });

    test('COMMIT declares, sends and confirms; nothing happens before', async (context) => {
      const { broker, client } = await start(context);
      await client.receipt('BEGIN', { transaction: 't' });
      const body = 'a\0b';
      for (const receipt of ['1', '2']) {
        const length = { 'content-length': String(body.length) };
        client.send('SEND', { transaction: 't', destination: '/queue/q', receipt, ...length }, body);
      }
      assert.deepEqual(await receiptsOf(client), []);
      assert.deepEqual(broker.queues(), []);
      client.send('COMMIT', { transaction: 't', receipt: 'commit' });
      assert.deepEqual((await receiptsOf(client)).sort(), ['1', '2', 'commit']);
      assert.deepEqual(
        broker.messages('/queue/q').map((message) => message.body.toString()),
        [body, body],
      );
    });

    test('an ACK inside is answered at once and holds at COMMIT only', async (context) => {
      const { broker, client } = await start(context);
      await client.subscribe('/queue/q');
      await client.put('/queue/q', 'x');
      const message = await client.next('MESSAGE');
      for (const [end, left] of [
        ['ABORT', 1],
        ['COMMIT', 0],
      ] as const) {
        client.send('BEGIN', { transaction: 't' });
        await client.receipt('ACK', { ...settlingHeaders(message), transaction: 't' });
        assert.equal(broker.depth('q'), 1);
        await client.receipt(end, { transaction: 't' });
        assert.equal(broker.depth('q'), left);
      }
    });

    test('two at a time, byte by byte, and what is no transaction goes on', async (context) => {
      const { broker, client } = await start(context);
      const send = (transaction: string) =>
        `SEND\ndestination:q\ntransaction:${transaction}\n\n${transaction}\0\n`;
      const frames =
        'BEGIN\ntransaction:a\n\n\0BEGIN\ntransaction:b\n\n\0\n' +
        `${send('a')}${send('b')}SEND\ndestination:q\n\nplain\0${send('a')}` +
        'ABORT\ntransaction:a\n\n\0COMMIT\ntransaction:b\nreceipt:end\n\n\0';
      for (const byte of Buffer.from(frames)) client.write(Buffer.of(byte));
      await client.next(({ headers }) => headers['receipt-id'] === 'end');
      assert.deepEqual(
        broker.messages('q').map((message) => message.body.toString()),
        ['plain', 'b'],
      );
    });

    test('what the broker refuses it refuses at COMMIT, and does nothing of it', async (context) => {
      const { broker, client } = await start(context);
      broker.publish('q', '', { 'x-max-length': '5', expiration: '0' });
      client.send('BEGIN', { transaction: 't' });
      client.send('SEND', { transaction: 't', destination: 'other' }, 'x');
      client.send('SEND', { transaction: 't', destination: 'q' }, 'x');
      assert.deepEqual(await receiptsOf(client), []);
      await assert.rejects(client.receipt('COMMIT', { transaction: 't' }), /inequivalent arg 'x-max-length'/);
      assert.equal(broker.depth('other'), 0);
    });

    test('one that is not open is refused', async (context) => {
      const { client } = await start(context);
      for (const command of ['SEND', 'COMMIT', 'ABORT']) {
        client.send(command, { transaction: 'nope', destination: 'q' });
        assert.equal((await client.next('ERROR')).headers.message, 'Bad transaction');
      }
    });
  });
}

/** Sends, and resolves with what the client got before its connection ended. */
async function endedBy(client: RawClient, ...frames: string[]): Promise<string[]> {
  const before = client.frames.length;
  for (const frame of frames) client.write(frame);
  await client.closed;
  return client.frames.slice(before).map(({ command }) => command);
}

describe('a longest frame', () => {
  const ofLength = (length: number, headers = '') => {
    const head = `SEND\ndestination:q\n${headers}\n`;
    return `${head}${'x'.repeat(length - head.length - 1)}\0`;
  };

  test('is taken, and one more byte ends the connection without a word, in a transaction too', async (context) => {
    const events: BrokerEvent[] = [];
    const options = { maxFrameBytes: LONGEST, onEvent: (event: BrokerEvent) => void events.push(event) };
    const { broker, connect } = await brokerFor(context, options);
    const client = await connect();
    client.write(ofLength(LONGEST));
    await until(() => broker.depth('q') === 1, DEADLINE_MS, 'the longest frame is taken');
    assert.deepEqual(await endedBy(client, ofLength(LONGEST + 1)), []);
    const begin = 'BEGIN\ntransaction:t\n\n\0';
    const abort = 'ABORT\ntransaction:t\nreceipt:1\n\n\0';
    const long = ofLength(LONGEST + 1, 'transaction:t\n');
    assert.deepEqual(await endedBy(await connect(), begin, long, abort), []);
    assert.equal(broker.depth('q'), 1);
    const titles = events.flatMap((event) => (event.kind === 'error' ? [event.title] : []));
    assert.deepEqual(titles, ['Frame too long', 'Frame too long']);
  });

  test('may end before the frame does', async (context) => {
    const { connect } = await brokerFor(context, { maxFrameBytes: LONGEST });
    for (const frame of [`SEND\nx:${'x'.repeat(LONGEST)}`, `SEND\ncontent-length:${LONGEST + 1}\n\n`]) {
      assert.deepEqual(await endedBy(await connect(), frame), []);
    }
  });
});

describe('a full queue that rejects', () => {
  const publish = 'SEND\ndestination:q\nreceipt:1\n\nx\0';
  const inTransaction = (end: string) => [
    'BEGIN\ntransaction:t\nreceipt:b\n\n\0',
    'SEND\ndestination:q\ntransaction:t\n\nx\0',
    `${end}\ntransaction:t\nreceipt:e\n\n\0`,
  ];

  test('ends the connection of a SEND without a word and answers an ABORT', async (context) => {
    const rejectPublishAt = new Map([['q', 2]]);
    const { broker, connect } = await brokerFor(context, { rejectPublishAt });
    const client = await connect();
    for (const body of ['a', 'b']) await client.put('q', body);
    for (const frame of inTransaction('ABORT')) client.write(frame);
    await client.next(({ headers }) => headers['receipt-id'] === 'e');
    assert.deepEqual(await endedBy(client, publish), []);
    assert.deepEqual(await endedBy(await connect(), ...inTransaction('COMMIT')), ['RECEIPT']);
    assert.equal(broker.depth('q'), 2);
    await (await connect()).put('other', 'x');

    rejectPublishAt.delete('q');
    await (await connect()).put('q', 'c');
    assert.equal(broker.depth('q'), 3);
  });

  test('counts what waits, not what a consumer has', async (context) => {
    const { connect } = await brokerFor(context, { rejectPublishAt: new Map([['q', 1]]) });
    const client = await connect();
    await client.subscribe('q', { 'prefetch-count': '1' });
    for (const body of ['a', 'b']) await client.put('q', body);
    assert.deepEqual((await endedBy(client, publish)).slice(1), []);
  });

  test('loses a dead letter, and that is counted', async (context) => {
    const { broker, connect } = await brokerFor(context, { rejectPublishAt: new Map([['DLQ.q', 1]]) });
    const client = await connect();
    broker.publish('DLQ.q', 'full');
    const deadLetters = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'DLQ.q' };
    await client.subscribe('q', deadLetters);
    await client.put('q', 'x', deadLetters);
    await client.settle('NACK', await client.next('MESSAGE'));
    assert.deepEqual([broker.depth('DLQ.q'), broker.depth('q'), broker.counters.dropped], [1, 0, 1]);
  });
});

test('STOMP 1.0 strips the blanks before a value, later versions keep them', async (context) => {
  const { broker, login } = await brokerFor(context, { user: 'app', password: 'secret' });
  for (const [version, value] of [
    ['1.0', 'b '],
    ['1.1', '  b '],
  ]) {
    const client = await openRaw(login);
    context.after(() => client.destroy());
    const blank = version === '1.0' ? ' ' : '';
    client.write(`CONNECT\naccept-version:${version}\nlogin:${blank}app\npasscode:${blank}secret\n\n\0`);
    await client.next('CONNECTED');
    client.write(`SEND\ndestination:${blank}/queue/q\na:  b \nreceipt:${blank}1\n\nx\0`);
    assert.equal((await client.next('RECEIPT')).headers['receipt-id'], '1');
    assert.equal(broker.messages('q').at(-1)?.headers.a, value);
  }
});
