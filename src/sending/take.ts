/**
 * Takes messages off a queue for an operator: until there were so many, until the queue has been quiet, until a signal,
 * or for ever. Each message goes to `work`; what that has dealt with is acked, what it leaves stays in the queue, in its
 * place, and is held un-acked until the end so that those behind it can be reached. Nothing is declared: a queue that
 * does not exist is an error on RabbitMQ (on ActiveMQ it is empty).
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { connectOnce, sessions } from './connect.js';
import type { Dialect } from '../brokers/dialect.js';
import type { Frame } from '../stomp/frames.js';
import type { Session } from './connect.js';
import { endError } from '../stomp/session-end.js';

export interface TakeOptions {
  /** Its name, without a prefix. */
  readonly queue: string;
  readonly settings: Settings;
  readonly log: Logger;
  /** Aborted: takes no more, finishes what is under way and ends. */
  readonly signal: AbortSignal;
  /** Messages on their way at once. */
  readonly window: number;
  /** So many, then end. */
  readonly count: number;
  /** End when no message has come for so long. */
  readonly idleMs: number;
  /** Stay when the queue is quiet and come back when the connection is lost. */
  readonly isEndless: boolean;
  /** Look at the queue without taking from it, where the broker can do that. */
  readonly isBrowsing?: boolean;
}

/** A promise: the message is acked when it resolves, and taking fails when it rejects. `end`: leave it and all others. */
export type Verdict = Promise<unknown> | 'leave' | 'end';

export type Work = (message: Frame, dialect: Dialect) => Verdict;

/** Kept up to date while taking, also for whoever catches its failure. */
export interface TakeCounts {
  /** Dealt with, and the ACK confirmed. */
  taken: number;
  left: number;
}

export type StopReason = 'count' | 'idle' | 'end' | 'signal';

/** Prefetch of each further subscription, which is made when what is held fills all before it. */
const HELD_EACH = 200;

/**
 * Resolves with why it ended, when everything taken is settled. `work` is called in the order of the queue. Rejects with
 * what `work` rejected with, and with `broker-refused`, `broker-unreachable` or `connection-lost`; an endless one comes
 * back after the latter.
 */
