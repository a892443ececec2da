/**
 * Numbered places for what is in flight. A Map that is filled and emptied all the time leaves tables behind, and each keeps
 * what was in it alive until a major garbage collection (V8): with messages in them that costs a quarter of the processor
 * time of a consumer, with receipts half of a publisher's.
 */

/** More than can be in flight at once: a thousand messages of each of 65,535 callbacks. */
const PLACES = 2 ** 26;
/** Numbers stay whole up to here; what has an older one is long gone when they begin anew. */
const LAST_TURN = 2 ** 26;

export class Slots<T> {
  readonly #items: (T | undefined)[] = [];
  readonly #ids: number[] = [];
  readonly #free: number[] = [];
  #added = 0;

  get size(): number {
    return this.#items.length - this.#free.length;
  }

  /** Puts it into a free place; the number says which and is never given again. */
  add(item: T): number {
    const place = this.#free.pop() ?? this.#items.length;
    this.#added = this.#added === LAST_TURN ? 1 : this.#added + 1;
    const id = this.#added * PLACES + place;
    this.#items[place] = item;
    this.#ids[place] = id;
    return id;
  }

  get(id: number): T | undefined {
    const place = id % PLACES;
    return this.#ids[place] === id ? this.#items[place] : undefined;
  }

  /** Empties the place; nothing when that has been done already. */
  remove(id: number): void {
    const place = id % PLACES;
    if (this.#ids[place] !== id) return;
    this.#items[place] = undefined;
    this.#ids[place] = 0;
    this.#free.push(place);
  }

  /** What is in them, the oldest first. */
  entries(): [id: number, item: T][] {
    const entries = this.#ids.flatMap((id, place): [number, T][] =>
      id === 0 ? [] : [[id, this.#items[place] as T]],
    );
    return entries.sort(([a], [b]) => a - b);
  }
}
