/**
 * One message on the session it came by, to be settled once. States: unsettled -> settling (the verdict is taken, and what
 * is sent before the ACK is not confirmed yet) -> acked | dead-lettered | retried (a copy comes later) | deferred (the
 * same, and nothing was tried) | released (its session ended first, or a stop came before: the broker delivers it again).
 * It knows which frames settle it.
 */
import { PubsubError, reasonOf } from '../errors.js';
import type { Session } from '../sending/connect.js';
import type { DeclaredQueues } from '../sending/declare.js';
import type { HandOver } from '../sending/hand-over.js';
import type { Outgoing } from '../sending/heads.js';
import { traceFields } from '../trace-context.js';
import type { Frame, Headers } from '../stomp/frames.js';
import { deadLetterCopy, errorHeaders, told, type Failure } from './dead-letters.js';
import type { DeliveryContext } from './delivery-context.js';
import type { Outcome, SettledEvent } from './events.js';
import type { Settlement } from './payload.js';
import type { DeliveryCount } from './deliveries.js';
import { attemptOf, retryCopy } from './retries.js';
import { deadLetterQueueIn } from './source.js';
import { tame } from './thrown.js';

/** What all deliveries of a session share. */
export interface Surroundings {
  readonly handOver: HandOver;
  /** Those that the broker itself moves messages to. */
  readonly queues: DeclaredQueues;
}

type State = 'unsettled' | 'settling' | 'deferred' | Outcome;

/** Of a message whose deliveries nobody counts. */
const UNCOUNTED: DeliveryCount = { standing: 'free', before: 0, mark: undefined };

/** Of a message that is acked. */
const NOTHING: Pick<SettledEvent, 'reason' | 'error'> = {};

export class Delivery {
  readonly frame: Frame;
  readonly session: Session;
  readonly #surroundings: Surroundings;
  readonly #context: DeliveryContext;
  #state: State = 'unsettled';
  /** Why it is not acked. */
  why: Pick<SettledEvent, 'reason' | 'error'> = NOTHING;
  /** How often it came before, and what that means. */
  count = UNCOUNTED;
  /** When its callback was started. */
  startedMs = 0;
  /** Since when it is held un-acked by something else than its callback: what must be sent first, or a worker it waits for. */
  heldMs = Infinity;
  /** Since when its callback runs, and nothing else is waited for; Infinity when that is not so. */
  runningMs = Infinity;
  /** Resolves when it is settled, or released; undefined when it is not settling. Never rejects. */
  settling: Promise<void> | undefined;
  /** What the consumer must end for: the broker would destroy the message. */
  fatal: PubsubError | undefined;

  constructor(frame: Frame, surroundings: Surroundings, context: DeliveryContext) {
    this.frame = frame;
    this.session = surroundings.handOver.session;
    this.#surroundings = surroundings;
    this.#context = context;
  }

  get state(): State {
    return this.#state;
  }

  /** What is known of it now: a message that is still settling may come again. */
  get outcome(): Outcome {
    const state = this.#state;
    return state === 'unsettled' || state === 'settling' || state === 'deferred' ? 'released' : state;
  }

  get messageId(): string | undefined {
    return this.frame.headers['message-id'];
  }

