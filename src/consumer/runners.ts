/**
 * From callbacks to runners that are set up: what runs where, which consumers of a process share their workers, and that only
 * what runs there is loaded.
 */
import { orAborted } from '../aborted.js';
import type { Source } from '../brokers/destinations.js';
import { PubsubError } from '../errors.js';
import { log, type Logger } from '../log.js';
import type { Settings } from '../settings.js';
import type { LoadedCallback } from './payload.js';
import { rulesOf } from './source.js';
import { startInlineRunner, type CallbackRunner, type RunnerObserver } from './runner.js';
import { spawnOptionsOf } from './workers/flags.js';

/** What a runner is started for. */
export interface Runnable {
  /** Where a process has several. */
  readonly name?: string | undefined;
  /** A function, `module#export`, or a program and its arguments. */
  readonly callback: LoadedCallback | string | readonly [string, ...string[]];
  readonly source: Source;
  readonly settings: Settings;
  readonly log: Logger;
  readonly observer?: RunnerObserver | undefined;
  /** In one worker, which is not set up: to see that it can be loaded. */
  readonly isOnlyLoaded?: boolean;
}

export interface Stop {
  readonly drain: AbortSignal;
  readonly abort: AbortSignal;
}

type Started<One extends Runnable> = ReadonlyMap<One, CallbackRunner>;

/**
 * Resolves with a runner for each when their callbacks are loaded and set up, in each worker that there is; with undefined
 * when told to stop before: nothing has been sent then. Rejects with one `callback-...` for all that cannot be loaded.
 * Modules whose settings are the same share their workers.
 */
export async function startRunners<One extends Runnable>(
  runnables: readonly One[],
  stop: Stop,
): Promise<Started<One> | undefined> {
  const starting = startAll(runnables, stop);
  // What is told of the error otherwise is one line.
  starting.catch((error: unknown) => log.debug({ err: error }, 'the callback cannot be started'));
  const runners = await orAborted(stop.drain, starting);
  if (runners === undefined) starting.then(closeAll, () => undefined);
  return runners;
}

const closeAll = (runners: Started<Runnable>) =>
  Promise.all(Array.from(runners.values(), (one) => one.close()));

/** All of them, or none and one error for all that failed. */
async function startAll<One extends Runnable>(runnables: readonly One[], stop: Stop): Promise<Started<One>> {
  const groups = new Map<unknown, One[]>();
  for (const runnable of runnables) {
    const key = sharingOf(runnable);
    groups.set(key, [...(groups.get(key) ?? []), runnable]);
  }
  const results = await Promise.allSettled(Array.from(groups.values(), (group) => startGroup(group, stop)));
  const runners = new Map(results.flatMap((result) => (result.status === 'fulfilled' ? result.value : [])));
  const errors = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
  const [first, ...others] = errors;
  if (first === undefined) return runners;
  await closeAll(runners);
  if (others.length === 0 || !(first instanceof PubsubError)) throw first;
  throw new PubsubError(first.code, errors.map(({ message }) => message).join('\n'), { cause: first });
}

/** The same for those that share their workers; everything but a module in worker processes has a runner of its own. */
function sharingOf(runnable: Runnable): unknown {
  const { callback, settings } = runnable;
  const isShared = typeof callback === 'string' && settings.processOnBackground;
  return isShared ? JSON.stringify([settings.processWorkers, workerSettings(settings)]) : runnable;
}

const workerSettings = (settings: Settings) => ({
  timeoutMs: settings.timeoutSeconds * 1000,
  setupTimeoutMs: settings.setupTimeoutSeconds * 1000,
  memoryMb: settings.workerMemoryMb,
  maxMessages: settings.workerMaxMessages,
  ...spawnOptionsOf(settings),
});

const callOptions = ({ source, settings }: Runnable) => ({
  queues: rulesOf(source, settings),
  bodyKind: settings.body,
  maxBodyBytes: settings.maxMessageBytes,
  autoAck: settings.autoAck,
  traced: { queue: source.queue, parent: settings.traceParent },
});

/** Each is told of the workers that they share; what is counted there is told once. */
function observerOf(group: readonly Runnable[]): RunnerObserver | undefined {
  const [first, ...others] = group.flatMap(({ observer }) => observer ?? []);
  if (first === undefined || others.length === 0) return first;
  const all = [first, ...others];
  return {
    onWorker: (event) => all.map(({ onWorker }) => onWorker?.(event)).at(-1),
    onMetrics: first.onMetrics,
  };
}

async function startGroup<One extends Runnable>(
  group: readonly One[],
  { drain, abort }: Stop,
): Promise<[One, CallbackRunner][]> {
  const [first] = group as [One];
  const { callback, settings, log: own, isOnlyLoaded = false } = first;
  const observer = observerOf(group);
  const options = { ...callOptions(first), ...workerSettings(settings), abort, log: own, observer };
  if (typeof callback !== 'string') {
    if ('call' in callback) return [[first, await startInlineRunner(callback, options)]];
    const { startProgramRunner } = await import('./programs.js');
    return [[first, startProgramRunner({ ...options, drain, command: callback })]];
  }
  if (!settings.processOnBackground) {
    const { loadCallback } = await import('./callback.js');
    const loaded = await loadCallback(callback);
    return [[first, await startInlineRunner(isOnlyLoaded ? { call: loaded.call } : loaded, options)]];
  }
  const concurrency = group.reduce((sum, one) => sum + one.settings.concurrency, 0);
  const { WorkerPool } = await import('./workers/pool.js');
  const pool = new WorkerPool({
    ...workerSettings(settings),
    ...{ drain, abort, log: group.length === 1 ? own : log, logLevel: log.level },
    ...{ observer, tellsMetrics: observer?.onMetrics !== undefined, isOnlyLoaded },
    workers: isOnlyLoaded ? 1 : Math.min(settings.processWorkers, concurrency),
    callbacks: group.map((one) => ({
      ...callOptions(one),
      callback: one.callback as string,
      consumer: one.name,
    })),
  });
  await pool.start();
  return group.map((one, which) => [one, pool.runnerOf(which)]);
}
