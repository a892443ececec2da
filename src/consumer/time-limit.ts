/** A time limit on what is in flight, which what it waits for elsewhere does not count towards. */
import type { Slots } from '../slots.js';

export interface Timed {
  startMs: number;
  isOverdue: boolean;
  /** The time that passes is not its own, for now. */
  isUntimed?: boolean;
}

/** Takes the time until `work` has resolved out of what counts: the broker's, say, until it has confirmed something. */
export async function untimed<T>(entry: Timed, work: Promise<T>): Promise<T> {
  entry.isUntimed = true;
  const result = await work;
  entry.isUntimed = false;
  entry.startMs = performance.now();
  return result;
}

/**
 * Calls `onOverdue` once for each entry that has been there for longer than `limitMs`, at most a tenth too late; never
 * when that is 0. Returns what ends it. It does not hold the process.
 */
export function watchLimit<T extends Timed>(
  slots: Slots<T>,
  limitMs: number,
  onOverdue: (item: T, id: number) => void,
): () => void {
  if (limitMs === 0) return () => undefined;
  const sweep = () => {
    const oldestMs = performance.now() - limitMs;
    for (const [id, item] of slots.entries()) {
      if (item.isOverdue || item.isUntimed === true || item.startMs > oldestMs) continue;
      item.isOverdue = true;
      onOverdue(item, id);
    }
  };
  const timer = setInterval(sweep, Math.min(1000, limitMs / 10)).unref();
  return () => clearInterval(timer);
}
