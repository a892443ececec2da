/**
 * The messages of a queue that wait to be delivered, in order. Hides how a message that comes back gets its old place:
 * messages leave at the front only, so all that come back are older than all that never left, and are kept apart, in a
 * heap: whatever the order in which they come back, each one costs the logarithm of their number.
 */
import type { Message } from './message.js';

/** A front with so many empty slots is cut off, once it is half of the array. */
const EMPTY_SLOTS = 4096;

export class ReadyList {
  #waiting: (Message | undefined)[] = [];
  #front = 0;
  /** A binary heap, the oldest first: the one at `n` is older than those at `2n + 1` and `2n + 2`. */
  #returned: Message[] = [];

  get length(): number {
    return this.#waiting.length - this.#front + this.#returned.length;
  }

  /** At the end; its sequence must be above all before it. */
  push(message: Message): void {
    this.#waiting.push(message);
  }

  first(): Message | undefined {
    return this.#returned[0] ?? this.#waiting[this.#front];
  }

  shift(): Message | undefined {
    if (this.#returned.length > 0) return this.#shiftReturned();
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
    const heap = this.#returned;
    for (const message of messages) {
      let place = heap.push(message) - 1;
      while (place > 0) {
        const above = (place - 1) >> 1;
        const other = heap[above];
        if (other === undefined || isOlder(other, message)) break;
        heap[place] = other;
        place = above;
      }
      heap[place] = message;
    }
  }

  /** All of them in order; the list stays as it is. */
  values(): Message[] {
    const waiting = this.#waiting.slice(this.#front).filter((message) => message !== undefined);
    return [...this.#returned.toSorted((a, b) => a.sequence - b.sequence), ...waiting];
  }

  #shiftReturned(): Message | undefined {
    const heap = this.#returned;
    const oldest = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return oldest;
    let place = 0;
    for (;;) {
      const left = 2 * place + 1;
      const below = isOlder(heap[left + 1], heap[left]) ? left + 1 : left;
      const next = heap[below];
      if (next === undefined || !isOlder(next, last)) break;
      heap[place] = next;
      place = below;
    }
    heap[place] = last;
    return oldest;
  }
}

function isOlder(message: Message | undefined, than: Message | undefined): boolean {
  return message !== undefined && than !== undefined && message.sequence < than.sequence;
}
