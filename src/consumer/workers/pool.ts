/**
 * Callbacks in worker processes: whatever one does to its process, the consumer is not touched. A callback that burns
 * processor time cannot starve the connection's heart-beats, and one that hangs, exits, crashes, prints without end or
 * exhausts its memory takes its process with it. Its message is refused with the reason, its neighbours in that process
 * are run again, and a new process takes over.
 *
 * When it cannot be known which of several messages ended a process, each of them is a suspect and runs again alone: the
 * one that ends its process then is the one. A pool of a library does not serve: it would have to tell the messages in
 * flight in a process apart, take settlements before a run ends, and run the innocent again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { tell, type WorkerEvent } from '../events.js';
import { TEARDOWN_MS, type CallbackRunner, type Job, type RunnerOptions } from '../runner.js';
import { isStopping } from './end.js';
import { WorkerProcess, type WorkerOptions } from './process.js';
import type { LostReport } from './protocol.js';
import { describeLoss, endSoon, judge, type Loss, type Run } from './runs.js';
import type { SpawnOptions } from './flags.js';
import { spawnWorker } from './spawn.js';

export interface PoolOptions extends PoolRunnerOptions, SpawnOptions, Omit<WorkerOptions, 'timeoutMs'> {
  readonly workers: number;
  /** Aborted: what no worker can run now is not waited for. */
  readonly drain: AbortSignal;
}

/** How callbacks are called stands beside each of them. */
type PoolRunnerOptions = Pick<RunnerOptions, 'timeoutMs' | 'abort' | 'log' | 'observer'>;

const LONGEST_DELAY_MS = 30_000;
/** A worker that has lived this long was healthy. */
const HEALTHY_MS = 10_000;
/** What callbacks have, once they are told that the graceful wait is over, before their workers are ended. */
const LAST_MOMENT_MS = 250;
/** What workers have to tell their metrics: a scraper waits. */
const METRICS_MS = 500;
/** Attempts that are told of when a worker starts at last. */
const MOST_LOST = 1000;

export class WorkerPool {
  readonly #options: PoolOptions;
  readonly #workers = new Set<WorkerProcess>();
  /** The workers that take messages. */
  readonly #ready = new Set<WorkerProcess>();
  /** No worker may take these yet; the next one first. */
  readonly #waiting: Run[] = [];
  /** Attempts that ended with their worker, for the next one to tell of. */
  #lost: LostReport[] = [];
  /** Which callbacks can be asked whether they have what they need. */
  #hasHealth: readonly boolean[] = [];
  /** Workers lost in a row by the doing of no message in flight: the next starts ever later. */
  #failures = 0;
  #isClosed = false;
  #hasStarted = false;
  /** The numbers of those that messages have come by. */
  readonly #connections = new WeakMap<Job['session'], number>();
  #lastConnection = 0;
  /** Runners that are not closed yet. */
  #users = 0;
  /** Since the abort: the callbacks in flight have been told. */
  #told: Promise<unknown> = Promise.resolve();
  /** The consumer's process ends: its workers do, too. */
  readonly #onExit = () => this.#terminateAll();

