/** A ledger of numbered messages: which were published, which were processed and how often. */
import assert from 'node:assert/strict';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import type { TestContext } from 'node:test';
import type { Payload } from '../../src/index.js';
import type { BrokerUnderTest } from './brokers.js';
import { until } from './until.js';

export class Ledger {
  readonly #counts = new Map<number, number>();
  /** How many: 0 to one less are their numbers. */
  published: number;
  /** The greatest number processed. */
  newest = -1;

  constructor(published: number) {
    this.published = published;
  }

  /** The bodies to publish. */
  bodies(): { n: number }[] {
    return Array.from({ length: this.published }, (_, n) => ({ n }));
  }

  /** The body of one more to publish. */
  next(): { n: number } {
    return { n: this.published++ };
  }

  /** Counts a message whose ack was written. */
  record(payload: Payload): void {
    this.count((payload.body as { n: number }).n);
  }

  count(n: number): void {
    this.newest = Math.max(this.newest, n);
    this.#counts.set(n, (this.#counts.get(n) ?? 0) + 1);
  }

  get processed(): number {
    return this.#counts.size;
  }

  get lost(): number {
    return this.published - this.processed;
  }

  get repeated(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count - 1, 0);
  }

  /** Resolves when every message has been processed. */
  async complete(deadlineMs: number): Promise<void> {
    await until(
      () => this.lost === 0,
      deadlineMs,
      () => `${this.published} messages processed; ${this.lost} are missing`,
    );
  }

  /** At most so many were processed again. */
  assertRepeatedAtMost(most: number): void {
    assert.ok(this.repeated <= most, `${this.repeated} repeated, at most ${most} were in flight at a fault`);
  }

  /**
   * Tells what a fault cost as a row of a table, which `npm test faults | grep -o '| .*'` collects: fault, broker,
   * messages, lost, repeated, and the time from the end of the fault until messages were consumed again.
   */
  report(t: TestContext, { name }: Pick<BrokerUnderTest, 'name'>, recoveryMs?: number): void {
    const recovery = recoveryMs === undefined ? '' : `${(Math.max(0, recoveryMs) / 1000).toFixed(1)} s`;
    const row = [t.name, name, this.published, this.lost, this.repeated, recovery];
    t.diagnostic(`| ${row.join(' | ')} |`);
  }
}

/** Returns what counts the numbers of a growing file, one a line, into the ledger: those that came since its last call. */
export function followFile(path: string, ledger: Ledger): () => void {
  let position = 0;
  return () => {
    const file = openSync(path, 'a+');
    const chunk = Buffer.alloc(fstatSync(file).size - position);
    readSync(file, chunk, 0, chunk.length, position);
    closeSync(file);
    // A line that is being written may be there in part.
    const end = chunk.lastIndexOf('\n') + 1;
    position += end;
    for (const line of chunk.toString('latin1', 0, end).split('\n').slice(0, -1)) ledger.count(Number(line));
  };
}
