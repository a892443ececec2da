/**
 * `pubsub <destination> <module#export>`: what comes first. Settings are read and worker processes started, which load while
 * this process loads what consumes.
 */
import { spawnOptionsOf } from '../consumer/workers/flags.js';
import { readAhead } from '../read-ahead.js';
import type { CallbackArgument } from './consuming.js';
import { start } from './start.js';

/** Resolves when the consumer has drained. Rejects with a PubsubError. */
export async function pubsub(
  destination: string,
  callback: CallbackArgument,
  flags: Record<string, unknown>,
): Promise<void> {
  const started = await start(flags);
  const { settings } = started;
  const isModule = typeof callback === 'string';
  const isInWorkers = isModule && settings.processOnBackground;
  if (isInWorkers) {
    readAhead(import.meta.url, '../consumer/workers/spawn.js');
    const { spawnAhead } = await import('../consumer/workers/spawn.js');
    spawnAhead(spawnOptionsOf(settings), Math.min(settings.processWorkers, settings.concurrency));
  }
  readAhead(import.meta.url, './consuming.js');
  if (isModule) readAhead(import.meta.url, `../consumer/${isInWorkers ? 'workers/pool' : 'callback'}.js`);
  const { consumeUntilStopped } = await import('./consuming.js');
  await consumeUntilStopped(destination, callback, flags, started);
}
