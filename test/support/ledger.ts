/** A ledger of numbered messages: which were published, which were processed and how often. */
import assert from 'node:assert/strict';
import type { Payload } from '../../src/index.js';
import { until } from './until.js';

export class Ledger {
  readonly #counts = new Map<number, number>();
  readonly #published: number;

  constructor(published: number) {
    this.#published = published;
  }

  /** The bodies to publish. */
  bodies(): { n: number }[] {
    return Array.from({ length: this.#published }, (_, n) => ({ n }));
  }

  /** Counts a message whose ack was written. */
  record(payload: Payload): void {
    const { n } = payload.body as { n: number };
    this.#counts.set(n, (this.#counts.get(n) ?? 0) + 1);
  }

  get processed(): number {
    return this.#counts.size;
  }

  get repeated(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count - 1, 0);
  }

  /** Resolves when every message has been processed. */
  async complete(deadlineMs: number): Promise<void> {
    await until(
      () => this.processed === this.#published,
      deadlineMs,
      () => `${this.#published} messages processed; ${this.#published - this.processed} are missing`,
    );
  }

  /** At most so many were processed again. */
  assertRepeatedAtMost(most: number): void {
    assert.ok(this.repeated <= most, `${this.repeated} repeated, at most ${most} were in flight at a fault`);
  }
}
