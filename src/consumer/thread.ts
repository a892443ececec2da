/**
 * One worker thread, from its start to its end. States: loading -> ready -> ended. It hides how messages cross to the
 * thread (together, once a turn of the event loop), how a time limit is enforced on code that may block its thread, and
 * how it is found out whose doing the end of a thread is.
 *
 * A message that has outrun its limit has its signal aborted. A thread that answers to that turns its event loop: what
 * still runs after the grace is to blame. One that is silent for as long is blocked: by the callback it is in the middle
 * of calling, once that has had its own limit, or, when a callback went on after an await, by nobody knows which.
 */
import { Worker } from 'node:worker_threads';
import { PubsubError, reasonOf } from '../errors.js';
import { reportStuckThread } from '../leave.js';
import { writeLine } from '../log.js';
import type { QueueType } from '../brokers/queues.js';
import type { AbortReason, Gone, Refusal, RunResult, Settlement } from './payload.js';
import { describeTimeout, GRACE_MS, type Job } from './runner.js';
import {
  decodeError,
  type FromThread,
  type ThreadData,
  type ToThread,
  type WireCall,
  type WireJob,
  type WireSettlement,
} from './thread-protocol.js';
import { Slots } from '../slots.js';
import { untimed, watchLimit, type Timed } from './time-limit.js';
import { createVerdictRing, VerdictReader } from './verdicts.js';

/** A message that is to be run, in this thread or the next. */
export interface Run {
  readonly job: Job;
  readonly resolve: (result: RunResult | Gone) => void;
  /** A thread ended under it and others and nobody knows whose doing that was: it runs alone now. */
  isSuspect: boolean;
  /** How many threads have ended under it by the doing of code that belongs to no message. */
  losses: number;
}

/** Why a thread ended. */
export interface Loss {
  readonly reason: Refusal;
  readonly detail: string;
  readonly error?: unknown;
  /** Whose doing it is; none when that is no message in flight, undefined when it is not known. */
  readonly culprits: readonly Run[] | undefined;
  /** The doing of code that belongs to no message, such as the module's own timers. */
  readonly isAnonymous: boolean;
  /** What was in flight, the oldest first. */
  readonly runs: readonly Run[];
  /** Those of them whose callback had been called. */
  readonly started: readonly Run[];
}

export interface ThreadOptions {
  /** `module#export` */
  readonly callback: string;
  readonly logLevel: string;
  readonly queueType: QueueType;
  readonly timeoutMs: number;
  /** Limit for loading the module and setup(), in ms. */
  readonly setupTimeoutMs: number;
  /** Shared with the thread: the number of the connection that is open, 0 for none. */
  readonly connection: Float64Array;
  /** Limit of the thread's heap, in MB; undefined for V8's own. */
  readonly heapMb: number | undefined;
  /** How many runs are in flight here at most. */
  readonly concurrency: number;
}

interface InFlight extends Timed {
  readonly run: Run;
  /** Since when its signal is aborted, as the thread has said. */
  toldMs?: number;
  onTold?: () => void;
}

type Cause = Omit<Loss, 'runs' | 'started' | 'isAnonymous'> & { readonly isAnonymous?: boolean };

/** How long a callback that blocks its thread can keep back what it and others have acked before. */
const VERDICTS_MS = 20;
/** How long a thread that is ended may take for it. What is blocked in native code, such as execSync, takes for ever. */
const STUCK_MS = 5000;

export class CallbackThread {
  /** Resolves when the module is loaded and set up; rejects with a PubsubError `callback-...`. */
  readonly ready: Promise<void>;
  /** Resolves when the thread is no more. */
  readonly ended: Promise<void>;
  readonly #options: ThreadOptions;
  readonly #startTimer: NodeJS.Timeout;
  readonly #onLost: (loss: Loss) => void;
  readonly #onDone: () => void;
  readonly #worker: Worker;
  readonly #calling = new Float64Array(new SharedArrayBuffer(24));
  readonly #inFlight = new Slots<InFlight>();
  readonly #verdicts: VerdictReader;
  #verdictTimer: NodeJS.Timeout | undefined;
  readonly #endLimit: () => void;
  #jobs: WireJob[] = [];
  #settlements: WireSettlement[] = [];
  #hasSuspect = false;
  #cause: Cause | undefined;
  /** When the thread last showed that its event loop turns. */
  #heardMs = 0;
  #isReady = false;
  #isStopping = false;
  #hasEnded = false;
  #stuckTimer: NodeJS.Timeout | undefined;
  #settleReady: { resolve: () => void; reject: (reason: PubsubError) => void } | undefined;
  #onEnded: () => void = () => undefined;

