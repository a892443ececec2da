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
  const runner =
    typeof callback !== 'string' ? 'programs' : settings.processOnBackground ? 'workers/pool' : 'callback';
  if (runner === 'workers/pool') {
    readAhead(import.meta.url, '../consumer/workers/spawn.js');
    const { spawnAhead } = await import('../consumer/workers/spawn.js');
    spawnAhead(spawnOptionsOf(settings), Math.min(settings.processWorkers, settings.concurrency));
  }
  // What runs the callback is loaded for that alone (consumer/runners.ts).
  readAhead(import.meta.url, './consuming.js', `../consumer/${runner}.js`);
  const { consumeUntilStopped } = await import('./consuming.js');
  await consumeUntilStopped(destination, callback, flags, started);
}
