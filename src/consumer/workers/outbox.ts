/**
 * What a worker process tells the consumer: frames, written before the call that tells returns, or together with the next
 * ones. Written synchronously they are there whatever the callback does next: block, exit, or crash.
 *
 * Verdicts of messages that are started together are written together, for a write costs as much as a message. They
 * wait in memory that the thread that watches shares: it writes them when a callback blocks the process meanwhile.
 */
import { writeSync } from 'node:fs';
import type { Settlement } from '../payload.js';
import { FrameGatherer, encodePlain, PREFIX } from './frames.js';
import { descriptors } from './descriptors.js';

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

/** Frames without head and body that two threads may write, each of them once. */
export class SharedFrames {
  /** To be shared with the other thread. */
  readonly memory: SharedArrayBuffer;
  /** [is it in use, how many bytes there are] */
  readonly #state: Int32Array;
  readonly #bytes: Buffer;

  constructor(memory = new SharedArrayBuffer(8 + 1024 * PREFIX)) {
    this.memory = memory;
    this.#state = new Int32Array(memory, 0, 2);
    this.#bytes = Buffer.from(memory, 8);
  }

  /** Returns whether there is room for another one. */
  add(kind: number, number: number): boolean {
    this.#lock();
    const used = encodePlain(this.#bytes, this.#state[1] ?? 0, kind, number);
    this.#state[1] = used;
    this.#unlock();
    return used < this.#bytes.length;
  }

  /** Writes what there is; throws as writeAll does. */
  flush(): void {
    if (this.#state[1] === 0) return;
    this.#lock();
    try {
      writeAll(descriptors.outbox, this.#bytes.subarray(0, this.#state[1]));
      this.#state[1] = 0;
    } finally {
      this.#unlock();
    }
  }

  #lock(): void {
    while (Atomics.compareExchange(this.#state, 0, 0, 1) !== 0) Atomics.wait(this.#state, 0, 1, 1);
  }

  #unlock(): void {
    Atomics.store(this.#state, 0, 0);
  }
}

export class Outbox {
  readonly verdicts = new SharedFrames();
  readonly #frames = new FrameGatherer();
  readonly #onBroken: () => void;
  #isFlushing = false;
  /** Resolves when the verdicts that wait have been written: one promise for all of them. */
  #written: { readonly promise: Promise<Settlement>; readonly resolve: () => void } | undefined;

  /** `onBroken`: the consumer is gone. */
  constructor(onBroken: () => void) {
    this.#onBroken = onBroken;
  }

  /** Now, behind what waits. */
  send(kind: number, number: number, head?: string, body?: Uint8Array): void {
    this.#frames.add(kind, number, head, body);
    this.flush();
  }

  /** When the code that runs now has ended, or with what is sent before: the consumer, which has been woken for the verdict,
   * takes it in one go with that. */
  sendSoon(kind: number, number: number, head?: string, body?: Uint8Array): void {
    this.#frames.add(kind, number, head, body);
    if (!this.#isFlushing) process.nextTick(() => this.flush());
    this.#isFlushing = true;
  }

  /** A verdict that waits for `flush`, which the caller sees to soon; resolves when it has been written. */
  gather(kind: number, number: number): Promise<Settlement> {
    if (this.#written === undefined) {
      let resolve: () => void = () => undefined;
      const promise = new Promise<Settlement>((settle) => (resolve = () => settle('sent')));
      this.#written = { promise, resolve };
    }
    const { promise } = this.#written;
    if (!this.verdicts.add(kind, number)) this.flush();
    return promise;
  }

  flush(): void {
    this.#isFlushing = false;
    try {
      this.verdicts.flush();
      if (!this.#frames.isEmpty)
        for (const buffer of this.#frames.take()) writeAll(descriptors.outbox, buffer);
    } catch {
      this.#onBroken();
    }
    this.#written?.resolve();
    this.#written = undefined;
  }
}
