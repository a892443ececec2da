/**
 * The calls of a callback in a worker process: which messages wait, which are running, and what is told of each to the
 * consumer and when.
 */
import type { Outgoing } from '../../sending/heads.js';
import { Slots } from '../../slots.js';
import type { Tracing } from '../../tracing.js';
import { invoke } from '../invoke.js';
import {
  SENT,
  type AbortReason,
  type Invocation,
  type LoadedCallback,
  type RunResult,
  type Settle,
  type Settlement,
} from '../payload.js';
import { OF_ITS_OWN, type WireFrame } from './frames.js';
import { freeBytes } from './free.js';
import { encodeError } from '../thrown.js';
import type { Outbox } from './outbox.js';
import {
  fromWorker,
  readRunHead,
  toWorker,
  type CallbackOrder,
  type ForwardHead,
  type LostReport,
  type PublishedHead,
  type RefusalReport,
} from './protocol.js';

/** Those that take their time are started with a turn of the event loop between them, so that others settle meanwhile. */
const SLICE_MS = 5;
/** A body as long as that has its memory for itself, and is not held twice. */
const FREED = 1024 * 1024;
/** How long verdicts wait for others of messages that are started together. */
const GATHER_MS = 0.5;
/** No message of an older one is in flight. */
const REMEMBERED = 1000;

/** Of a longer body the callback may give its memory away, which it cannot if Node's pool has it. */
const POOLED = 4096;
function copyOf(body: Buffer): Buffer {
  if (body.length < POOLED) return Buffer.from(body);
  const copy = Buffer.allocUnsafeSlow(body.length);
  body.copy(copy);
  return copy;
}

/**
 * For the thread that watches: the run whose callback is being called or 0, since when, the last run that was started,
 * and how far performance's clock is behind the one that threads have in common.
 */
export function createCalling(): Float64Array {
  const calling = new Float64Array(new SharedArrayBuffer(32));
  calling[3] = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  return calling;
}

/** A callback that is loaded, and how it is called. */
export type OrderedCallback = LoadedCallback & CallbackOrder & { readonly tracing: Tracing };

interface Running {
  readonly number: number;
  readonly invocation: Invocation;
}

export class Calls {
  readonly #callbacks: readonly OrderedCallback[];
  readonly #outbox: Outbox;
  readonly #calling: Float64Array;
  readonly #running = new Slots<Running>();
  readonly #settling = new Slots<(settlement: Settlement) => void>();
  /** Received and not started. */
  #waiting: WireFrame[] = [];
  /** The next turn of the event loop starts more of them. */
  #isPutOff = false;
  /** Several messages are being started: their verdicts are written together. */
  #isGathering = false;
  /** The latest connections that have ended. */
  readonly #ended = new Set<number>();

  constructor(callbacks: readonly OrderedCallback[], outbox: Outbox, calling: Float64Array) {
    this.#callbacks = callbacks;
    this.#outbox = outbox;
    this.#calling = calling;
  }

