/**
 * One worker process, from its start to its end. States: loading -> ready -> (retired: it takes no more) -> ended. It
 * hides how messages cross to the process, what it says of them, and how it is found out whose doing its end is, which
 * is judged when everything it wrote has been read: its last words may be there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { MessageContext } from '../../context.js';
import { PubsubError, type ErrorCode } from '../../errors.js';
import type { Outgoing } from '../../sending/heads.js';
import { Slots } from '../../slots.js';
import type { WorkerEndReason } from '../events.js';
import type { AbortReason, Gone, RunResult, Settlement } from '../payload.js';
import { untimed } from '../time-limit.js';
import { WorkerChannel } from './channel.js';
import { countMemoryKills, describeEnd, isStopSignal } from './end.js';
import type { WireFrame } from './frames.js';
import type { SpawnOptions } from './flags.js';
import { limitRuns, type Limited } from './limit.js';
import { limitMemory } from './memory.js';
import { decodeError } from '../thrown.js';
import { WorkerOutput } from './output.js';
import {
  encodeRunHead,
  fromWorker,
  toWorker,
  type FailureReport,
  type ForwardHead,
  type LastWords,
  type LoadOrder,
  type LostReport,
  type PublishedHead,
  type ReadyReport,
  type RefusalReport,
} from './protocol.js';
import { restart, type Cause, type InFlight, type Loss, type Run } from './runs.js';
import { killGroup, type Spawned } from './spawn.js';

export interface WorkerOptions extends LoadOrder, Pick<SpawnOptions, 'imports'> {
  readonly timeoutMs: number;
  /** Limit for loading the module and setup(), in ms. */
  readonly setupTimeoutMs: number;
  /** Resident memory beyond which it takes no more messages, in MB; undefined for any. */
  readonly memoryMb: number | undefined;
  /** So many messages are begun in it, then another process takes over; undefined for any number. */
  readonly maxMessages: number | undefined;
}

export interface WorkerEvents {
  /** Runs have ended: there may be room for others. */
  readonly onDone: () => void;
  readonly onLost: (loss: Loss) => void;
  readonly onMetrics: (metrics: string) => void;
}

/** How long what a worker wrote is read after its end: another process may hold its descriptors. */
const LAST_READING_MS = 1000;
/** A worker that is silent for so long is asked for verdicts that it keeps back, and then ever more rarely. */
const SILENCE_MS = 20;
const LONGEST_SILENCE_MS = 1000;

export class WorkerProcess {
  /** Resolves when the module is loaded and set up; rejects with a PubsubError `callback-...`. */
  readonly ready: Promise<readonly ReadyReport[]>;
  /** Resolves when the process is no more, and all that it said has been heard. */
  readonly ended: Promise<WorkerEndReason>;
  readonly #options: WorkerOptions;
  readonly #events: WorkerEvents;
  readonly #spawned: Spawned;
  readonly #channel: WorkerChannel;
  readonly #output: WorkerOutput;
  readonly #inFlight = new Slots<InFlight>();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #endLimit: () => void;
  readonly #memoryKills = countMemoryKills();
  /** Who has asked for metrics. */
  readonly #asking: (() => void)[] = [];
  /** Who has asked whether a callback has what it needs, by its number. */
  readonly #asked = new Map<number, ((isHealthy: boolean) => void)[]>();
  #askTimer: NodeJS.Timeout | undefined;
  #hasSuspect = false;
  #isRetired = false;
  #begun = 0;
  #cause: Cause | undefined;
  /** When the worker last showed that its event loop turns. */
  #heardMs = 0;
  #isReady = false;
  #isStopping = false;
  #settleReady:
    { resolve: (reports: readonly ReadyReport[]) => void; reject: (reason: PubsubError) => void } | undefined;

