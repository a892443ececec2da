/**
 * Consuming, for the library and for the command on top of it: from a callback to a runner that is set up, and from that to
 * a consumer that runs until it is told to stop.
 */
import { whenAborted } from './aborted.js';
import { nothingYet, type ConsumeSummary } from './consumer/account.js';
import { Consumer, type ConsumerOptions } from './consumer/consumer.js';
import type { ConsumerObserver } from './consumer/events.js';
import type { Callback, LoadedCallback } from './consumer/payload.js';
import { asSchema, type Schema } from './consumer/schema.js';
import { sourceOf } from './consumer/source.js';
import { startRunners } from './consumer/runners.js';
import { PubsubError } from './errors.js';
import { log, type Logger } from './log.js';
import { observe, type Observing } from './observe.js';
import type { MetricsRegistry } from './observing/metrics.js';
import { checkSignal, misused } from './sending/misuse.js';
import type { LibrarySettings } from './settings.js';
import { unknownOptions } from './settings/environment.js';
import { resolve } from './settings/resolve.js';

export interface ConsumeOptions<Body = unknown> extends LibrarySettings, ConsumerObserver {
  /** `/queue/x`, `x`, `/amq/queue/x`, `/topic/x` or `Consumer.<app>.VirtualTopic.<n>`. */
  readonly destination: string;
  /** A function, which runs on this event loop, or `module#export`, which runs in worker processes unless told otherwise. */
  readonly callback: Callback<Body> | string;
  /**
   * What bodies are checked with before the function is called, which gets what it makes of them: a schema of zod, valibot,
   * arktype or whatever has the interface of Standard Schema. A module exports its own.
   */
  readonly schema?: Schema<Body> | undefined;
  /**
   * Asked when 5 messages in a row threw: while it says no (false, or a throw), nothing is started, and what threw is run again
   * when it says yes. A module exports its own.
   */
  readonly healthy?: (() => unknown) | undefined;
  /** Aborted: `consume` drains, then resolves. */
  readonly signal?: AbortSignal;
  /** Default: the exported `log`. What a callback prints in a worker process goes to that one always. */
  readonly log?: Logger;
  /** A registry of prom-client, which the metrics of this consumer are added to. */
  readonly metrics?: MetricsRegistry;
}

/**
 * Consumes until the signal is aborted, or a limit reached, and what is in flight has been settled; resolves with what was
 * done. Settings that are not given come from the environment. Rejects with a PubsubError: `invalid-usage`,
 * `invalid-setting`, `invalid-destination`, `callback-...`, `broker-refused` at the first start, `failure-limit` when so many messages
 * in a row failed, `deadline-passed` when callbacks outlast `gracefulWaitSeconds`.
 */
export function consume(
  options: (ConsumeOptions<string> & { body: 'text' }) | (ConsumeOptions<Uint8Array> & { body: 'bytes' }),
): Promise<ConsumeSummary>;
export function consume<Body = unknown>(options: ConsumeOptions<Body>): Promise<ConsumeSummary>;
export async function consume<Body>(options: ConsumeOptions<Body>): Promise<ConsumeSummary> {
  const { destination, callback, schema, healthy, signal, log: logger = log, metrics, ...others } = options;
  const [observer, given] = splitObserver(others);
  if (typeof destination !== 'string')
    throw misused('destination', 'a string, like "/queue/orders"', destination);
  if (typeof callback !== 'function' && typeof callback !== 'string')
    throw misused('callback', 'a function or "module#export"', callback);
  checkSignal(signal);
  if (typeof callback === 'string' && (schema ?? healthy) !== undefined)
    throw new PubsubError(
      'invalid-usage',
      'consume: a module exports schema and healthy beside its callback',
    );
  const settings = resolve(given);
  for (const unknown of unknownOptions(given)) logger.warn(unknown, 'unknown option; is it misspelt?');
  const source = sourceOf(destination, settings);
  const stop = stopBy(signal, settings.gracefulWaitSeconds * 1000);
  let observing: Observing | undefined;
  try {
    const call = callable(callback, schema, healthy);
    observing = await observe([{ source, settings, callback: call, observer }], { metrics, log: logger });
    const { observer: told, numbers, onBegin } = observing.observed[0];
    const runnable = { source, callback: call, settings, log: logger, observer: told };
    const runner = (await startRunners([runnable], stop))?.get(runnable);
    if (runner === undefined) return nothingYet();
    const callbackName = typeof callback === 'string' ? callback : callback.name;
    const seen = { ...told, numbers, onBegin };
    return await runConsumer({ source, settings, runner, callbackName, log: logger, ...seen, ...stop });
  } finally {
    await observing?.close();
    stop.forget();
  }
}

function callable(
  callback: Callback<never> | string,
  schema: Schema | undefined,
  healthy: (() => unknown) | undefined,
): LoadedCallback | string {
  if (typeof callback === 'string') return callback;
  const call = callback as LoadedCallback['call'];
  return { call, healthy, ...(schema === undefined ? {} : { schema: asSchema(schema, 'the schema given') }) };
}

/** The functions that observe, and everything else. */
function splitObserver<Rest extends ConsumerObserver>({
  onSettled,
  onConnection,
  onReceived,
  onWorker,
  onPublished,
  onRoundTrip,
  ...rest
}: Rest): [ConsumerObserver, Omit<Rest, keyof ConsumerObserver>] {
  return [{ onSettled, onConnection, onReceived, onWorker, onPublished, onRoundTrip }, rest];
}

type Stoppable = Pick<ConsumerOptions, 'drain' | 'abort' | 'stop'>;

/** Drains when the signal is aborted or it is told to, gives up some time later; `forget` leaves nothing behind on the signal. */
export function stopBy(
  signal: AbortSignal | undefined,
  gracefulWaitMs: number,
): Stoppable & { forget: () => void } {
  const [drain, abort] = [new AbortController(), new AbortController()];
  let timer: NodeJS.Timeout | undefined;
  const stop = () => {
    if (drain.signal.aborted) return;
    timer = setTimeout(() => abort.abort(), gracefulWaitMs);
    drain.abort();
  };
  const forgetSignal = signal && whenAborted(signal, stop);
  const forget = () => {
    clearTimeout(timer);
    forgetSignal?.();
  };
  return { drain: drain.signal, abort: abort.signal, stop, forget };
}

/** Consumes until drained, then closes the runner. Resolves and rejects as Consumer.run does. */
export async function runConsumer(options: ConsumerOptions): Promise<ConsumeSummary> {
  try {
    return await new Consumer(options).run();
  } finally {
    await options.runner.close();
  }
}