  /**
   * Removes the message from its queue: synchronous, the frame being queued when this returns, unless other messages are
   * to be sent first. Then it resolves when these are confirmed, and with `dead-lettered` when the broker refuses one.
   */
  ack(outgoing?: readonly Outgoing[]): Settlement | Promise<Settlement> {
    const refused = this.#take();
    if (refused !== undefined) return refused;
    if (outgoing === undefined && !this.#context.isConfirmed()) {
      this.session.sendWithoutReceipt('ACK', this.#settlingHeaders());
      this.#state = 'acked';
      return 'sent';
    }
    const settled = this.#settle(() => this.#ackAfter(outgoing ?? []));
    if (outgoing === undefined) return 'sent';
    return settled.then(() => {
      if (this.#state === 'acked') return 'sent';
      return this.#state === 'dead-lettered' ? 'dead-lettered' : 'connection-lost';
    });
  }

  /** Begins to move the message to its dead-letter queue; `sent` means that the verdict is taken. */
  deadLetter(failure: Failure): Settlement {
    const refused = this.#take();
    if (refused !== undefined) return refused;
    void this.#settle(() => this.#deadLetter(failure));
    return 'sent';
  }

  /** For a callback that threw: the message comes again, later, or goes to its dead-letter queue after the last attempt. */
  fail(err: unknown): void {
    if (this.#take() === undefined) void this.#settle(() => this.#retry(err));
  }

  /**
   * Has a copy come in its place, later. Resolves with false when the broker takes that copy never: the message is as
   * it was. Never rejects.
   */
  async defer(copy: Outgoing): Promise<boolean> {
    if (this.#take() !== undefined) return true;
    await this.#settle(async () => {
      try {
        await this.#surroundings.handOver.confirm([copy]);
      } catch (error) {
        if (!isRefusal(error)) throw error;
        this.#context.log.warn({ ...this.fields(), err: error }, 'a message cannot be counted');
        this.setHeld(false);
        return 'unsettled';
      }
      await this.#ackCopied();
      return 'deferred';
    });
    return this.#state !== 'unsettled';
  }

  setHeld(isHeld: boolean): void {
    const nowMs = performance.now();
    this.heldMs = isHeld ? nowMs : Infinity;
    this.runningMs = isHeld ? Infinity : nowMs;
  }

  /** Leaves the message to come again; nothing when it is settled. */
  release(): void {
    if (this.#state === 'unsettled') this.#release();
  }

  /** What every log line about this message carries. */
  fields(): object {
    const { headers } = this.frame;
    return {
      messageId: this.messageId,
      destination: headers.destination,
      correlationId: headers['correlation-id'],
      redelivered: headers.redelivered === 'true',
      ...traceFields(headers.traceparent),
    };
  }

  /** Takes the verdict on it, or says why not. */
  #take(): Settlement | undefined {
    if (this.#state !== 'unsettled') {
      this.#context.log.warn(
        { ...this.fields(), state: this.#state },
        'ack() or nack() of a message that is settled already; ignored',
      );
      return 'already-settled';
    }
    if (!this.session.isOpen) {
      this.#release();
      return 'connection-lost';
    }
    this.#state = 'settling';
    return undefined;
  }

  #settle(work: () => Promise<State>): Promise<void> {
    this.setHeld(true);
    const settle = async () => {
      try {
        this.#state = await work();
      } catch (error) {
        // Of what nobody foresaw the broker knows nothing: on a connection that goes on it would keep its place for ever.
        if (error !== this.fatal && !(error instanceof PubsubError))
          this.session.abandon(`a message could not be settled: ${reasonOf(error)}`);
        this.#release(error);
      }
      // Its callback may run on.
      this.setHeld(false);
      this.settling = undefined;
    };
    return (this.settling = settle());
  }

  async #ackAfter(messages: readonly Outgoing[]): Promise<Outcome> {
    try {
      await this.#surroundings.handOver.confirm(messages, { onCarried: this.#context.onPublished });
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return this.#deadLetter({ reason: 'forward-refused', detail: error.message });
    }
    await this.#send('ACK');
    return 'acked';
  }

