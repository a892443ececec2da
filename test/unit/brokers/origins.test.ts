import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { originOf } from '../../../src/brokers/origins.js';

const onRabbitmq = ['x-first-death-queue', 'original-destination'];
const onActivemq = ['original-destination', 'x-first-death-queue'];
const own = 'Consumer.a.VirtualTopic.prices';

const known: [what: string, deadLetterQueue: string, headers: Record<string, string>, queue: string][] = [
  ['the first death', 'DLQ.x', { 'x-first-death-queue': 'x' }, 'x'],
  ['the original destination', 'DLQ.x', { 'original-destination': '/queue/x' }, 'x'],
  ['where it was sent', 'DLQ.x', { 'tshoot-destination': '/queue/x' }, 'x'],
  ['where it was sent, by a bare name', 'DLQ.x', { 'tshoot-destination': 'x' }, 'x'],
  ['the broker before the publisher', 'dead', { 'x-first-death-queue': 'x', 'tshoot-destination': 'y' }, 'x'],
  [
    'the name of the queue before both',
    'DLQ.y',
    { 'x-first-death-queue': 'x', 'tshoot-destination': 'y' },
    'y',
  ],
  ['another queue, when nothing agrees', 'DLQ.z', { 'x-first-death-queue': 'x' }, 'x'],
  ['the queue it was to be tried again from', 'DLQ.x', { 'x-first-death-queue': 'x.retry.5000' }, 'x'],
  [
    'the queue of its virtual topic',
    `DLQ.${own}`,
    { 'tshoot-destination': '/topic/VirtualTopic.prices' },
    own,
  ],
  [
    'its queue, not the topic',
    `DLQ.${own}`,
    { 'tshoot-destination': '/topic/VirtualTopic.prices', 'x-first-death-queue': own },
    own,
  ],
  ['the first life of a dead letter that died again', 'DLQ.DLQ.x', { 'x-first-death-queue': 'x' }, 'x'],
];

const unknown: [what: string, headers: Record<string, string>, reason: RegExp][] = [
  ['nothing', {}, /none of x-first-death-queue, original-destination and tshoot-destination/],
  ['the dead-letter queue itself', { 'tshoot-destination': '/queue/DLQ.x' }, /none of/],
  ['a topic', { 'tshoot-destination': '/topic/prices' }, /came by the topic prices/],
  ['another virtual topic', { 'tshoot-destination': '/topic/VirtualTopic.y' }, /came by the topic/],
  ['an exchange', { 'tshoot-destination': '/exchange/e/x' }, /none of/],
  ['an empty name', { 'x-first-death-queue': '', 'tshoot-destination': '/queue/' }, /none of/],
];

describe('originOf', () => {
  for (const [what, deadLetterQueue, headers, queue] of known) {
    it(`is told by ${what}`, () => {
      for (const names of [onRabbitmq, onActivemq])
        assert.deepEqual(originOf(headers, deadLetterQueue, names), { queue });
    });
  }

  it('is told by what the broker writes before what another broker wrote', () => {
    const headers = { 'x-first-death-queue': 'x', 'original-destination': '/queue/y' };
    assert.deepEqual(originOf(headers, 'dead', onRabbitmq), { queue: 'x' });
    assert.deepEqual(originOf(headers, 'dead', onActivemq), { queue: 'y' });
  });

  for (const [what, headers, reason] of unknown) {
    it(`is not told by ${what}`, () => {
      const origin = originOf(headers, 'DLQ.x', onRabbitmq);
      assert.match('problem' in origin ? origin.problem : origin.queue, reason);
    });
  }
});
