/**
 * The consumer's end of what it says and hears from one worker process: frames written together once a turn and held back
 * while they are not taken, frames read always and at once, and questions to the thread that watches there.
 */
import type { Socket } from 'node:net';
import { FrameGatherer, FrameReader, type WireFrame } from './frames.js';
import { isKnownKind, OBSERVATION_BYTES, type Observation } from './protocol.js';
import type { Spawned } from './spawn.js';

/** Bytes that are written together at most; a longer body is written by itself. */
const PORTION = 262_144;
/** How long the thread that watches may take; it does nothing else. */
const ANSWER_MS = 1000;

export interface ChannelEvents {
  readonly onFrame: (frame: WireFrame) => void;
  /** All frames of a chunk have been handed over. */
  readonly onTurn: () => void;
  /** What came is not of the protocol. */
  readonly onGarbled: (problem: string) => void;
}

export class WorkerChannel {
  /** Resolves when everything that the worker wrote has been read. */
  readonly ended: Promise<void>;
  readonly #inbox: Socket;
  readonly #watch: Socket;
  readonly #frames = new FrameGatherer();
  /** Written when what is before them has been taken. */
  readonly #later: (() => void)[] = [];
  #isScheduled = false;
  #isHeldBack = false;
  readonly #questions: ((answer: Observation | undefined) => void)[] = [];
  #answer = Buffer.alloc(0);

  constructor(
    { inbox, outbox, watch }: Pick<Spawned, 'inbox' | 'outbox' | 'watch'>,
    { onFrame, onTurn, onGarbled }: ChannelEvents,
  ) {
    this.#inbox = inbox;
    this.#watch = watch;
    const reader = new FrameReader(isKnownKind, onFrame);
    outbox.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch (error) {
        outbox.destroy();
        onGarbled((error as Error).message);
        return;
      }
      onTurn();
    });
    // The worker says nothing there.
    inbox.on('data', () => onGarbled('bytes where none belong'));
    inbox.on('drain', () => {
      this.#isHeldBack = false;
      this.#flush();
    });
    watch.on('data', (chunk: Buffer) => this.#takeAnswer(chunk));
    // That of a worker that has died before may be closed.
    this.ended = new Promise((resolve) =>
      outbox.closed ? resolve() : outbox.once('close', () => resolve()),
    );
  }

  /** In order; at the end of this turn of the event loop, or when what is before it has been taken. */
  send(kind: number, number: number, head?: string): void {
    this.#enqueue(() => this.#frames.add(kind, number, head));
  }

  /** The same for what may be withdrawn until then: `encode` adds nothing in that case. */
  sendLazily(encode: (frames: FrameGatherer) => void): void {
    this.#enqueue(() => encode(this.#frames));
  }

  /** What the worker is at, also while it is blocked; undefined when even the thread that watches does not answer. */
  observe(): Promise<Observation | undefined> {
    return new Promise((resolve) => {
      this.#questions.push(resolve);
      this.#watch.write('?');
      setTimeout(() => resolve(undefined), ANSWER_MS).unref();
    });
  }

  #enqueue(add: () => void): void {
    this.#later.push(add);
    if (this.#isScheduled || this.#isHeldBack) return;
    this.#isScheduled = true;
    process.nextTick(() => this.#flush());
  }

  #flush(): void {
    this.#isScheduled = false;
    while (this.#later.length > 0 && !this.#isHeldBack) {
      for (const add of this.#later.splice(0, PORTION / 1024)) add();
      if (this.#frames.isEmpty) continue;
      this.#inbox.cork();
      for (const buffer of this.#frames.take()) this.#inbox.write(buffer);
      this.#inbox.uncork();
      this.#isHeldBack = this.#inbox.writableNeedDrain;
    }
  }

  #takeAnswer(chunk: Buffer): void {
    this.#answer = Buffer.concat([this.#answer, chunk]);
    for (
      ;
      this.#answer.length >= OBSERVATION_BYTES;
      this.#answer = this.#answer.subarray(OBSERVATION_BYTES)
    ) {
      const [calling, forMs, lastStarted, residentBytes] = [0, 8, 16, 24].map((at) =>
        this.#answer.readDoubleLE(at),
      ) as [number, number, number, number];
      this.#questions.shift()?.({ calling, forMs, lastStarted, residentBytes });
    }
  }
}
