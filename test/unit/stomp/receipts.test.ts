import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import type { PubsubError } from '../../../src/errors.js';
import { Receipts } from '../../../src/stomp/receipts.js';

const TIMEOUT_MS = 60_000;
const SILENCE_MS = 5000;

/** Receipts of which one is overdue after a minute, and what they tell. */
function receiptsUnderTest(timeoutMs = TIMEOUT_MS) {
  const silences: number[] = [];
  const overdue: string[] = [];
  const receipts = new Receipts({
    timeoutMs,
    onSilence: (waitedMs) => silences.push(waitedMs),
    onOverdue: (what) => overdue.push(what),
  });
  return { receipts, silences, overdue };
}

describe('receipts', () => {
  const settled: string[] = [];
  const settle = (what: string) => (error?: PubsubError) => {
    settled.push(error === undefined ? what : `${what}: ${error.message}`);
  };
  let nowMs = 0;

  beforeEach(() => {
    nowMs = 0;
    settled.length = 0;
    mock.timers.enable({ apis: ['setTimeout'] });
    mock.method(performance, 'now', () => nowMs);
  });
  afterEach(() => {
    mock.timers.reset();
    mock.restoreAll();
  });

  /** With a turn of the event loop: what is due is judged after what has come by then. */
  async function advance(ms: number): Promise<void> {
    nowMs += ms;
    mock.timers.tick(ms);
    await new Promise((resolve) => setImmediate(resolve));
  }

  it('settle what they are for, once', () => {
    const { receipts } = receiptsUnderTest();
    const [a, b] = [receipts.add('a', settle('a')), receipts.add('b', settle('b'))];
    for (const id of [b, b, a, NaN, -1]) receipts.arrive(id);
    assert.deepEqual(settled, ['b', 'a']);
  });

  it('that are taken are awaited no longer, and settled by whoever took them', async () => {
    const { receipts, overdue } = receiptsUnderTest();
    const id = receipts.add('a', settle('a'), true);
    const awaited = receipts.take(id);
    assert.deepEqual([awaited?.what, awaited?.isContained], ['a', true]);
    receipts.arrive(id);
    await advance(TIMEOUT_MS);
    assert.equal(receipts.take(id), undefined);
    assert.deepEqual([settled, overdue], [[], []]);
  });

  it('of a transaction count down to the last one', () => {
    const { receipts } = receiptsUnderTest();
    const id = receipts.addLater('a transaction', settle('all'));
    receipts.get(id)!.left += 2;
    receipts.expect(id);
    receipts.arrive(id);
    receipts.arrive(id);
    assert.deepEqual(settled, []);
    receipts.arrive(id);
    assert.deepEqual(settled, ['all']);
  });

  it('of a transaction are not due before they are expected', async () => {
    const { receipts, silences, overdue } = receiptsUnderTest();
    const id = receipts.addLater('a transaction', settle('all'));
    await advance(TIMEOUT_MS * 10);
    receipts.expect(id);
    await advance(TIMEOUT_MS - 1);
    assert.deepEqual([overdue, silences.length > 0], [[], true]);
    await advance(1);
    assert.deepEqual(overdue, ['a transaction']);
  });

  it('of a transaction that come one by one keep it alive, however long all of them take', async () => {
    const { receipts, overdue } = receiptsUnderTest();
    const id = receipts.addLater('a transaction', settle('all'));
    receipts.get(id)!.left += 9;
    receipts.expect(id);
    for (let left = 10; left > 0; left--) {
      await advance(TIMEOUT_MS - 1);
      receipts.arrive(id);
    }
    assert.deepEqual([settled, overdue], [['all'], []]);
  });

  it('tell what the first overdue one is for, when its own time has passed', async () => {
    const { receipts, overdue } = receiptsUnderTest();
    const first = receipts.add('the first', settle('first'));
    await advance(TIMEOUT_MS / 2);
    receipts.add('the second', settle('second'));
    await advance(TIMEOUT_MS / 2 - 1);
    receipts.arrive(first);
    await advance(TIMEOUT_MS / 2);
    assert.deepEqual(overdue, []);
    await advance(1);
    assert.deepEqual(overdue, ['the second']);
    assert.deepEqual(settled, ['first']);
  });

  it('that keep coming are no silence', async () => {
    const { receipts, silences } = receiptsUnderTest();
    for (let passedMs = 0; passedMs < TIMEOUT_MS * 2; passedMs += SILENCE_MS / 2) {
      const id = receipts.add('a', settle('a'));
      await advance(SILENCE_MS / 2);
      receipts.arrive(id);
    }
    assert.deepEqual(silences, []);
  });

  it('that do not come for some seconds are told of before they are overdue', async () => {
    const { receipts, silences, overdue } = receiptsUnderTest();
    receipts.add('a', settle('a'));
    await advance(SILENCE_MS - 1);
    assert.deepEqual(silences, []);
    await advance(1);
    assert.deepEqual([silences, overdue], [[SILENCE_MS], []]);
  });

  it('are overdue in time where that is shorter than what counts as silence', async () => {
    const { receipts, silences, overdue } = receiptsUnderTest(100);
    receipts.add('a', settle('a'));
    await advance(100);
    assert.deepEqual([silences, overdue], [[], ['a']]);
  });

  it('are handed over at the end, the oldest first, and nothing is told after that', async () => {
    const { receipts, overdue, silences } = receiptsUnderTest();
    for (const what of ['a', 'b', 'c']) receipts.add(what, settle(what));
    assert.deepEqual(
      receipts.clear().map(({ what }) => what),
      ['a', 'b', 'c'],
    );
    await advance(TIMEOUT_MS * 2);
    assert.deepEqual([receipts.clear(), overdue, silences, settled], [[], [], [], []]);
  });
});
