import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { declarationOf } from '../../../src/embedded/arguments.js';
import { addressOf } from '../../../src/embedded/destinations.js';
import { defaultLimits } from '../../../src/embedded/limits.js';
import { type Message, NEVER, readMessage } from '../../../src/embedded/message.js';
import type { Consumer, Queue } from '../../../src/embedded/queue.js';
import { type MessageEvent, Queues } from '../../../src/embedded/queues.js';
import { ReadyList } from '../../../src/embedded/ready.js';
import { matches } from '../../../src/embedded/topics.js';
import { TestClock } from './support.js';

const owner = {};

function start(limits = {}) {
  const clock = new TestClock();
  const events: MessageEvent[] = [];
  const queues = new Queues({ ...defaultLimits, ...limits }, clock, (event) => events.push(event));
  const declare = (name: string, headers = {}) =>
    queues.declare(declarationOf(name, 'queue', headers), owner);
  const publish = (name: string, body: string, more: Partial<Message> = {}) =>
    queues.publish([message(name, body, more)]);
  return { clock, events, queues, declare, publish };
}

function message(queue: string, body: string, more: Partial<Message> = {}): Message {
  const address = addressOf('', queue);
  const times = { ttlMs: NEVER, delayMs: 0, expiresAt: NEVER };
  const rest = { priority: 0, ...times, redelivered: false, deaths: undefined };
  return { sequence: 0, address, head: '', body, ...rest, ...more };
}

/** Takes up to `credit` messages and keeps them. */
function consumer(credit = Infinity) {
  const taken: Message[] = [];
  const made: Consumer & { taken: Message[]; credit: number; isCancelled: boolean } = {
    taken,
    credit,
    isCancelled: false,
    get hasCredit() {
      return taken.length < made.credit;
    },
    deliver: (delivered) => taken.push(delivered),
    cancelled: () => (made.isCancelled = true),
  };
  return made;
}

const bodies = (messages: Message[]): string => messages.map(({ body }) => String(body)).join('');
const waiting = (queue: Queue): string => bodies(queue.messages());

describe('a queue', () => {
  test('delivers in the order of arrival and no more than there is credit for', () => {
    const { declare, publish } = start();
    const queue = declare('q');
    for (const body of 'abcde') publish('q', body);
    const taker = consumer(2);
    queue.addConsumer(taker);
    assert.equal(bodies(taker.taken), 'ab');
    taker.credit = 4;
    queue.wake(taker);
    assert.equal(bodies(taker.taken), 'abcd');
    assert.deepEqual([queue.waiting, queue.unsettled], [1, 4]);
  });

  test('gives its consumers turns', () => {
    const { declare, publish } = start();
    const queue = declare('q');
    const takers = [consumer(), consumer(), consumer(1)];
    for (const taker of takers) queue.addConsumer(taker);
    for (const body of 'abcdefg') publish('q', body);
    assert.deepEqual(
      takers.map(({ taken }) => bodies(taken)),
      ['adf', 'beg', 'c'],
    );
  });

  test('puts what comes back where it was, marked as redelivered', () => {
    const { declare, publish } = start();
    const queue = declare('q');
    const taker = consumer(4);
    queue.addConsumer(taker);
    for (const body of 'abcdef') publish('q', body);
    queue.removeConsumer(taker);
    const [a, b, c, d] = taker.taken;
    queue.requeue([c!]);
    queue.requeue([d!, a!]);
    queue.settled(b!);
    assert.equal(waiting(queue), 'acdef');
    assert.deepEqual(
      queue.messages().map(({ redelivered }) => redelivered),
      [true, true, true, false, false],
    );
  });

  test('delivers by priority first when it has an x-max-priority', () => {
    const { declare, publish } = start();
    const queue = declare('q', { 'x-max-priority': '3' });
    publish('q', 'a');
    publish('q', 'b', { priority: 2 });
    publish('q', 'c', { priority: 9 });
    publish('q', 'd', { priority: 3 });
    assert.equal(waiting(queue), 'cdba');
  });

  test('any sequence of take and put back keeps the order of arrival', () => {
    const operation = fc.oneof(
      fc.constant('push' as const),
      fc.constant('shift' as const),
      fc.record({ back: fc.array(fc.nat(30), { maxLength: 30 }) }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        const list = new ReadyList();
        const model: number[] = [];
        const out: Message[] = [];
        let next = 0;
        for (const step of operations) {
          if (step === 'push') {
            list.push(message('q', '', { sequence: next }));
            model.push(next++);
          } else if (step === 'shift') {
            const taken = list.shift();
            assert.equal(taken?.sequence, model.shift());
            if (taken !== undefined) out.push(taken);
          } else {
            const back = step.back.flatMap((at) => (out.length === 0 ? [] : out.splice(at % out.length, 1)));
            list.putBack(back);
            model.push(...back.map(({ sequence }) => sequence));
            model.sort((a, b) => a - b);
          }
          assert.equal(list.length, model.length);
          assert.equal(list.first()?.sequence, model[0]);
        }
        assert.deepEqual(
          list.values().map(({ sequence }) => sequence),
          model,
        );
      }),
    );
  });

  test('a hundred thousand messages go through one list in linear time', () => {
    const list = new ReadyList();
    for (let sequence = 0; sequence < 100_000; sequence++) list.push(message('q', '', { sequence }));
    for (let sequence = 0; sequence < 100_000; sequence++) assert.equal(list.shift()?.sequence, sequence);
    assert.equal(list.length, 0);
  });
});

