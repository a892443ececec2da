/**
 * Waiting in tests: poll a condition up to a deadline. Hides the interval and says at the deadline what was awaited. A time
 * in which this process stood still is not waited: what is awaited stood still with it, or waits in a socket to be read.
 */
import { setTimeout as delay } from 'node:timers/promises';

export type Truthy<T> = Exclude<T, false | null | undefined | 0 | ''>;

/** Short against every deadline in the tests, long enough to leave the processor to what is awaited. */
const POLL_MS = 10;
const TICK_MS = 500;
/** A turn that comes later than this counts as one that came so late. */
const LATE_MS = 100;

/**
 * Resolves with the first truthy result of `condition`. A throw counts as "not yet". Rejects after `deadlineMs` with
 * the reason (text, or a function for one that shows the state at that time) and the last throw as its cause.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  deadlineMs: number,
  reason: string | (() => string),
): Promise<Truthy<T>> {
  let waitedMs = 0;
  for (;;) {
    const sinceMs = performance.now();
    let thrown: unknown;
    try {
      const result = await condition();
      if (result) return result as Truthy<T>;
    } catch (error) {
      thrown = error;
    }
    waitedMs += performance.now() - sinceMs;
    if (waitedMs >= deadlineMs) {
      const text = typeof reason === 'string' ? reason : reason();
      throw new Error(`not within ${deadlineMs} ms: ${text}`, { cause: thrown });
    }
    waitedMs += await turn(POLL_MS);
  }
}

/** `promise`, or a rejection with the reason after `deadlineMs`. */
export async function within<T>(
  promise: Promise<T>,
  deadlineMs: number,
  reason: string | (() => string),
): Promise<T> {
  const cancel = new AbortController();
  const wait = async (): Promise<never> => {
    // In several turns, however short it is: a late one is not the last.
    const tickMs = Math.min(TICK_MS, deadlineMs / 10);
    for (let waitedMs = 0; waitedMs < deadlineMs;) waitedMs += await turn(tickMs, cancel.signal);
    throw new Error(`not within ${deadlineMs} ms: ${typeof reason === 'string' ? reason : reason()}`);
  };
  const deadline = wait();
  deadline.catch(() => undefined);
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    cancel.abort();
  }
}

/** Lets so much time pass; resolves with what of it counts as waited. */
async function turn(ms: number, signal?: AbortSignal): Promise<number> {
  const sinceMs = performance.now();
  await delay(ms, undefined, { signal });
  return Math.min(performance.now() - sinceMs, ms + LATE_MS);
}
