/**
 * Callbacks in worker threads: a callback that burns processor time cannot starve the connection's heart-beats, and one
 * that hangs, exits, crashes or exhausts its memory takes a thread with it and not the consumer. Its message is refused
 * with the reason, its neighbours in that thread are run again, and a new thread takes over.
 *
 * When it cannot be known which of several messages ended a thread, each of them is a suspect and runs again alone: the
 * one that ends its thread then is the one. A pool of a library does not serve: it would have to tell the messages in
 * flight in a thread apart, take settlements before a run ends, and run the innocent again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Gone, RunResult } from './payload.js';
import { TEARDOWN_MS, type CallbackRunner, type Job, type RunnerOptions } from './runner.js';
import { CallbackThread, type Loss, type Run, type ThreadOptions } from './thread.js';

export interface PoolOptions extends RunnerOptions, Omit<ThreadOptions, 'timeoutMs' | 'connection'> {
  readonly threads: number;
  /** Aborted: what no thread can run now is not waited for. */
  readonly drain: AbortSignal;
}

const LONGEST_DELAY_MS = 30_000;
/** A thread that has lived this long was healthy. */
const HEALTHY_MS = 1000;
/** With the growing waits between them these take minutes: what a module needs may be back by then. */
const MAX_LOSSES = 10;
/** What callbacks have, once they are told that the graceful wait is over, before their threads are ended. */
const LAST_MOMENT_MS = 250;

export class ThreadPool implements CallbackRunner {
  readonly #options: PoolOptions;
  readonly #threads = new Set<CallbackThread>();
  /** The threads that take messages. */
  readonly #ready = new Set<CallbackThread>();
  /** No thread may take these yet; the next one first. */
  readonly #waiting: Run[] = [];
  /** Threads lost in a row by no message's doing: the next starts ever later. */
  #failures = 0;
  #isClosed = false;
  readonly #connection = new Float64Array(new SharedArrayBuffer(8));
  #session: Job['session'] | undefined;
  #connections = 0;
  /** Since the abort: the callbacks in flight have been told. */
  #told: Promise<unknown> = Promise.resolve();