describe('time', () => {
  test('a message expires at the head of the queue only', () => {
    const { clock, declare, publish, queues } = start();
    const queue = declare('q');
    publish('q', 'a', { ttlMs: 2500 });
    publish('q', 'b', { ttlMs: 300 });
    publish('q', 'c');
    clock.advance(2499);
    assert.equal(waiting(queue), 'abc');
    clock.advance(1);
    assert.equal(waiting(queue), 'c');
    assert.equal(queues.counters.expired, 2);
  });

  test('the shorter of x-message-ttl and expiration counts', () => {
    const { clock, declare, publish } = start();
    const queue = declare('q', { 'x-message-ttl': '1000' });
    publish('q', 'a', { ttlMs: 500 });
    publish('q', 'b', { ttlMs: 9000 });
    clock.advance(500);
    assert.equal(waiting(queue), 'b');
    clock.advance(500);
    assert.equal(waiting(queue), '');
  });

  test('with a TTL of 0 a message reaches a consumer that is waiting, or nobody', () => {
    const { declare, publish } = start();
    const queue = declare('q', { 'x-message-ttl': '0' });
    publish('q', 'a');
    const taker = consumer();
    queue.addConsumer(taker);
    publish('q', 'b');
    assert.equal(bodies(taker.taken), 'b');
  });

  test('an unsettled message does not expire before it comes back', () => {
    const { clock, declare, publish, queues } = start();
    const queue = declare('q', { 'x-message-ttl': '100' });
    const taker = consumer(1);
    queue.addConsumer(taker);
    publish('q', 'a');
    clock.advance(1000);
    assert.equal(queues.counters.expired, 0);
    queue.removeConsumer(taker);
    queue.requeue(taker.taken);
    assert.equal(queues.counters.expired, 1);
  });

  test('a delayed message takes memory at once and comes to its queue in time, behind what came before', () => {
    const { clock, declare, publish, queues } = start();
    const queue = declare('q');
    publish('q', 'a', { delayMs: 500 });
    publish('q', 'b', { delayMs: 100 });
    publish('q', 'c');
    assert.equal(waiting(queue), 'c');
    assert.ok(queues.bytes > queue.bytes);
    clock.advance(100);
    assert.equal(waiting(queue), 'cb');
    clock.advance(399);
    assert.equal(waiting(queue), 'cb');
    clock.advance(1);
    assert.equal(waiting(queue), 'cba');
    assert.equal(queues.bytes, queue.bytes);
  });

  test('a delayed message whose queue has gone or is full is dropped and reported', () => {
    const { clock, declare, publish, events, queues } = start({ messagesPerQueue: 1 });
    publish('gone', 'a', { delayMs: 100 });
    const queue = declare('full');
    publish('full', 'b', { delayMs: 100 });
    publish('full', 'c');
    clock.advance(100);
    assert.equal(waiting(queue), 'c');
    assert.deepEqual(
      events.map((event) => [event.kind, event.queue]),
      [
        ['dropped', 'gone'],
        ['dropped', 'full'],
      ],
    );
    assert.equal(queues.bytes, queue.bytes);
  });

  test('delayed messages are bounded like others', () => {
    const { publish, queues } = start({ totalBytes: 1000 });
    assert.throws(() => {
      for (let n = 0; n < 10; n++) publish('q', 'x'.repeat(100), { delayMs: 100 });
    }, /no more than 1000 bytes/);
    assert.ok(queues.bytes <= 1000);
  });

  test('a queue with x-expires goes when it has had no consumer and no declaration for so long', () => {
    const { clock, declare, queues } = start();
    const headers = { 'x-expires': '1000' };
    const queue = declare('q', headers);
    clock.advance(900);
    declare('q', headers);
    clock.advance(900);
    const taker = consumer();
    queue.addConsumer(taker);
    clock.advance(5000);
    queue.removeConsumer(taker);
    clock.advance(999);
    assert.equal(queues.get('q'), queue);
    clock.advance(1);
    assert.equal(queues.get('q'), undefined);
  });
});

