/**
 * Queues that take nothing for now, and the messages that wait for them. Of each queue one message at a time is tried, with
 * growing waits, over a connection of its own, which a queue that blocks may block; the log names cause and remedy at once,
 * when they change, and every minute. When a queue takes a message, all that waited for it goes on. States of a queue:
 * held -> released.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import { backoffMs, type Session } from './connect.js';
import type { Outgoing } from './heads.js';
import { Link } from './link.js';

/** A message on its way. */
export interface Item {
  readonly message: Outgoing;
  /** A refusal in words is waited out, too. */
  readonly isHeldWhenRefused: boolean;
  /** A connection that carried it among others has ended. */
  isSuspect: boolean;
}

/** What came of sending an item once. `later`: for a reason that has nothing to do with it. `again`: it must go alone. */
export type Attempt =
  | { readonly kind: 'confirmed' | 'again' }
  | { readonly kind: 'later' | 'full'; readonly reason: string }
  | { readonly kind: 'refused' | 'unreadable'; readonly error: PubsubError };

export interface HoldsOptions {
  readonly open: () => Promise<Session>;
  readonly log: Logger;
  /** Aborted: nothing is held any longer. */
  readonly end: AbortSignal;
  /** Sends once; rejects when there is no sending any more. */
  readonly attempt: (link: Link, item: Item) => Promise<Attempt>;
  /** Sends an item that need not wait any longer. */
  readonly goOn: (item: Item) => Promise<void>;
  readonly onReleased: () => void;
}

interface Waiting {
  readonly item: Item;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

interface Hold {
  readonly destination: string;
  readonly link: Link;
  /** The one to be tried next is the first. */
  readonly waiting: Waiting[];
  reason: string;
}

const LONGEST_DELAY_SECONDS = 60;
const REMIND_MS = 60_000;

export class Holds {
  readonly #options: HoldsOptions;
  readonly #holds = new Map<string, Hold>();

  constructor(options: HoldsOptions) {
    this.#options = options;
    options.end.addEventListener('abort', () => this.#giveUp(), { once: true });
  }

  isHeld(destination: string): boolean {
    return this.#holds.has(destination);
  }

  /** Resolves when the item is confirmed, in the end. Rejects when it can never be, or when nothing is held any longer. */
  hold(item: Item, reason = ''): Promise<void> {
    return new Promise((resolve, reject) => {
      const { destination } = item.message;
      let hold = this.#holds.get(destination);
      if (hold === undefined) {
        hold = { destination, link: new Link(this.#options.open), waiting: [], reason };
        this.#holds.set(destination, hold);
        void this.#watch(hold);
      }
      hold.waiting.push({ item, resolve, reject });
      if (this.#options.end.aborted) this.#giveUp();
    });
  }

  /** Tries the first of those that wait until one is confirmed, or none is left. */
  async #watch(hold: Hold): Promise<void> {
    const { log, end } = this.#options;
    let told = { reason: '', ms: -Infinity };
    for (let attempts = 0; ; attempts++) {
      // Those that come within the same turn are counted, too.
      await delay(backoffMs(attempts, LONGEST_DELAY_SECONDS), undefined, { signal: end }).catch(
        () => undefined,
      );
      if (end.aborted) return;
      const { destination, reason, waiting } = hold;
      if (reason !== told.reason || performance.now() - told.ms >= REMIND_MS) {
        told = { reason, ms: performance.now() };
        log.error(
          { target: destination, reason, held: waiting.length },
          'a queue takes nothing: messages for it are held',
        );
      }
      const isReleased = await this.#tryFirst(hold);
      if (!this.#holds.has(hold.destination)) return;
      if (isReleased || hold.waiting.length === 0) {
        this.#release(hold, isReleased);
        return;
      }
    }
  }

  /** True: the queue has taken it. */
  async #tryFirst(hold: Hold): Promise<boolean> {
    const { link, waiting } = hold;
    const [first] = waiting;
    if (first === undefined) return false;
    const attempt = await this.#options
      .attempt(link, first.item)
      .catch((error: unknown) => ({ kind: 'ended' as const, error }));
    switch (attempt.kind) {
      case 'confirmed':
        waiting.shift()?.resolve();
        return true;
      case 'unreadable':
      case 'ended':
        waiting.shift()?.reject(attempt.error);
        return false;
      case 'refused':
        hold.reason = attempt.error.message;
        waiting.shift();
        // It may be this message alone: the next time another one is tried.
        if (first.item.isHeldWhenRefused) waiting.push(first);
        else first.reject(attempt.error);
        return false;
      case 'full':
        hold.reason = attempt.reason;
        waiting.push(...waiting.splice(0, 1));
        return false;
      case 'later':
        hold.reason = attempt.reason;
        return false;
      case 'again':
        return false;
    }
  }

  #release({ destination, link, waiting }: Hold, isTaking: boolean): void {
    this.#holds.delete(destination);
    void link.close();
    for (const { item, resolve, reject } of waiting) this.#options.goOn(item).then(resolve, reject);
    if (!isTaking) return;
    this.#options.log.info({ target: destination }, 'a queue takes messages again');
    this.#options.onReleased();
  }

  #giveUp(): void {
    const error = new PubsubError(
      'connection-lost',
      'its queue takes nothing, and it is waited for no longer',
    );
    for (const { link, waiting } of this.#holds.values()) {
      link.abandon('given up');
      for (const { reject } of waiting.splice(0)) reject(error);
    }
    this.#holds.clear();
  }
}
