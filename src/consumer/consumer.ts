/**
 * The loop of a consumer: connect, declare, subscribe, have messages attempted (attempts.ts); again after every loss of the
 * connection, until it is told to drain. The prefetch asked of the broker is `concurrency`, and so many callbacks run at
 * most.
 *
 * Draining: start nothing new, keep the subscription and the heart-beats, let what is in flight finish and settle with
 * confirmation, then DISCONNECT. An UNSUBSCRIBE first would lose the ACKs that follow it (RabbitMQ 3.10, ActiveMQ 5.17).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { orAborted, whenAborted } from '../aborted.js';
import { PubsubError } from '../errors.js';
import { sessions, type Ahead, type ConnectEvent, type Session } from '../sending/connect.js';
import { Account, type ConsumeSummary } from './account.js';
import { Attempts, type AttemptsOptions } from './attempts.js';
import { Bounds, type BoundReached } from './bounds.js';
import { keepAsking } from './canary.js';
import type { ConsumerObserver } from './events.js';
import { FailureLimit } from './failure-limit.js';
import { untilIdle } from './idleness.js';
import type { Numbers } from './numbers.js';
import { retriesOf } from './retries.js';
import { deadLetterQueueIn } from './source.js';
import { StreamPosition } from './stream-position.js';
import { mayRenew, subscribe, warn, type SubscribingOptions } from './subscribe.js';

/** What a broker has, at the end of the graceful wait, to take the copy of a message that ran alone. */
const ACQUITTAL_MS = 2000;

/** What can be asked of a consumer at any time. */
export interface ConsumerView {
  /** Messages in flight. */
  readonly inFlight: number;
  /** For how long the callback that was started first has been running, in ms; 0 when none is. */
  readonly longestRunMs: number;
  /** When the last message came, on performance's clock. */
  readonly receivedMs: number | undefined;
  /** What the callback needs is away: nothing is started. */
  readonly isPaused: boolean;
  /** Resolves when all worker processes have told their metrics, or have had their time. Never rejects. */
  gatherMetrics(): Promise<void>;
}

/** What only a change of settings, or at the broker, cures. */
const lasting: ReadonlySet<string> = new Set(['broker-refused', 'invalid-destination', 'invalid-setting']);

export interface ConsumerOptions extends ConsumerObserver, AttemptsOptions {
  /** Aborted: the graceful wait is over; what is unfinished goes back to the queue. */
  readonly abort: AbortSignal;
  /** Drains and ends as a stop signal does, when a limit of the settings is reached. */
  readonly stop: (why: BoundReached) => void;
  /** Attempts are counted there. */
  readonly numbers?: Numbers | undefined;
  /** Its first connection, where that has been begun. */
  readonly ahead?: Ahead | undefined;
  /** Called once, before anything else. */
  readonly onBegin?: ((consumer: ConsumerView) => void) | undefined;
}

export class Consumer implements ConsumerView {
  readonly #options: ConsumerOptions;
  /** The latest one. */
  #session: Session | undefined;
  readonly #attempts: Attempts;
  readonly #subscribing: SubscribingOptions;
  readonly #account: Account;
  readonly #failures: FailureLimit;
  readonly #bounds: Bounds;
  #hasSubscribed = false;
  /** Rejects when the consumer must end; never resolves. */
  readonly #failed: Promise<never>;

