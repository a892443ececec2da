/** What RabbitMQ allows by its version, and where. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { consumerTimeoutOf } from '../../../src/brokers/limits.js';

describe('consumer_timeout', () => {
  const versions = [
    ['RabbitMQ/3.8.14', undefined],
    ['RabbitMQ/3.8.15', { seconds: 900, isOfQuorumQueues: false }],
    ['RabbitMQ/3.10.8', { seconds: 1800, isOfQuorumQueues: false }],
    ['RabbitMQ/4.0.5', { seconds: 1800, isOfQuorumQueues: false }],
    ['RabbitMQ/4.2.9', { seconds: 1800, isOfQuorumQueues: false }],
    ['RabbitMQ/4.3.0', { seconds: 1800, isOfQuorumQueues: true }],
    ['RabbitMQ/4.3.6', { seconds: 1800, isOfQuorumQueues: true }],
    ['ActiveMQ/5.17.2', undefined],
    [undefined, undefined],
  ] as const;
  for (const [server, expected] of versions)
    it(`of ${server ?? 'a broker that does not say what it is'}`, () =>
      assert.deepEqual(consumerTimeoutOf(server), expected));
});
