/**
 * Takes messages off a queue for an operator: until there were so many, until the queue has been quiet, until a signal,
 * or for ever. Each message goes to `work`; what that has dealt with is acked, what it leaves stays in the queue, in its
 * place, and is held un-acked until the end so that those behind it can be reached. Nothing is declared: a queue that
 * does not exist is an error on RabbitMQ (on ActiveMQ it is empty). Hides that on RabbitMQ a look is a delivery, and that
 * its quorum queues drop what was delivered too often: before that the run ends with an error; and that the connection is not
 * read while too much is under way, for as long as that takes: no heart-beats are promised on it, because RabbitMQ (3.10.8)
 * hears none while it has something to write, and ends the connection.
 */
import type { DeliveryLimit } from '../brokers/delivery-limit.js';
import type { Dialect } from '../brokers/dialect.js';
import { checkSubscriptionHeaders } from '../brokers/headers.js';
import { existingQueue } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import type { Frame, Headers } from '../stomp/frames.js';
import { endError } from '../stomp/session-end.js';
import { Acks, type Ackable } from './acks.js';
import { connectOnce, sessions, type Session } from './connect.js';
import { openForwarder, type Forwarder } from './forwarder.js';
import { giveBack } from './give-back.js';

export interface TakeOptions {
  /** Its name, without a prefix. */
  readonly queue: string;
  readonly settings: Settings;
  readonly log: Logger;
  /** Aborted: takes no more, finishes what is under way and ends. */
  readonly signal: AbortSignal;
  /** Messages on their way at once, and on each further subscription. */
  readonly window: number;
  /** Bytes of their bodies: with so many no more is read, so that it may be a message more. */
  readonly mostBytes: number;
  /** So many, then end. */
  readonly count: number;
  /** End when no message has come for so long, and the broker, asked then, has answered and brought none either. */
  readonly idleMs: number;
  /** Stay when the queue is quiet and come back when the connection is lost. */
  readonly isEndless: boolean;
  /** Look at the queue without taking from it, where the broker can do that. */
  readonly isBrowsing?: boolean;
  /** Headers of the subscription that the user gives. */
  readonly subscribeHeaders?: Readonly<Headers>;
  /** Deliveries after which the queue drops a message. Default: the product's own limit. */
  readonly deliveryLimit?: number | undefined;
}

/**
 * A promise: the message is acked when it resolves, unless that is with `leave`, and taking fails when it rejects. `end`:
 * leave it and all others.
 */
export type Decision = Promise<unknown> | 'leave' | 'end';

/** The signal is aborted when what has not begun shall not begin: told to stop, or nothing can be acked any more. */
export type Work = (message: Frame, dialect: Dialect, signal: AbortSignal) => Decision;

/** Kept up to date while taking, also for whoever catches its failure. */
export interface TakeCounts {
  /** Dealt with, and the ACK confirmed. */
  taken: number;
  left: number;
  /** Given to `work` and not taken, or not known to be: `work` may have been done, or done in part. */
  unsure: number;
  /** Of these the ACK was sent: they may be gone from the queue. */
  acking: number;
}

export const noneTaken = (): TakeCounts => ({ taken: 0, left: 0, unsure: 0, acking: 0 });

export type StopReason = 'count' | 'idle' | 'end' | 'signal';

/**
 * Resolves with why it ended, when everything taken is settled. `work` is called in the order of the queue. Rejects with
 * what `work` rejected with, when all else under way is settled, and with `broker-refused`, `broker-unreachable`,
 * `connection-lost` or `invalid-destination`; an endless one comes back after what passes.
 */
