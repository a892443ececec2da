/**
 * The loop of a consumer: connect, declare, subscribe, hand each message to the callback, settle it; again after every
 * loss of the connection, until it is told to drain. The prefetch asked of the broker is `concurrency`, and so many
 * callbacks run at most. A message waits here only while a callback that acked early, or that outlived its connection,
 * still runs in its place, and while one runs alone (turns.ts).
 *
 * Draining: start nothing new, keep the subscription and the heart-beats, let what is in flight finish and settle with
 * confirmation, then DISCONNECT. An UNSUBSCRIBE first would lose the ACKs that follow it (RabbitMQ 3.10, ActiveMQ 5.17).
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { orAborted, whenAborted } from '../aborted.js';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { sessions } from '../sending/connect.js';
import { DeclaredQueues } from '../sending/declare.js';
import { withoutDelay } from '../brokers/headers.js';
import { sourceOfMessage, type Source } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import type { Declaration } from '../brokers/queues.js';
import { encodeHeaders, type Frame } from '../stomp/frames.js';
import type { Outgoing } from '../sending/heads.js';
import { HandOver } from '../sending/hand-over.js';
import type { Session } from '../sending/connect.js';
import { Account, type ConsumeSummary } from './account.js';
import { Bounds, type BoundReached } from './bounds.js';
import { keepAsking } from './canary.js';
import { countedCopy, countOf, type CountingOptions } from './deliveries.js';
import { Delivery, type DeliveryContext, type Surroundings } from './delivery.js';
import type { ConsumerObserver } from './events.js';
import type { Failure } from './dead-letters.js';
import { FailureLimit } from './failure-limit.js';
import { untilIdle } from './idleness.js';
import type { Gone, RunResult } from './payload.js';
import { RecentIds } from './recent.js';
import { StreamPosition } from './stream-position.js';
import { StuckWatch } from './stuck.js';
import { retriesOf } from './retries.js';
import { deadLetterQueueIn } from './source.js';
import { mayRenew, subscribe, warn, type SubscribingOptions } from './subscribe.js';
import type { CallbackRunner, Job } from './runner.js';
import type { Numbers } from './numbers.js';
import { Pause } from './pause.js';
import { Slots } from '../slots.js';
import { Turns } from './turns.js';

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

export interface ConsumerOptions extends ConsumerObserver {
  /** Where a process has several. */
  readonly name?: string | undefined;
  readonly source: Source;
  readonly settings: Settings;
  readonly runner: CallbackRunner;
  /** What dead letters call the callback: `module#export`, or the name of a function. */
  readonly callbackName: string;
  readonly log: Logger;
  /** Aborted: drain and end. */
  readonly drain: AbortSignal;
  /** Aborted: the graceful wait is over; what is unfinished goes back to the queue. */
  readonly abort: AbortSignal;
  /** Drains and ends as a stop signal does, when a limit of the settings is reached. */
  readonly stop: (why: BoundReached) => void;
  /** Attempts are counted there. */
  readonly numbers?: Numbers | undefined;
  /** Called once, before anything else. */
  readonly onBegin?: ((consumer: ConsumerView) => void) | undefined;
}

export class Consumer implements ConsumerView {
  readonly #options: ConsumerOptions;
  readonly #deliveryContext: DeliveryContext;
  /** The latest one. */
  #session: Session | undefined;
  readonly #inFlight = new Slots<Delivery>();
  readonly #turns: Turns;
  readonly #counting: CountingOptions | undefined;
  readonly #subscribing: SubscribingOptions;
  readonly #account: Account;
  readonly #recentIds = new RecentIds();
  readonly #stuck: StuckWatch;
  readonly #failures: FailureLimit;
  readonly #bounds: Bounds;
  readonly #pause: Pause;
  readonly #position: StreamPosition;
  #hasSubscribed = false;
  #receivedMs: number | undefined;
  /** Rejects when the consumer must end; never resolves. */
  readonly #failed: Promise<never>;
  #fail: (error: PubsubError) => void = () => undefined;
  #onIdle: (() => void) | undefined;