  receive(frame: WireFrame): void {
    switch (frame.kind) {
      case toWorker.run:
        this.#waiting.push(frame);
        return;
      case toWorker.settled:
        this.#settling.get(frame.number)?.(frame.head.toString() as Settlement);
        this.#settling.remove(frame.number);
        return;
      case toWorker.abort:
        this.#abort(frame.number, frame.head.toString() as AbortReason);
        return;
      case toWorker.disconnected:
        this.#ended.add(frame.number);
        if (this.#ended.size > REMEMBERED) this.#ended.delete(this.#ended.values().next().value ?? 0);
        return;
      case toWorker.lost:
        this.#recordLost(JSON.parse(frame.head.toString()) as LostReport);
        return;
      case toWorker.drain:
        for (const { number } of this.#waiting.splice(0)) this.#outbox.sendSoon(fromWorker.gone, number);
        return;
    }
  }

  /** All frames that were there have been received: starts the messages among them, behind those that were put off. */
  startReceived(): void {
    if (this.#waiting.length > 0 && !this.#isPutOff) this.#startWaiting();
  }

  /** The process that began it is gone: its span is told of here. */
  #recordLost({ which, ...attempt }: LostReport): void {
    const ordered = this.#callbacks[which];
    if (ordered?.tracing.isOn === true) ordered.tracing.lost(ordered.traced, attempt);
  }

  #startWaiting(): void {
    const sinceMs = performance.now();
    let flushedMs = sinceMs;
    let started = 0;
    for (const frame of this.#waiting) {
      this.#isGathering = ++started < this.#waiting.length;
      this.#start(frame);
      const nowMs = performance.now();
      if (nowMs - sinceMs > SLICE_MS) break;
      if (nowMs - flushedMs <= GATHER_MS) continue;
      this.#outbox.flush();
      flushedMs = nowMs;
    }
    this.#isGathering = false;
    this.#outbox.flush();
    this.#waiting = this.#waiting.slice(started);
    this.#isPutOff = this.#waiting.length > 0;
    if (this.#isPutOff) setImmediate(() => this.#startWaiting());
  }

  #start({ number, head, body }: WireFrame): void {
    const { correlationId, which, connection, headers } = readRunHead(head.toString());
    const raw = body.length < OF_ITS_OWN ? copyOf(body) : body;
    const outbox = this.#outbox;
    let isSettled = false;
    const settle: Settle = (verdict, outgoing) => {
      const kind = verdict === 'ack' ? fromWorker.ack : fromWorker.nack;
      if (isSettled) {
        outbox.sendSoon(kind, number);
        return Promise.resolve('already-settled');
      }
      isSettled = true;
      if (outgoing !== undefined) return this.#forward(number, outgoing);
      const written = outbox.gather(kind, number);
      if (!this.#isGathering) outbox.flush();
      if (this.#ended.has(connection)) return Promise.resolve('connection-lost');
      return this.#isGathering ? written : SENT;
    };
    const calling = this.#calling;
    calling[1] = performance.now();
    calling[2] = number;
    calling[0] = number;
    const ordered = this.#callbacks[which];
    if (ordered === undefined) throw new Error(`a message for callback ${which}, which was not loaded`);
    const { consumer } = ordered;
    const context = { correlationId, consumer, runId: number };
    const free = raw.length < FREED ? undefined : freeBytes;
    const invocation = invoke(ordered, { headers, raw, free }, context, ordered, settle, (result) => {
      isSettled = true;
      this.#running.remove(place);
      this.#tellResult(number, result);
      invocation.end(result);
    });
    calling[0] = 0;
    const place = this.#running.add({ number, invocation });
  }

  /** Published with the ack: answered when the broker has confirmed it. */
  #forward(run: number, outgoing: readonly Outgoing[]): Promise<Settlement> {
    const { published, body } = pack(outgoing);
    return new Promise((resolve) => {
      const call = this.#settling.add(resolve);
      this.#outbox.send(
        fromWorker.forward,
        call,
        JSON.stringify({ run, published } satisfies ForwardHead),
        body,
      );
    });
  }

  #tellResult(number: number, result: RunResult): void {
    const outbox = this.#outbox;
    switch (result.kind) {
      case 'returned':
        if (result.outgoing === undefined) outbox.sendSoon(fromWorker.returned, number);
        else {
          const { published, body } = pack(result.outgoing);
          outbox.sendSoon(fromWorker.returned, number, JSON.stringify(published), body);
        }
        return;
      case 'threw':
        outbox.sendSoon(fromWorker.threw, number, JSON.stringify(encodeError(result.error)));
        return;
      case 'refused': {
        const { reason, detail } = result;
        outbox.sendSoon(
          fromWorker.refused,
          number,
          JSON.stringify({ reason, detail } satisfies RefusalReport),
        );
        return;
      }
    }
  }

  #abort(number: number, reason: AbortReason): void {
    const isWaiting = this.#waiting.some((frame) => frame.number === number);
    for (const [, running] of this.#running.entries())
      if (running.number === number) running.invocation.abort(reason);
    this.#outbox.sendSoon(isWaiting ? fromWorker.unstarted : fromWorker.aborted, number);
  }
}

function pack(outgoing: readonly Outgoing[]): { readonly published: PublishedHead; readonly body: Buffer } {
  const bodies = outgoing.map(({ body }) => Buffer.from(body as string));
  return {
    published: outgoing.map(({ destination, lines, body }) => [destination, lines, Buffer.byteLength(body)]),
    body: Buffer.concat(bodies),
  };
}
