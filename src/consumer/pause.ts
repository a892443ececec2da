/**
 * The rule for a callback that cannot work for now, as when what it needs is away: when some messages in a row threw, the
 * `healthy()` beside it is asked, and while that says no nothing is started. What threw then is run again when it says yes:
 * no attempt is used up, and nothing empties the queue into its dead-letter queue. The connection stays.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { orAborted } from '../aborted.js';
import type { Logger } from '../log.js';

/** Throws in a row. */
const MANY = 5;
/** What healthy() may take; no answer is a no. */
const ANSWER_MS = 10_000;
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 15_000;

export interface PauseOptions {
  /** Never rejects; undefined when nobody can be asked. */
  readonly isHealthy: (() => Promise<boolean> | boolean) | undefined;
  readonly drain: AbortSignal;
  readonly log: Logger;
  /** It has said no. */
  readonly onPaused: () => void;
  /** What waits may be started. */
  readonly onOver: () => void;
}

export class Pause {
  readonly #options: PauseOptions;
  #throws = 0;
  #over: Promise<boolean> | undefined;
  #isPaused = false;

  constructor(options: PauseOptions) {
    this.#options = options;
  }

  /** Nothing is to be started: it has said no, or is being asked. */
  get isOn(): boolean {
    return this.#over !== undefined;
  }

  /** It has said no. */
  get isPaused(): boolean {
    return this.#isPaused;
  }

  /** A callback returned. */
  returned(): void {
    this.#throws = 0;
  }

  /**
   * A callback threw. Undefined: that counts. Else it resolves with false when that counts, and with true when it is nobody's
   * fault: then when what it needs is there again, or the consumer drains.
   */
  threw(): Promise<boolean> | undefined {
    const { isHealthy, drain, onOver } = this.#options;
    if (isHealthy === undefined) return undefined;
    if (this.#over === undefined && (drain.aborted || ++this.#throws < MANY)) return undefined;
    const ask = () => orAborted(drain, Promise.race([isHealthy(), delay(ANSWER_MS, false, { ref: false })]));
    this.#over ??= this.#wait(ask).finally(() => {
      this.#over = undefined;
      this.#throws = 0;
      onOver();
    });
    return this.#over;
  }

  /** What is asked has no answer when the consumer drains. */
  async #wait(ask: () => Promise<boolean | undefined>): Promise<boolean> {
    const { drain, log, onPaused } = this.#options;
    if ((await ask()) === true) return false;
    const sinceMs = performance.now();
    this.#isPaused = true;
    log.warn({ throws: MANY }, 'paused: message after message threw, and healthy() says no');
    onPaused();
    let waitMs = FIRST_WAIT_MS;
    do {
      await delay(waitMs, undefined, { signal: drain }).catch(() => undefined);
      waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
    } while (!drain.aborted && (await ask()) !== true);
    this.#isPaused = false;
    const pausedMs = Math.round(performance.now() - sinceMs);
    if (!drain.aborted) log.info({ pausedMs }, 'going on: healthy() says yes');
    return true;
  }
}
