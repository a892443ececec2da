/**
 * Verdicts on their way from a worker thread to the main thread: a ring in shared memory. A callback that acks is
 * answered there and then, the main thread is woken once for its verdict and its end, and a verdict is not lost with
 * its thread, nor kept back by a callback that goes on to block it.
 */
import type { Verdict } from './payload.js';

/** The memory of both sides. */
export interface VerdictRing {
  /** How many were written, modulo 2^32. */
  readonly written: Int32Array;
  /** Run ids, negative for a nack. Their number is a power of two. */
  readonly runIds: Float64Array;
}

/** `runs`: how many are in flight at most, each with one verdict. The reader ends no run with an unread one. */
export function createVerdictRing(runs: number): VerdictRing {
  const places = 2 ** Math.ceil(Math.log2(runs));
  return {
    written: new Int32Array(new SharedArrayBuffer(4)),
    runIds: new Float64Array(new SharedArrayBuffer(places * 8)),
  };
}

export class VerdictWriter {
  readonly #ring: VerdictRing;
  #count = 0;

  constructor(ring: VerdictRing) {
    this.#ring = ring;
  }

  write(runId: number, verdict: Verdict): void {
    const { written, runIds } = this.#ring;
    runIds[this.#count & (runIds.length - 1)] = verdict === 'ack' ? runId : -runId;
    this.#count = (this.#count + 1) | 0;
    // The store tells that what was written before it is there.
    Atomics.store(written, 0, this.#count);
  }
}

export class VerdictReader {
  readonly #ring: VerdictRing;
  #count = 0;

  constructor(ring: VerdictRing) {
    this.#ring = ring;
  }

  /** Hands over what was written since the last time. */
  read(take: (runId: number, verdict: Verdict) => void): void {
    const { written, runIds } = this.#ring;
    for (const end = Atomics.load(written, 0); this.#count !== end; this.#count = (this.#count + 1) | 0) {
      const id = runIds[this.#count & (runIds.length - 1)] ?? 0;
      take(Math.abs(id), id > 0 ? 'ack' : 'nack');
    }
  }
}
