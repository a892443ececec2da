import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { deadLetterQueueMeant, originOf } from '../../../src/brokers/origins.js';

type Named = readonly [what: string, headers: Record<string, string>, queue: string];
type Unnamed = readonly [what: string, headers: Record<string, string>, reason: RegExp];

const onRabbitmq = ['x-first-death-queue', 'original-destination'];
const onActivemq = ['original-destination', 'x-first-death-queue'];
const shared = 'ActiveMQ.DLQ';
const own = 'Consumer.a.VirtualTopic.prices';

describe('originOf: a dead-letter queue of one queue', () => {
  const strangers: readonly Record<string, string>[] = [
    {},
    { 'x-first-death-queue': 'other', 'tshoot-destination': '/queue/other' },
    { 'original-destination': '/queue/admin,secret' },
    { 'x-first-death-queue': '/queue/a\x1b[2Jb' },
    { 'tshoot-destination': '/topic/prices' },
  ];
  for (const headers of strangers) {
    it(`sends to that queue, whatever ${JSON.stringify(headers)} says`, () => {
      for (const names of [onRabbitmq, onActivemq])
        assert.deepEqual(originOf(headers, 'DLQ.x', names), { queue: 'x' });
    });
  }

  it('is that of a dead letter that died again, too', () => {
    assert.deepEqual(originOf({ 'x-first-death-queue': 'x' }, 'DLQ.DLQ.x', onRabbitmq), { queue: 'DLQ.x' });
  });

  it('leaves what came by a topic, but for the one that feeds the queue', () => {
    const by = (topic: string) => ({ 'original-destination': `/topic/${topic}` });
    const left = [originOf(by('prices'), 'DLQ.prices', onActivemq), originOf(by(''), 'DLQ.x', onActivemq)];
    left.push(originOf(by('VirtualTopic.other'), `DLQ.${own}`, onActivemq));
    for (const origin of left) assert.match('problem' in origin ? origin.problem : '', /by the topic/);
    assert.deepEqual(originOf(by('VirtualTopic.prices'), `DLQ.${own}`, onActivemq), { queue: own });
  });
});

describe('originOf: the dead-letter queue of all queues', () => {
  const named: readonly Named[] = [
    ['the first death', { 'x-first-death-queue': 'x' }, 'x'],
    ['the original destination', { 'original-destination': '/queue/x' }, 'x'],
    ['where it was sent', { 'tshoot-destination': '/queue/x' }, 'x'],
    ['where it was sent, by a bare name', { 'tshoot-destination': 'x' }, 'x'],
    ['the broker before the publisher', { 'x-first-death-queue': 'x', 'tshoot-destination': 'y' }, 'x'],
    ['a name with a slash', { 'original-destination': '/queue/a/b' }, 'a/b'],
    [
      'the next that is safe',
      { 'original-destination': '/queue/a,b', 'tshoot-destination': '/queue/x' },
      'x',
    ],
  ];
  for (const [what, headers, queue] of named) {
    it(`is told by ${what}`, () => {
      for (const names of [onRabbitmq, onActivemq])
        assert.deepEqual(originOf(headers, shared, names), { queue });
    });
  }

  it('is told by what the broker writes before what another broker wrote', () => {
    const headers = { 'x-first-death-queue': 'x', 'original-destination': '/queue/y' };
    assert.deepEqual(originOf(headers, shared, onRabbitmq), { queue: 'x' });
    assert.deepEqual(originOf(headers, shared, onActivemq), { queue: 'y' });
  });

  const unnamed: readonly Unnamed[] = [
    ['nothing', {}, /none of x-first-death-queue, original-destination, tshoot-destination names a queue/],
    ['that queue itself', { 'tshoot-destination': `/queue/${shared}` }, /none of/],
    ['a topic', { 'original-destination': '/topic/prices' }, /came by the topic prices/],
    ['an exchange', { 'tshoot-destination': '/exchange/e/x' }, /none of/],
    ['an empty name', { 'x-first-death-queue': '', 'tshoot-destination': '/queue/' }, /none of/],
    ['several queues', { 'original-destination': '/queue/admin,secret' }, /none of/],
    ['another kind in a list', { 'original-destination': '/queue/topic://a' }, /none of/],
    ['a pattern', { 'original-destination': '/queue/orders.>' }, /none of/],
    ['control characters', { 'original-destination': '/queue/a\x1b[2Jb' }, /none of/],
  ];
  for (const [what, headers, reason] of unnamed) {
    it(`is not told by ${what}`, () => {
      const origin = originOf(headers, shared, onRabbitmq);
      assert.match('problem' in origin ? origin.problem : origin.queue, reason);
    });
  }

  it('is never a list, a pattern or a name with control characters, whatever a message says', () => {
    const part = fc.constantFrom('/queue/', '/topic/', ',', '://', '>', '.', '\x1b', '\n', 'a', '/');
    const value = fc.array(part, { maxLength: 6 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(value, value, (first, second) => {
        const headers = { 'original-destination': first, 'tshoot-destination': second };
        const origin = originOf(headers, shared, onActivemq);
        if ('queue' in origin) assert.match(origin.queue, /^(?!.*(?:,|:\/\/|\p{Cc}|>))[^/]/u);
      }),
    );
  });
});

describe('deadLetterQueueMeant', () => {
  it('is a dead-letter queue by its own name, or that of the queue named', () => {
    for (const queue of ['DLQ.x', 'DLQ.DLQ.x', shared]) assert.equal(deadLetterQueueMeant(queue), queue);
    assert.equal(deadLetterQueueMeant('x'), 'DLQ.x');
    assert.equal(deadLetterQueueMeant(own), `DLQ.${own}`);
  });
});
