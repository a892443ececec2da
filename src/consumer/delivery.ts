/**
 * One message on the session it came by, to be settled once. States: unsettled -> acked | nacked | released (its session
 * ended first: the broker delivers the message again). It knows which frames settle it on which broker.
 */
import { reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import { copyHeaders } from '../stomp/copies.js';
import type { Source } from '../stomp/destinations.js';
import { deadLetterArguments } from '../stomp/dialects.js';
import type { Frame, Headers } from '../stomp/frames.js';
import type { Session } from '../stomp/session.js';
import type { Refusal, Settlement } from './payload.js';

/** Why a message goes to its dead-letter queue. */
export type DeadLetterReason =
  'nack' | 'callback-failed' | 'unsettled' | 'missing-correlation-id' | 'too-large' | Refusal;

export interface DeliveryContext {
  readonly source: Source;
  readonly log: Logger;
  /** Must settling frames be confirmed by the broker (while draining)? */
  readonly isConfirmed: () => boolean;
}

export class Delivery {
  readonly frame: Frame;
  readonly session: Session;
  readonly #context: DeliveryContext;
  state: 'unsettled' | 'acked' | 'nacked' | 'released' = 'unsettled';
  /** Settling that is still on its way to the broker: a copy to the dead-letter queue, or a receipt. Never rejects. */
  settling: Promise<void> | undefined;

  constructor(frame: Frame, session: Session, context: DeliveryContext) {
    this.frame = frame;
    this.session = session;
    this.#context = context;
  }

  get messageId(): string | undefined {
    return this.frame.headers['message-id'];
  }

  /** Removes the message from its queue. Synchronous: the frame is queued when this returns. */
  ack(): Settlement {
    return this.#settle('acked', () => this.#send('ACK', {}));
  }

  /** Moves the message to its dead-letter queue: by NACK where the broker then does so, else by a copy and an ACK. */
  nack(): Settlement {
    const { source } = this.#context;
    const { dialect } = this.session;
    // What was too large to be read cannot be copied.
    if (this.frame.oversized !== undefined || dialect.canDeadLetterByNack(source, this.frame.headers)) {
      return this.#settle('nacked', () => this.#send('NACK', dialect.nackHeaders));
    }
    return this.#settle('nacked', () => this.#copyThenAck());
  }

  #settle(state: 'acked' | 'nacked', send: () => Promise<void> | undefined): Settlement {
    if (this.state !== 'unsettled') {
      this.#context.log.warn(
        { ...this.fields(), state: this.state },
        'ack() or nack() of a message that is settled already; ignored',
      );
      return 'already-settled';
    }
    if (!this.session.isOpen) {
      this.#release(undefined);
      return 'connection-lost';
    }
    this.state = state;
    this.settling = send()?.catch((error: unknown) => this.#release(error));
    return 'sent';
  }

  #release(error: unknown): void {
    this.state = 'released';
    const fields = error === undefined ? this.fields() : { ...this.fields(), reason: reasonOf(error) };
    this.#context.log.warn(fields, 'the connection of this message is gone: it will be delivered again');
  }

  /** Sends the frame that settles; the promise, while draining, is of its confirmation. */
  #send(command: 'ACK' | 'NACK', headers: Headers): Promise<void> | undefined {
    const { ack, 'message-id': messageId } = this.frame.headers;
    const frame = { id: ack ?? messageId ?? '', ...headers };
    if (this.#context.isConfirmed()) return this.session.request(command, frame);
    this.session.send(command, frame);
    return undefined;
  }

  async #copyThenAck(): Promise<void> {
    const { source } = this.#context;
    const { headers, body } = this.frame;
    await this.session.request(
      'SEND',
      {
        ...copyHeaders(this.frame),
        destination: `/queue/${source.deadLetterQueue}`,
        ...deadLetterArguments(`DLQ.${source.deadLetterQueue}`),
        persistent: 'true',
        'original-destination': headers.destination ?? source.destination,
      },
      body,
    );
    await this.#send('ACK', {});
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
