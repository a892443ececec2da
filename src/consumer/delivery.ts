/**
 * One message on the session it came by, to be settled once. States: unsettled -> acked | dead-lettered | retried (a copy
 * comes later) | released (its session ended first, or a stop came before it could be run: the broker delivers it again).
 * It knows which frames settle it on which broker.
 */
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Source } from '../brokers/destinations.js';
import type { Frame, Headers } from '../stomp/frames.js';
import type { Outgoing } from '../sending/heads.js';
import type { HandOver } from '../sending/hand-over.js';
import type { Session } from '../sending/connect.js';
import type { DeadLetterReason, Outcome, SettledEvent } from './events.js';
import type { Settlement } from './payload.js';
import { attemptOf, deadLetterCopy, retryCopy, type Retries } from './retries.js';

/** What the log tells of a failure beside its reason. */
export interface FailureFields {
  readonly detail?: string;
  readonly err?: unknown;
  /** With retries: the number of the attempt, and of how many. */
  readonly attempt?: number;
  readonly of?: number;
}

export interface DeliveryContext {
  readonly source: Source;
  readonly retries: Retries;
  readonly log: Logger;
  /** Must settling frames be confirmed by the broker (while draining)? */
  readonly isConfirmed: () => boolean;
}

type Settled = Exclude<Outcome, 'released'>;

export class Delivery {
  readonly frame: Frame;
  readonly session: Session;
  readonly #handOver: HandOver;
  readonly #context: DeliveryContext;
  state: 'unsettled' | Outcome = 'unsettled';
  /** Why it is not acked. */
  why: Pick<SettledEvent, 'reason' | 'error'> = {};
  /** When its callback was started. */
  startedMs = 0;
  /** Settling that is still on its way to the broker: what is sent before an ACK, or a receipt. Never rejects. */
  settling: Promise<void> | undefined;

  constructor(frame: Frame, handOver: HandOver, context: DeliveryContext) {
    this.frame = frame;
    this.session = handOver.session;
    this.#handOver = handOver;
    this.#context = context;
  }

  get messageId(): string | undefined {
    return this.frame.headers['message-id'];
  }

