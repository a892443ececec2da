/**
 * Waiting in tests: poll a condition up to a deadline. Hides the interval and says at the deadline what was awaited.
 */
import { setTimeout as delay } from 'node:timers/promises';

export type Truthy<T> = Exclude<T, false | null | undefined | 0 | ''>;

/** Short against every deadline in the tests, long enough to leave the processor to what is awaited. */
const POLL_MS = 10;

/**
 * Resolves with the first truthy result of `condition`. A throw counts as "not yet". Rejects after `deadlineMs` with
 * the reason (text, or a function for one that shows the state at that time) and the last throw as its cause.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  deadlineMs: number,
  reason: string | (() => string),
): Promise<Truthy<T>> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    let thrown: unknown;
    try {
      const result = await condition();
      if (result) return result as Truthy<T>;
    } catch (error) {
      thrown = error;
    }
    if (performance.now() >= deadline) {
      const text = typeof reason === 'string' ? reason : reason();
      throw new Error(`not within ${deadlineMs} ms: ${text}`, { cause: thrown });
    }
    await delay(POLL_MS);
  }
}

/** `promise`, or a rejection with the reason after `deadlineMs`. */
export async function within<T>(
  promise: Promise<T>,
  deadlineMs: number,
  reason: string | (() => string),
): Promise<T> {
  const cancel = new AbortController();
  const deadline = delay(deadlineMs, undefined, { signal: cancel.signal }).then(() => {
    throw new Error(`not within ${deadlineMs} ms: ${typeof reason === 'string' ? reason : reason()}`);
  });
  deadline.catch(() => undefined);
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    cancel.abort();
  }
}
