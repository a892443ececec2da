import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseSource } from '../../../src/brokers/destinations.js';
import { detectDialect } from '../../../src/brokers/products.js';
import { countedCopy, countOf, requireCounting, type Standing } from '../../../src/consumer/deliveries.js';
import type { Frame, Headers } from '../../../src/stomp/frames.js';

const rabbitmq = detectDialect('RabbitMQ/3.10.8', 'auto');
const activemq = detectDialect('ActiveMQ/5.17.2', 'auto');
const source = parseSource('orders');
const classic = { source, queueType: 'classic', queueArguments: {}, limit: 3 } as const;
const quorum = { source, queueType: 'quorum', queueArguments: {}, limit: 3 } as const;
const again = { redelivered: 'true' };

const cases: readonly (readonly [string, Headers, Standing, number, typeof classic | typeof quorum])[] = [
  ['a first delivery', {}, 'free', 0, classic],
  ['a second one', again, 'uncounted', 1, classic],
  ['its copy', { 'x-deliveries': '1' }, 'free', 1, classic],
  ['that copy again', { ...again, 'x-deliveries': '1' }, 'suspect', 2, classic],
  ['one with a copy that was not marked yet', { 'x-deliveries': '2' }, 'suspect', 2, classic],
  ['the marked copy', { 'x-deliveries': '2 alone a1' }, 'alone', 2, classic],
  ['the marked copy again', { ...again, 'x-deliveries': '2 alone a1' }, 'ended', 3, classic],
  ['a count of a quorum queue', { ...again, 'x-delivery-count': '1' }, 'free', 1, quorum],
  ['its last one', { ...again, 'x-delivery-count': '2' }, 'suspect', 2, quorum],
  ['a quorum queue that does not count', again, 'uncounted', 1, quorum],
  ['a count that the sender made up', { ...again, 'x-delivery-count': '9' }, 'uncounted', 1, classic],
  ['one that the sender made up, of a quorum queue', { 'x-delivery-count': '9' }, 'free', 0, quorum],
  ['what is no count', { 'x-deliveries': 'monday' }, 'free', 0, classic],
  ['what is no mark', { 'x-deliveries': '2 alone -' }, 'free', 0, classic],
];

describe('how often a message was delivered', () => {
  for (const [name, headers, standing, before, options] of cases) {
    it(`${name}: ${standing}, after ${before}`, () => {
      const count = countOf(headers, rabbitmq, options);
      assert.deepEqual([count.standing, count.before], [standing, before]);
    });
  }

  it('is told by a copy that is otherwise the message: its attempt, its death, its body', () => {
    const headers = {
      ...{ 'message-id': 'm', redelivered: 'true', destination: '/queue/orders', subscription: 's' },
      ...{
        'correlation-id': 'c',
        tenant: '7',
        'x-attempt': '2',
        'x-deliveries': '1',
        'x-delivery-count': '4',
      },
      ...{ 'x-failure-error': 'TypeError', 'original-destination': '/queue/orders', expires: '1' },
    };
    const frame: Frame = { command: 'MESSAGE', headers, body: Buffer.from('{}') };
    const copy = countedCopy(frame, 2, false, classic, rabbitmq);
    assert.equal(copy.destination, '/queue/orders');
    assert.equal(copy.body, frame.body);
    assert.deepEqual(copy.lines.trimEnd().split('\n').sort(), [
      'SEND',
      'correlation-id:c',
      'destination:/queue/orders',
      'original-destination:/queue/orders',
      'persistent:true',
      'tenant:7',
      'x-attempt:2',
      'x-dead-letter-exchange:',
      'x-dead-letter-routing-key:DLQ.orders',
      'x-deliveries:2',
      'x-failure-error:TypeError',
    ]);
    assert.match(countedCopy(frame, 2, true, classic, rabbitmq).lines, /^x-deliveries:2 alone \w{12}$/m);
    assert.match(countedCopy(frame, 2, true, quorum, rabbitmq).lines, /^x-queue-type:quorum$/m);
  });

  it('goes to the queue of a virtual topic alone', () => {
    const options = { ...classic, source: parseSource('Consumer.app.VirtualTopic.orders') };
    const frame: Frame = { command: 'MESSAGE', headers: {}, body: Buffer.of() };
    for (const dialect of [rabbitmq, activemq])
      assert.equal(
        countedCopy(frame, 1, false, options, dialect).destination,
        '/queue/Consumer.app.VirtualTopic.orders',
      );
  });

  it('cannot be told of a topic on ActiveMQ', () => {
    const options = { ...classic, source: parseSource('/topic/orders') };
    assert.throws(() => requireCounting(options, activemq), /\/topic\/orders cannot be counted on activemq/);
    requireCounting(options, rabbitmq);
  });
});
