/**
 * When a consumer that is not to run for ever has done enough: after so many messages, when none has come for a while, or
 * after a time. Hides that a message which goes back to its queue does not count, and that a queue is not idle while nobody
 * is subscribed to it.
 */
import type { Settings } from '../settings.js';

/** What ends a consumer by itself. */
export type BoundReached = 'limit' | 'idle' | 'time-limit' | 'failure-limit';

/** Of what was started together shall not end together. */
const TIME_JITTER = 0.1;

export class Bounds {
  readonly #stop: (why: BoundReached) => void;
  readonly #untilIdleMs: number;
  readonly #timeLimit: NodeJS.Timeout | undefined;
  /** Messages that may still be begun. */
  #left: number;
  #inFlight = 0;
  /** Asks the broker for an answer over the connection of the subscription; undefined while there is none. */
  #ask: (() => Promise<void>) | undefined;
  #idle: NodeJS.Timeout | undefined;

  /** `stop` may be called more than once. */
  constructor({ limit, untilIdleSeconds, timeLimitSeconds }: Settings, stop: (why: BoundReached) => void) {
    this.#stop = stop;
    this.#left = limit ?? Infinity;
    this.#untilIdleMs = (untilIdleSeconds ?? Infinity) * 1000;
    if (timeLimitSeconds === undefined) return;
    const ms = timeLimitSeconds * 1000 * (1 - TIME_JITTER * Math.random());
    this.#timeLimit = setTimeout(() => stop('time-limit'), ms);
  }

  /** False: what comes is left alone, and goes back. */
  get mayBegin(): boolean {
    return this.#left > 0;
  }

  begun(): void {
    this.#left--;
    this.#inFlight++;
    this.#forgetIdle();
  }

  ended(isReleased: boolean): void {
    if (isReleased) this.#left++;
    if (--this.#inFlight > 0) return;
    if (this.#left === 0) this.#stop('limit');
    else this.#awaitMore();
  }

  /** `ask`: over the connection of the subscription; undefined when that is over. */
  subscribed(ask: (() => Promise<void>) | undefined): void {
    this.#ask = ask;
    this.#forgetIdle();
    if (this.#inFlight === 0) this.#awaitMore();
  }

  /** Nothing is told any more. */
  close(): void {
    clearTimeout(this.#timeLimit);
    this.#forgetIdle();
  }

  #forgetIdle(): void {
    clearTimeout(this.#idle);
    this.#idle = undefined;
  }

  #awaitMore(): void {
    const ask = this.#ask;
    if (ask === undefined || this.#untilIdleMs === Infinity) return;
    const idle = setTimeout(() => {
      // A broker that stood still, or this process, is not yet a queue without messages: what was on its way comes before
      // the answer. Without one the subscription is over.
      ask().then(
        () => {
          if (this.#idle === idle) this.#stop('idle');
        },
        () => undefined,
      );
    }, this.#untilIdleMs);
    this.#idle = idle;
  }
}
