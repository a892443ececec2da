import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { artemis } from '../../../src/brokers/artemis.js';
import { options, persistent, queue, topic, virtualTopic } from './sources.js';

describe('artemis', () => {
  const window = { 'consumer-window-size': '0' };

  it('says which routing it means, and takes a virtual topic for a queue of an address', () => {
    assert.deepEqual(artemis.subscribeHeaders(queue, options), {
      destination: '/queue/orders',
      'subscription-type': 'ANYCAST',
      ...window,
    });
    assert.deepEqual(artemis.subscribeHeaders(topic, options), {
      destination: '/topic/prices',
      'subscription-type': 'MULTICAST',
      ...window,
    });
    assert.deepEqual(artemis.subscribeHeaders(virtualTopic, options), {
      destination: '/topic/VirtualTopic.prices::Consumer.shop.VirtualTopic.prices',
      'subscription-type': 'MULTICAST',
      ...window,
    });
  });

  it('names a durable subscription to a topic', () => {
    const headers = artemis.subscribeHeaders(topic, { ...options, durableName: 'me-listener' });
    assert.equal(headers['durable-subscription-name'], 'me-listener');
  });

  it('T28: never dead-letters by NACK, which it takes for an ACK', () => {
    assert.equal(artemis.survivesNack(queue, persistent), false);
    assert.deepEqual(artemis.declarations(queue, 'quorum'), []);
  });
});
