/**
 * `pubsub <destination> <module#export>`: what comes first. Settings are read and worker processes started, which load while
 * this process loads what consumes.
 */
import { spawnOptionsOf } from '../consumer/workers/flags.js';
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
  if (typeof callback === 'string' && settings.processOnBackground) {
    const { spawnAhead } = await import('../consumer/workers/spawn.js');
    spawnAhead(spawnOptionsOf(settings), Math.min(settings.processWorkers, settings.concurrency));
  }
  const { consumeUntilStopped } = await import('./consuming.js');
  await consumeUntilStopped(destination, callback, flags, started);
}
