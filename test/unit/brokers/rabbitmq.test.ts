import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { rabbitmq } from '../../../src/brokers/rabbitmq.js';
import { options, queue, topic, virtualTopic } from './sources.js';

describe('rabbitmq', () => {
  const deadLetter = (key: string) => ({ 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': key });

  it("declares a queue with django-stomp's arguments and nothing more", () => {
    assert.deepEqual(rabbitmq.subscribeHeaders(queue, options), {
      destination: '/queue/orders',
      'prefetch-count': '3',
      ...deadLetter('DLQ.orders'),
    });
  });

  it('gives a topic a durable queue of its own', () => {
    assert.deepEqual(rabbitmq.subscribeHeaders(topic, options), {
      destination: '/topic/prices',
      'x-queue-name': 'shop',
      durable: 'true',
      'auto-delete': 'false',
      'prefetch-count': '3',
      ...deadLetter('DLQ.shop'),
    });
  });

  it("binds a virtual topic's queue to its topic", () => {
    const name = 'Consumer.shop.VirtualTopic.prices';
    assert.deepEqual(rabbitmq.subscribeHeaders(virtualTopic, options), {
      destination: '/topic/VirtualTopic.prices',
      'x-queue-name': name,
      durable: 'true',
      'auto-delete': 'false',
      'prefetch-count': '3',
      ...deadLetter(`DLQ.${name}`),
    });
  });

  it('asks for an exclusive queue only when told', () => {
    const headers = rabbitmq.subscribeHeaders(queue, { ...options, isExclusive: true });
    assert.equal(headers.exclusive, 'true');
  });

  it('declares quorum queues when told, the dead-letter queue too', () => {
    for (const source of [queue, topic, virtualTopic]) {
      const headers = rabbitmq.subscribeHeaders(source, { ...options, queueType: 'quorum' });
      assert.equal(headers['x-queue-type'], 'quorum');
      const [declaration] = rabbitmq.declarations(source, 'quorum');
      assert.equal(declaration!.headers['x-queue-type'], 'quorum');
    }
  });

  it('declares the dead-letter queue with arguments of its own', () => {
    assert.deepEqual(rabbitmq.declarations(queue, 'classic'), [
      { destination: '/queue/DLQ.orders', headers: deadLetter('DLQ.DLQ.orders') },
    ]);
    assert.deepEqual(
      rabbitmq.declarations(topic, 'classic').map(({ destination }) => destination),
      ['/queue/DLQ.shop'],
    );
  });

  it('T28: dead-letters every message by a NACK that does not requeue it', () => {
    assert.deepEqual(rabbitmq.nackHeaders, { requeue: 'false' });
    for (const source of [queue, topic, virtualTopic]) {
      assert.equal(rabbitmq.survivesNack(source, {}), true);
    }
  });

  it('gives up a connection for a new one unless its queue goes with it', () => {
    for (const source of [queue, topic, virtualTopic]) {
      assert.equal(rabbitmq.outlivesItsConnection(source, options), true);
      assert.equal(rabbitmq.outlivesItsConnection(source, { ...options, isExclusive: true }), false);
    }
  });
});
