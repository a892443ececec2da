/** `pubsub <destination> <module#export>`: hands each message to the callback, or to a program, until a signal. */
import { basename } from 'node:path';
import { parseSource } from '../brokers/destinations.js';
import { runConsumer, startRunner } from '../consume.js';
import { bridgeConsole, log } from '../log.js';
import { ineffective, type Settings } from '../settings.js';
import { surviveStrayErrors } from '../shutdown.js';
import { start } from './start.js';

/** `module#export`, or a program and its arguments. */
export type CallbackArgument = string | readonly [string, ...string[]];

/** Resolves when the consumer has drained. Rejects with a PubsubError. */
export async function pubsub(
  destination: string,
  callback: CallbackArgument,
  flags: Record<string, unknown>,
): Promise<void> {
  const { settings, listen } = await start(flags);
  for (const setting of ineffective(settings)) log.warn({ setting }, 'this setting changes nothing');
  const source = parseSource(destination, settings.queueName);
  const stop = listen();
  const runner = await startRunner(callback, settings, log, stop);
  if (runner === undefined) return;
  surviveStrayErrors(log);
  bridgeConsole();
  const embedded = flags.embedded === true ? await bringBroker(settings) : undefined;
  const callbackName = typeof callback === 'string' ? callback : basename(callback[0]);
  const summary = await runConsumer({ source, settings, runner, callbackName, log, ...stop });
  log.info(summary, 'stopped');
  await embedded?.close();
}

/** The embedded broker is loaded only for who asks for it. */
async function bringBroker(settings: Settings) {
  const { startBeside } = await import('./broker.js');
  return startBeside(settings);
}
