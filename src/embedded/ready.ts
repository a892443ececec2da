/**
 * The messages of a queue that wait to be delivered, in order. Hides how a message that comes back gets its old place:
 * messages leave at the front only, so all that come back are older than all that never left, and are kept apart.
 */
import type { Message } from './message.js';

/** From this many on, sorting the lot costs less than finding each one's place. */
const SORT_FROM = 16;
/** A front with so many empty slots is cut off, once it is half of the array. */
const EMPTY_SLOTS = 4096;

export class ReadyList {
  #waiting: (Message | undefined)[] = [];
  #front = 0;
  /** Youngest first, so that the next to go is at the end. */
  #returned: Message[] = [];

  get length(): number {
    return this.#waiting.length - this.#front + this.#returned.length;
  }

  /** At the end; its sequence must be above all before it. */
  push(message: Message): void {
    this.#waiting.push(message);
  }

  first(): Message | undefined {
    return this.#returned.at(-1) ?? this.#waiting[this.#front];
  }

  shift(): Message | undefined {
    const returned = this.#returned.pop();
    if (returned !== undefined) return returned;
    const message = this.#waiting[this.#front];
    if (message === undefined) return undefined;
    this.#waiting[this.#front++] = undefined;
    if (this.#front === this.#waiting.length) {
      this.#waiting = [];
      this.#front = 0;
    } else if (this.#front >= EMPTY_SLOTS && this.#front * 2 >= this.#waiting.length) {
      this.#waiting = this.#waiting.slice(this.#front);
      this.#front = 0;
    }
    return message;
  }

  /** Messages that left before, each to its old place. */
  putBack(messages: readonly Message[]): void {
    if (messages.length >= SORT_FROM) {
      this.#returned = this.#returned.concat(messages).sort((a, b) => b.sequence - a.sequence);
      return;
    }
    for (const message of messages) {
      const younger = this.#returned.findLastIndex(({ sequence }) => sequence > message.sequence);
      this.#returned.splice(younger + 1, 0, message);
    }
  }

  /** All of them in order; the list stays as it is. */
  values(): Message[] {
    const waiting = this.#waiting.slice(this.#front).filter((message) => message !== undefined);
    return [...this.#returned.toReversed(), ...waiting];
  }
}
