/**
 * Which messages came lately, in bounded memory: two generations of ids, the older one forgotten when the younger is
 * full. It tells a repetition that the broker does not mark: ActiveMQ 5.17 sends no `redelivered` after its restart.
 */

/** Above what a lost connection brings again: what was in flight, and acks that never arrived. */
const GENERATION_SIZE = 5000;

export class RecentIds {
  #young = new Set<string>();
  #old = new Set<string>();

  /** Remembers an id. True: it was remembered already. */
  add(id: string): boolean {
    const isKnown = this.#young.has(id) || this.#old.has(id);
    this.#young.add(id);
    if (this.#young.size === GENERATION_SIZE) {
      this.#old = this.#young;
      this.#young = new Set();
    }
    return isKnown;
  }
}