export async function take(options: TakeOptions, counts: TakeCounts, work: Work): Promise<StopReason> {
  const { log, signal, isEndless } = options;
  const isPausing = options.mostBytes < Infinity;
  const settings = isPausing ? { ...options.settings, outgoingHeartbeatMs: 0 } : options.settings;
  if (!isEndless) {
    const session = await connectOnce(settings, log, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    return session === undefined ? 'signal' : new Taking(session, options, counts, work).run();
  }
  for await (const session of sessions(settings, log, signal)) {
    try {
      return await new Taking(session, options, counts, work).run();
    } catch (error) {
      if (!(error instanceof PubsubError) || !passing.has(error.code)) throw error;
      log.warn({ err: error, ...counts }, 'interrupted; going on');
    }
  }
  return 'signal';
}

const passing: ReadonlySet<string> = new Set(['connection-lost', 'broker-unreachable', 'not-confirmed']);

/** From this part of the limit on no look is taken any more, and from that on the message begins anew. */
const WORN_AT = 1 / 2;
const RENEWED_AT = 3 / 4;

/**
 * What is taken over one connection. States: taking -> ending (there is a reason or a failure: nothing more is taken, what
 * is pending is settled) -> over.
 */
class Taking {
  readonly #session: Session;
  readonly #options: TakeOptions;
  readonly #counts: TakeCounts;
  readonly #work: Work;
  readonly #isBrowsing: boolean;
  readonly #deliveryLimit: number;
  /** The un-acked messages of each subscription, in the order in which they got their first. */
  readonly #unacked = new Map<string, number>();
  #isTaking = true;
  /** How many messages the subscriptions so far may hold together, and how many of those are left ones. */
  #credit = 0;
  #held = 0;
  /** Messages that `work` or a renewal deals with now, or whose ACK is not confirmed. */
  #pending = 0;
  /** Bytes of the bodies that `work` or a renewal has. */
  #bytes = 0;
  readonly #acks: Acks;
  #renewer: Forwarder | undefined;
  /** Messages that came. */
  #received = 0;
  #failure: unknown;
  readonly #stop = new AbortController();
  #idle: NodeJS.Timeout | undefined;
  readonly #ending: Promise<StopReason | 'failure'>;
  #beginEnding: (reason: StopReason | 'failure') => void = () => undefined;
  #onSettled: () => void = () => undefined;

  constructor(session: Session, options: TakeOptions, counts: TakeCounts, work: Work) {
    this.#session = session;
    this.#options = options;
    this.#counts = counts;
    this.#work = work;
    const { canBrowse, deliveryLimit } = session.dialect;
    this.#isBrowsing = options.isBrowsing === true && canBrowse;
    this.#deliveryLimit = options.deliveryLimit ?? deliveryLimit?.standard ?? Infinity;
    this.#acks = new Acks(
      session,
      (group) => this.#acked(group),
      (error, group) => {
        this.#fail(error);
        this.#settled(group.length);
      },
    );
    this.#ending = new Promise((resolve) => (this.#beginEnding = resolve));
    void session.closed.then((end) => this.#fail(endError(end, `taking from ${options.queue}`)));
  }

  /** To be called once; as take(). The session is closed then. */
  async run(): Promise<StopReason> {
    const { queue, signal, window, count } = this.#options;
    const onAbort = () => this.#end('signal');
    signal.addEventListener('abort', onAbort);
    try {
      this.#checkName();
      checkSubscriptionHeaders(this.#options.subscribeHeaders ?? {}, this.#session.dialect);
      if (signal.aborted) this.#end('signal');
      await Promise.race([this.#subscribe(Math.min(window, count)), this.#ending]);
      this.#watchIdle();
      const reason = await this.#ending;
      while (this.#pending > 0) await new Promise<void>((resolve) => (this.#onSettled = resolve));
      const isOutOfOrder = !this.#session.dialect.returnsInOrder && this.#unacked.size > 1;
      if (isOutOfOrder && this.#session.isOpen) await giveBack(this.#session, queue, this.#unacked);
      if (reason === 'failure' || this.#failure !== undefined) throw this.#failure;
      await this.#session.close();
      return reason;
    } catch (error) {
      // What is un-acked goes back.
      this.#session.abandon('given up');
      throw this.#failure ?? error;
    } finally {
      this.#isTaking = false;
      clearInterval(this.#idle);
      signal.removeEventListener('abort', onAbort);
      await this.#renewer?.close();
    }
  }

  #checkName(): void {
    const { queue } = this.#options;
    if (this.#session.dialect.isOneQueue(queue)) return;
    const message = `${JSON.stringify(queue)} means more than one queue on this broker: name one`;
    throw new PubsubError('invalid-destination', message);
  }

  #end(reason: StopReason): void {
    this.#isTaking = false;
    if (reason === 'signal') this.#stop.abort();
    this.#beginEnding(reason);
  }

  /** The first failure is what it ends with. */
  #fail(error: unknown): void {
    this.#isTaking = false;
    this.#failure ??= error;
    this.#stop.abort();
    this.#beginEnding('failure');
  }

  #watchIdle(): void {
    if (this.#options.isEndless) return;
    let isAsking = false;
    const look = async () => {
      if (isAsking || this.#pending > 0) return;
      isAsking = true;
      const received = this.#received;
      // A broker that stood still, or this process, is not yet a queue without messages.
      const isAnswered = await this.#session.ask().then(
        () => true,
        () => false,
      );
      isAsking = false;
      if (isAnswered && this.#pending === 0 && this.#received === received) this.#end('idle');
    };
    this.#idle = setInterval(() => void look(), this.#options.idleMs);
  }

  #subscribe(wanted: number): Promise<void> {
    const { dialect } = this.#session;
    const prefetch = this.#isBrowsing ? wanted : Math.min(wanted, dialect.mostHeld);
    this.#credit += prefetch;
    const headers = {
      ...this.#options.subscribeHeaders,
      ...dialect.takeHeaders(this.#options.queue, prefetch, this.#isBrowsing),
    };
    return this.#session.subscribe(headers, '', (message) => this.#receive(message));
  }

  #receive(message: Frame): void {
    this.#received++;
    this.#countUnacked(message.headers.subscription ?? '', 1);
    if (!this.#isTaking) {
      // It goes back as one that is left does.
      this.#spare(message);
      return;
    }
    if (message.headers.browser === 'end') {
      this.#end('idle');
      return;
    }
    const decision = this.#work(message, this.#session.dialect, this.#stop.signal);
    if (typeof decision === 'object') this.#take(message, decision);
    else this.#leave(message, decision);
  }

  #take(message: Frame, done: Promise<unknown>): void {
    const { ack, 'message-id': id = '', subscription = '' } = message.headers;
    const bytes = message.body.length;
    this.#counts.unsure++;
    this.#begun(bytes);
    done.then(
      (result) => {
        this.#release(bytes);
        if (result === 'leave') {
          this.#counts.unsure--;
          this.#leave(message, 'leave');
          this.#settled(1);
        } else {
          this.#counts.acking++;
          this.#acks.add({ ack: ack ?? id, subscription });
        }
      },
      (error: unknown) => {
        this.#release(bytes);
        this.#fail(error);
        this.#settled(1);
      },
    );
    if (this.#counts.taken + this.#pending >= this.#options.count) this.#end('count');
  }

  #acked(group: readonly Ackable[]): void {
    this.#counts.acking -= group.length;
    this.#counts.unsure -= group.length;
    this.#counts.taken += group.length;
    for (const { subscription } of group) this.#countUnacked(subscription, -1);
    this.#settled(group.length);
  }

  #leave(message: Frame, decision: 'leave' | 'end'): void {
    this.#idle?.refresh();
    this.#counts.left++;
    this.#held++;
    this.#spare(message);
    if (!this.#isTaking) return;
    if (decision === 'end') this.#end('end');
    // A browser's ACK removes nothing, it makes room for the next (ActiveMQ 5.17).
    else if (this.#isBrowsing) this.#session.sendWithoutReceipt('ACK', { id: message.headers.ack ?? '' });
    // Not before: a subscription with room would get messages from behind those of the next one, and no broker could
    // put them back in order.
    else if (this.#held === this.#credit)
      this.#subscribe(this.#options.window).catch((error: unknown) => this.#fail(error));
  }

  #begun(bytes: number): void {
    this.#pending++;
    this.#bytes += bytes;
    if (this.#bytes >= this.#options.mostBytes) this.#session.pause();
  }

  /** The bodies are not needed any more. Not only when the ACK is confirmed: its receipt may have to be read first. */
  #release(bytes: number): void {
    this.#bytes -= bytes;
    if (this.#bytes < this.#options.mostBytes) this.#session.resume();
  }

  #settled(count: number): void {
    this.#pending -= count;
    this.#idle?.refresh();
    this.#onSettled();
  }

  #countUnacked(subscription: string, change: number): void {
    this.#unacked.set(subscription, (this.#unacked.get(subscription) ?? 0) + change);
  }

  /**
   * Ends the run when the message, which goes back, was delivered often. For the few deliveries that are left then, other
   * runs may not heed that: a message that is near the limit is sent to the queue as a new one, and its count begins anew.
   */
  #spare(message: Frame): void {
    const rule = this.#session.dialect.deliveryLimit;
    const deliveries = rule?.deliveriesOf(message.headers) ?? 0;
    if (rule === undefined || deliveries < this.#deliveryLimit * WORN_AT) return;
    this.#fail(wornError(this.#options.queue, deliveries, this.#deliveryLimit, rule));
    const isNear = deliveries >= this.#deliveryLimit * RENEWED_AT;
    // Of one that is too large to be read a part is missing here.
    const isWhole = message.oversized === undefined;
    if (isNear && isWhole && this.#session.isOpen) void this.#renew(message);
  }

  async #renew(message: Frame): Promise<void> {
    const { queue, settings, log } = this.#options;
    this.#renewer ??= openForwarder(settings, log);
    const { ack, 'message-id': messageId = '', subscription = '' } = message.headers;
    const bytes = message.body.length;
    this.#begun(bytes);
    try {
      const sent = this.#renewer.send(existingQueue(queue), message, { keepsDeath: true });
      await sent.finally(() => this.#release(bytes));
      await this.#session.request('ACK', { id: ack ?? messageId });
      this.#countUnacked(subscription, -1);
      log.warn({ queue, messageId }, 'sent to the end of its queue, where its deliveries are counted anew');
    } catch (error) {
      log.warn({ err: error, queue, messageId }, 'not sent anew: the next deliveries may be its last');
    }
    this.#settled(1);
  }
}

function wornError(queue: string, deliveries: number, limit: number, rule: DeliveryLimit): PubsubError {
  return new PubsubError(
    'broker-refused',
    `a message of ${queue} was delivered ${deliveries} times, and each look is one more: a quorum queue drops it at ` +
      `its delivery limit (${limit} here; RabbitMQ 4 has ${rule.standard} where no policy says otherwise). ` +
      `Raise the limit: ${rule.remedy(queue)}; then say so: --delivery-limit ${rule.raised}`,
  );
}