  constructor(options: PoolOptions) {
    this.#options = options;
    const tell = () => {
      this.#told = Promise.all([...this.#workers].map((worker) => worker.abort('stop')));
    };
    options.abort.addEventListener('abort', tell, { once: true });
    const drain = () => {
      for (const worker of this.#workers) worker.drain();
      this.#releaseStranded();
    };
    options.drain.addEventListener('abort', drain, { once: true });
    process.once('exit', this.#onExit);
  }

  /**
   * Resolves when every worker has loaded the callback and set it up. Rejects with a PubsubError `callback-...`; also at a stop,
   * when those that are set up have torn down: nobody waits for a setup() that may hang.
   */
  async start(): Promise<void> {
    const { workers, drain } = this.#options;
    let closing: Promise<void> | undefined;
    const close = () => void (closing = this.#close());
    drain.addEventListener('abort', close, { once: true });
    if (drain.aborted) close();
    try {
      await Promise.all(Array.from({ length: workers }, () => this.#spawn()));
      this.#hasStarted = true;
    } catch (error) {
      await closing;
      this.#terminateAll();
      process.removeListener('exit', this.#onExit);
      throw error;
    } finally {
      drain.removeEventListener('abort', close);
    }
  }

  /**
   * Loads the callback anew: resolves when new workers have taken over and those that were there finish what they have.
   * Rejects with a PubsubError `callback-...` when it does not load: then everything is as it was. One for all of its
   * runners: who renews several of them renews each pool once.
   */
  readonly #renew = async (): Promise<void> => {
    const old = [...this.#workers];
    const starts = await Promise.allSettled(
      Array.from({ length: this.#options.workers }, () => this.#spawn()),
    );
    const failed = starts.find((start) => start.status === 'rejected');
    const isOld = (worker: WorkerProcess) => old.includes(worker);
    for (const worker of [...this.#workers]) {
      if (isOld(worker) !== (failed === undefined)) continue;
      if (!this.#ready.delete(worker)) worker.terminate();
      else worker.retire();
    }
    if (failed !== undefined && !this.#isDone()) throw failed.reason;
  };

  /** A runner of one of the callbacks. The pool ends with the last of them that is closed. */
  runnerOf(which: number): CallbackRunner {
    this.#users++;
    return {
      run: (job, done) => this.#run(job, which, done),
      renew: this.#renew,
      isHealthy: () => this.#hasHealth[which] !== true || this.#askHealth(which),
      gatherMetrics: () => this.#gatherMetrics(),
      close: () => (--this.#users === 0 ? this.#close() : Promise.resolve()),
    };
  }

  #run(job: Job, which: number, done: Run['done']): void {
    this.#waiting.push({ job, which, done, startMs: 0, isSuspect: false, losses: 0, wasKilled: false });
    this.#assign();
    if (this.#ready.size > 0) return;
    job.setHeld(true);
    // No worker may ever come that could find out.
    void job.session.closed.then(() => this.#assign());
  }

  /** Never resolves when the worker that is asked is blocked, or ends. */
  #askHealth(which: number): Promise<boolean> {
    const [worker] = this.#ready;
    return worker === undefined ? Promise.resolve(false) : worker.askHealth(which);
  }

  async #gatherMetrics(): Promise<void> {
    const all = Promise.all([...this.#ready].map((worker) => worker.askMetrics()));
    await Promise.race([all, delay(METRICS_MS, undefined, { ref: false })]);
  }

  async #close(): Promise<void> {
    this.#isClosed = true;
    const { abort } = this.#options;
    const ends = Promise.all([...this.#workers].map(({ ended }) => ended));
    const terminate = () => this.#terminateAll();
    if (abort.aborted) {
      // A callback that blocks its worker is told nothing.
      await Promise.race([this.#told, delay(LAST_MOMENT_MS)]);
      terminate();
    } else {
      for (const worker of this.#workers) worker.stop();
      abort.addEventListener('abort', terminate, { once: true });
    }
    const timer = setTimeout(terminate, TEARDOWN_MS);
    await ends;
    clearTimeout(timer);
    abort.removeEventListener('abort', terminate);
    process.removeListener('exit', this.#onExit);
  }

  #terminateAll(): void {
    for (const worker of this.#workers) worker.terminate();
  }

  async #spawn(): Promise<void> {
    const sinceMs = performance.now();
    const spawned = await spawnWorker(this.#options);
    const worker: WorkerProcess = new WorkerProcess(spawned, this.#options, {
      onDone: () => {
        if (performance.now() - sinceMs > HEALTHY_MS) this.#failures = 0;
        this.#retire(worker);
        this.#assign();
      },
      onLost: (loss) => void this.#lose(worker, loss),
      onMetrics: (metrics) => this.#options.observer?.onMetrics?.(worker.pid, metrics),
    });
    this.#workers.add(worker);
    void worker.ended.then((reason) => {
      this.#workers.delete(worker);
      this.#tell({ kind: 'ended', pid: worker.pid, reason });
    });
    // The stop came while it was started.
    if (this.#isClosed) worker.terminate();
    const origins = await worker.ready;
    // Those of the start load what is there; a later one may load a file that was changed meanwhile.
    const level = this.#hasStarted ? 'info' : 'debug';
    for (const { file, changed } of origins)
      this.#options.log[level]({ worker: worker.pid, file, changed }, 'a worker has loaded the callback');
    this.#hasHealth = origins.map(({ hasHealth }) => hasHealth);
    this.#ready.add(worker);
    for (const report of this.#lost.splice(0)) worker.tellLost(report);
    this.#tell({ kind: 'ready', pid: worker.pid });
    this.#assign();
  }

  #tell(event: WorkerEvent): void {
    tell(this.#options.observer?.onWorker, event, this.#options.log);
  }

  /** One that shall take no more ends when it has nothing in flight, and another takes over. */
  #retire(worker: WorkerProcess): void {
    if (!worker.isRetired || worker.load > 0) return;
    if (this.#ready.delete(worker)) {
      this.#options.log.info(
        { worker: worker.pid },
        'a worker has reached its limit of memory or messages; another takes over',
      );
      void this.#replace();
    }
    worker.stop();
  }

  /** Hands out what waits, to the worker with the fewest in flight. A suspect waits for an idle one and keeps it. */
  #assign(): void {
    for (let run = this.#waiting[0]; run !== undefined; run = this.#waiting[0]) {
      const { job, isSuspect } = run;
      if (!job.isOpen()) {
        // While it waited for a worker its connection ended: it comes again by the next one.
        this.#waiting.shift();
        endSoon(run, { kind: 'gone' });
        continue;
      }
      let best: WorkerProcess | undefined;
      for (const worker of this.#ready) {
        if (worker.isDoomed || worker.hasSuspect || (isSuspect && worker.load > 0)) continue;
        if (best === undefined || worker.load < best.load) best = worker;
      }
      if (best === undefined) return;
      this.#waiting.shift();
      job.setHeld(false);
      best.start(run, this.#connectionOf(job));
    }
  }

  /** The number of its connection: workers are told when that has ended, so that they can answer an ack themselves. */
  #connectionOf({ session }: Job): number {
    const known = this.#connections.get(session);
    if (known !== undefined) return known;
    const number = ++this.#lastConnection;
    this.#connections.set(session, number);
    void session.closed.then(() => this.#workers.forEach((worker) => worker.disconnect(number)));
    return number;
  }

  async #lose(worker: WorkerProcess, loss: Loss): Promise<void> {
    const isMissed = this.#ready.delete(worker);
    if (loss.mayBeStop && (await isStopping(this.#options.drain))) {
      this.#options.log.warn(
        { detail: loss.detail },
        'a worker took the stop for its own; its messages go back',
      );
      for (const run of loss.runs) endSoon(run, { kind: 'gone' });
      return;
    }
    this.#tellLost(loss);
    const culprits = judge(loss);
    const { reason, detail, error, runs } = loss;
    const again = runs.filter((run) => !culprits.includes(run) && run.job.isOpen());
    // What dead-letters a message is logged with it.
    const fields = { reason, detail, again: again.length, ...(culprits.length > 0 ? {} : { err: error }) };
    this.#options.log.warn(fields, `${describeLoss(culprits, loss)}; another takes over`);
    for (const { job } of again) job.setHeld(true);
    this.#waiting.unshift(...again);
    for (const run of runs) {
      if (culprits.includes(run)) endSoon(run, { kind: 'refused', reason, detail, error });
      // Settled already, or the message comes again anyway.
      else if (!again.includes(run)) endSoon(run, { kind: 'gone' });
    }
    if (culprits.length === 0) this.#failures++;
    this.#releaseStranded();
    if (isMissed) void this.#replace();
  }

  /** Only a process that the callback is loaded in has what records its spans. */
  #tellLost({ started, reason: type, detail }: Loss): void {
    const endMs = Date.now();
    const reports = started.map(({ which, job, startMs }): LostReport => {
      const { headers, raw } = job;
      return { which, headers, bytes: raw.length, startMs, endMs, type, detail };
    });
    const [worker] = this.#ready;
    if (worker === undefined) this.#lost = [...this.#lost, ...reports].slice(-MOST_LOST);
    else for (const report of reports) worker.tellLost(report);
  }

  /** Until it succeeds: what setup() needs may be away for as long as it likes, and messages wait. */
  async #replace(): Promise<void> {
    const { abort, log } = this.#options;
    for (;;) {
      if (this.#failures > 1) {
        const waitMs = Math.min(LONGEST_DELAY_MS, 500 * 2 ** Math.min(this.#failures - 2, 10));
        await delay(waitMs, undefined, { signal: abort, ref: false }).catch(() => undefined);
      }
      if (this.#isDone() || this.#ready.size >= this.#options.workers) return;
      try {
        await this.#spawn();
        return;
      } catch (error) {
        if (this.#isDone()) return;
        this.#failures++;
        log.error({ err: error }, 'a worker cannot start; trying again');
        this.#releaseStranded();
      }
    }
  }

  #isDone(): boolean {
    return this.#isClosed || this.#options.abort.aborted;
  }

  /** Those that only a worker could run that does not start: a stop does not wait for it. */
  #releaseStranded(): void {
    if (!this.#options.drain.aborted || this.#ready.size > 0 || this.#failures === 0) return;
    for (const run of this.#waiting.splice(0)) endSoon(run, { kind: 'gone' });
  }
}
