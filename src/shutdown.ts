/**
 * Signals, as two AbortSignals. States: running -> draining (first SIGTERM, SIGINT, SIGQUIT or
 * SIGHUP: `drain`) -> given up (the
 * graceful wait is over: `abort`). A second signal ends the process at once with 128 + its number.
 */
import { closeSync } from 'node:fs';
import { constants } from 'node:os';
import { isatty } from 'node:tty';
import type { Logger } from './log.js';
import { isBehindNpm } from './settings/environment.js';

const stopSignals = ['SIGTERM', 'SIGINT', 'SIGQUIT', 'SIGHUP'] as const;
/** Ctrl-C reaches us from the terminal and again from npm or npx in front of us: that is one request, not two. */
const ECHO_MS = 500;
/** How often a process that npm started looks whether its parent is still there. */
const PARENT_CHECK_MS = 1000;

export interface Shutdown {
  readonly drain: AbortSignal;
  readonly abort: AbortSignal;
  /** Drains as a first signal does, for another reason; a signal that follows ends at once. */
  readonly stop: (why: string) => void;
  /** Why it drains: the name of the signal or what was given to `stop`. */
  readonly why: () => string | undefined;
}

/** Takes over the process's stop signals, for good. */
export function listenForStop(gracefulWaitMs: number, log: Logger): Shutdown {
  const drain = new AbortController();
  const abort = new AbortController();
  let sinceMs = 0;
  let why: string | undefined;
  const begin = (reason: string, fields: object) => {
    if (drain.signal.aborted) return;
    why = reason;
    sinceMs = performance.now();
    log.info({ ...fields, gracefulWaitMs }, 'stopping; a second signal ends at once');
    drain.abort();
    // It holds the process: what is waited for may not.
    setTimeout(() => abort.abort(), gracefulWaitMs);
  };
  const stop = (signal: (typeof stopSignals)[number]) => {
    if (!drain.signal.aborted) begin(signal, { signal });
    else if (performance.now() - sinceMs > ECHO_MS) {
      log.warn({ signal }, 'second signal: leaving at once, with work unfinished');
      process.exit(128 + constants.signals[signal]);
    }
  };
  for (const signal of stopSignals) process.on(signal, stop);
  leaveLostTerminals();
  if (isBehindNpm()) {
    onOrphaned(() => {
      if (!drain.signal.aborted) stop('SIGTERM');
    });
  }
  return {
    drain: drain.signal,
    abort: abort.signal,
    stop: (reason) => begin(reason, { why: reason }),
    why: () => why,
  };
}

/** Node 20.20 crashes at its end when a terminal among its descriptors has gone, as with a pane that is killed; 22.23 does not. */
function leaveLostTerminals(): void {
  const terminals = [0, 1, 2].filter((fd) => isatty(fd));
  process.once('exit', () => {
    for (const fd of terminals) if (!isatty(fd)) closeSync(fd);
  });
}

/** npx and npm 11 hand a SIGTERM to the shell between us and them, which ends by it and tells us nothing. */
function onOrphaned(listener: () => void): void {
  const parent = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(timer);
    listener();
  }, PARENT_CHECK_MS).unref();
}

/**
 * Keeps the process alive when an error escapes a callback: one thrown after it returned, or a promise nobody awaits.
 * A reader that closed stdout is such an error too.
 */
export function surviveStrayErrors(log: Logger): void {
  process.on('uncaughtException', (error) => {
    log.error({ err: error }, 'an error escaped a callback; going on');
  });
  process.on('unhandledRejection', (reason) => {
    log.error({ err: reason }, 'a promise was rejected and nobody awaited it; going on');
  });
}
