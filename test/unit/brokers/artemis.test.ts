import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { artemis } from '../../../src/brokers/artemis.js';
import { options, persistent, queue, topic, virtualTopic } from './sources.js';

const FULL = '/topic/VirtualTopic.prices::Consumer.shop.VirtualTopic.prices';

describe('artemis', () => {
  const window = { 'consumer-window-size': '0' };

  it('takes a virtual topic for a queue of an address, one message at a time', () => {
    assert.deepEqual(artemis.subscribeHeaders(queue, options), { destination: '/queue/orders', ...window });
    assert.deepEqual(artemis.subscribeHeaders(topic, options), { destination: '/topic/prices', ...window });
    assert.deepEqual(artemis.subscribeHeaders(virtualTopic, options), { destination: FULL, ...window });
  });

  it('reaches a queue of a virtual topic by its full name, whatever for', () => {
    const { queue: name } = virtualTopic;
    assert.equal(artemis.destinationOf(name), FULL);
    assert.equal(artemis.destinationOf(`DLQ.${name}`), `/queue/DLQ.${name}`);
    assert.equal(artemis.takeHeaders(name, 10, false).destination, FULL);
    assert.equal(artemis.behindOthers(virtualTopic, 'classic', {})?.destination, FULL);
    assert.deepEqual(artemis.delayed(virtualTopic, 5000, 'classic'), {
      destination: FULL,
      headers: { AMQ_SCHEDULED_DELAY: '5000' },
    });
    assert.equal(artemis.delayed(topic, 5000, 'classic'), undefined);
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
