/**
 * The watchdog against a subscription that is connected and dead. STOMP has no question whose answer is whether the
 * broker still knows a subscription, so one that has brought nothing for long is not examined but made anew. That is
 * safe while nothing is in flight, and a quiet queue's consumer pays one connection for it each time.
 *
 * RabbitMQ 3.10 tells of consumers over its management and its event exchange only, which are plugins. ActiveMQ 5.17
 * sends its advisories to STOMP clients through XStream, and breaks the connection where that is not installed; its
 * statistics are a plugin, and without it the question becomes a message in a new queue.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Session } from '../sending/connect.js';

export interface Activity {
  /** Messages received so far. */
  readonly received: () => number;
  /** Is anything in flight? */
  readonly isBusy: () => boolean;
}

/** Resolves when nothing was received and nothing in flight for one to two periods, or when the session has ended. */
export async function untilIdle(session: Session, periodMs: number, activity: Activity): Promise<void> {
  const ended = new AbortController();
  void session.closed.then(() => ended.abort());
  let seen = -1;
  while (!ended.signal.aborted && (activity.isBusy() || activity.received() !== seen)) {
    seen = activity.received();
    // With jitter, so that consumers started together do not connect together for ever.
    const waitMs = periodMs * (0.8 + 0.2 * Math.random());
    await delay(waitMs, undefined, { signal: ended.signal, ref: false }).catch(() => undefined);
  }
}