  constructor(spawned: Spawned, options: WorkerOptions, events: WorkerEvents) {
    this.#options = options;
    this.#events = events;
    this.#spawned = spawned;
    this.#channel = new WorkerChannel(spawned, {
      onFrame: (frame) => this.#receive(frame),
      onTurn: () => events.onDone(),
      onGarbled: (problem) =>
        this.#kill({
          reason: 'callback-crashed',
          detail: `${problem} came from the worker`,
          culprits: undefined,
        }),
    });
    this.#output = new WorkerOutput({ worker: spawned.child.pid }, spawned, () => this.#onlyContext());
    const limited: Limited = {
      inFlight: this.#inFlight,
      channel: this.#channel,
      heardMs: () => this.#heardMs,
      isDying: () => this.#cause !== undefined,
      kill: (cause: Cause) => this.#kill(cause),
    };
    this.#endLimit = limitRuns(limited, options.timeoutMs);
    this.ready = new Promise((resolve, reject) => (this.#settleReady = { resolve, reject }));
    this.ended = spawned.exited.then(([code, signal]) => this.#end(code, signal));
    this.#timers.push(setTimeout(() => this.#giveUpStart(), options.setupTimeoutMs));
    const { memoryMb } = options;
    if (memoryMb !== undefined) this.#timers.push(limitMemory(limited, memoryMb, () => this.retire()));
    const { callbacks, logLevel, tellsMetrics, isOnlyLoaded } = options;
    const order: LoadOrder = { callbacks, logLevel, tellsMetrics, isOnlyLoaded };
    this.#channel.send(toWorker.load, 0, JSON.stringify(order));
  }

  get pid(): number | undefined {
    return this.#spawned.child.pid;
  }

  /** Runs in flight here. */
  get load(): number {
    return this.#inFlight.size;
  }

  /** Nothing more may start here: it is ending, about to be ended, or shall end. */
  get isDoomed(): boolean {
    return this.#cause !== undefined || this.#isRetired;
  }

  /** Does a suspect run here? Then nothing else may. */
  get hasSuspect(): boolean {
    return this.#hasSuspect;
  }

  /** It is to be ended when it has nothing in flight. */
  get isRetired(): boolean {
    return this.#isRetired && this.#cause === undefined;
  }

  /** `connection` is the number of the one the message came by. */
  start(run: Run, connection: number): void {
    const entry: InFlight = { run, startMs: performance.now(), isOverdue: false, isSent: false };
    const number = this.#inFlight.add(entry);
    if (++this.#begun === this.#options.maxMessages) this.#isRetired = true;
    this.#hasSuspect = run.isSuspect;
    this.#askLater(SILENCE_MS);
    this.#channel.sendLazily((frames) => {
      if (this.#inFlight.get(number) === undefined) return;
      entry.isSent = true;
      run.startMs = Date.now();
      frames.add(toWorker.run, number, encodeRunHead(run, connection), run.job.raw);
    });
  }

  /** The connection of that number has ended. */
  disconnect(connection: number): void {
    this.#channel.send(toWorker.disconnected, connection);
  }

  /** Aborts the signal of everything in flight; resolves when the callbacks have been told, never when they block. */
  async abort(reason: AbortReason): Promise<void> {
    const told = this.#inFlight.entries().map(([number, entry]) => {
      this.#channel.send(toWorker.abort, number, reason);
      return new Promise<void>((resolve) => (entry.onTold = resolve));
    });
    await Promise.all(told);
  }

  /** Resolves when it has told its metrics; never when it is blocked. */
  askMetrics(): Promise<void> {
    this.#channel.send(toWorker.metrics, 0);
    return new Promise((resolve) => this.#asking.push(resolve));
  }

  /** What the healthy() of that callback says; never resolves when it is blocked. */
  askHealth(which: number): Promise<boolean> {
    this.#channel.send(toWorker.healthy, which);
    return new Promise((resolve) => this.#asked.set(which, [...(this.#asked.get(which) ?? []), resolve]));
  }

  /** For its spans: an attempt that ended with the process that it ran in. */
  tellLost(report: LostReport): void {
    this.#channel.send(toWorker.lost, 0, JSON.stringify(report));
  }

  /** Gives back what has not been started; what comes after this is run. */
  drain(): void {
    for (const [number, { isSent }] of this.#inFlight.entries()) {
      if (!isSent) this.#finish(number, { kind: 'gone' });
    }
    this.#channel.send(toWorker.drain, 0);
  }

  /** It takes no more, and is to be ended when it has nothing in flight. */
  retire(): void {
    this.#isRetired = true;
    this.#events.onDone();
  }

  /** Lets it tear down and end; while it loads there is nothing to tear down. */
  stop(): void {
    if (!this.#isReady) {
      this.terminate();
      return;
    }
    this.#isStopping = true;
    this.#channel.send(toWorker.stop, 0);
  }

  /** Ends it where it stands. */
  terminate(): void {
    this.#isStopping = true;
    killGroup(this.#spawned.child);
  }

  #receive({ kind, number, head, body }: WireFrame): void {
    this.#heardMs = performance.now();
    switch (kind) {
      case fromWorker.ack:
        void this.#inFlight.get(number)?.run.job.ack();
        return;
      case fromWorker.nack:
        this.#inFlight.get(number)?.run.job.nack();
        return;
      case fromWorker.forward:
        this.#forward(number, parse<ForwardHead>(head), body);
        return;
      case fromWorker.returned:
        this.#finish(number, {
          kind: 'returned',
          ...(head.length > 0 ? { outgoing: unpack(parse<PublishedHead>(head), body) } : {}),
        });
        return;
      case fromWorker.threw:
        this.#finish(number, { kind: 'threw', error: decodeError(parse(head)) });
        return;
      case fromWorker.refused:
        this.#finish(number, { kind: 'refused', ...parse<RefusalReport>(head) });
        return;
      case fromWorker.gone:
        this.#finish(number, { kind: 'gone' });
        return;
      case fromWorker.aborted: {
        const entry = this.#inFlight.get(number);
        if (entry === undefined) return;
        entry.toldMs = performance.now();
        entry.onTold?.();
        return;
      }
      case fromWorker.unstarted: {
        const entry = this.#inFlight.get(number);
        if (entry !== undefined) restart(entry);
        entry?.onTold?.();
        return;
      }
      case fromWorker.ready:
        clearTimeout(this.#timers[0]);
        this.#isReady = true;
        this.#settleReady?.resolve(parse<ReadyReport[]>(head));
        return;
      case fromWorker.failed: {
        const { code, message, error } = parse<FailureReport>(head);
        this.#settleReady?.reject(
          new PubsubError(code satisfies ErrorCode, message, { cause: decodeError(error) }),
        );
        return;
      }
      case fromWorker.metrics:
        this.#events.onMetrics(head.toString());
        for (const resolve of this.#asking.splice(0)) resolve();
        return;
      case fromWorker.healthy:
        for (const resolve of this.#asked.get(number) ?? []) resolve(parse<boolean>(head));
        this.#asked.delete(number);
        return;
      case fromWorker.dying:
        this.#takeLastWords(number, parse<LastWords>(head));
        return;
    }
  }

  #takeLastWords(number: number, { reason, detail, error, isSignalled }: LastWords): void {
    const run = this.#inFlight.get(number)?.run;
    this.#cause ??= {
      reason,
      detail,
      error: error && decodeError(error),
      culprits: run === undefined ? [] : [run],
      isAnonymous: number === 0,
      mayBeStop: reason === 'callback-exited' && isSignalled,
    };
  }

  /** An ack that publishes: the callback is answered when that has been confirmed. */
  #forward(call: number, { run, published }: ForwardHead, body: Buffer): void {
    const entry = this.#inFlight.get(run);
    const answer = (settlement: Settlement) => this.#channel.send(toWorker.settled, call, settlement);
    // A run that is over was settled, by its callback or by what came of it.
    if (entry === undefined) {
      answer('already-settled');
      return;
    }
    const settlement = entry.run.job.ack(unpack(published, body));
    if (typeof settlement === 'string') answer(settlement);
    else void untimed(entry, settlement).then(answer);
  }

  #finish(number: number, result: RunResult | Gone): void {
    const entry = this.#inFlight.get(number);
    if (entry === undefined) return;
    this.#inFlight.remove(number);
    this.#hasSuspect = false;
    entry.run.done(result);
  }

  #onlyContext(): MessageContext | undefined {
    return this.#inFlight.size === 1 ? this.#inFlight.entries()[0]?.[1].run.job.context : undefined;
  }

  /** A worker that is blocked tells of no verdict by itself. */
  #askLater(delayMs: number): void {
    const sinceMs = performance.now();
    this.#askTimer ??= setTimeout(() => {
      this.#askTimer = undefined;
      if (this.#inFlight.size === 0) return;
      if (this.#heardMs >= sinceMs) this.#askLater(SILENCE_MS);
      else {
        void this.#channel.observe();
        this.#askLater(Math.min(2 * delayMs, LONGEST_SILENCE_MS));
      }
    }, delayMs).unref();
  }

  #giveUpStart(): void {
    const detail = `loading and setup() took longer than ${this.#options.setupTimeoutMs / 1000} s (STOMP_SETUP_TIMEOUT)`;
    this.#kill({ reason: 'timeout', detail, culprits: undefined });
  }

  #kill(cause: Cause): void {
    this.#cause ??= cause;
    killGroup(this.#spawned.child);
  }

  async #end(code: number | null, signal: NodeJS.Signals | null): Promise<WorkerEndReason> {
    // What it spawned ends with it, but for an end that it was asked for.
    if (!this.#isStopping || signal !== null) killGroup(this.#spawned.child);
    await Promise.race([
      Promise.all([this.#channel.ended, this.#output.ended]),
      delay(LAST_READING_MS, undefined, { ref: false }),
    ]);
    this.#endLimit();
    for (const timer of [...this.#timers, this.#askTimer]) clearTimeout(timer);
    for (const stream of this.#spawned.child.stdio) stream?.destroy();
    const cause = this.#cause ?? this.#causeOf(code, signal);
    const { callbacks, imports } = this.#options;
    const names = callbacks.map(({ callback }) => callback).join(', ');
    const before = imports.length === 0 ? '' : `; --import ${imports.join(', ')} is loaded before`;
    const message = `${names} ${callbacks.length === 1 ? 'does' : 'do'} not load: ${cause.detail}${before}`;
    this.#settleReady?.reject(new PubsubError('callback-not-loadable', message, { cause: cause.error }));
    if (!this.#isReady) return 'not-started';
    if (this.#isStopping) return this.#isRetired ? 'retired' : 'stopped';
    const entries = this.#inFlight.entries();
    const runs = entries.map(([, { run }]) => run);
    const started = entries.filter(([, { isSent }]) => isSent).map(([, { run }]) => run);
    this.#events.onLost({ isAnonymous: false, mayBeStop: false, isKill: false, ...cause, runs, started });
    return cause.isKill === true && cause.reason !== 'out-of-memory' ? 'killed' : cause.reason;
  }

  #causeOf(code: number | null, signal: NodeJS.Signals | null): Cause {
    const hasRunOutOfMemory = this.#output.hasRunOutOfMemory;
    const wasMemoryShort = countMemoryKills() > this.#memoryKills;
    return {
      ...describeEnd({ code, signal, hasRunOutOfMemory, wasMemoryShort }),
      culprits: undefined,
      mayBeStop: isStopSignal(signal),
      isKill: signal === 'SIGKILL',
    };
  }
}

// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- says at the call what the kind of frame has
function parse<T>(head: Buffer): T {
  return JSON.parse(head.toString()) as T;
}

function unpack(published: PublishedHead, body: Buffer): Outgoing[] {
  let from = 0;
  return published.map(([destination, lines, length]) => ({
    destination,
    lines,
    body: body.subarray(from, (from += length)),
  }));
}
