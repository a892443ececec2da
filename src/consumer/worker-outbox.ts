/**
 * What a worker process tells the consumer: frames, written before the call that tells returns, or together with the next
 * ones. Written synchronously they are there whatever the callback does next: block, exit, or crash.
 */
import { writeSync } from 'node:fs';
import { FrameGatherer } from './worker-frames.js';
import { descriptors } from './worker-protocol.js';

const pause = new Int32Array(new SharedArrayBuffer(4));

/** Writes all of it, and waits for as long as it is not taken. Throws when nobody is there to take it. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  let from = 0;
  while (from < bytes.length) {
    try {
      from += writeSync(fd, bytes, from);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      // Somebody has made the descriptor non-blocking.
      Atomics.wait(pause, 0, 0, 1);
    }
  }
}

export class Outbox {
  readonly #frames = new FrameGatherer();
  readonly #onBroken: () => void;
  #isFlushing = false;

  /** `onBroken`: the consumer is gone. */
  constructor(onBroken: () => void) {
    this.#onBroken = onBroken;
  }

  /** Now, behind what waits. */
  send(kind: number, number: number, head?: string, body?: Uint8Array): void {
    this.#frames.add(kind, number, head, body);
    this.flush();
  }

  /** At the end of this turn of the event loop, or with what is sent before. */
  sendSoon(kind: number, number: number, head?: string, body?: Uint8Array): void {
    this.#frames.add(kind, number, head, body);
    if (!this.#isFlushing) setImmediate(() => this.flush());
    this.#isFlushing = true;
  }

  flush(): void {
    this.#isFlushing = false;
    if (this.#frames.isEmpty) return;
    try {
      for (const buffer of this.#frames.take()) writeAll(descriptors.outbox, buffer);
    } catch {
      this.#onBroken();
    }
  }
}
