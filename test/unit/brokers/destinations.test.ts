import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { PubsubError } from '../../../src/errors.js';
import {
  checkTarget,
  deadLetterQueueOf,
  feedingTopicOf,
  hasWildcard,
  parseQueue,
  parseSource,
  queueNameOf,
  sourceOfMessage,
} from '../../../src/brokers/destinations.js';

/** Matches the one error that bad destinations give, when its text says this. */
const refusal = (pattern: RegExp) => (error: unknown) =>
  error instanceof PubsubError && error.code === 'invalid-destination' && pattern.test(error.message);

/** Of a source that is declared. */
const declared = { isExisting: false, keepsRejected: false };

describe('parseSource', () => {
  it('takes /queue/x and bare x for the same queue', () => {
    const expected = {
      kind: 'queue',
      queue: 'orders',
      topic: 'orders',
      deadLetterQueue: 'DLQ.orders',
      ...declared,
    };
    for (const destination of ['/queue/orders', 'orders']) {
      assert.deepEqual(parseSource(destination), { ...expected, destination });
    }
  });

  it('takes the queue of a topic from its name, or from the queue name given', () => {
    const topic = { kind: 'topic', destination: '/topic/prices', topic: 'prices', ...declared };
    assert.deepEqual(parseSource('/topic/prices'), {
      ...topic,
      queue: 'prices',
      deadLetterQueue: 'DLQ.prices',
    });
    assert.deepEqual(parseSource('/topic/prices', 'shop'), {
      ...topic,
      queue: 'shop',
      deadLetterQueue: 'DLQ.shop',
    });
  });

  it('binds the queue of a virtual topic to its topic, with and without /queue/', () => {
    const name = 'Consumer.shop.VirtualTopic.prices.eu';
    for (const destination of [name, `/queue/${name}`]) {
      assert.deepEqual(parseSource(destination), {
        kind: 'virtual-topic',
        destination,
        queue: name,
        topic: 'VirtualTopic.prices.eu',
        deadLetterQueue: `DLQ.${name}`,
        ...declared,
      });
    }
  });

  it('takes an app name with dots', () => {
    const { topic } = parseSource('Consumer.my.shop.VirtualTopic.prices');
    assert.equal(topic, 'VirtualTopic.prices');
  });

  it('consumes the topic of a virtual topic, and wildcards of a topic', () => {
    assert.equal(parseSource('/topic/VirtualTopic.prices').kind, 'topic');
    for (const name of ['prices.*', 'prices.#', '*.eu', '>', 'a.*.b']) {
      assert.equal(parseSource(`/topic/${name}`).topic, name);
    }
  });

  it('takes a queue that others declared by its name alone, whatever that looks like', () => {
    for (const name of ['orders', 'a.#', '>', 'Consumer.shop.VirtualTopic.prices']) {
      const { kind, queue, isExisting } = parseSource(`/amq/queue/${name}`);
      assert.deepEqual([kind, queue, isExisting], ['queue', name, true]);
    }
  });

  it('takes names that mean several queues, each of whose messages has a source of its own', () => {
    const source = parseSource('/queue/orders.>');
    assert.equal(hasWildcard(source.queue), true);
    const { queue, deadLetterQueue } = sourceOfMessage(source, '/queue/orders.eu');
    assert.deepEqual([queue, deadLetterQueue], ['orders.eu', 'DLQ.orders.eu']);
    const toOne = sourceOfMessage({ ...source, deadLetterQueue: 'graveyard' }, '/queue/orders.eu');
    assert.equal(toOne.deadLetterQueue, 'graveyard');
    for (const strange of [undefined, '/topic/orders.eu', '/queue/']) {
      assert.equal(sourceOfMessage(source, strange), source);
    }
  });

  it("keeps the queue of a topic's service for the messages of all its topics", () => {
    const own = sourceOfMessage(parseSource('/topic/prices.>', 'shop'), '/topic/prices.eu');
    assert.equal(own.deadLetterQueue, 'DLQ.shop');
    const all = sourceOfMessage(parseSource('/topic/prices.>'), '/topic/prices.eu');
    assert.deepEqual([all.topic, all.deadLetterQueue], ['prices.eu', 'DLQ.prices.eu']);
  });

  it('keeps names whose characters only look special', () => {
    for (const name of ['a b', 'a%2Fb', 'DLQ.orders', 'consumer', 'a*b', 'ünï', 'a:b', 'x.VirtualTopics']) {
      const source = parseSource(`/queue/${name}`);
      assert.deepEqual([source.kind, source.queue], ['queue', name]);
    }
  });

  const refused: readonly [destination: string, problem: RegExp][] = [
    ['', /name is empty/],
    [' ', /name is empty/],
    ['/queue/', /name is empty/],
    ['/topic/', /name is empty/],
    ['/queue/a\nb', /line break or a NUL/],
    ['a\rb', /line break or a NUL/],
    ['/topic/a\0', /line break or a NUL/],
    ['/exchange/e/k', /\/exchange\/ is no kind of source/],
    ['/amq/queue/', /name is empty/],
    ['/amq/topic/x', /\/amq\/ is no kind of source/],
    ['/temp-queue/x', /\/temp-queue\/ is no kind of source/],
    ['/queue//a', /is no kind of source/],
    ['/queue/a/b', /ambiguous; RabbitMQ takes %2F/],
    ['a/b', /ambiguous/],
    ['./orders#onOrder', /looks like a callback; the destination comes first/],
    ['queue/a', /the first slash is missing; write \/queue\/a/],
    ['topic/a', /the first slash is missing; write \/topic\/a/],
    ['a.#', /a queue cannot be named by a wildcard/],
    ['>', /means dead-letter queues, too/],
    ['orders,*.eu', /means dead-letter queues, too/],
    [
      '/topic/Consumer.shop.VirtualTopic.prices',
      /leave \/topic\/ away: Consumer\.shop\.VirtualTopic\.prices/,
    ],
    ['Consumer.shop.VirtualTopic', /app or topic is missing/],
    ['Consumer.shop.VirtualTopic.', /app or topic is missing/],
    ['Consumer.VirtualTopic.prices', /app or topic is missing/],
    ['Consumer..VirtualTopic.prices', /app or topic is missing/],
    ['shop.VirtualTopic.prices', /app or topic is missing/],
  ];
  for (const [destination, problem] of refused) {
    it(`refuses ${JSON.stringify(destination)} and says why`, () => {
      assert.throws(() => parseSource(destination), refusal(problem));
    });
  }

  it('refuses a queue name for what is no topic', () => {
    for (const destination of ['/queue/a', 'a', 'Consumer.shop.VirtualTopic.prices']) {
      assert.throws(() => parseSource(destination, 'own'), refusal(/--queue-name is for \/topic\//));
    }
  });

  it('reads any text or refuses it as invalid-destination, and names no line break or slash it reads', () => {
    const part = fc.constantFrom(
      '/queue/',
      '/topic/',
      '/',
      '.',
      'Consumer.',
      'VirtualTopic.',
      '*',
      '\n',
      'a',
    );
    const anything = fc.array(fc.oneof(part, fc.string({ maxLength: 3 })), { maxLength: 6 });
    fc.assert(
      fc.property(anything, (parts) => {
        let source;
        try {
          source = parseSource(parts.join(''));
        } catch (error) {
          return refusal(/^cannot consume from/)(error);
        }
        assert.equal(source.deadLetterQueue, `DLQ.${source.queue}`);
        return !/[\r\n\0/]/.test(source.queue) && source.queue.trim() !== '';
      }),
    );
  });
});

describe('deadLetterQueueOf', () => {
  it("is DLQ. and what follows the last slash, as django-stomp's", () => {
    const names = {
      orders: 'DLQ.orders',
      '/queue/orders': 'DLQ.orders',
      '/topic/VirtualTopic.prices': 'DLQ.VirtualTopic.prices',
      '/exchange/e/k': 'DLQ.k',
      'DLQ.orders': 'DLQ.DLQ.orders',
    };
    for (const [destination, queue] of Object.entries(names)) {
      assert.equal(deadLetterQueueOf(destination), queue);
    }
  });
});

describe('checkTarget', () => {
  it('takes every kind of destination that a broker may know', () => {
    const targets = [
      'orders',
      '/queue/orders',
      '/topic/a.b',
      '/exchange/e/k',
      '/amq/queue/q',
      '/exchange/e/a.*',
    ];
    for (const destination of targets) checkTarget(destination);
  });

  it('refuses an empty name', () => {
    for (const destination of ['', ' ', '/', '/queue/', '/topic/ ']) {
      assert.throws(() => checkTarget(destination), refusal(/the name is empty/));
    }
  });

  it('refuses a name without its first slash', () => {
    for (const destination of ['queue/orders', 'topic/a.b']) {
      assert.throws(
        () => checkTarget(destination),
        refusal(/the first slash is missing; write \/(queue|topic)\//),
      );
    }
  });

  it('refuses wildcards in queues and topics', () => {
    for (const destination of ['/queue/*', '/topic/a.>', '/topic/#.b']) {
      assert.throws(() => checkTarget(destination), refusal(/wildcards are for consumers/));
    }
  });
});

describe('parseQueue', () => {
  it('is the name of a queue however it is written', () => {
    for (const destination of ['x', '/queue/x', '/amq/queue/x']) assert.equal(parseQueue(destination), 'x');
    assert.equal(parseQueue('Consumer.a.VirtualTopic.t'), 'Consumer.a.VirtualTopic.t');
  });

  it('is any name that a queue may have, those this product makes among them', () => {
    const own = [
      'DLQ.Consumer.shop.VirtualTopic.o',
      'Consumer.shop.VirtualTopic.o.retry.5000',
      'VirtualTopic.o',
    ];
    const others = ['a b', 'a/b', 'a%2Fb', 'a,b', 'orders.*', 'ünï', 'a:b', 'Consumer..VirtualTopic.t'];
    for (const name of [...own, ...others]) {
      assert.equal(parseQueue(name), name);
      assert.equal(parseQueue(`/queue/${name}`), name);
    }
  });

  it('refuses what holds no messages, and what is no name', () => {
    assert.throws(() => parseQueue('/topic/x'), refusal(/a topic holds no messages; name the queue/));
    for (const kind of ['/exchange/e/k', '/temp-queue/x', '/queue', '/amq/x', '/'])
      assert.throws(() => parseQueue(kind), refusal(/no kind of source/));
    for (const empty of ['', ' ', '/queue/', '/amq/queue/'])
      assert.throws(() => parseQueue(empty), refusal(/the name is empty/));
    assert.throws(() => parseQueue('queue/x'), refusal(/the first slash is missing; write \/queue\/x/));
    assert.throws(() => parseQueue('a\nb'), refusal(/line break or a NUL/));
  });
});

describe('feedingTopicOf', () => {
  it('is the virtual topic of an application, and of no other queue', () => {
    assert.equal(feedingTopicOf('Consumer.my.shop.VirtualTopic.prices'), 'VirtualTopic.prices');
    for (const queue of ['VirtualTopic.prices', 'DLQ.Consumer.a.VirtualTopic.prices', 'orders'])
      assert.equal(feedingTopicOf(queue), undefined);
  });
});

describe('queueNameOf', () => {
  it('is the queue that a SEND goes to, and nothing for all else', () => {
    for (const destination of ['x', '/queue/x', '/amq/queue/x']) assert.equal(queueNameOf(destination), 'x');
    for (const destination of ['/topic/x', '/exchange/e/k', '/temp-queue/x'])
      assert.equal(queueNameOf(destination), undefined);
  });
});
