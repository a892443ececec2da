/**
 * Numbered places for what is in flight, and a time limit on it. A Map that is filled and emptied all the time leaves
 * tables behind, and each keeps what was in it alive until a major garbage collection (V8): with messages in them that
 * costs a quarter of the processor time of a consumer.
 */

/** More than can be in flight at once. */
const PLACES = 65_536;

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
    const id = ++this.#added * PLACES + place;
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

export interface Timed {
  startMs: number;
  isOverdue: boolean;
  /** The time that passes is not its own, for now. */
  isUntimed?: boolean;
}

/** Takes the time until `work` has resolved out of what counts: the broker's, say, until it has confirmed something. */
export async function untimed<T>(entry: Timed, work: Promise<T>): Promise<T> {
  entry.isUntimed = true;
  const result = await work;
  entry.isUntimed = false;
  entry.startMs = performance.now();
  return result;
}

/**
 * Calls `onOverdue` once for each entry that has been there for longer than `limitMs`, at most a tenth too late; never
 * when that is 0. Returns what ends it. It does not hold the process.
 */
export function watchLimit<T extends Timed>(
  slots: Slots<T>,
  limitMs: number,
  onOverdue: (item: T, id: number) => void,
): () => void {
  if (limitMs === 0) return () => undefined;
  const sweep = () => {
    const oldestMs = performance.now() - limitMs;
    for (const [id, item] of slots.entries()) {
      if (item.isOverdue || item.isUntimed === true || item.startMs > oldestMs) continue;
      item.isOverdue = true;
      onOverdue(item, id);
    }
  };
  const timer = setInterval(sweep, Math.min(1000, limitMs / 10)).unref();
  return () => clearInterval(timer);
}