  async #retry(err: unknown): Promise<Outcome> {
    const { log, retries } = this.#context;
    if (retries.attempts === 1) return this.#deadLetter({ reason: 'callback-failed', err });
    if (!this.session.dialect.comesBack(this.frame.headers))
      return this.#deadLetter({
        reason: 'callback-failed',
        err,
        detail: 'it could not come back to its stream',
      });
    const where = { attempt: attemptOf(this.frame.headers), of: retries.attempts };
    if (where.attempt >= where.of) return this.#deadLetter({ reason: 'callback-failed', err, ...where });
    const history = errorHeaders({ err }, this.#context.deadLetters.tellsError);
    const { copy, delayMs } = retryCopy(retries, this.session.dialect, this.frame, history);
    try {
      await this.#surroundings.handOver.confirm([copy]);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const detail = `its copy was refused: ${error.message}`;
      return this.#deadLetter({ reason: 'callback-failed', err, ...where, detail });
    }
    this.why = { reason: 'callback-failed', error: err };
    if (log.isLevelEnabled('warn'))
      log.warn({ ...where, delayMs, err: tame(err), ...this.fields() }, 'message will be tried again');
    await this.#ackCopied();
    return 'retried';
  }

  /** By a confirmed copy and an ACK; by NACK what cannot be copied, or is not to be. */
  async #deadLetter(failure: Failure): Promise<Outcome> {
    const { deadLetters, isNackPreferred, source } = this.#context;
    const { frame, session } = this;
    const isNacked = isNackPreferred && session.dialect.survivesNack(source, frame.headers);
    if (frame.oversized !== undefined || isNacked) return this.#nack(failure);
    const copy = deadLetterCopy(frame, failure, deadLetters, session.dialect);
    try {
      await this.#surroundings.handOver.confirm([copy], { isHeldWhenRefused: true });
    } catch (error) {
      if (!isRefusal(error)) throw error;
      return this.#nack({
        ...failure,
        detail: `${failure.detail ?? ''} its copy was refused: ${error.message}`.trim(),
      });
    }
    this.#tellDeadLetter(failure, {});
    await this.#ackCopied();
    return 'dead-lettered';
  }

  async #nack(failure: Failure): Promise<Outcome> {
    const { dialect } = this.session;
    if (!dialect.survivesNack(this.#context.source, this.frame.headers)) {
      const { isExisting } = this.#context.source;
      const consequence = isExisting
        ? 'and a NACK may destroy it: raise STOMP_MAX_MESSAGE_BYTES, or, if its queue has a dead-letter exchange, use --dead-letter-by nack'
        : 'and a NACK would destroy it: raise STOMP_MAX_MESSAGE_BYTES';
      this.fatal = new PubsubError(
        'message-too-large',
        `the message ${this.messageId ?? ''} can neither be read nor copied (${failure.detail ?? failure.reason}), ${consequence}`,
      );
      throw this.fatal;
    }
    await this.#surroundings.queues.ensure();
    await this.#send('NACK', dialect.nackHeaders);
    // The broker moves it by itself, which it confirms to nobody.
    this.#tellDeadLetter(failure, { isConfirmed: false });
    return 'dead-lettered';
  }

  #tellDeadLetter(failure: Failure, how: object): void {
    this.why = { reason: failure.reason, ...('err' in failure ? { error: failure.err } : {}) };
    const { log, source } = this.#context;
    const where = { ...deadLetterQueueIn(source), ...how, ...this.fields() };
    log.error({ ...told(failure), ...where }, 'message dead-lettered');
  }

  #release(error?: unknown): void {
    const { isOpen } = this.session;
    this.#state = 'released';
    this.why = {
      reason: isOpen ? 'stopped' : 'connection-lost',
      ...(error === undefined ? {} : { error }),
    };
    const cause = isOpen ? 'a message is given back' : 'the connection of this message is gone';
    const fields = error === undefined ? {} : { reason: reasonOf(error) };
    this.#context.log.warn({ ...fields, ...this.fields() }, `${cause}: it will be delivered again`);
  }

  /** Sends the frame that settles; while draining it resolves when that is confirmed. Rejects when it cannot be sent. */
  async #send(command: 'ACK' | 'NACK', headers: Headers = {}): Promise<void> {
    const frame = { ...this.#settlingHeaders(), ...headers };
    if (!this.#context.isConfirmed() && this.session.sendWithoutReceipt(command, frame)) return;
    await this.session.request(command, frame);
  }

  /** The copy is there: an ACK that is lost now makes the message come again, and changes nothing about that. */
  async #ackCopied(): Promise<void> {
    await this.#send('ACK').catch((error: unknown) => {
      this.#context.log.debug(
        { err: error, ...this.fields() },
        'the ACK of a message that was copied is lost',
      );
    });
  }

  #settlingHeaders(): Headers {
    const { ack, 'message-id': messageId } = this.frame.headers;
    return { id: ack ?? messageId ?? '' };
  }
}

/** The broker takes the message never. */
function isRefusal(error: unknown): error is PubsubError {
  return (
    error instanceof PubsubError && (error.code === 'broker-refused' || error.code === 'message-too-large')
  );
}