  constructor(options: ThreadOptions, onDone: () => void, onLost: (loss: Loss) => void) {
    this.#options = options;
    this.#onDone = onDone;
    this.#onLost = onLost;
    this.#endLimit = watchLimit(this.#inFlight, options.timeoutMs, (entry, runId) =>
      this.#warn(entry, runId),
    );
    this.ready = new Promise((resolve, reject) => (this.#settleReady = { resolve, reject }));
    this.ended = new Promise((resolve) => (this.#onEnded = resolve));
    const { callback, logLevel, queueType, connection, heapMb, concurrency } = options;
    const verdicts = createVerdictRing(concurrency);
    this.#verdicts = new VerdictReader(verdicts);
    this.#worker = new Worker(new URL('./thread-main.js', import.meta.url), {
      workerData: {
        ...{ callback, logLevel, queueType, connection, verdicts },
        calling: this.#calling,
      } satisfies ThreadData,
      resourceLimits: heapMb === undefined ? {} : { maxOldGenerationSizeMb: heapMb },
      name: 'callbacks',
    });
    this.#startTimer = setTimeout(() => this.#giveUpStart(), options.setupTimeoutMs);
    this.#worker.on('message', (message: FromThread) => this.#receive(message));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', (code) => this.#end(code));
  }

  /** Runs in flight here. */
  get load(): number {
    return this.#inFlight.size;
  }

  /** It is ending, or about to be ended: nothing more may start here. */
  get isDoomed(): boolean {
    return this.#cause !== undefined;
  }

  /** Does a suspect run here? Then nothing else may. */
  get hasSuspect(): boolean {
    return this.#hasSuspect;
  }

  /** `connection` is the number of the one the message came by, in the memory given to the thread. */
  start(run: Run, connection: number): void {
    const runId = this.#inFlight.add({
      run,
      startMs: performance.now(),
      isOverdue: false,
    });
    this.#hasSuspect = run.isSuspect;
    this.#awaitVerdicts();
    const { headers, raw, correlationId } = run.job;
    this.#flushSoon();
    this.#jobs.push([runId, JSON.stringify(headers), raw.toString('latin1'), correlationId, connection]);
  }

  /** Aborts the signal of everything in flight; resolves when the callbacks have been told, never when they block. */
  async abort(reason: AbortReason): Promise<void> {
    const told = this.#inFlight.entries().map(([runId, entry]) => {
      this.#post({ kind: 'abort', runId, reason });
      return new Promise<void>((resolve) => (entry.onTold = resolve));
    });
    await Promise.all(told);
  }

  /** Gives back what it has not started; what comes after this is run. */
  drain(): void {
    this.#flush();
    this.#post({ kind: 'drain' });
  }

  /** Lets it tear down and end. */
  stop(): void {
    this.#isStopping = true;
    this.#post({ kind: 'stop' });
  }

  /** Ends it where it stands. */
  terminate(): void {
    this.#isStopping = true;
    this.#terminate();
  }

  /** A thread that is stuck is left behind: whatever waits for its end goes on without it. */
  #terminate(): void {
    void this.#worker.terminate();
    this.#stuckTimer ??= setTimeout(() => {
      const takeBack = reportStuckThread();
      this.#worker.once('exit', takeBack).unref();
      this.#end(1);
    }, STUCK_MS);
  }

  #post(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  /** Everything of one tick goes together. */
  #flushSoon(): void {
    if (this.#jobs.length === 0 && this.#settlements.length === 0) process.nextTick(() => this.#flush());
  }

  #flush(): void {
    if (this.#settlements.length > 0) this.#post({ kind: 'settled', settlements: this.#settlements });
    if (this.#jobs.length > 0) this.#post({ kind: 'run', jobs: this.#jobs });
    this.#settlements = [];
    this.#jobs = [];
  }

  #receive(message: FromThread): void {
    // A callback that never returns can still print.
    if (message.kind !== 'log') this.#heardMs = performance.now();
    this.#takeVerdicts();
    switch (message.kind) {
      case 'progress':
        for (const call of message.calls) this.#settle(call);
        for (const [runId, result] of message.results) {
          const { kind } = result;
          this.#finish(runId, kind === 'threw' ? { kind, error: decodeError(result.error) } : result);
        }
        this.#onDone();
        return;
      case 'aborted': {
        const entry = this.#inFlight.get(message.runId);
        if (entry !== undefined) entry.toldMs = performance.now();
        entry?.onTold?.();
        return;
      }
      case 'log':
        writeLine(message.line);
        return;
      case 'ready':
        clearTimeout(this.#startTimer);
        this.#isReady = true;
        this.#settleReady?.resolve();
        return;
      case 'failed': {
        const { code, error } = message;
        this.#settleReady?.reject(new PubsubError(code, message.message, { cause: decodeError(error) }));
        return;
      }
      case 'dying': {
        const { runId, reason, detail, error } = message;
        const run = runId === undefined ? undefined : this.#inFlight.get(runId)?.run;
        this.#cause ??= {
          reason,
          detail,
          error: error && decodeError(error),
          culprits: run === undefined ? [] : [run],
          isAnonymous: runId === undefined,
        };
        return;
      }
    }
  }

  #takeVerdicts(): void {
    this.#verdicts.read((runId, verdict) => this.#settle([runId, 0, verdict, undefined]));
  }

  /** A thread that is blocked sends nothing. */
  #awaitVerdicts(): void {
    this.#verdictTimer ??= setTimeout(() => {
      this.#verdictTimer = undefined;
      this.#takeVerdicts();
      if (this.#inFlight.size > 0) this.#awaitVerdicts();
    }, VERDICTS_MS).unref();
  }

  #settle([runId, call, verdict, outgoing]: WireCall): void {
    const entry = this.#inFlight.get(runId);
    const answer = (settlement: Settlement) => {
      if (call === 0) return;
      this.#flushSoon();
      this.#settlements.push([call, settlement]);
    };
    // A run that is over was settled, by its callback or by what came of it.
    if (entry === undefined) answer('already-settled');
    else if (verdict === 'nack') answer(entry.run.job.nack());
    else {
      const settlement = entry.run.job.ack(outgoing);
      if (typeof settlement === 'string') answer(settlement);
      else void untimed(entry, settlement).then(answer);
    }
  }

  #finish(runId: number, result: RunResult | Gone): void {
    const entry = this.#inFlight.get(runId);
    if (entry === undefined) return;
    this.#inFlight.remove(runId);
    this.#hasSuspect = false;
    entry.run.resolve(result);
  }

  #giveUpStart(): void {
    const detail = `loading and setup() took longer than ${this.#options.setupTimeoutMs / 1000} s (STOMP_SETUP_TIMEOUT)`;
    this.#cause ??= { reason: 'timeout', detail, culprits: undefined };
    this.#terminate();
  }

  #hasStarted(runId: number): boolean {
    return runId <= (this.#calling[2] ?? 0);
  }

  #warn(entry: InFlight, runId: number): void {
    if (!this.#hasStarted(runId)) {
      // Its clock runs once its thread has come to it.
      entry.startMs = performance.now();
      entry.isOverdue = false;
      return;
    }
    this.#post({ kind: 'abort', runId, reason: 'timeout' });
    this.#judgeLater(entry, runId);
  }

  /** A main thread that was busy itself runs its timers before it reads what the worker has answered. */
  #judgeLater(entry: InFlight, runId: number, delayMs = GRACE_MS): void {
    setTimeout(() => setImmediate(() => this.#judge(entry, runId)), delayMs).unref();
  }

  #judge(entry: InFlight, runId: number): void {
    if (this.#inFlight.get(runId) === undefined || this.#cause !== undefined) return;
    if (entry.isUntimed === true) {
      if (entry.toldMs !== undefined) entry.toldMs = performance.now();
      this.#judgeLater(entry, runId);
      return;
    }
    const problem = describeTimeout(this.#options.timeoutMs);
    if (entry.toldMs !== undefined) {
      const leftMs = entry.toldMs + GRACE_MS - performance.now();
      if (leftMs >= 1) this.#judgeLater(entry, runId, leftMs);
      else this.#kill(problem, this.#outlasted(entry.toldMs));
      return;
    }
    const [callingId = 0, sinceMs = 0] = this.#calling;
    const called = this.#inFlight.get(callingId)?.run;
    const isWithinLimit = called !== undefined && Date.now() - sinceMs <= this.#options.timeoutMs + GRACE_MS;
    if (isWithinLimit || performance.now() - this.#heardMs < GRACE_MS) this.#judgeLater(entry, runId);
    else this.#kill(`${problem} and blocked its thread`, called && [called]);
  }

  /** What still runs although it was told when this one was, or before. */
  #outlasted(toldMs: number): Run[] {
    const latestMs = toldMs + GRACE_MS / 10;
    return this.#inFlight
      .entries()
      .filter(([, { toldMs, isUntimed }]) => toldMs !== undefined && toldMs <= latestMs && isUntimed !== true)
      .map(([, { run }]) => run);
  }

  #kill(detail: string, culprits: readonly Run[] | undefined): void {
    this.#cause = { reason: 'timeout', detail, culprits };
    this.#terminate();
  }

  /** An error that the thread itself could not tell of: its heap is exhausted, or it could not start. */
  #fail(error: Error & { code?: string }): void {
    const isMemory = error.code === 'ERR_WORKER_OUT_OF_MEMORY';
    this.#cause ??= {
      reason: isMemory ? 'out-of-memory' : 'thread-lost',
      detail: isMemory ? 'the heap of the worker thread is exhausted' : reasonOf(error),
      error,
      culprits: undefined,
    };
  }

  #end(code: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#stuckTimer);
    this.#endLimit();
    clearTimeout(this.#startTimer);
    clearTimeout(this.#verdictTimer);
    this.#takeVerdicts();
    const entries = this.#inFlight.entries();
    const runs = entries.map(([, { run }]) => run);
    const started = entries.filter(([runId]) => this.#hasStarted(runId)).map(([, { run }]) => run);
    const cause: Cause = this.#cause ?? {
      reason: 'thread-lost',
      detail: `the thread ended with ${code}`,
      culprits: undefined,
    };
    const { detail, error } = cause;
    this.#settleReady?.reject(
      new PubsubError('callback-not-loadable', `${this.#options.callback} does not load: ${detail}`, {
        cause: error,
      }),
    );
    this.#onEnded();
    if (this.#isReady && !this.#isStopping) this.#onLost({ isAnonymous: false, ...cause, runs, started });
  }
}
