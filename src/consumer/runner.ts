/**
 * Where callbacks run, as the consumer sees it, and the runner on the event loop of the connection: fastest, and without
 * isolation. The one in worker processes is in workers/pool.ts.
 */
import type { MessageContext } from '../context.js';
import type { Logger } from '../log.js';
import { copyHeaders, type Headers } from '../stomp/headers.js';
import type { ConsumerObserver } from './events.js';
import type { Outgoing } from '../sending/heads.js';
import type { Session } from '../sending/connect.js';
import { askHealth, invoke, tracingOf } from './invoke.js';
import {
  SENT,
  type CallOptions,
  type Gone,
  type Invocation,
  type LoadedCallback,
  type RunResult,
  type Settle,
  type Settlement,
} from './payload.js';
import { Slots } from '../slots.js';
import { flushSpans } from '../tracing.js';
import { tameButStack } from './thrown.js';
import { untimed, watchLimit, type Timed } from './time-limit.js';

/** A message to be run, and how to settle it. */
export interface Job {
  readonly headers: Readonly<Headers>;
  /** The header lines as they came, those of a delay included. */
  readonly lines: string;
  readonly raw: Buffer;
  /** What its callback's log lines carry. */
  readonly context: MessageContext;
  /** At once, or when what is to be sent first is confirmed. */
  readonly ack: (outgoing?: readonly Outgoing[]) => Settlement | Promise<Settlement>;
  readonly nack: () => Settlement;
  /** Unsettled, on a session that can still settle it: worth running again when its worker is lost. */
  readonly isOpen: () => boolean;
  /** It begins, or ends, to wait for something that is not its callback's doing; ends, too, when its callback is started. */
  readonly setHeld: (isHeld: boolean) => void;
  readonly session: Pick<Session, 'closed'>;
}

export interface CallbackRunner {
  /** `done` is called once, after this has returned: when the callback has returned or is given up. */
  run(job: Job, done: (result: RunResult | Gone) => void): void;
  /** Loads the callback anew, where that can be done. Rejects with `callback-...`, and changes nothing, when it does not load. */
  readonly renew?: (() => Promise<void>) | undefined;
  /** What the `healthy()` beside the callback says, if it answers. Never rejects; absent where there can be none. */
  isHealthy?: (() => Promise<boolean> | boolean) | undefined;
  /** Resolves when all processes have told their metrics, or have had their time. Never rejects. */
  gatherMetrics?(): Promise<void>;
  /** After the last run: awaits teardown, unless `abort` is aborted first. Never rejects. */
  close(): Promise<void>;
}

/** What is told of the processes that callbacks run in. */
export interface RunnerObserver extends Pick<ConsumerObserver, 'onWorker'> {
  /** Given: a process tells, when it is asked and at its end, what its callback counts with prom-client, as JSON. */
  readonly onMetrics?: ((pid: number | undefined, metrics: string) => void) | undefined;
}

export interface RunnerOptions extends CallOptions {
  /** Limit for each message, in ms; 0 for none. */
  readonly timeoutMs: number;
  /** Aborted: the graceful wait is over. */
  readonly abort: AbortSignal;
  readonly log: Logger;
  readonly observer?: RunnerObserver | undefined;
}

/** How long a callback may run on after its signal was aborted. */
export const GRACE_MS = 1000;
/** How long teardown() may take when nothing else sets a deadline. */
export const TEARDOWN_MS = 30_000;
/** From here on to hold a body twice is worse than a payload of a shape of its own. */
const LARGE_BYTES = 1024 * 1024;

/** Awaits setup, then runs callbacks on this event loop. Rejects with `callback-setup-failed`. */
export async function startInlineRunner(
  { setup, teardown, ...loaded }: LoadedCallback,
  { timeoutMs, abort, log, ...options }: RunnerOptions,
): Promise<CallbackRunner> {
  await setup?.();
  const callable = { ...loaded, tracing: tracingOf(loaded) };
  const running = new Slots<Running>();
  const tellStop = () => running.entries().forEach(([, { invocation }]) => invocation?.abort('stop'));
  abort.addEventListener('abort', tellStop, { once: true });
  // Nothing can end it here, so it is no longer waited for.
  const detail = `${describeTimeout(timeoutMs)}; it runs on, and the next message is started beside it`;
  const giveUpLater = (entry: Running, id: number) => {
    setTimeout(() => {
      if (entry.isUntimed) giveUpLater(entry, id);
      else end(entry, id, { kind: 'refused', reason: 'timeout', detail });
    }, GRACE_MS).unref();
  };
  const end = (entry: Running, id: number, result: RunResult) => {
    running.remove(id);
    entry.finish(result);
  };
  const endLimit = watchLimit(running, timeoutMs, (entry, id) => {
    entry.invocation?.abort('timeout');
    giveUpLater(entry, id);
  });
  return {
    run: (job, tellEnd) => {
      job.setHeld(false);
      // Whatever the callback does to them, the message is still settled, and copied, as it came.
      const isKept = job.raw.length >= LARGE_BYTES;
      const raw = isKept ? job.raw : Buffer.from(job.raw);
      const message = { headers: copyHeaders(job.headers), raw, isKept };
      const entry = new Running(tellEnd);
      const settle: Settle = (verdict, outgoing) => {
        const settlement = verdict === 'ack' ? job.ack(outgoing) : job.nack();
        if (typeof settlement !== 'string') return untimed(entry, settlement);
        return settlement === 'sent' ? SENT : Promise.resolve(settlement);
      };
      const id = running.add(entry);
      const done = (result: RunResult) => end(entry, id, result);
      entry.invocation = invoke(callable, message, job.context, options, settle, done);
    },
    isHealthy: loaded.healthy && (() => askHealth(loaded)),
    close: async () => {
      endLimit();
      if (abort.aborted) return;
      let giveUp: () => void = () => undefined;
      const deadline = new Promise<void>((resolve) => (giveUp = resolve));
      abort.addEventListener('abort', giveUp, { once: true });
      // It holds the process: teardown may wait for something that does not.
      const timer = setTimeout(giveUp, TEARDOWN_MS);
      try {
        await Promise.race([teardown?.(), deadline]);
      } catch (error) {
        log.error({ err: error }, 'teardown() failed');
      } finally {
        clearTimeout(timer);
      }
      await flushSpans();
    },
  };
}

/** A class, for V8 gives objects of one shape, whose properties are set later, too. */
class Running implements Timed {
  startMs = performance.now();
  isOverdue = false;
  isUntimed = false;
  invocation: Invocation | undefined;
  #done: ((result: RunResult) => void) | undefined;

  constructor(done: (result: RunResult) => void) {
    this.#done = done;
  }

  /** Once: one that is given up runs on. */
  finish(result: RunResult): void {
    const told: RunResult =
      result.kind === 'threw' ? { kind: 'threw', error: tameButStack(result.error) } : result;
    this.#done?.(told);
    this.#done = undefined;
    this.invocation?.end(told);
  }
}

export function describeTimeout(timeoutMs: number): string {
  return `the callback still ran ${GRACE_MS / 1000} s after its time limit of ${timeoutMs / 1000} s`;
}
