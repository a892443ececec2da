import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Standing } from '../../../src/consumer/deliveries.js';
import type { Delivery } from '../../../src/consumer/delivery.js';
import { Turns } from '../../../src/consumer/turns.js';
import { until } from '../../support/until.js';

/** Deliveries by name; what is begun runs until it is ended. */
function scene(concurrency: number) {
  const begun: string[] = [];
  const running = new Set<Delivery>();
  const all = new Map<string, Delivery>();
  const drain = new AbortController();
  const turns = new Turns({
    concurrency,
    isOver: () => drain.signal.aborted,
    running: () => running.size,
    begin: (delivery) => {
      const name = [...all].find(([, one]) => one === delivery)?.[0] ?? '';
      begun.push(`${name} ${delivery.count.standing}`);
      running.add(delivery);
    },
  });
  return {
    turns,
    begun,
    drain,
    offer: (name: string, standing: Standing = 'free', mark?: string) => {
      const delivery = { count: { standing, before: 0, mark } } as unknown as Delivery;
      all.set(name, delivery);
      return turns.offer(delivery);
    },
    end: (name: string) => {
      const delivery = all.get(name)!;
      running.delete(delivery);
      turns.end(delivery);
    },
  };
}

describe('turns', () => {
  it('are taken in order, so many at once', () => {
    const { offer, end, begun } = scene(2);
    assert.deepEqual(
      ['a', 'b', 'c', 'd'].map((name) => offer(name)),
      [true, true, true, true],
    );
    assert.deepEqual(begun, ['a free', 'b free']);
    end('b');
    assert.deepEqual(begun, ['a free', 'b free', 'c free']);
  });

  it('more than the prefetch is told', () => {
    const { offer } = scene(1);
    assert.deepEqual(
      ['a', 'b', 'c'].map((name) => offer(name)),
      [true, true, false],
    );
  });

  it('one that runs alone waits for those before it, and holds up those behind it', () => {
    const { offer, end, begun } = scene(3);
    offer('a');
    offer('alone', 'alone', 'm1');
    offer('b');
    assert.deepEqual(begun, ['a free']);
    end('a');
    assert.deepEqual(begun, ['a free', 'alone alone']);
    end('alone');
    assert.deepEqual(begun.slice(2), ['b free']);
  });

  it('a second one gives its place up at once, before it could be taken for what ended the consumer', () => {
    const { offer, end, begun } = scene(2);
    offer('alone', 'alone', 'm1');
    offer('other', 'alone', 'm2');
    assert.deepEqual(begun, ['alone alone', 'other uncounted']);
    end('other');
    offer('suspect', 'suspect');
    assert.equal(begun.length, 2, 'and no further one is marked meanwhile');
    end('alone');
    assert.deepEqual(begun.slice(2), ['suspect suspect']);
  });

  it('suspects are marked one after the other: the next when the first has come, or went elsewhere', async () => {
    const { offer, end, begun } = scene(3);
    offer('s1', 'suspect');
    offer('s2', 'suspect');
    offer('s3', 'suspect');
    end('s1');
    assert.deepEqual(begun, ['s1 suspect']);
    offer('s1 marked', 'alone', 'm1');
    end('s1 marked');
    assert.deepEqual(begun, ['s1 suspect', 's1 marked alone', 's2 suspect']);
    end('s2');
    await until(() => begun.includes('s3 suspect'), 20_000, 'the third, although the second went elsewhere');
  });

  it('one whose mark this process knows did not end it', () => {
    const { turns, offer, end, begun } = scene(1);
    offer('alone', 'alone', 'm1');
    turns.clear();
    end('alone');
    offer('again', 'ended', 'm1');
    end('again');
    offer('stranger', 'ended', 'm2');
    assert.deepEqual(begun, ['alone alone', 'again suspect', 'stranger ended']);
  });

  it('nothing is begun any more in a drain', () => {
    const { turns, offer, end, begun, drain } = scene(1);
    offer('a');
    offer('b');
    drain.abort();
    end('a');
    assert.deepEqual(begun, ['a free']);
    assert.equal(turns.clear().length, 1);
  });
});
