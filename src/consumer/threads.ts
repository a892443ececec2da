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
import type { RunResult } from './payload.js';
import { TEARDOWN_MS, type CallbackRunner, type Job, type RunnerOptions } from './runner.js';
import { CallbackThread, type Loss, type Run, type ThreadOptions } from './thread.js';

export interface PoolOptions extends RunnerOptions, Omit<ThreadOptions, 'timeoutMs' | 'connection'> {
  readonly threads: number;
}

const LONGEST_DELAY_MS = 30_000;
/** What callbacks have, once they are told that the graceful wait is over, before their threads are ended. */
const LAST_MOMENT_MS = 250;

export class ThreadPool implements CallbackRunner {
  readonly #options: PoolOptions;
  readonly #threads = new Set<CallbackThread>();
  /** The threads that take messages. */
  readonly #ready = new Set<CallbackThread>();
  /** No thread may take these yet; the next one first. */
  readonly #waiting: Run[] = [];
  /** Threads lost in a row without a message having been run: the next starts ever later. */
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

  run(job: Job): Promise<RunResult> {
    return new Promise((resolve) => {
      this.#waiting.push({ job, resolve, isSuspect: false });
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
    const thread: CallbackThread = new CallbackThread(
      { ...this.#options, connection: this.#connection },
      () => {
        this.#failures = 0;
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
        run.resolve({ kind: 'returned' });
        continue;
      }
      let best: CallbackThread | undefined;
      for (const thread of this.#ready) {
        if (thread.hasSuspect || (isSuspect && thread.load > 0)) continue;
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
    if (!session.isOpen) return -1;
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

  #lose(thread: CallbackThread, loss: Loss): void {
    this.#ready.delete(thread);
    const { reason, detail, error, runs } = loss;
    const culprit = loss.culprit ?? (runs.length === 1 ? runs[0] : undefined);
    const isKnown = culprit !== undefined;
    const again = runs.filter((run) => run !== culprit && run.job.isOpen());
    this.#options.log.warn(
      { reason, detail, again: again.length, ...(culprit === 'nobody' ? { err: error } : {}) },
      culprit === 'nobody'
        ? 'a callback ended its thread after its message was done; another takes over'
        : 'a callback ended its thread; another takes over',
    );
    for (const run of again) run.isSuspect ||= !isKnown;
    this.#waiting.unshift(...again);
    for (const run of runs) {
      if (run === culprit) run.resolve({ kind: 'refused', reason, detail, error });
      // Settled already, or the message comes again anyway.
      else if (!again.includes(run)) run.resolve({ kind: 'returned' });
    }
    if (!isKnown && runs.length === 0) this.#failures++;
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
      }
    }
  }
}
