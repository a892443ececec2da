/**
 * What becomes of each message, from its frame to the place that it gives up: it waits for its turn, is counted by a copy or
 * started, run, run again if what it needs was away, and settled by what came of it. It waits only while a callback that
 * acked early, or that outlived its connection, still runs in its place, and while one runs alone (turns.ts). Hides which of
 * these a message is at, and that a drain, a limit or a lost connection may come between any two of them.
 */
import { randomUUID } from 'node:crypto';
import { reasonOf, type PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import type { Session } from '../sending/connect.js';
import { DeclaredQueues } from '../sending/declare.js';
import type { Source } from '../brokers/destinations.js';
import type { Declaration } from '../brokers/queues.js';
import type { Frame } from '../stomp/frames.js';
import { HandOver } from '../sending/hand-over.js';
import type { Account } from './account.js';
import type { Bounds } from './bounds.js';
import { conclude, failureBefore, type ConclusionOptions } from './conclusion.js';
import { countedCopy, countOf, type CountingOptions } from './deliveries.js';
import { Delivery, type Surroundings } from './delivery.js';
import { DeliveryJob } from './delivery-job.js';
import { contextOf, createContext, sourceOf, type DeliveryContext } from './delivery-context.js';
import type { ConsumerObserver, PublishedEvent } from './events.js';
import type { FailureLimit } from './failure-limit.js';
import type { Gone, RunResult } from './payload.js';
import { RecentIds } from './recent.js';
import type { StreamPosition } from './stream-position.js';
import { StuckWatch } from './stuck.js';
import type { Retries } from './retries.js';
import type { CallbackRunner, Job } from './runner.js';
import { Pause } from './pause.js';
import { Slots } from '../slots.js';
import { Turns } from './turns.js';

export interface AttemptsOptions extends Pick<ConsumerObserver, 'onPublished'> {
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
}

/** What the consumer has, too. */
export interface Shared {
  readonly account: Account;
  readonly bounds: Bounds;
  readonly failures: FailureLimit;
  readonly position: StreamPosition;
  /** Undefined: nobody counts deliveries. */
  readonly counting: CountingOptions | undefined;
  readonly retries: Retries;
  /** Ends the consumer. */
  readonly fail: (error: PubsubError) => void;
}

export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #shared: Shared;
  readonly #concluding: ConclusionOptions;
  readonly #deliveryContext: DeliveryContext;
  readonly #inFlight = new Slots<Delivery>();
  readonly #turns: Turns;
  readonly #recentIds = new RecentIds();
  readonly #stuck: StuckWatch;
  readonly #pause: Pause;
  #receivedMs: number | undefined;
  #onIdle: (() => void) | undefined;

  constructor(options: AttemptsOptions, shared: Shared) {
    const { source, settings, log, drain, callbackName: callback } = options;
    const { concurrency, autoAck } = settings;
    const { account, bounds, fail, retries } = shared;
    this.#options = options;
    this.#shared = shared;
    this.#concluding = { autoAck, log, fail };
    this.#turns = new Turns({
      concurrency,
      isOver: () => drain.aborted || this.#pause.isOn || !bounds.mayBegin,
      running: () => this.#inFlight.size,
      begin: (delivery) => this.#begin(delivery),
    });
    this.#pause = new Pause({
      ...{ isHealthy: options.runner.isHealthy, drain, log },
      onPaused: () => this.#turns.waiting.forEach((one) => one.setHeld(true)),
      onOver: () => this.#turns.goOn(),
    });
    this.#stuck = new StuckWatch(settings.holdSeconds * 1000, () => [
      ...this.inFlight,
      ...this.#turns.waiting,
    ]);
    const onPublished = options.onPublished && ((event: PublishedEvent) => account.published(event));
    this.#deliveryContext = createContext(source, settings, {
      ...{ callback, log, retries, onPublished },
      isConfirmed: () => drain.aborted,
    });
  }

  /** How many are in flight. */
  get size(): number {
    return this.#inFlight.size;
  }

  /** The oldest first. */
  get inFlight(): readonly Delivery[] {
    return this.#inFlight.entries().map(([, delivery]) => delivery);
  }

  /** When the last message was started, on performance's clock. */
  get receivedMs(): number | undefined {
    return this.#receivedMs;
  }

  /** What the callback needs is away: nothing is started. */
  get isPaused(): boolean {
    return this.#pause.isPaused;
  }

  /** Something is in flight, or nothing may be started for now. */
  get isBusy(): boolean {
    return this.#inFlight.size > 0 || this.#pause.isOn;
  }

  /** What takes the messages of a session, whose queues these are. */
  receiverOn(session: Session, declarations: readonly Declaration[]): (frame: Frame) => void {
    const { log, drain } = this.#options;
    const onReleased = () => this.#stuck.reset();
    this.#stuck.watch(session);
    const surroundings = {
      handOver: new HandOver({ session, log, drain, onReleased }),
      queues: new DeclaredQueues(session, declarations, log),
    };
    return (frame) => this.#receive(frame, surroundings);
  }

  /** Their session is over: forgets what was never started, which the broker delivers again. */
  forgetUnstarted(): void {
    const unstarted = this.#turns.clear();
    if (this.#options.drain.aborted) unstarted.forEach((delivery) => this.#acquit(delivery));
  }

  /** Resolves when nothing is in flight. */
  idle(): Promise<void> {
    return this.#inFlight.size === 0 ? Promise.resolve() : new Promise((resolve) => (this.#onIdle = resolve));
  }

  /** Has a copy come in its place that counts its delivery. False: the broker takes none. */
  async defer(delivery: Delivery, isMarked: boolean): Promise<boolean> {
    const { frame, session, count } = delivery;
    if (this.#shared.counting === undefined) return false;
    const counting = {
      ...this.#shared.counting,
      source: sourceOf(frame, session.dialect, this.#options.source),
    };
    return delivery.defer(countedCopy(frame, count.before, isMarked, counting, session.dialect));
  }

  #receive(frame: Frame, surroundings: Surroundings): void {
    const { session } = surroundings.handOver;
    const { drain, settings } = this.#options;
    if (!session.isOpen) return;
    this.#shared.position.received(frame);
    const delivery = new Delivery(
      frame,
      surroundings,
      contextOf(frame, session.dialect, this.#deliveryContext),
    );
    if (this.#shared.counting !== undefined && frame.oversized === undefined)
      delivery.count = countOf(frame.headers, session.dialect, this.#shared.counting);
    // What arrives during a drain, a renewal or beyond the limit is left alone: it goes back, in order, when the session ends.
    if (drain.aborted || !this.#shared.bounds.mayBegin) this.#acquit(delivery);
    else if (!this.#turns.offer(delivery)) {
      const message = `the broker delivers more than the prefetch of ${settings.concurrency} it was given`;
      session.abandon(message);
    } else if (this.#pause.isPaused) delivery.setHeld(true);
  }

  #begin(delivery: Delivery): void {
    const { standing } = delivery.count;
    if (standing === 'uncounted' || standing === 'suspect') void this.#recount(delivery);
    else this.#start(delivery);
  }

  #start(delivery: Delivery): void {
    const place = this.#inFlight.add(delivery);
    this.#shared.bounds.begun();
    delivery.startedMs = performance.now();
    this.#receivedMs = delivery.startedMs;
    this.#shared.account.started(delivery, this.#isRepeated(delivery));
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
    const isDeferred = await this.defer(delivery, isMarked);
    this.#inFlight.remove(place);
    if (isDeferred || this.#options.drain.aborted || !this.#shared.bounds.mayBegin) this.#leave(delivery);
    else this.#start(delivery);
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
        const context = { correlationId: correlationId ?? '', consumer: this.#options.name };
        this.#run(delivery, new DeliveryJob(delivery, context, this.#stuck), place);
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
      if (result !== undefined) conclude(delivery, result, this.#concluding);
    } catch (error) {
      this.#giveBack(delivery, error);
    }
    if (delivery.settling === undefined) this.#finish(delivery, place);
    else void delivery.settling.then(() => this.#finish(delivery, place));
  }

  #giveBack(delivery: Delivery, error: unknown): void {
    const fields = { err: error, ...delivery.fields() };
    this.#options.log.error(fields, 'a message could not be settled; ending its connection');
    delivery.session.abandon(`a message could not be settled: ${reasonOf(error)}`);
    delivery.release();
  }

  #run(delivery: Delivery, job: Job, place: number): void {
    this.#options.runner.run(job, (result) => {
      if (result.kind === 'returned') this.#pause.returned();
      const isUndone = result.kind === 'threw' && delivery.state === 'unsettled';
      const excused = isUndone ? this.#pause.threw() : undefined;
      if (excused === undefined) this.#end(delivery, place, result);
      else void this.#excuse(delivery, job, place, result, excused);
    });
  }

  /** Runs it again if what it needs was away. */
  async #excuse(
    delivery: Delivery,
    job: Job,
    place: number,
    result: RunResult | Gone,
    excused: Promise<boolean>,
  ): Promise<void> {
    delivery.setHeld(true);
    if (!(await excused)) {
      this.#end(delivery, place, result);
    } else if (this.#options.drain.aborted || !job.isOpen()) {
      this.#end(delivery, place, { kind: 'gone' });
    } else {
      delivery.startedMs = performance.now();
      this.#run(delivery, job, place);
    }
  }

  #finish(delivery: Delivery, place: number): void {
    if (delivery.fatal !== undefined) this.#shared.fail(delivery.fatal);
    this.#inFlight.remove(place);
    if (delivery.outcome !== 'released') this.#shared.position.settled(delivery.frame);
    this.#shared.account.settled(delivery);
    if (!this.#options.drain.aborted) this.#shared.failures.settled(delivery);
    this.#shared.bounds.ended(delivery.outcome === 'released');
    this.#leave(delivery);
  }

  #leave(delivery: Delivery): void {
    this.#turns.end(delivery);
    if (this.#inFlight.size === 0) this.#onIdle?.();
  }
}