describe('dead letters', () => {
  const toDlq = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dlq' };

  test('a rejected message goes to the dead-letter queue and tells of its first death only', () => {
    const { declare, publish, queues } = start();
    const queue = declare('q', toDlq);
    const dlq = declare('dlq', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dlq2' });
    const dlq2 = declare('dlq2');
    publish('q', 'a', { head: 'expiration:5000\nfoo:bar\n', ttlMs: 5000 });
    for (const from of [queue, dlq]) {
      const taker = consumer(1);
      from.addConsumer(taker);
      from.removeConsumer(taker);
      from.rejected(taker.taken[0]!);
    }
    const [dead] = dlq2.messages().map(readMessage);
    assert.deepEqual(dead?.headers, {
      destination: '/queue/dlq2',
      redelivered: 'false',
      foo: 'bar',
      'x-first-death-exchange': '',
      'x-first-death-queue': 'q',
      'x-first-death-reason': 'rejected',
    });
    assert.equal(queues.counters.deadLettered, 2);
  });

  test('x-max-length drops from the front, to the dead-letter queue', () => {
    const { declare, publish } = start();
    const queue = declare('q', { ...toDlq, 'x-max-length': '2' });
    const dlq = declare('dlq');
    for (const body of 'abcd') publish('q', body);
    assert.deepEqual([waiting(queue), waiting(dlq)], ['cd', 'ab']);
  });

  test('x-max-length-bytes counts bodies', () => {
    const { declare, publish } = start();
    const queue = declare('q', { 'x-max-length-bytes': '10' });
    for (const body of ['aaaa', 'bbbb', 'cccc']) publish('q', body);
    assert.equal(waiting(queue), 'bbbbcccc');
  });

  test('without the queue it is to go to a message is dropped, counted and reported', () => {
    const { clock, declare, events, publish, queues } = start();
    declare('q', toDlq);
    publish('q', 'a', { ttlMs: 10 });
    clock.advance(10);
    assert.equal(queues.counters.dropped, 1);
    const reason = "expired, and its dead-letter queue 'dlq' does not exist";
    assert.deepEqual(events, [{ kind: 'dropped', queue: 'q', reason }]);
  });

  test('two queues that expire into each other drop a message that comes round', () => {
    const { clock, declare, publish, queues } = start();
    declare('a', { ...toDlq, 'x-message-ttl': '10', 'x-dead-letter-routing-key': 'b' });
    declare('b', { ...toDlq, 'x-message-ttl': '10', 'x-dead-letter-routing-key': 'a' });
    publish('a', 'x');
    clock.advance(100);
    assert.deepEqual([queues.counters.expired, queues.counters.dropped], [2, 1]);
    assert.equal(queues.bytes, 0);
  });

  test('a rejected message may go round for ever: delayed retry', () => {
    const { clock, declare, publish, queues } = start();
    const queue = declare('q', { ...toDlq, 'x-dead-letter-routing-key': 'retry' });
    declare('retry', { ...toDlq, 'x-message-ttl': '10', 'x-dead-letter-routing-key': 'q' });
    publish('q', 'x');
    for (let round = 0; round < 5; round++) {
      const taker = consumer(1);
      queue.addConsumer(taker);
      queue.removeConsumer(taker);
      queue.rejected(taker.taken[0]!);
      clock.advance(10);
    }
    assert.equal(waiting(queue), 'x');
    assert.equal(queues.counters.dropped, 0);
  });

  test('a chain of ten thousand dead-letter queues is worked off without recursion', () => {
    const { declare, publish, queues } = start({ queues: 20_000 });
    for (let at = 0; at < 10_000; at++) {
      declare(`q${at}`, { ...toDlq, 'x-max-length': '0', 'x-dead-letter-routing-key': `q${at + 1}` });
    }
    const last = declare('q10000');
    publish('q0', 'x');
    assert.equal(waiting(last), 'x');
    assert.equal(queues.counters.deadLettered, 10_000);
  });
});

describe('memory', () => {
  test('what is published is counted until it is gone', () => {
    const { declare, publish, queues } = start();
    const queue = declare('q');
    publish('q', 'a');
    assert.ok(queues.bytes > 0);
    const taker = consumer(1);
    queue.addConsumer(taker);
    assert.ok(queues.bytes > 0);
    queue.settled(taker.taken[0]!);
    assert.equal(queues.bytes, 0);
    publish('q', 'b');
    queues.remove(queue);
    assert.equal(queues.bytes, 0);
    assert.equal(taker.isCancelled, true);
  });

  test('a full queue takes nothing, and no part of a transaction', () => {
    const { declare, publish, queues } = start({ messagesPerQueue: 2 });
    const queue = declare('q');
    const other = declare('other');
    publish('q', 'a');
    const more = [message('other', 'x'), message('q', 'b'), message('q', 'c')];
    assert.throws(() => queues.publish(more), /RESOURCE_ERROR - queue 'q' in vhost '\/' is full/);
    assert.deepEqual([waiting(queue), waiting(other)], ['a', '']);
  });

  test('all queues together are bounded', () => {
    const { declare, publish } = start({ totalBytes: 1000 });
    declare('a');
    declare('b');
    publish('a', 'x'.repeat(500));
    assert.throws(() => publish('b', 'x'.repeat(500)), /no more than 1000 bytes of messages/);
  });
});

describe('the words of a routing key', () => {
  const cases: [pattern: string, key: string, isMatch: boolean][] = [
    ['a.b', 'a.b', true],
    ['a.*', 'a.b', true],
    ['a.*', 'a', false],
    ['a.*', 'a.b.c', false],
    ['a.#', 'a', true],
    ['a.#', 'a.b.c', true],
    ['#', '', true],
    ['#', 'a.b', true],
    ['#.b', 'a.b', true],
    ['a.#.b', 'a.b', true],
    ['a.#.b', 'a.x.b.y.b', true],
    ['a.#.b.*', 'a.x.b.y', true],
    ['a.#.b', 'a.b.c', false],
    ['*.#', 'a', true],
    ['*', '', true],
    ['a.>', 'a.b', false],
  ];
  for (const [pattern, key, isMatch] of cases) {
    test(`"${pattern}" ${isMatch ? 'matches' : 'does not match'} "${key}"`, () =>
      assert.equal(matches(pattern.split('.'), key.split('.')), isMatch));
  }

  test('match as the equal regular expression does', () => {
    const words = (...all: string[]) => fc.array(fc.constantFrom(...all), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(words('a', 'b', '*', '#'), words('a', 'b'), (pattern, key) => {
        const parts = pattern.map((word) =>
          word === '#' ? '(?:\\w+\\.)*' : `${word === '*' ? '\\w+' : word}\\.`,
        );
        assert.equal(matches(pattern, key), new RegExp(`^${parts.join('')}$`).test(`${key.join('.')}.`));
      }),
    );
  });
});