  constructor(options: ConsumerOptions) {
    const { source, settings, log, drain, stop, numbers } = options;
    const { queueType, queueArguments, maxDeliveries: limit } = settings;
    this.#options = options;
    let fail: (error: PubsubError) => void = () => undefined;
    this.#failed = new Promise((_resolve, reject) => (fail = reject));
    this.#failed.catch(() => undefined);
    this.#failures = new FailureLimit(settings.failureLimit, stop, log);
    this.#account = new Account(options, log, numbers);
    this.#bounds = new Bounds(settings, stop);
    const retries = retriesOf(source, settings);
    const position = new StreamPosition(settings.subscribeHeaders, log);
    const counting = limit === undefined ? undefined : { source, queueType, queueArguments, limit };
    this.#subscribing = { source, settings, retries, counting, position, log, drain };
    this.#attempts = new Attempts(options, {
      ...{ account: this.#account, bounds: this.#bounds, failures: this.#failures },
      ...{ position, counting, retries, fail },
    });
    options.onBegin?.(this);
  }

  get inFlight(): number {
    return this.#attempts.size;
  }

  get receivedMs(): number | undefined {
    return this.#attempts.receivedMs;
  }

  get isPaused(): boolean {
    return this.#attempts.isPaused;
  }

  async gatherMetrics(): Promise<void> {
    await this.#options.runner.gatherMetrics?.();
  }

  get longestRunMs(): number {
    const nowMs = performance.now();
    return this.#attempts.inFlight.reduce((most, { runningMs }) => Math.max(most, nowMs - runningMs), 0);
  }

  /**
   * Consumes until drained; resolves with the summary. Rejects with `broker-refused` or `invalid-...` when the first
   * start meets what only a change of settings cures, with `failure-limit` when so many messages in a row failed, and with
   * `deadline-passed` when aborted with work in flight.
   */
  async run(): Promise<ConsumeSummary> {
    const { drain } = this.#options;
    const forget = whenAborted(drain, () => this.#account.turned('draining', this.#session));
    try {
      return await this.#consume();
    } catch (error) {
      this.#session?.abandon('the consumer ends');
      if (this.#hasSubscribed) this.#options.log.info(this.#account.summary, 'stopped');
      throw error;
    } finally {
      this.#bounds.close();
      forget();
    }
  }

  async #consume(): Promise<ConsumeSummary> {
    const { settings, log, drain, abort, ahead } = this.#options;
    const tell = (event: ConnectEvent) => this.#account.tellConnection(event);
    for await (const session of sessions(settings, log, drain, tell, ahead)) {
      this.#session = session;
      this.#account.watch(session);
      const isSubscribed = await orAborted(drain, this.#subscribe(session));
      if (isSubscribed === true) {
        await orAborted(drain, Promise.race([session.closed, this.#untilIdle(session), this.#failed]));
      }
      this.#bounds.subscribed(undefined);
      this.#attempts.forgetUnstarted();
      if (drain.aborted) break;
      if (session.isOpen)
        log.info({ server: session.address }, 'nothing has come for long; subscribing anew');
      await session.close();
    }
    if (this.inFlight > 0) log.info({ inFlight: this.inFlight }, 'waiting for callbacks in flight');
    await orAborted(abort, this.#attempts.idle());
    if (this.inFlight > 0) throw await this.#giveUp();
    await this.#session?.close();
    if (this.#failures.error !== undefined) throw this.#failures.error;
    return this.#account.summary;
  }

  /** False: the session ended, or is to be ended, and the next one shall try. */
  async #subscribe(session: Session): Promise<boolean> {
    const { source, settings, log, drain } = this.#options;
    try {
      await subscribe(session, this.#subscribing, (declarations) =>
        this.#attempts.receiverOn(session, declarations),
      );
    } catch (error) {
      if (!(error instanceof PubsubError)) {
        session.abandon('stopped while subscribing');
        if (drain.aborted) return false;
        throw error;
      }
      const isConfiguration = lasting.has(error.code);
      session.abandon(error.message, { isConfiguration });
      if (isConfiguration && !this.#hasSubscribed) throw error;
      return false;
    }
    if (!this.#hasSubscribed) warn(session, this.#subscribing);
    this.#hasSubscribed = true;
    log.info(
      {
        destination: source.destination,
        queue: source.queue,
        ...deadLetterQueueIn(source),
        concurrency: settings.concurrency,
        server: session.address,
        broker: session.server ?? session.dialect.name,
      },
      'consuming',
    );
    this.#account.turned('subscribed', session);
    this.#bounds.subscribed(() => session.ask());
    keepAsking(session, settings.canaryIntervalSeconds * 1000, (durationMs) =>
      this.#account.answered({ durationMs }),
    );
    return true;
  }

  /** Never resolves for a subscription that must not be given up. */
  #untilIdle(session: Session): Promise<void> {
    const periodMs = this.#options.settings.renewAfterSeconds * 1000;
    if (periodMs === 0 || !mayRenew(session, this.#subscribing)) return new Promise(() => undefined);
    return untilIdle(session, periodMs, {
      received: () => this.#account.summary.received,
      isBusy: () => this.#attempts.isBusy,
    });
  }

  async #giveUp(): Promise<PubsubError> {
    const { inFlight } = this.#attempts;
    this.#account.giveUp(inFlight);
    // What was acked early does not come again.
    const unfinished = inFlight
      .filter(({ outcome }) => outcome === 'released')
      .map(({ messageId }) => messageId ?? 'unknown');
    const alone = inFlight.find(({ count, state }) => count.standing === 'alone' && state === 'unsettled');
    if (alone !== undefined) await Promise.race([this.#attempts.defer(alone, false), delay(ACQUITTAL_MS)]);
    this.#session?.abandon('the graceful wait is over');
    const { gracefulWaitSeconds } = this.#options.settings;
    const messages = unfinished.length === 1 ? '1 message goes' : `${unfinished.length} messages go`;
    return new PubsubError(
      'deadline-passed',
      `callbacks were still running after ${gracefulWaitSeconds} s (STOMP_GRACEFUL_WAIT_SECONDS): ` +
        `${messages} back to the queue${unfinished.length === 0 ? '' : `: ${unfinished.slice(0, 10).join(', ')}`}`,
    );
  }
}
