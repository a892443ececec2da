/** A delivery as its callback's runner sees it. A class, for its methods: closures of each message's own would cost more. */
import type { MessageContext } from '../context.js';
import { withoutDelay } from '../brokers/headers.js';
import type { Outgoing } from '../sending/heads.js';
import { encodeHeaders, type Headers } from '../stomp/frames.js';
import type { Delivery } from './delivery.js';
import type { Settlement } from './payload.js';
import type { Job } from './runner.js';
import type { StuckWatch } from './stuck.js';

export class DeliveryJob implements Job {
  readonly context: MessageContext;
  readonly #delivery: Delivery;
  readonly #stuck: StuckWatch;

  constructor(delivery: Delivery, context: MessageContext, stuck: StuckWatch) {
    this.context = context;
    this.#delivery = delivery;
    this.#stuck = stuck;
  }

  get headers(): Readonly<Headers> {
    return withoutDelay(this.#delivery.frame.headers);
  }

  get lines(): string {
    const { lines, headers } = this.#delivery.frame;
    return lines ?? encodeHeaders(headers);
  }

  get raw(): Buffer {
    return this.#delivery.frame.body;
  }

  get session(): Delivery['session'] {
    return this.#delivery.session;
  }

  ack(outgoing?: readonly Outgoing[]): Settlement | Promise<Settlement> {
    return this.#delivery.ack(outgoing);
  }

  nack(): Settlement {
    return this.#delivery.deadLetter({ reason: 'nack' });
  }

  isOpen(): boolean {
    return this.#delivery.state === 'unsettled' && this.#delivery.session.isOpen;
  }

  setHeld(isHeld: boolean): void {
    if (!isHeld && this.#delivery.heldMs < Infinity) this.#stuck.reset();
    this.#delivery.setHeld(isHeld);
  }
}
