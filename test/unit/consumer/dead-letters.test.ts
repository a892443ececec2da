import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseSource } from '../../../src/brokers/destinations.js';
import { detectDialect } from '../../../src/brokers/products.js';
import { deadLetterCopy, type Failure } from '../../../src/consumer/dead-letters.js';
import { type Frame, FrameDecoder, type Headers } from '../../../src/stomp/frames.js';

const rabbitmq = detectDialect('RabbitMQ/3.10.8', 'auto');
const activemq = detectDialect('ActiveMQ/5.17.2', 'auto');

interface Given {
  readonly headers?: Headers;
  readonly failure?: Failure;
  readonly source?: ReturnType<typeof parseSource>;
  readonly tellsError?: boolean;
  readonly callback?: string;
}

/** The headers of the dead letter, as whoever consumes it reads them. */
function deadLetter(dialect: typeof rabbitmq, given: Given = {}): Readonly<Headers> {
  const frame: Frame = {
    command: 'MESSAGE',
    headers: { destination: '/queue/orders', ...given.headers },
    body: Buffer.from('1'),
  };
  const options = {
    source: given.source ?? parseSource('orders'),
    queueType: 'classic' as const,
    callback: given.callback ?? './orders#run',
    tellsError: given.tellsError ?? true,
  };
  const failure = given.failure ?? { reason: 'callback-failed', err: new TypeError('no') };
  const { lines } = deadLetterCopy(frame, failure, options, dialect);
  const frames: Frame[] = [];
  const limits = { headerBytes: Infinity, bodyBytes: Infinity };
  const decoder = new FrameDecoder({ strict: true, ...limits }, (decoded) => frames.push(decoded));
  decoder.push(Buffer.from(`${lines}\n\0`));
  return frames[0]!.headers;
}

describe('a dead letter', () => {
  it('tells why, when, after how many attempts, in which callback and where its message died', () => {
    const { 'x-failure-at': at, ...headers } = deadLetter(rabbitmq, {
      headers: { 'x-attempt': '3', tenant: '7', 'content-type': 'text/plain', 'x-last-error': 'old' },
    });
    assert.ok(Math.abs(Date.parse(at!) - Date.now()) < 60_000, at);
    assert.deepEqual(
      { ...headers },
      {
        tenant: '7',
        'content-type': 'text/plain',
        destination: '/queue/DLQ.orders',
        'x-dead-letter-exchange': '',
        'x-dead-letter-routing-key': 'DLQ.DLQ.orders',
        'original-destination': '/queue/orders',
        'x-failure-reason': 'callback-failed',
        'x-failure-error': 'TypeError',
        'x-failure-message': 'no',
        'x-failure-attempts': '3',
        'x-failure-callback': './orders#run',
        persistent: 'true',
      },
    );
  });

  it('tells the detail where nothing was thrown, and no message or class where these may not be told', () => {
    const failure = { reason: 'unsettled', detail: 'it returned' } as const;
    const { 'x-failure-error': error, 'x-failure-message': message } = deadLetter(rabbitmq, { failure });
    assert.deepEqual([error, message], [undefined, 'it returned']);
    const silent = deadLetter(rabbitmq, { tellsError: false });
    assert.deepEqual(
      Object.keys(silent).filter((name) => name.startsWith('x-failure-')),
      ['x-failure-reason', 'x-failure-at', 'x-failure-attempts', 'x-failure-callback'],
    );
  });

  it('tells what was thrown on one line of bounded length, whatever it was', () => {
    const messageOf = (err: unknown) =>
      deadLetter(rabbitmq, { failure: { reason: 'callback-failed', err } })['x-failure-message'];
    assert.equal(messageOf(new Error('a\0b\r\n  c\t\u0007d\u0085e\u202ef')), 'a b c d e f');
    assert.equal(messageOf(new Error('x'.repeat(100_000)))?.length, 1000);
    assert.equal(messageOf(new Error(`${'x'.repeat(999)}\u{1f600}`)), 'x'.repeat(999));
    assert.equal(messageOf(undefined), 'undefined');
    assert.equal(messageOf({ toString: () => 'own' }), 'own');
    assert.equal(messageOf(Object.create(null)), 'a thrown object that cannot be printed');
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    assert.equal(messageOf(proxy), 'a thrown object that cannot be printed');
    assert.equal(
      messageOf(Object.assign(new Error(), { message: Object.create(null) as string })),
      'a thrown object that cannot be printed',
    );
    const named = {
      reason: 'callback-failed',
      err: Object.assign(new Error('x'), { name: Symbol('s') }),
    } as const;
    assert.equal(deadLetter(rabbitmq, { failure: named })['x-failure-error'], 'Symbol(s)');
  });

  it('names the queue that was consumed, and the topic where a subscription has no queue', () => {
    const topic = parseSource('/topic/prices', 'shop');
    const virtual = parseSource('Consumer.shop.VirtualTopic.prices');
    const originOf = (dialect: typeof rabbitmq, source: ReturnType<typeof parseSource>) =>
      deadLetter(dialect, { source })['original-destination'];
    assert.equal(originOf(rabbitmq, topic), '/queue/shop');
    assert.equal(originOf(activemq, topic), '/topic/prices');
    for (const dialect of [rabbitmq, activemq])
      assert.equal(originOf(dialect, virtual), '/queue/Consumer.shop.VirtualTopic.prices');
  });

  it('keeps its own headers where the broker takes fewer than it delivers', () => {
    const many = Object.fromEntries(Array.from({ length: 1200 }, (_header, n) => [`h${n}`, 'x']));
    const headers = deadLetter(activemq, { headers: { ...many, 'correlation-id': 'c' } });
    assert.ok(Object.keys(headers).length < 1000);
    assert.deepEqual(
      [headers['x-failure-reason'], headers['correlation-id'], headers.h0],
      ['callback-failed', 'c', 'x'],
    );
  });
});
