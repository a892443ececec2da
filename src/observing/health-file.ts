/**
 * Health for probes without HTTP, as two files: one that is there and young while the consumer is live, and one beside it
 * while it is ready. They are looked at by their age, so that a process that hangs or is gone is found out, too.
 */
import { lstatSync, rmSync } from 'node:fs';
import { open, rm, utimes } from 'node:fs/promises';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';

/** What the files tell. */
export interface Told {
  readonly live: () => { readonly status: 'ok' | 'failing' };
  readonly ready: () => { readonly status: 'ok' | 'failing' };
}

const TOUCH_MS = 2000;

/**
 * Removes what an earlier process has left, and keeps the files up to date until the function that it resolves with is
 * called, or the process ends. Rejects with `invalid-setting` when they cannot be written, or something else is there.
 */
export async function keepHealthFiles(path: string, health: Told, log: Logger): Promise<() => void> {
  const files = [
    { file: path, isDue: () => health.live().status === 'ok' },
    { file: `${path}.ready`, isDue: () => health.ready().status === 'ok' },
  ];
  for (const { file } of files) removeStale(file);
  let hasFailed = false;
  let isOver = false;
  const update = async () => {
    for (const { file, isDue } of files) {
      if (isOver) return;
      if (isDue()) await touch(file);
      else await rm(file, { force: true });
    }
  };
  await update().catch((error: unknown) => {
    throw new PubsubError('invalid-setting', `STOMP_HEALTH_FILE: ${reasonOf(error)}`, { cause: error });
  });
  const timer = setInterval(() => {
    update().then(
      () => (hasFailed = false),
      (error: unknown) => {
        if (!hasFailed) log.error({ err: error, path }, 'the health file cannot be written; trying again');
        hasFailed = true;
      },
    );
  }, TOUCH_MS).unref();
  const remove = () => {
    isOver = true;
    clearInterval(timer);
    for (const { file } of files) rmSync(file, { force: true });
  };
  process.once('exit', remove);
  return () => {
    process.removeListener('exit', remove);
    remove();
  };
}

/** An empty file is one of ours; anything else is not to be lost by a slip in a setting. */
function removeStale(file: string): void {
  const stats = lstatSync(file, { throwIfNoEntry: false });
  if (stats === undefined) return;
  if (!stats.isFile() || stats.size > 0)
    throw new PubsubError('invalid-setting', `STOMP_HEALTH_FILE: ${file} exists and is no health file`);
  rmSync(file);
}

async function touch(file: string): Promise<void> {
  const now = new Date();
  try {
    await utimes(file, now, now);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    // Never what a link there leads to.
    await (await open(file, 'wx')).close();
  }
}
