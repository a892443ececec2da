/**
 * `--watch`: the callback's package is watched, and what changes there is loaded by new workers, while the connection and
 * what is in flight stay as they are. What does not load is told, and the old workers go on.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { watch } from 'chokidar';
import type { CallbackRunner } from '../consumer/runner.js';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';

/** An editor, or a compiler, writes several files for one change. */
const SETTLED_MS = 100;
const isCode = /\.(?:[cm]?[jt]s|[jt]sx|json)$/;

/** Resolves when changes are noticed. Rejects with `invalid-usage` for a runner that cannot load anew. */
export async function watchCallback(
  runner: CallbackRunner,
  file: string,
  log: Logger,
): Promise<{ close: () => Promise<void> }> {
  if (runner.renew === undefined)
    throw new PubsubError('invalid-usage', '--watch needs worker processes: leave out --inline');
  const folder = packageFolder(path.dirname(file));
  const watcher = watch(folder, {
    ignoreInitial: true,
    ignored: (name, stats) =>
      isForeign(path.relative(folder, name)) || (stats?.isFile() === true && !isCode.test(name)),
  });
  const ready = new Promise<void>((resolve) => watcher.once('ready', resolve));
  watcher.on('error', (error) => log.warn({ err: error }, 'a change of the callback may go unnoticed'));
  watcher.on('all', renewing(runner, folder, log));
  await ready;
  log.info({ folder }, 'watching the callback');
  return watcher;
}

/** The package's own folder, or the file's where there is no package. */
function packageFolder(folder: string, from = folder): string {
  if (existsSync(path.join(from, 'package.json'))) return from;
  const above = path.dirname(from);
  return above === from ? folder : packageFolder(folder, above);
}

const isForeign = (name: string): boolean => /(?:^|\/)(?:node_modules|\.[^/.][^/]*)(?:\/|$)/.test(name);

/** One renewal at a time; what changes meanwhile makes one more. */
function renewing(
  runner: CallbackRunner,
  folder: string,
  log: Logger,
): (event: string, name: string) => void {
  let timer: NodeJS.Timeout | undefined;
  let renewal = Promise.resolve();
  return (_event, name) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      renewal = renewal.then(() => renew(runner, path.relative(folder, name), log));
    }, SETTLED_MS).unref();
  };
}

async function renew(runner: CallbackRunner, changed: string, log: Logger): Promise<void> {
  try {
    await runner.renew?.();
    log.info({ changed }, 'the callback is loaded anew');
  } catch (error) {
    log.error(
      { changed, reason: reasonOf(error) },
      'the changed callback does not load; the one before goes on',
    );
  }
}
