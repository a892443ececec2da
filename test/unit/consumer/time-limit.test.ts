import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { type Timed, untimed, watchLimit } from '../../../src/consumer/time-limit.js';
import { Slots } from '../../../src/slots.js';

const LIMIT_MS = 5000;

interface Entry extends Timed {
  readonly name: string;
}

describe('a time limit', () => {
  let nowMs = 0;
  let slots = new Slots<Entry>();
  let overdue: string[] = [];

  beforeEach(() => {
    nowMs = 0;
    slots = new Slots();
    overdue = [];
    mock.timers.enable({ apis: ['setInterval'] });
    mock.method(performance, 'now', () => nowMs);
  });
  afterEach(() => {
    mock.timers.reset();
    mock.restoreAll();
  });

  const watch = (limitMs = LIMIT_MS) => watchLimit(slots, limitMs, ({ name }) => overdue.push(name));
  const add = (name: string) => {
    const entry: Entry = { name, startMs: nowMs, isOverdue: false };
    return { entry, id: slots.add(entry) };
  };
  function advance(ms: number): void {
    for (const endMs = nowMs + ms; nowMs < endMs;) {
      nowMs += 100;
      mock.timers.tick(100);
    }
  }

  it('is told once of each that is there for longer, a tenth too late at most', () => {
    const end = watch();
    add('first');
    advance(1000);
    add('second');
    advance(LIMIT_MS - 1100);
    assert.deepEqual(overdue, []);
    advance(100 + LIMIT_MS / 10);
    assert.deepEqual(overdue, ['first']);
    advance(LIMIT_MS * 3);
    assert.deepEqual(overdue, ['first', 'second']);
    end();
  });

  it('is not told of those that are gone in time', () => {
    const end = watch();
    const { id } = add('gone');
    advance(LIMIT_MS - 100);
    slots.remove(id);
    advance(LIMIT_MS);
    assert.deepEqual(overdue, []);
    end();
  });

  it('does not count what is waited for elsewhere, and begins anew after that', async () => {
    const end = watch();
    const { entry } = add('waiting');
    let finish: () => void = () => undefined;
    const waited = untimed(entry, new Promise<void>((resolve) => (finish = resolve)));
    advance(LIMIT_MS * 4);
    finish();
    await waited;
    advance(LIMIT_MS - 100);
    assert.deepEqual(overdue, []);
    advance(LIMIT_MS);
    assert.deepEqual(overdue, ['waiting']);
    end();
  });

  it('of 0 is none, and one that was ended tells nothing', () => {
    watch(0)();
    const end = watch();
    add('any');
    end();
    advance(LIMIT_MS * 3);
    assert.deepEqual(overdue, []);
  });
});
