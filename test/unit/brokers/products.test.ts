import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { detectDialect } from '../../../src/brokers/products.js';
import { rabbitmq } from '../../../src/brokers/rabbitmq.js';

describe('detectDialect', () => {
  it('reads the product from the server header, and takes RabbitMQ for what it does not know', () => {
    const servers = {
      'RabbitMQ/3.10.8': 'rabbitmq',
      'ActiveMQ/5.17.2': 'activemq',
      'ActiveMQ-Artemis/2.28.0 ActiveMQ Artemis Messaging Engine': 'artemis',
      'stomp-pubsub/0.1.0': 'embedded',
      'Other/1': 'rabbitmq',
    };
    for (const [server, name] of Object.entries(servers)) {
      assert.equal(detectDialect(server, 'auto').name, name, server);
    }
    assert.equal(detectDialect(undefined, 'auto').name, 'rabbitmq');
  });

  it('takes the product that is forced, whatever the server says', () => {
    for (const name of ['rabbitmq', 'activemq', 'artemis'] as const) {
      assert.equal(detectDialect('RabbitMQ/3.10.8', name).name, name);
    }
  });

  it('takes the embedded broker for RabbitMQ', () => {
    const embedded = detectDialect('stomp-pubsub/0.1.0', 'auto');
    const { name, subscriptionHeaders } = rabbitmq;
    assert.deepEqual({ ...embedded, name, subscriptionHeaders }, rabbitmq);
  });
});
