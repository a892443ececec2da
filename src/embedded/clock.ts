/**
 * Time as the broker sees it: monotonic milliseconds and cancellable timers. Hides which clock it is, so that tests
 * hand in one they turn themselves, and keeps the broker's timers from holding the process open.
 */

export interface Clock {
  /** Milliseconds, whole, never going back; the origin means nothing. */
  now(): number;
  /** Runs once after `ms`; the result cancels it. */
  after(ms: number, run: () => void): () => void;
}

/** The longest a Node timer can wait; a larger value fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Math.floor(performance.now()),
  after(ms, run) {
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      const isLast = leftMs <= MAX_TIMER_MS;
      timer = setTimeout(isLast ? run : () => arm(leftMs - MAX_TIMER_MS), Math.min(leftMs, MAX_TIMER_MS));
      timer.unref();
    };
    arm(ms);
    return () => clearTimeout(timer);
  },
};