  /**
   * Removes the message from its queue: synchronous, the frame being queued when this returns, unless other messages are
   * to be sent first. Then it resolves when these are confirmed, and with `dead-lettered` when the broker refuses one.
   */
  ack(outgoing?: readonly Outgoing[]): Settlement | Promise<Settlement> {
    if (outgoing === undefined) return this.#settle('acked', () => this.#send('ACK', {}));
    const settlement = this.#replace('acked', outgoing, (refusal) => {
      this.deadLetter('forward-refused', { detail: refusal.message });
    });
    if (settlement !== 'sent') return settlement;
    return Promise.resolve(this.settling).then(() =>
      this.state === 'acked' ? 'sent' : this.state === 'dead-lettered' ? 'dead-lettered' : 'connection-lost',
    );
  }

  /** Moves the message to its dead-letter queue and logs why. Synchronous as ack is, whatever may have to be sent. */
  deadLetter(reason: DeadLetterReason, failure: FailureFields = {}): Settlement {
    const settlement = this.#nack();
    if (settlement === 'sent') this.#tellDeadLetter(reason, failure);
    return settlement;
  }

  /** For a callback that threw: the message comes again, later, or goes to its dead-letter queue after the last attempt. */
  fail(err: unknown): void {
    const { log, retries } = this.#context;
    const { frame } = this;
    if (retries.attempts === 1) {
      this.deadLetter('callback-failed', { err });
      return;
    }
    const attempt = attemptOf(frame.headers);
    const where = { attempt, of: retries.attempts };
    // Without a copy there is a dead letter all the same, only without its history.
    const onRefused = ({ message }: PubsubError) => {
      this.deadLetter('callback-failed', { err, ...where, detail: `its copy was refused: ${message}` });
    };
    if (attempt < retries.attempts) {
      const { copy, delayMs } = retryCopy(retries, this.session.dialect, frame, err);
      if (this.#replace('retried', [copy], onRefused) !== 'sent') return;
      this.why = { reason: 'callback-failed', error: err };
      log.warn({ ...where, delayMs, err, ...this.fields() }, 'message will be tried again');
      return;
    }
    const copy = deadLetterCopy(retries, this.session.dialect, frame, { err });
    if (this.#replace('dead-lettered', [copy], onRefused) === 'sent')
      this.#tellDeadLetter('callback-failed', { err, ...where });
  }

  #tellDeadLetter(reason: DeadLetterReason, failure: FailureFields): void {
    this.why = { reason, ...('err' in failure ? { error: failure.err } : {}) };
    const { log, source } = this.#context;
    const where = { deadLetterQueue: source.deadLetterQueue, ...this.fields() };
    log.error({ reason, ...failure, ...where }, 'message dead-lettered');
  }

  /** By NACK where the broker then moves it, else by a copy and an ACK. */
  #nack(): Settlement {
    const { source } = this.#context;
    const { dialect } = this.session;
    // What was too large to be read cannot be copied.
    if (this.frame.oversized !== undefined || dialect.canDeadLetterByNack(source, this.frame.headers)) {
      const nack = () => this.#send('NACK', dialect.nackHeaders);
      return this.#settle('dead-lettered', () => {
        const ensured = this.#handOver.ensureQueues();
        return ensured === undefined ? nack() : ensured.then(nack);
      });
    }
    return this.#replace(
      'dead-lettered',
      [deadLetterCopy(this.#context.retries, dialect, this.frame)],
      (refusal) => {
        // It must come again: nothing of this session can settle it.
        this.session.abandon(refusal.message, { isConfiguration: true });
        throw refusal;
      },
    );
  }

  #settle(state: Settled, send: () => Promise<void> | undefined): Settlement {
    if (this.state !== 'unsettled') {
      this.#context.log.warn(
        { ...this.fields(), state: this.state },
        'ack() or nack() of a message that is settled already; ignored',
      );
      return 'already-settled';
    }
    if (!this.session.isOpen) {
      this.release();
      return 'connection-lost';
    }
    this.state = state;
    this.settling = send()?.then(
      () => (this.settling = undefined),
      (error: unknown) => {
        this.settling = undefined;
        this.#release({ reason: reasonOf(error) }, { error });
      },
    );
    return 'sent';
  }

  /** Sends these messages, then acks this one. When the broker refuses one, it is unsettled again for `onRefused`. */
  #replace(
    state: Settled,
    messages: readonly Outgoing[],
    onRefused: (refusal: PubsubError) => void,
  ): Settlement {
    return this.#settle(state, async () => {
      const { isConfirmed } = this.#context;
      try {
        await this.#handOver.sendThenAck(messages, this.#settlingHeaders(), isConfirmed);
      } catch (error) {
        if (!(error instanceof PubsubError && error.code === 'broker-refused')) throw error;
        this.state = 'unsettled';
        const begun = this.settling;
        onRefused(error);
        // By then another one, or the same that waits for this.
        if (this.settling !== begun) await this.settling;
      }
    });
  }

  /** Leaves the message to come again; nothing when it is settled. */
  release(): void {
    if (this.state === 'unsettled') this.#release({}, {});
  }

  #release(fields: object, error: Pick<SettledEvent, 'error'>): void {
    const { isOpen } = this.session;
    this.state = 'released';
    this.why = { reason: isOpen ? 'stopped' : 'connection-lost', ...error };
    const cause = isOpen ? 'a message is given back' : 'the connection of this message is gone';
    this.#context.log.warn({ ...fields, ...this.fields() }, `${cause}: it will be delivered again`);
  }

  /** What is known of it now: a message whose settling is still on its way may come again. */
  get outcome(): Outcome {
    return this.state === 'unsettled' || this.settling !== undefined ? 'released' : this.state;
  }

  /** Sends the frame that settles; the promise, while draining, is of its confirmation. */
  #send(command: 'ACK' | 'NACK', headers: Headers): Promise<void> | undefined {
    const frame = { ...this.#settlingHeaders(), ...headers };
    if (this.#context.isConfirmed() || !this.session.isOpen) return this.session.request(command, frame);
    this.session.sendWithoutReceipt(command, frame);
    return undefined;
  }

  #settlingHeaders(): Headers {
    const { ack, 'message-id': messageId } = this.frame.headers;
    return { id: ack ?? messageId ?? '' };
  }

  /** What every log line about this message carries. */
  fields(): object {
    const { headers } = this.frame;
    return {
      messageId: this.messageId,
      destination: headers.destination,
      correlationId: headers['correlation-id'],
      redelivered: headers.redelivered === 'true',
    };
  }
}