export async function take(options: TakeOptions, counts: TakeCounts, work: Work): Promise<StopReason> {
  const { settings, log, signal, isEndless } = options;
  if (!isEndless) {
    const session = await connectOnce(settings, log, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    return session === undefined ? 'signal' : takeFrom(session, options, counts, work);
  }
  for await (const session of sessions(settings, log, signal)) {
    try {
      return await takeFrom(session, options, counts, work);
    } catch (error) {
      if (!(error instanceof PubsubError) || !passing.has(error.code)) throw error;
      log.warn({ err: error, ...counts }, 'interrupted; going on');
    }
  }
  return 'signal';
}

const passing: ReadonlySet<string> = new Set(['connection-lost', 'broker-unreachable', 'not-confirmed']);

async function takeFrom(
  session: Session,
  options: TakeOptions,
  counts: TakeCounts,
  work: Work,
): Promise<StopReason> {
  const { queue, count, idleMs, isEndless, signal } = options;
  const { dialect } = session;
  const isBrowsing = options.isBrowsing === true && dialect.canBrowse;
  let [isTaking, inFlight, held, credit] = [true, 0, 0, 0];
  /** The un-acked messages of each, in the order in which they got their first. */
  const subscriptions = new Map<string, number>();
  let stop: (reason: StopReason) => void = () => undefined;
  let fail: (error: unknown) => void = () => undefined;
  let onSettled: () => void = () => undefined;
  const stopped = new Promise<StopReason>((resolve) => (stop = resolve));
  const failed = new Promise<never>((_resolve, reject) => (fail = reject));
  failed.catch(() => undefined);
  void session.closed.then((end) => fail(endError(end, `taking from ${queue}`)));

  const end = (reason: StopReason) => {
    isTaking = false;
    stop(reason);
  };
  const onAbort = () => end('signal');
  let idle: NodeJS.Timeout | undefined;
  const watchIdle = () => {
    if (isEndless) return;
    idle = setInterval(() => {
      if (inFlight === 0) end('idle');
    }, idleMs);
  };
  const subscribe = (wanted: number) => {
    const prefetch = isBrowsing ? wanted : Math.min(wanted, dialect.mostHeld);
    credit += prefetch;
    return session.subscribe(dialect.takeHeaders(queue, prefetch, isBrowsing), '', receive);
  };
  const countUnacked = ({ headers: { subscription = '' } }: Frame, change: number) => {
    subscriptions.set(subscription, (subscriptions.get(subscription) ?? 0) + change);
  };
  const settle = async (message: Frame, done: Promise<unknown>) => {
    try {
      await done;
      await session.request('ACK', { id: message.headers.ack ?? message.headers['message-id'] ?? '' });
      countUnacked(message, -1);
      counts.taken++;
    } catch (error) {
      isTaking = false;
      fail(error);
    }
    inFlight--;
    idle?.refresh();
    onSettled();
  };
  const receive = (message: Frame) => {
    countUnacked(message, 1);
    if (!isTaking) return;
    idle?.refresh();
    if (message.headers.browser === 'end') {
      end('idle');
      return;
    }
    const verdict = work(message, dialect);
    if (typeof verdict === 'object') {
      inFlight++;
      void settle(message, verdict);
      if (counts.taken + inFlight >= count) end('count');
      return;
    }
    counts.left++;
    held++;
    if (verdict === 'end') end('end');
    // A browser's ACK removes nothing, it makes room for the next (ActiveMQ 5.17).
    else if (isBrowsing) session.sendWithoutReceipt('ACK', { id: message.headers.ack ?? '' });
    // Not before: a subscription with room would get messages from behind those of the next one, and no broker could
    // put them back in order.
    else if (held === credit) subscribe(HELD_EACH).catch(fail);
  };

  signal.addEventListener('abort', onAbort);
  try {
    if (signal.aborted) end('signal');
    await Promise.race([subscribe(Math.min(options.window, count)), stopped, failed]);
    watchIdle();
    const reason = await Promise.race([stopped, failed]);
    while (inFlight > 0) {
      await Promise.race([new Promise<void>((resolve) => (onSettled = resolve)), failed]);
    }
    if (!dialect.returnsInOrder && subscriptions.size > 1) await giveBack(session, queue, subscriptions);
    await session.close();
    return reason;
  } catch (error) {
    // What is un-acked goes back.
    session.abandon('given up');
    throw error;
  } finally {
    isTaking = false;
    clearInterval(idle);
    signal.removeEventListener('abort', onAbort);
  }
}

/** How long the messages of the last subscription may take to come again. */
const GIVE_BACK_MS = 5000;

/**
 * Ends several subscriptions so that their un-acked messages lie in the queue in their order. ActiveMQ 5.17 puts what an
 * ended one gives back behind what others gave back before it, in front of the rest, and hands it at once to a subscription
 * that has room. Only the last has: it goes first, and what it held is taken once more and given back at the end.
 */
async function giveBack(
  session: Session,
  queue: string,
  subscriptions: ReadonlyMap<string, number>,
): Promise<void> {
  const ids = [...subscriptions.keys()];
  const last = ids.pop() ?? '';
  for (const id of [last, ...ids]) await session.request('UNSUBSCRIBE', { id });
  const count = subscriptions.get(last) ?? 0;
  if (count === 0) return;
  let again = 0;
  let id = '';
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(resolve, GIVE_BACK_MS);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    void session.closed.then(done);
    const receive = ({ headers }: Frame) => {
      id = headers.subscription ?? '';
      if (++again === count) done();
    };
    session.subscribe(session.dialect.takeHeaders(queue, count, false), '', receive).catch(reject);
  });
  await session.request('UNSUBSCRIBE', { id });
}
