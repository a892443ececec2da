/** Messages in worker processes: what is known of each that is in flight, and why and by whose doing a process ended under it. */
import type { Gone, Refusal, RunResult } from '../payload.js';
import type { Job } from '../runner.js';
import type { Timed } from '../time-limit.js';

/** A message that is to be run, in this worker or the next. */
export interface Run {
  readonly job: Job;
  /** Which of the callbacks there it is for. */
  readonly which: number;
  readonly done: (result: RunResult | Gone) => void;
  /** Since when it runs in the latest worker: of the epoch, in ms. */
  startMs: number;
  /** A worker ended under it and it may have been its doing: it runs alone now. */
  isSuspect: boolean;
  /** How many workers have ended under it by the doing of code that belongs to no message in flight. */
  losses: number;
  /** Has a worker been killed under it, and not by us? */
  wasKilled: boolean;
}

/** Why a worker ended. */
export interface Loss {
  readonly reason: Refusal;
  readonly detail: string;
  readonly error?: unknown;
  /** Whose doing it is; none when that is no message in flight, undefined when it is not known. */
  readonly culprits: readonly Run[] | undefined;
  /** The doing of code that belongs to no message, such as the module's own timers. */
  readonly isAnonymous: boolean;
  /** By a signal that means "stop", or an exit after one. */
  readonly mayBeStop: boolean;
  /** By a SIGKILL that is not ours, for which nothing is known to be to blame. */
  readonly isKill: boolean;
  /** What was in flight, the oldest first. */
  readonly runs: readonly Run[];
  /** Those of them that had been sent to it. */
  readonly started: readonly Run[];
}

export interface InFlight extends Timed {
  readonly run: Run;
  isSent: boolean;
  /** Since when its signal is aborted, as the worker has said. */
  toldMs?: number;
  onTold?: () => void;
}

/** What is known before the runs are gathered. */
export type Cause = Pick<Loss, 'reason' | 'detail' | 'error' | 'culprits'> & Partial<Loss>;

/** The time that has passed does not count. */
export function restart(entry: InFlight): void {
  entry.startMs = performance.now();
  entry.isOverdue = false;
}

/** Of one run: with the growing waits between them they take minutes, and what a module needs may be back by then. */
const MAX_LOSSES = 10;

/** Those whose messages are to be refused; marks the others that may have done it, or suffer from it again. */
export function judge({ culprits, started, isKill }: Loss): readonly Run[] {
  if (culprits !== undefined && culprits.length > 0) return culprits;
  const [alone] = started.length === 1 ? started : [];
  // A kill may be somebody else's doing, once.
  const isCertain = culprits === undefined && alone !== undefined && (!isKill || alone.wasKilled);
  if (isCertain) return [alone];
  for (const run of started) {
    run.isSuspect = true;
    run.wasKilled ||= isKill;
    // Code of no message in flight that ends worker after worker under this one may have to do with it after all.
    if (culprits !== undefined) run.losses++;
  }
  return started.filter(({ losses }) => losses >= MAX_LOSSES);
}

/** What the log says of it. */
export function describeLoss(culprits: readonly Run[], { culprits: known, isAnonymous }: Loss): string {
  if (culprits.length > 0) return 'a callback ended its worker';
  if (isAnonymous) return 'code that belongs to no message ended its worker';
  return known === undefined
    ? 'a worker ended and it is not known whose doing that was'
    : 'a callback ended its worker after its message was done';
}

/** It ends when the code that runs now has ended. */
export function endSoon(run: Run, result: RunResult | Gone): void {
  queueMicrotask(() => run.done(result));
}
