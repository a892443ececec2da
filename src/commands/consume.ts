/** Consuming: the library's `consume` and, on top of it, what `pubsub <destination> <module#export>` does. */
import { once } from 'node:events';
import { loadCallback } from '../consumer/callback.js';
import { Consumer, type ConsumeSummary } from '../consumer/consumer.js';
import { createInlineRunner, type Callback, type Payload } from '../consumer/runner.js';
import { bridgeConsole, configureLog, log, type Logger } from '../log.js';
import { loadDotenv, resolve, unknownVariables, type Settings } from '../settings.js';
import { listenForStop, surviveStrayErrors } from '../shutdown.js';
import { parseSource } from '../stomp/destinations.js';
import { startBeside } from './broker.js';

export interface ConsumeOptions<Body = unknown> extends Partial<Settings> {
  /** `/queue/x`, `x`, `/topic/x` or `Consumer.<app>.VirtualTopic.<n>`. */
  readonly destination: string;
  readonly callback: Callback<Body>;
  /** Aborted: drain, then resolve. */
  readonly signal?: AbortSignal;
  readonly log?: Logger;
}

/**
 * Consumes in this process until the signal is aborted and what is in flight has been settled; resolves with what was
 * done. Settings that are not given come from the environment. Rejects with a PubsubError: `invalid-setting`,
 * `invalid-destination`, `broker-refused` at the first start, `deadline-passed` when callbacks outlast
 * `gracefulWaitSeconds`.
 */
export async function consume<Body = unknown>(options: ConsumeOptions<Body>): Promise<ConsumeSummary> {
  const { destination, callback, signal, log: logger = log, ...given } = options;
  const settings = resolve(given);
  const drain = signal ?? new AbortController().signal;
  const abort = new AbortController();
  const startDeadline = () => {
    setTimeout(() => abort.abort(), settings.gracefulWaitSeconds * 1000).unref();
  };
  if (drain.aborted) startDeadline();
  else drain.addEventListener('abort', startDeadline, { once: true });
  const consumer = new Consumer({
    source: parseSource(destination, settings.queueName),
    settings,
    runner: createInlineRunner(callback as (payload: Payload) => unknown),
    log: logger,
    drain,
    abort: abort.signal,
  });
  return consumer.run();
}

/** The command: settings, log, signals, callback, consumer. Resolves when drained; rejects with a PubsubError. */
export async function pubsub(
  destination: string,
  callbackSpec: string,
  flags: Record<string, unknown>,
): Promise<void> {
  loadDotenv();
  const settings = resolve(flags);
  await configureLog(settings);
  const source = parseSource(destination, settings.queueName);
  const { drain, abort } = listenForStop(settings.gracefulWaitSeconds * 1000, log);
  const callback = await Promise.race([loadCallback(callbackSpec), once(drain, 'abort')]);
  // Told to stop while the module was still loading: nothing has been sent.
  if (typeof callback !== 'function') return;
  surviveStrayErrors(log);
  bridgeConsole();
  for (const variable of unknownVariables()) log.warn({ variable }, 'unknown variable; is it misspelt?');
  if (!settings.sslVerify) log.warn({}, 'the certificate of the broker is not verified');
  warnAboutTopic(source, settings);
  const embedded = flags.embedded === true ? await startBeside(settings) : undefined;
  const summary = await new Consumer({
    source,
    settings,
    runner: createInlineRunner(callback),
    log,
    drain,
    abort,
  }).run();
  log.info(summary, 'stopped');
  await embedded?.close();
}

function warnAboutTopic(source: ReturnType<typeof parseSource>, { queueName }: Settings): void {
  if (source.kind !== 'topic' || queueName !== undefined) return;
  log.warn(
    { destination: source.destination, queue: source.queue },
    source.topic.startsWith('VirtualTopic.')
      ? `all services on this topic share one queue; consume Consumer.<app>.${source.topic} to have your own copy`
      : 'on RabbitMQ all services on this topic share one queue; --queue-name gives this one its own',
  );
}
