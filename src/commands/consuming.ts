/**
 * `pubsub <destination> <module#export>`: hands each message to the callback, or to a program, until a signal. The connection
 * is made while the callback is loaded, and nothing is subscribed before it is.
 */
import { basename } from 'node:path';
import { runConsumer } from '../consume.js';
import { observe } from '../observe.js';
import type { CallbackRunner } from '../consumer/runner.js';
import { startRunners } from '../consumer/runners.js';
import { sourceOf } from '../consumer/source.js';
import { PubsubError } from '../errors.js';
import { bridgeConsole, log, prepareLog } from '../log.js';
import type { Settings } from '../settings.js';
import { ineffective } from '../settings/contradictions.js';
import { admitCallbackVariables } from '../settings/dotenv.js';
import { connectAhead } from '../sending/connect.js';
import { surviveStrayErrors } from '../shutdown.js';
import { advising } from './first-broker.js';
import type { Start } from './start.js';

/** `module#export`, or a program and its arguments. */
export type CallbackArgument = string | readonly [string, ...string[]];

/** Resolves when the consumer has drained. Rejects with a PubsubError. */
export async function consumeUntilStopped(
  destination: string,
  callback: CallbackArgument,
  flags: Record<string, unknown>,
  { settings, listen }: Start,
): Promise<void> {
  for (const setting of ineffective(settings)) log.warn({ setting }, 'this setting changes nothing');
  const source = sourceOf(destination, settings);
  const stop = listen();
  if (!settings.processOnBackground) admitCallbackVariables();
  const observing = await observe([{ source, settings, callback }], { log });
  const { observer, numbers, onBegin } = observing.observed[0];
  const runnable = { source, callback, settings, log, observer };
  // Of the embedded broker there is nothing yet.
  const ahead = flags.embedded === true ? undefined : connectAhead(settings, log, stop.drain);
  try {
    const starting = startRunners([runnable], stop);
    prepareLog();
    const runner = (await starting)?.get(runnable);
    if (runner === undefined) return;
    surviveStrayErrors(log);
    bridgeConsole();
    const watching = flags.watch === true ? await watch(runner, callback) : undefined;
    const embedded = flags.embedded === true ? await bringBroker(settings) : undefined;
    const callbackName = typeof callback === 'string' ? callback : basename(callback[0]);
    const seen = { ...advising(observer), numbers, onBegin };
    const consumer = { source, settings, runner, callbackName, log, ahead, ...seen, ...stop };
    const summary = await runConsumer(consumer);
    log.info({ ...summary, why: stop.why() }, 'stopped');
    await watching?.close();
    await observing.close();
    await embedded?.close();
  } finally {
    await ahead?.drop();
  }
}

/** The watcher is loaded only for who asks for it. */
async function watch(runner: CallbackRunner, callback: CallbackArgument) {
  if (typeof callback !== 'string')
    throw new PubsubError('invalid-usage', '--watch: a program is started anew for each message anyway');
  const { watchCallbacks } = await import('./watch.js');
  const { locateCallback } = await import('../consumer/callback.js');
  return watchCallbacks([{ runner, file: await locateCallback(callback) }], log);
}

/** The embedded broker is loaded only for who asks for it. */
export async function bringBroker(settings: Settings) {
  const { startBeside } = await import('./broker.js');
  return startBeside(settings);
}
