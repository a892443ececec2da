/**
 * What waits, the first first. Hides that taking the first one off a long array moves all others (V8, from some ten thousand
 * on): it is left where it is until it is one of many.
 */

/** So many that have been taken are removed at once, and as many as are left. */
const FEWEST_REMOVED = 1024;

export class WaitingLine<T> {
  #items: (T | undefined)[] = [];
  #taken = 0;

  get length(): number {
    return this.#items.length - this.#taken;
  }

  get first(): T | undefined {
    return this.#items[this.#taken];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes the first one off; undefined when none waits. */
  shift(): T | undefined {
    const item = this.first;
    if (this.length === 0) return undefined;
    this.#items[this.#taken++] = undefined;
    if (this.#taken >= FEWEST_REMOVED && 2 * this.#taken >= this.#items.length) {
      this.#items = this.#items.slice(this.#taken);
      this.#taken = 0;
    }
    return item;
  }

  /** Takes off all. */
  clear(): T[] {
    const items = this.#items.slice(this.#taken) as T[];
    this.#items = [];
    this.#taken = 0;
    return items;
  }
}
