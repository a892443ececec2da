/**
 * `--watch`: the packages of the callbacks are watched, and what changes there is loaded by new workers, while the connections
 * and what is in flight stay as they are. What does not load is told, and the old workers go on.
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

/** What runs a module, and its file. */
export interface Watched {
  readonly runner: CallbackRunner;
  readonly file: string;
}

/** Resolves when changes are noticed. Rejects with `invalid-usage` when one of them cannot load anew. */
export async function watchCallbacks(
  all: readonly Watched[],
  log: Logger,
): Promise<{ close: () => Promise<void> }> {
  const renewals = new Set<() => Promise<void>>();
  for (const { runner } of all) {
    if (runner.renew === undefined)
      throw new PubsubError('invalid-usage', '--watch needs worker processes: leave out --inline');
    renewals.add(runner.renew);
  }
  const folders = [...new Set(all.map(({ file }) => packageFolder(path.dirname(file))))];
  const within = (name: string) => {
    const folder = folders.find((one) => name === one || name.startsWith(one + path.sep));
    return path.relative(folder ?? '', name);
  };
  const watcher = watch(folders, {
    ignoreInitial: true,
    ignored: (name, stats) => isForeign(within(name)) || (stats?.isFile() === true && !isCode.test(name)),
  });
  const ready = new Promise<void>((resolve) => watcher.once('ready', resolve));
  watcher.on('error', (error) => log.warn({ err: error }, 'a change of the callback may go unnoticed'));
  watcher.on('all', renewing(renewals, within, log));
  await ready;
  for (const folder of folders) log.info({ folder }, 'watching the callback');
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
  renewals: ReadonlySet<() => Promise<void>>,
  within: (name: string) => string,
  log: Logger,
): (event: string, name: string) => void {
  let timer: NodeJS.Timeout | undefined;
  let renewal = Promise.resolve();
  return (_event, name) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      renewal = renewal.then(async () => {
        for (const renewOne of renewals) await renew(renewOne, within(name), log);
      });
    }, SETTLED_MS).unref();
  };
}

async function renew(renewOne: () => Promise<void>, changed: string, log: Logger): Promise<void> {
  try {
    await renewOne();
    log.info({ changed }, 'the callback is loaded anew');
  } catch (error) {
    log.error(
      { changed, reason: reasonOf(error) },
      'the changed callback does not load; the one before goes on',
    );
  }
}
