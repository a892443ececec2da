import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseSource } from '../../../src/brokers/destinations.js';
import { diagnose } from '../../../src/brokers/diagnoses.js';
import type { Dialect } from '../../../src/brokers/dialect.js';
import { detectDialect } from '../../../src/brokers/products.js';

const options = { prefetch: 3, isExclusive: false, durableName: undefined, queueType: 'classic' } as const;
const queue = parseSource('/queue/orders');
const topic = parseSource('/topic/prices', 'shop');
const virtualTopic = parseSource('Consumer.shop.VirtualTopic.prices');

const dialect = (name: 'rabbitmq' | 'activemq' | 'artemis'): Dialect => detectDialect(undefined, name);
const persistent = { persistent: 'true' };

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
});

describe('rabbitmq', () => {
  const rabbitmq = dialect('rabbitmq');
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

  it('is what the embedded broker speaks', () => {
    const embedded = detectDialect('stomp-pubsub/0.1.0', 'auto');
    assert.deepEqual({ ...embedded, name: 'rabbitmq', declaresLater: true }, rabbitmq);
  });
});

describe('activemq', () => {
  const activemq = dialect('activemq');

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

describe('artemis', () => {
  const artemis = dialect('artemis');
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

describe('diagnose', () => {
  /** The texts of both brokers as the session joins them: RabbitMQ's summary and body, ActiveMQ's message. */
  const known: readonly [text: string, isConfiguration: boolean, advice: RegExp][] = [
    ["Bad CONNECT: Access refused for user 'guest'", true, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/],
    ['User name [u] or password is invalid.', true, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/],
    ['User name [null] or password is invalid.', true, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/],
    ["Bad CONNECT: Virtual host '/nope' access denied", true, /STOMP_SERVER_VHOST/],
    ['Version mismatch: Supported versions are 1.0,1.1,1.2', true, /STOMP 1\.2/],
    ['Invalid Protocol version[1.3], supported versions are: [1.2, 1.1, 1.0]', true, /STOMP 1\.2/],
    [
      "access_refused: ACCESS_REFUSED - access to queue 'q' in vhost '/' refused for user 'u'",
      true,
      /permission/,
    ],
    ['User u is not authorized to write to: queue://q', true, /permission/],
    ['User u is not authorized to read from: queue://q', true, /permission/],
    [
      'Broker: localhost - Client: c already connected from tcp://127.0.0.1:58744',
      false,
      /STOMP_LISTENER_CLIENT_ID/,
    ],
    [
      "resource_locked: RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'xpto' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.",
      true,
      /STOMP_DEFAULT_EXCLUSIVE_QUEUE/,
    ],
    [
      'precondition_failed: PRECONDITION_FAILED - message size 157286400 is larger than configured max size 134217728',
      true,
      /too large/,
    ],
    ['The maximum data length was exceeded', true, /too large/],
    ['The maximum number of headers was exceeded', true, /headers/],
    ['The maximum header length was exceeded', true, /headers/],
    [
      'precondition_failed: PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 6000 ms. This timeout value can be configured, see consumers doc guide to learn more',
      false,
      /consumer_timeout/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'xpto' in vhost '/': received none but current is the value '' of type 'longstr'",
      true,
      /other arguments/,
    ],
    [
      "precondition_failed: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'xpto' in vhost '/': received the value 'quorum' of type 'longstr' but current is none",
      true,
      /STOMP_QUEUE_TYPE/,
    ],
    ['precondition_failed: PRECONDITION_FAILED - unknown delivery tag 1', false, /settled twice/],
    ['Unexpected ACK received for message-id [null]', false, /settled twice/],
    [
      "not_found: NOT_FOUND - home node 'rabbit@a' of durable queue 'x' in vhost '/' is down or inaccessible",
      false,
      /node that holds the queue is down/,
    ],
    [
      "not_found: NOT_FOUND - failed to perform operation on queue 'x' in vhost '/' due to timeout",
      false,
      /node that holds the queue is down/,
    ],
    ["not_found: NOT_FOUND - no queue 'x' in vhost '/'", true, /create what is missing/],
    ["Unknown destination: '/foo/bar' is not a valid destination.", true, /correct the destination/],
    ["Invalid destination: '/a/b' is not a valid queue destination", true, /correct the destination/],
    [
      'Server cancelled subscription: The server has canceled a subscription. No more messages will be delivered for "id=\'s\'".',
      false,
      /deleted/,
    ],
  ];
  for (const [text, isConfiguration, advice] of known) {
    const cure = isConfiguration ? 'what only settings cure' : 'what trying again cures';
    it(`takes ${JSON.stringify(text.slice(0, 90))} for ${cure}`, () => {
      const diagnosis = diagnose(text);
      assert.equal(diagnosis?.isConfiguration, isConfiguration);
      assert.match(diagnosis.advice, advice);
    });
  }

  /** What a client that speaks the protocol never causes, and what an operator did: trying again is all there is. */
  const unknown = [
    'Bad command: Could not interpret command "FOO"',
    'Unknown STOMP action: FOO',
    'Illegal command: You must log in using CONNECT first',
    'Not connected.',
    'Already connected.',
    'Processing error: Processing error',
    'content-length bytes were read and there was no trailing null byte',
    'AMQP channel died: Reason: {shutdown,{connection_closing,{server_initiated_close,320,<<"CONNECTION_FORCED">>}}}',
    '',
  ];
  for (const text of unknown) {
    it(`has nothing to say of ${JSON.stringify(text.slice(0, 60))}, which is tried again`, () => {
      assert.equal(diagnose(text), undefined);
    });
  }
});
