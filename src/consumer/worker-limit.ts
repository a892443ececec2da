/**
 * The time limit of messages in a worker process, on code that may block it. A message that has outrun its limit has its
 * signal aborted. A worker that answers to that turns its event loop: what still runs after the grace is to blame. One
 * that is silent for as long is blocked: by the callback it is in the middle of calling, once that has had its own limit,
 * or, when a callback went on after an await, by nobody knows which.
 */
import type { Slots } from '../slots.js';
import { describeTimeout, GRACE_MS } from './runner.js';
import { watchLimit } from './time-limit.js';
import type { WorkerChannel } from './worker-channel.js';
import { toWorker } from './worker-protocol.js';
import { restart, type Cause, type InFlight, type Run } from './worker-runs.js';

export interface Limited {
  readonly inFlight: Slots<InFlight>;
  readonly channel: Pick<WorkerChannel, 'send' | 'observe'>;
  /** When the worker last showed that its event loop turns. */
  readonly heardMs: () => number;
  readonly isDying: () => boolean;
  readonly kill: (cause: Cause) => void;
}

/** Enforces the limit, 0 for none, until what is returned is called. */
export function limitRuns(worker: Limited, timeoutMs: number): () => void {
  const { inFlight, channel } = worker;
  const problem = describeTimeout(timeoutMs);
  const kill = (detail: string, culprits: readonly Run[] | undefined) =>
    worker.kill({ reason: 'timeout', detail, culprits });

  /** A consumer that was busy itself runs its timers before it reads what the worker has answered. */
  const judgeLater = (entry: InFlight, number: number, delayMs = GRACE_MS) => {
    setTimeout(() => setImmediate(() => void judge(entry, number)), delayMs).unref();
  };

  const judge = async (entry: InFlight, number: number): Promise<void> => {
    const isDecided = () => inFlight.get(number) === undefined || worker.isDying() || !entry.isOverdue;
    if (isDecided()) return;
    if (entry.isUntimed === true) {
      if (entry.toldMs !== undefined) entry.toldMs = performance.now();
      judgeLater(entry, number);
    } else if (entry.toldMs !== undefined) {
      const leftMs = entry.toldMs + GRACE_MS - performance.now();
      if (leftMs >= 1) judgeLater(entry, number, leftMs);
      else kill(problem, outlasted(inFlight, entry.toldMs));
    } else {
      const seen = await channel.observe();
      if (isDecided()) return;
      if (seen !== undefined && seen.lastStarted < number) {
        restart(entry);
        return;
      }
      const called = seen && inFlight.get(seen.calling)?.run;
      const isWithinLimit = called !== undefined && (seen?.forMs ?? 0) <= timeoutMs + GRACE_MS;
      if (isWithinLimit || performance.now() - worker.heardMs() < GRACE_MS) judgeLater(entry, number);
      else kill(`${problem} and blocked its worker`, called && [called]);
    }
  };

  return watchLimit(inFlight, timeoutMs, (entry, number) => {
    // Its clock runs once its worker has come to it.
    if (!entry.isSent) {
      restart(entry);
      return;
    }
    channel.send(toWorker.abort, number, 'timeout');
    judgeLater(entry, number);
  });
}

/** What still runs although it was told then, or before. */
function outlasted(inFlight: Slots<InFlight>, toldMs: number): Run[] {
  const latestMs = toldMs + GRACE_MS / 10;
  return inFlight
    .entries()
    .filter(([, { toldMs, isUntimed }]) => toldMs !== undefined && toldMs <= latestMs && isUntimed !== true)
    .map(([, { run }]) => run);
}
