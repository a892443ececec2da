import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { activemq } from '../../../src/brokers/activemq.js';
import { parseSource } from '../../../src/brokers/destinations.js';
import { options, persistent, queue, topic, virtualTopic } from './sources.js';

describe('activemq', () => {
  it('subscribes to queues, topics and virtual topics by their own names', () => {
    const prefetch = { 'activemq.prefetchSize': '3' };
    assert.deepEqual(activemq.subscribeHeaders(queue, options), {
      destination: '/queue/orders',
      ...prefetch,
    });
    assert.deepEqual(activemq.subscribeHeaders(topic, options), {
      destination: '/topic/prices',
      ...prefetch,
    });
    assert.deepEqual(activemq.subscribeHeaders(virtualTopic, options), {
      destination: '/queue/Consumer.shop.VirtualTopic.prices',
      ...prefetch,
    });
  });

  it('names a durable subscription to a topic, and to nothing else', () => {
    const durable = { ...options, durableName: 'me-listener' };
    assert.equal(activemq.subscribeHeaders(topic, durable)['activemq.subscriptionName'], 'me-listener');
    for (const source of [queue, virtualTopic]) {
      assert.equal('activemq.subscriptionName' in activemq.subscribeHeaders(source, durable), false);
    }
  });

  it('gives up a connection for a new one unless messages of a topic would be lost', () => {
    assert.equal(activemq.outlivesItsConnection(queue, options), true);
    assert.equal(activemq.outlivesItsConnection(virtualTopic, options), true);
    assert.equal(activemq.outlivesItsConnection(topic, options), false);
    assert.equal(activemq.outlivesItsConnection(topic, { ...options, durableName: 'me-listener' }), true);
  });

  it('declares nothing', () => {
    assert.deepEqual(activemq.declarations(queue, 'quorum'), []);
  });

  it('T28: dead-letters by NACK only what a NACK does not destroy', () => {
    assert.deepEqual(activemq.nackHeaders, {});
    assert.equal(activemq.survivesNack(queue, persistent), true);
    assert.equal(activemq.survivesNack(virtualTopic, persistent), false);
    assert.equal(activemq.survivesNack(queue, {}), false);
    assert.equal(activemq.survivesNack(queue, { persistent: 'false' }), false);
    assert.equal(activemq.survivesNack(topic, persistent), false);
    assert.equal(activemq.survivesNack(parseSource('DLQ.orders'), persistent), false);
  });
});