  constructor(options: ConsumerOptions) {
    const { source, settings, log, drain, callbackName: callback } = options;
    this.#options = options;
    this.#failures = new FailureLimit(settings.failureLimit, options.stop, log);
    const { queueType, tellsFailure: tellsError, concurrency, maxDeliveries: limit } = settings;
    this.#account = new Account(options, log, options.numbers);
    this.#failed = new Promise((_resolve, reject) => (this.#fail = reject));
    this.#failed.catch(() => undefined);
    this.#bounds = new Bounds(settings, options.stop);
    const retries = retriesOf(source, settings);
    this.#position = new StreamPosition(settings.subscribeHeaders, log);
    this.#counting =
      limit === undefined ? undefined : { source, queueType, queueArguments: settings.queueArguments, limit };
    const counting = this.#counting;
    this.#subscribing = { source, settings, retries, counting, position: this.#position, log, drain };
    this.#turns = new Turns({
      concurrency,
      isOver: () => drain.aborted || this.#pause.isOn || !this.#bounds.mayBegin,
      running: () => this.#inFlight.size,
      begin: (delivery) => this.#begin(delivery),
    });
    this.#pause = new Pause({
      ...{ isHealthy: options.runner.isHealthy, drain, log },
      onPaused: () => this.#turns.waiting.forEach((one) => one.setHeld(true)),
      onOver: () => this.#turns.goOn(),
    });
    this.#stuck = new StuckWatch(settings.holdSeconds * 1000, () => [
      ...this.#inFlight.entries().map(([, one]) => one),
      ...this.#turns.waiting,
    ]);
    this.#deliveryContext = {
      ...{ source, log, retries },
      deadLetters: { source, queueType, callback, tellsError },
      isNackPreferred: settings.deadLetterBy === 'nack',
      isConfirmed: () => drain.aborted,
      onPublished: options.onPublished && ((event) => this.#account.published(event)),
    };
    options.onBegin?.(this);
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  get receivedMs(): number | undefined {
    return this.#receivedMs;
  }

  get isPaused(): boolean {
    return this.#pause.isPaused;
  }

  async gatherMetrics(): Promise<void> {
    await this.#options.runner.gatherMetrics?.();
  }

  get longestRunMs(): number {
    const nowMs = performance.now();
    return this.#inFlight.entries().reduce((most, [, { runningMs }]) => Math.max(most, nowMs - runningMs), 0);
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
      throw error;
    } finally {
      this.#bounds.close();
      forget();
    }
  }

  async #consume(): Promise<ConsumeSummary> {
    const { settings, log, drain, abort } = this.#options;
    for await (const session of sessions(settings, log, drain, (event) =>
      this.#account.tellConnection(event),
    )) {
      this.#session = session;
      this.#account.watch(session);
      const isSubscribed = await orAborted(drain, this.#subscribe(session));
      if (isSubscribed === true) {
        await orAborted(drain, Promise.race([session.closed, this.#untilIdle(session), this.#failed]));
      }
      this.#bounds.subscribed(false);
      // The broker delivers again what was never started.
      const unstarted = this.#turns.clear();
      if (drain.aborted) {
        unstarted.forEach((delivery) => this.#acquit(delivery));
        break;
      }
      if (session.isOpen)
        log.info({ server: session.address }, 'nothing has come for long; subscribing anew');
      await session.close();
    }
    if (this.#inFlight.size > 0)
      log.info({ inFlight: this.#inFlight.size }, 'waiting for callbacks in flight');
    await orAborted(abort, this.#idle());
    if (this.#inFlight.size > 0) throw await this.#giveUp();
    await this.#session?.close();
    if (this.#failures.error !== undefined) throw this.#failures.error;
    return this.#account.summary;
  }

  /** False: the session ended, or is to be ended, and the next one shall try. */
  async #subscribe(session: Session): Promise<boolean> {
    const { source, settings, log, drain } = this.#options;
    try {
      await subscribe(session, this.#subscribing, (declarations) => {
        const surroundings = this.#surroundingsOf(session, declarations);
        return (frame) => this.#receive(frame, surroundings);
      });
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
    this.#bounds.subscribed(true);
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
      isBusy: () => this.#inFlight.size > 0 || this.#pause.isOn,
    });
  }

  #surroundingsOf(session: Session, declarations: readonly Declaration[]): Surroundings {
    const { log, drain } = this.#options;
    const onReleased = () => this.#stuck.reset();
    this.#stuck.watch(session);
    return {
      handOver: new HandOver({ session, log, drain, onReleased }),
      queues: new DeclaredQueues(session, declarations, log),
    };
  }

  #receive(frame: Frame, surroundings: Surroundings): void {
    const { session } = surroundings.handOver;
    const { drain, settings } = this.#options;
    if (!session.isOpen) return;
    this.#position.received(frame);
    const delivery = new Delivery(frame, surroundings, this.#contextOf(frame, session.dialect));
    if (this.#counting !== undefined && frame.oversized === undefined)
      delivery.count = countOf(frame.headers, session.dialect, this.#counting);
    // What arrives during a drain, a renewal or beyond the limit is left alone: it goes back, in order, when the session ends.
    if (drain.aborted || !this.#bounds.mayBegin) this.#acquit(delivery);
    else if (!this.#turns.offer(delivery)) {
      const message = `the broker delivers more than the prefetch of ${settings.concurrency} it was given`;
      session.abandon(message);
    } else if (this.#pause.isPaused) delivery.setHeld(true);
  }

  /** Of a source that means several queues each message has a source of its own. */
  #sourceOf({ headers }: Frame, dialect: Dialect): Source {
    const { source } = this.#options;
    return dialect.isOneQueue(source.topic) ? source : sourceOfMessage(source, headers.destination);
  }

  #contextOf(frame: Frame, dialect: Dialect): DeliveryContext {
    const context = this.#deliveryContext;
    const source = this.#sourceOf(frame, dialect);
    if (source === context.source) return context;
    const { retries, deadLetters } = context;
    return { ...context, source, retries: { ...retries, source }, deadLetters: { ...deadLetters, source } };
  }

  #begin(delivery: Delivery): void {
    const { standing } = delivery.count;
    if (standing === 'uncounted' || standing === 'suspect') void this.#recount(delivery);
    else this.#start(delivery);
  }

  #start(delivery: Delivery): void {
    const place = this.#inFlight.add(delivery);
    this.#bounds.begun();
    delivery.startedMs = performance.now();
    this.#receivedMs = delivery.startedMs;
    this.#account.started(delivery, this.#isRepeated(delivery));
    this.#process(delivery, place);
  }

  /** Sends it behind the others, with how often it was delivered; what cannot be sent is run like any other. */
  async #recount(delivery: Delivery): Promise<void> {
    const { before, standing } = delivery.count;
    const isMarked = standing === 'suspect';
    const { log } = this.#options;
    const fields = { deliveries: before, ...delivery.fields() };
    if (isMarked) log.warn(fields, 'a message was delivered often and never settled: it will run alone');
    else log.debug(fields, 'a message was delivered before: its delivery is counted');
    const place = this.#inFlight.add(delivery);
    const isDeferred = await this.#defer(delivery, isMarked);
    this.#inFlight.remove(place);
    if (isDeferred || this.#options.drain.aborted || !this.#bounds.mayBegin) this.#leave(delivery);
    else this.#start(delivery);
  }

  async #defer(delivery: Delivery, isMarked: boolean): Promise<boolean> {
    const { frame, session, count } = delivery;
    if (this.#counting === undefined) return false;
    const counting = { ...this.#counting, source: this.#sourceOf(frame, session.dialect) };
    return delivery.defer(countedCopy(frame, count.before, isMarked, counting, session.dialect));
  }

  /** A stop is no doing of a message that was to run alone: it comes again as one that may have been innocent. */
  #acquit(delivery: Delivery): void {
    if (delivery.count.standing !== 'alone') return;
    delivery.count = { ...delivery.count, standing: 'uncounted' };
    void this.#recount(delivery);
  }

  #isRepeated({ frame, session, messageId }: Delivery): boolean {
    const isKnown = session.dialect.keepsMessageIds && this.#recentIds.add(messageId ?? '');
    return isKnown || frame.headers.redelivered === 'true';
  }

  /** Whatever is wrong with a message or its callback ends in its dead-letter queue. */
  #process(delivery: Delivery, place: number): void {
    const { settings } = this.#options;
    const correlationId =
      delivery.frame.headers['correlation-id'] ?? (settings.correlationIdRequired ? undefined : randomUUID());
    const failure = failureBefore(delivery, correlationId);
    try {
      if (failure === undefined) {
        const job = this.#job(delivery, correlationId ?? '');
        this.#run(delivery, job, (result) => this.#end(delivery, place, result));
        return;
      }
      delivery.deadLetter(failure);
    } catch (error) {
      this.#giveBack(delivery, error);
    }
    this.#end(delivery, place);
  }

  /** Nothing more comes of its callback; it may still be settling. */
  #end(delivery: Delivery, place: number, result?: RunResult | Gone): void {
    try {
      if (result !== undefined) this.#conclude(delivery, result);
    } catch (error) {
      this.#giveBack(delivery, error);
    }
    const finish = () => {
      if (delivery.fatal !== undefined) this.#fail(delivery.fatal);
      this.#finish(delivery, place);
    };
    if (delivery.settling === undefined) finish();
    else void delivery.settling.then(finish);
  }

  #giveBack(delivery: Delivery, error: unknown): void {
    const fields = { err: error, ...delivery.fields() };
    this.#options.log.error(fields, 'a message could not be settled; ending its connection');
    delivery.session.abandon(`a message could not be settled: ${reasonOf(error)}`);
    delivery.release();
  }

  #run(delivery: Delivery, job: Job, done: (result: RunResult | Gone) => void): void {
    this.#options.runner.run(job, (result) => {
      if (result.kind === 'returned') this.#pause.returned();
      const isUndone = result.kind === 'threw' && delivery.state === 'unsettled';
      if (isUndone) void this.#excuse(delivery, job, result, done);
      else done(result);
    });
  }

  /** Runs it again if what it needs was away. */
  async #excuse(
    delivery: Delivery,
    job: Job,
    result: RunResult,
    done: (result: RunResult | Gone) => void,
  ): Promise<void> {
    delivery.setHeld(true);
    if (!(await this.#pause.threw())) {
      done(result);
    } else if (this.#options.drain.aborted || !job.isOpen()) {
      done({ kind: 'gone' });
    } else {
      delivery.startedMs = performance.now();
      this.#run(delivery, job, done);
    }
  }

  #job(delivery: Delivery, correlationId: string): Job {
    const { frame, session } = delivery;
    return {
      headers: withoutDelay(frame.headers),
      lines: frame.lines ?? encodeHeaders(frame.headers),
      raw: frame.body,
      context: { correlationId, consumer: this.#options.name },
      ack: (outgoing) => delivery.ack(outgoing),
      nack: () => delivery.deadLetter({ reason: 'nack' }),
      isOpen: () => delivery.state === 'unsettled' && session.isOpen,
      setHeld: (isHeld) => {
        if (!isHeld && delivery.heldMs < Infinity) this.#stuck.reset();
        delivery.setHeld(isHeld);
      },
      session,
    };
  }

  #conclude(delivery: Delivery, result: RunResult | Gone): void {
    if (result.kind === 'gone') {
      delivery.release();
      if (result.fatal !== undefined) this.#fail(result.fatal);
      return;
    }
    if (result.kind === 'returned') {
      if (delivery.state === 'unsettled') this.#settleReturned(delivery, result.outgoing);
      return;
    }
    const isThrown = result.kind === 'threw';
    const reason = isThrown ? 'callback-failed' : result.reason;
    const fields = {
      ...(isThrown ? {} : { detail: result.detail }),
      ...(isThrown || result.error !== undefined ? { err: result.error } : {}),
    };
    if (delivery.state === 'unsettled') {
      if (isThrown) delivery.fail(result.error);
      else delivery.deadLetter({ reason, ...fields });
    } else {
      this.#options.log.error(
        { reason, ...fields, ...delivery.fields(), state: delivery.state },
        'the callback failed after its message was settled',
      );
    }
  }

  #settleReturned(delivery: Delivery, outgoing: readonly Outgoing[] | undefined): void {
    if (this.#options.settings.autoAck) void delivery.ack(outgoing);
    else {
      const detail = 'the callback returned without ack() or nack(); await them, or use --auto-ack';
      delivery.deadLetter({ reason: 'unsettled', detail });
    }
  }

  #finish(delivery: Delivery, place: number): void {
    this.#inFlight.remove(place);
    if (delivery.outcome !== 'released') this.#position.settled(delivery.frame);
    this.#account.settled(delivery);
    if (!this.#options.drain.aborted) this.#failures.settled(delivery);
    this.#bounds.ended(delivery.outcome === 'released');
    this.#leave(delivery);
  }

  #leave(delivery: Delivery): void {
    this.#turns.end(delivery);
    if (this.#inFlight.size === 0) this.#onIdle?.();
  }

  #idle(): Promise<void> {
    return this.#inFlight.size === 0 ? Promise.resolve() : new Promise((resolve) => (this.#onIdle = resolve));
  }

  async #giveUp(): Promise<PubsubError> {
    const inFlight = this.#inFlight.entries().map(([, delivery]) => delivery);
    this.#account.giveUp(inFlight);
    // What was acked early does not come again.
    const unfinished = inFlight
      .filter(({ outcome }) => outcome === 'released')
      .map(({ messageId }) => messageId ?? 'unknown');
    const alone = inFlight.find(({ count, state }) => count.standing === 'alone' && state === 'unsettled');
    if (alone !== undefined) await Promise.race([this.#defer(alone, false), delay(ACQUITTAL_MS)]);
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

/** What keeps a message from its callback. */
function failureBefore(
  { frame: { oversized }, count }: Delivery,
  correlationId: string | undefined,
): Failure | undefined {
  if (oversized !== undefined)
    return { reason: 'too-large', detail: `its ${oversized} is larger than the limit` };
  if (count.standing === 'ended') {
    const detail = `delivered ${count.before} times and never settled; the last time it ran alone, and its consumer ended`;
    return { reason: 'killed', detail };
  }
  if (correlationId !== undefined) return undefined;
  const detail = 'no correlation-id header; STOMP_CORRELATION_ID_REQUIRED=false accepts such messages';
  return { reason: 'missing-correlation-id', detail };
}
