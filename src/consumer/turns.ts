/**
 * Which of the messages that have come is begun next: in order and up to `concurrency` at once. One that must run alone
 * waits until nothing else runs, and keeps all others waiting until it is done. Of these there is one at a time: a second
 * one would be taken for the one that ended the consumer, without ever having been started, so it gives its place up.
 *
 * What is begun is not always a callback: a message that is to be counted first (deliveries.ts) takes a place, too.
 */
import type { Delivery } from './delivery.js';
import { RecentIds } from './recent.js';

export interface TurnsOptions {
  readonly concurrency: number;
  /** How many have been begun and have not ended. */
  readonly running: () => number;
  readonly begin: (delivery: Delivery) => void;
  /** True: nothing more is begun. */
  readonly isOver: () => boolean;
}

/** How long a marked copy is waited for that may have gone to another consumer, before the next suspect is marked. */
const MARK_MS = 1000;

export class Turns {
  readonly #options: TurnsOptions;
  /** Of the latest session; the next one first. */
  #waiting: Delivery[] = [];
  /** It runs alone, or is about to. */
  #alone: Delivery | undefined;
  /** When the last suspect was marked whose copy has not come. */
  #markedMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  /** Marks that this process has seen: it has not ended, whatever became of their connections. */
  readonly #survived = new RecentIds();

  constructor(options: TurnsOptions) {
    this.#options = options;
  }

  /** Begins it, now or later. False: more have come than were asked for. */
  offer(delivery: Delivery): boolean {
    const { standing, mark = '' } = delivery.count;
    if (standing === 'alone') {
      this.#markedMs = -Infinity;
      this.#survived.add(mark);
      if (this.#alone !== undefined) {
        delivery.count = { ...delivery.count, standing: 'uncounted' };
        this.#options.begin(delivery);
        return true;
      }
      this.#alone = delivery;
    } else if (standing === 'ended' && this.#survived.add(mark)) {
      delivery.count = { ...delivery.count, standing: 'suspect' };
    }
    this.#waiting.push(delivery);
    this.goOn();
    return this.#waiting.length <= this.#options.concurrency;
  }

  /** It was begun, and has ended. */
  end(delivery: Delivery): void {
    if (delivery === this.#alone) this.#alone = undefined;
    this.goOn();
  }

  /** Those that were not begun. */
  get waiting(): readonly Delivery[] {
    return this.#waiting;
  }

  /** Forgets those that were not begun, and returns them. */
  clear(): readonly Delivery[] {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const forgotten = this.#waiting;
    if (this.#alone !== undefined && forgotten.includes(this.#alone)) this.#alone = undefined;
    this.#waiting = [];
    return forgotten;
  }

  /** Begins what may be begun. */
  goOn(): void {
    const { concurrency, running, begin, isOver } = this.#options;
    while (!isOver() && running() < concurrency) {
      const next = this.#takeNext();
      if (next === undefined) return;
      if (next.count.standing === 'suspect') this.#markedMs = performance.now();
      begin(next);
    }
  }

  #takeNext(): Delivery | undefined {
    const [first] = this.#waiting;
    if (first === undefined || this.#mayBegin(first)) return this.#waiting.shift();
    const at = this.#waiting.findIndex((delivery) => this.#mayBegin(delivery));
    return at === -1 ? undefined : this.#waiting.splice(at, 1)[0];
  }

  #mayBegin(delivery: Delivery): boolean {
    if (this.#alone !== undefined) return delivery === this.#alone && this.#options.running() === 0;
    if (delivery.count.standing !== 'suspect') return true;
    const leftMs = this.#markedMs + MARK_MS - performance.now();
    if (leftMs <= 0) return true;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.goOn();
    }, leftMs).unref();
    return false;
  }
}
