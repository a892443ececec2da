/**
 * The bindings of RabbitMQ's topic exchange: which queues a routing key leads to. Words are parted by dots; `*` stands
 * for one word and `#` for none or more, also at the end of a name (`a.#` matches `a`).
 */

interface Binding<Q> {
  readonly words: readonly string[];
  readonly queues: Set<Q>;
}

export class Topics<Q> {
  #plain = new Map<string, Set<Q>>();
  #patterns = new Map<string, Binding<Q>>();
  /** What each queue is bound by. */
  #bindings = new Map<Q, Set<string>>();
  #count = 0;

  get size(): number {
    return this.#count;
  }

  has(pattern: string, queue: Q): boolean {
    return this.#queuesOf(pattern)?.has(queue) ?? false;
  }

  /** Binding twice is the same as once. */
  bind(pattern: string, queue: Q): void {
    if (this.has(pattern, queue)) return;
    this.#count++;
    const others = this.#bindings.get(queue);
    if (others === undefined) this.#bindings.set(queue, new Set([pattern]));
    else others.add(pattern);
    const queues = this.#queuesOf(pattern);
    if (queues !== undefined) queues.add(queue);
    else if (isPattern(pattern))
      this.#patterns.set(pattern, { words: pattern.split('.'), queues: new Set([queue]) });
    else this.#plain.set(pattern, new Set([queue]));
  }

  /** Removes all bindings of the queue. */
  unbind(queue: Q): void {
    for (const pattern of this.#bindings.get(queue) ?? []) {
      const queues = this.#queuesOf(pattern);
      queues?.delete(queue);
      this.#count--;
      if (queues?.size === 0) (isPattern(pattern) ? this.#patterns : this.#plain).delete(pattern);
    }
    this.#bindings.delete(queue);
  }

  /** Each queue once, however many of its bindings match. */
  route(key: string): ReadonlySet<Q> {
    const plain = this.#plain.get(key);
    if (this.#patterns.size === 0 && plain !== undefined) return plain;
    const found = new Set(plain);
    const words = key.split('.');
    for (const binding of this.#patterns.values()) {
      if (matches(binding.words, words)) for (const queue of binding.queues) found.add(queue);
    }
    return found;
  }

  #queuesOf(pattern: string): Set<Q> | undefined {
    return isPattern(pattern) ? this.#patterns.get(pattern)?.queues : this.#plain.get(pattern);
  }
}

function isPattern(text: string): boolean {
  return text.includes('*') || text.includes('#');
}

/** Linear in pattern times words: going back to the last `#` is enough, as with `*` in file names. */
export function matches(pattern: readonly string[], words: readonly string[]): boolean {
  let at = 0;
  let hash = -1;
  let resume = 0;
  for (let word = 0; word < words.length;) {
    if (pattern[at] === '#') {
      hash = at++;
      resume = word;
    } else if (at < pattern.length && (pattern[at] === '*' || pattern[at] === words[word])) {
      at++;
      word++;
    } else if (hash !== -1) {
      at = hash + 1;
      word = ++resume;
    } else {
      return false;
    }
  }
  while (pattern[at] === '#') at++;
  return at === pattern.length;
}
