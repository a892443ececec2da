/**
 * Numbered places for what is in flight. A Map that is filled and emptied all the time leaves tables behind, and each keeps
 * what was in it alive until a major garbage collection (V8): with messages in them that costs a quarter of the processor
 * time of a consumer, with receipts half of a publisher's.
 *
 * Numbers go up one by one, so that they stay short on the wire, and the last bits of a number are its place in a ring. What
 * the ring has come round to goes into a Map: few do, for there are twice as many places as are taken.
 */
const FIRST_PLACES = 64;

export class Slots<T> {
  /** As many as a power of two. */
  #items: (T | undefined)[] = [];
  /** The number at each place; 0 for none. */
  #ids: number[] = [];
  readonly #overtaken = new Map<number, T>();
  #last = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The number is never given again. */
  add(item: T): number {
    if (2 * this.#size >= this.#ids.length) this.#widen();
    const id = ++this.#last;
    const place = this.#placeOf(id);
    const earlier = this.#ids[place] ?? 0;
    if (earlier !== 0) this.#overtaken.set(earlier, this.#items[place] as T);
    this.#put(place, id, item);
    this.#size++;
    return id;
  }

  get(id: number): T | undefined {
    const place = this.#placeOf(id);
    if (this.#ids[place] === id) return this.#items[place];
    return this.#overtaken.size === 0 ? undefined : this.#overtaken.get(id);
  }

  /** Empties its place; nothing when that has been done already. */
  remove(id: number): void {
    const place = this.#placeOf(id);
    if (this.#ids[place] === id && id !== 0) this.#put(place, 0, undefined);
    else if (!this.#overtaken.delete(id)) return;
    this.#size--;
  }

  /** What is in them, the oldest first. */
  entries(): [id: number, item: T][] {
    const entries: [number, T][] = [...this.#overtaken];
    for (const [place, id] of this.#ids.entries()) if (id !== 0) entries.push([id, this.#items[place] as T]);
    return entries.sort(([a], [b]) => a - b);
  }

  #placeOf(id: number): number {
    return id & (this.#ids.length - 1);
  }

  #put(place: number, id: number, item: T | undefined): void {
    this.#ids[place] = id;
    this.#items[place] = item;
  }

  #widen(): void {
    const entries = this.entries();
    const places = Math.max(FIRST_PLACES, 2 * this.#ids.length);
    this.#items = new Array<T | undefined>(places).fill(undefined);
    this.#ids = new Array<number>(places).fill(0);
    this.#overtaken.clear();
    for (const [id, item] of entries) {
      const place = this.#placeOf(id);
      // The younger one stays: it is asked for sooner.
      const earlier = this.#ids[place] ?? 0;
      if (earlier !== 0) this.#overtaken.set(earlier, this.#items[place] as T);
      this.#put(place, id, item);
    }
  }
}
