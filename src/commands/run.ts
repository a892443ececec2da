/** `pubsub run [file]`: all the consumers that a file defines, in one process, until a signal or the failure of one. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { runConsumer, stopBy } from '../consume.js';
import { observe, type Observed } from '../observe.js';
import { loadModule, locateCallback } from '../consumer/callback.js';
import type { CallbackRunner } from '../consumer/runner.js';
import { startRunners, type Stop } from '../consumer/runners.js';
import { resolveConsumers, type DefinedConsumer } from '../consumers.js';
import { PubsubError, reasonOf } from '../errors.js';
import { bridgeConsole, log, type Logger } from '../log.js';
import { admitCallbackVariables } from '../settings/dotenv.js';
import { surviveStrayErrors } from '../shutdown.js';
import { bringBroker } from './consuming.js';
import { advising } from './first-broker.js';
import { start } from './start.js';

const defaultFiles = ['ts', 'mts', 'mjs', 'js', 'json'].map((extension) => `pubsub.config.${extension}`);

/**
 * Resolves when all consumers have drained. Rejects with a PubsubError: before anything is sent for all that is wrong, later
 * for the first that failed, when the others have drained.
 */
export async function run(file: string | undefined, flags: Record<string, unknown>): Promise<void> {
  const { settings, listen } = await start(flags);
  const { only, embedded, watch: isWatching, ...given } = flags;
  const found = locateConfig(file);
  const names = typeof only === 'string' ? only.split(',') : undefined;
  const consumers = resolveConsumers(await loadConfig(found), { only: names, given });
  if (consumers.some((one) => !one.settings.processOnBackground)) admitCallbackVariables();
  const defined = consumers.map((one) => ({
    ...one,
    // What dead letters call it is what the file says.
    callbackName: typeof one.callback === 'string' ? one.callback : path.basename(one.callback[0]),
    callback: relativeTo(found, one.callback),
    log: log.child({ consumer: one.name }),
  }));
  const observing = await observe(defined, { log });
  const runnables = defined.flatMap((one, index) => {
    const seen = observing.observed[index];
    return seen === undefined ? [] : [{ ...one, seen, observer: seen.observer }];
  });
  const gracefulWaitSeconds = Math.max(...consumers.map((one) => one.settings.gracefulWaitSeconds));
  const failed = new AbortController();
  const drain = AbortSignal.any([listen(gracefulWaitSeconds).drain, failed.signal]);
  const stop = stopBy(drain, gracefulWaitSeconds * 1000);
  const runners = await startRunners(runnables, stop);
  if (runners === undefined) return;
  surviveStrayErrors(log);
  bridgeConsole();
  const broker = embedded === true ? await bringBroker(settings) : undefined;
  const watching = isWatching === true ? await watch(runners) : undefined;
  const ends = Array.from(runners, ([one, runner]) => runOne(one, runner, stop));
  for (const end of ends) end.catch(() => failed.abort());
  const results = await Promise.allSettled(ends);
  stop.forget();
  await watching?.close();
  await observing.close();
  await broker?.close();
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

/** A consumer that can be started, with what is its own in this process. */
interface Named extends DefinedConsumer {
  readonly callbackName: string;
  readonly log: Logger;
  readonly seen: Observed;
}

/** A limit that one reaches is its own; a stop is for all of them. */
async function runOne(one: Named, runner: CallbackRunner, { drain }: Stop): Promise<void> {
  const stop = stopBy(drain, one.settings.gracefulWaitSeconds * 1000);
  try {
    const { observer, numbers, onBegin } = one.seen;
    const seen = { ...advising(observer), numbers, onBegin };
    const summary = await runConsumer({ ...one, ...seen, ...stop, runner });
    one.log.info(summary, 'stopped');
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    throw new PubsubError(error.code, `${one.name}: ${error.message}`, { cause: error });
  } finally {
    one.seen.end();
    stop.forget();
  }
}

/** Modules are loaded anew; a program is started anew for each message anyway. */
async function watch(runners: ReadonlyMap<Named, CallbackRunner>) {
  const modules = Array.from(runners).flatMap(([{ callback }, runner]) =>
    typeof callback === 'string' ? [locateCallback(callback).then((file) => ({ runner, file }))] : [],
  );
  if (modules.length === 0)
    throw new PubsubError('invalid-usage', '--watch: programs are started anew for each message anyway');
  const { watchCallbacks } = await import('./watch.js');
  return watchCallbacks(await Promise.all(modules), log);
}

function locateConfig(file: string | undefined): string {
  const found = file === undefined ? defaultFiles.find((name) => existsSync(name)) : path.resolve(file);
  if (found !== undefined && existsSync(found)) return path.resolve(found);
  const problem =
    file === undefined
      ? `none of ${defaultFiles.join(', ')} is in ${process.cwd()}`
      : `there is no file ${file}`;
  throw new PubsubError('invalid-usage', `${problem}; it exports defineConsumers({ consumers: { ... } })`);
}

async function loadConfig(file: string): Promise<unknown> {
  try {
    if (path.extname(file) === '.json') return JSON.parse(readFileSync(file, 'utf8')) as unknown;
    const exported = (await loadModule(file)) as { default?: unknown };
    return exported.default;
  } catch (error) {
    if (error instanceof PubsubError)
      throw new PubsubError('invalid-setting', error.message, { cause: error });
    throw new PubsubError('invalid-setting', `${file} cannot be read: ${reasonOf(error)}`, { cause: error });
  }
}

/** Paths in the file are relative to it; names of packages, and of programs in PATH, are what they are. */
function relativeTo(file: string, callback: DefinedConsumer['callback']): DefinedConsumer['callback'] {
  const absolute = (text: string) =>
    /^\.{1,2}\//.test(text) ? path.resolve(path.dirname(file), text) : text;
  if (typeof callback === 'string') return absolute(callback);
  const [program, ...args] = callback;
  return [absolute(program), ...args];
}