  constructor(options: PoolOptions) {
    this.#options = options;
    const tell = () => {
      this.#told = Promise.all([...this.#threads].map((thread) => thread.abort('stop')));
    };
    options.abort.addEventListener('abort', tell, { once: true });
    const drain = () => {
      for (const thread of this.#threads) thread.drain();
      this.#releaseStranded();
    };
    options.drain.addEventListener('abort', drain, { once: true });
  }

  /** Resolves when every thread has loaded the callback and set it up. Rejects with a PubsubError `callback-...`. */
  async start(): Promise<void> {
    try {
      await Promise.all(Array.from({ length: this.#options.threads }, () => this.#spawn()));
    } catch (error) {
      for (const thread of this.#threads) thread.terminate();
      throw error;
    }
  }

  run(job: Job): Promise<RunResult | Gone> {
    return new Promise((resolve) => {
      this.#waiting.push({ job, resolve, isSuspect: false, losses: 0 });
      this.#assign();
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const { abort } = this.#options;
    const ends = Promise.all([...this.#threads].map(({ ended }) => ended));
    const terminate = () => this.#threads.forEach((thread) => thread.terminate());
    if (abort.aborted) {
      // A callback that blocks its thread is told nothing.
      await Promise.race([this.#told, delay(LAST_MOMENT_MS)]);
      terminate();
    } else {
      for (const thread of this.#threads) thread.stop();
      abort.addEventListener('abort', terminate, { once: true });
    }
    const timer = setTimeout(terminate, TEARDOWN_MS);
    await ends;
    clearTimeout(timer);
    abort.removeEventListener('abort', terminate);
  }

  async #spawn(): Promise<void> {
    const sinceMs = performance.now();
    const thread: CallbackThread = new CallbackThread(
      { ...this.#options, connection: this.#connection },
      () => {
        if (performance.now() - sinceMs > HEALTHY_MS) this.#failures = 0;
        this.#assign();
      },
      (loss) => this.#lose(thread, loss),
    );
    this.#threads.add(thread);
    void thread.ended.then(() => this.#threads.delete(thread));
    await thread.ready;
    this.#ready.add(thread);
    this.#assign();
  }

  /** Hands out what waits, to the thread with the fewest in flight. A suspect waits for an idle one and keeps it. */
  #assign(): void {
    for (let run = this.#waiting[0]; run !== undefined; run = this.#waiting[0]) {
      const { job, isSuspect } = run;
      if (!job.isOpen()) {
        // While it waited for a thread its connection ended: it comes again by the next one.
        this.#waiting.shift();
        run.resolve({ kind: 'gone' });
        continue;
      }
      let best: CallbackThread | undefined;
      for (const thread of this.#ready) {
        if (thread.isDoomed || thread.hasSuspect || (isSuspect && thread.load > 0)) continue;
        if (best === undefined || thread.load < best.load) best = thread;
      }
      if (best === undefined) return;
      this.#waiting.shift();
      best.start(run, this.#connectionOf(job));
    }
  }

  /**
   * The number of its connection. A thread looks the open one up in shared memory: an acknowledgement that has where to
   * go is answered there and then, and spares both threads a way.
   */
  #connectionOf({ session }: Job): number {
    if (session !== this.#session) {
      this.#session = session;
      const number = ++this.#connections;
      this.#connection[0] = number;
      void session.closed.then(() => {
        if (this.#connection[0] === number) this.#connection[0] = 0;
      });
    }
    return this.#connections;
  }

  #lose(thread: CallbackThread, { reason, detail, error, isAnonymous, ...loss }: Loss): void {
    this.#ready.delete(thread);
    const { runs, started } = loss;
    // A message that such code ends the thread of again and again is given up in the end, whatever it has to do with it.
    if (isAnonymous) for (const run of started) run.losses++;
    const known = isAnonymous ? started.filter(({ losses }) => losses === MAX_LOSSES) : loss.culprits;
    const culprits = known ?? (started.length === 1 ? started : []);
    const again = runs.filter((run) => !culprits.includes(run) && run.job.isOpen());
    // What dead-letters a message is logged with it.
    const fields = { reason, detail, again: again.length, ...(culprits.length > 0 ? {} : { err: error }) };
    this.#options.log.warn(fields, `${describe(culprits.length, isAnonymous, known)}; another takes over`);
    if (known === undefined && culprits.length === 0) {
      for (const run of again) run.isSuspect ||= started.includes(run);
    }
    this.#waiting.unshift(...again);
    for (const run of runs) {
      if (culprits.includes(run)) run.resolve({ kind: 'refused', reason, detail, error });
      // Settled already, or the message comes again anyway.
      else if (!again.includes(run)) run.resolve({ kind: 'gone' });
    }
    if (culprits.length === 0 && (isAnonymous || runs.length === 0)) this.#failures++;
    this.#releaseStranded();
    void this.#replace();
  }

  /** Until it succeeds: what setup() needs may be away for as long as it likes, and messages wait. */
  async #replace(): Promise<void> {
    const { abort, log } = this.#options;
    for (;;) {
      if (this.#failures > 0) {
        const waitMs = Math.min(LONGEST_DELAY_MS, 500 * 2 ** Math.min(this.#failures, 10));
        await delay(waitMs, undefined, { signal: abort, ref: false }).catch(() => undefined);
      }
      if (this.#isClosed || abort.aborted) return;
      try {
        await this.#spawn();
        return;
      } catch (error) {
        this.#failures++;
        log.error({ err: error }, 'a worker thread cannot start; trying again');
        this.#releaseStranded();
      }
    }
  }

  /** Those that only a thread could run that does not start: a stop does not wait for it. */
  #releaseStranded(): void {
    if (!this.#options.drain.aborted || this.#ready.size > 0 || this.#failures === 0) return;
    for (const run of this.#waiting.splice(0)) run.resolve({ kind: 'gone' });
  }
}

function describe(culprits: number, isAnonymous: boolean, known: readonly Run[] | undefined): string {
  if (culprits > 0) return 'a callback ended its thread';
  if (isAnonymous) return 'code that belongs to no message ended its thread';
  return known === undefined
    ? 'a thread ended and it is not known whose doing that was'
    : 'a callback ended its thread after its message was done';
}
