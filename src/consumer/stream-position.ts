/**
 * How far a stream has been consumed. RabbitMQ does not remember that: a subscription begins where it says (3.10.8). So the
 * next one of this consumer begins at the first message that is not settled yet. Only for whoever says where to begin: that
 * a message has an offset proves no stream, and another queue refuses a subscription that names one.
 */
import type { Logger } from '../log.js';
import type { Frame, Headers } from '../stomp/frames.js';

const OFFSET = 'x-stream-offset';

export class StreamPosition {
  readonly #isStream: boolean;
  /** Received by the latest subscription and not settled, in order. */
  readonly #unsettled = new Set<number>();
  #next: number | undefined;

  readonly #log: Logger;
  #hasWarned = false;

  /** `given`: the headers of the subscription that the user gives. */
  constructor(given: Readonly<Headers>, log: Logger) {
    this.#isStream = given[OFFSET] !== undefined;
    this.#log = log;
  }

  /** Would a new subscription begin elsewhere than where this one has come to? */
  get isUnknown(): boolean {
    return this.#isStream && this.#next === undefined;
  }

  received(frame: Frame): void {
    if (frame.headers[OFFSET] !== undefined && !this.#isStream) this.#warn();
    const offset = this.#offsetOf(frame);
    if (offset === undefined) return;
    this.#unsettled.add(offset);
    this.#next = offset + 1;
  }

  settled(frame: Frame): void {
    const offset = this.#offsetOf(frame);
    if (offset !== undefined) this.#unsettled.delete(offset);
  }

  /** The headers of the next subscription, which gets again what is not settled. */
  resume(): Headers {
    const [first = this.#next] = this.#unsettled;
    this.#unsettled.clear();
    return first === undefined ? {} : { [OFFSET]: `offset=${first}` };
  }

  #warn(): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    const remedy = '--subscribe-header x-stream-offset=first (or next) goes on where a lost connection ended';
    this.#log.warn(
      {},
      `this may be a stream, of which a lost connection loses what comes meanwhile: ${remedy}`,
    );
  }

  #offsetOf({ headers: { [OFFSET]: offset = '' } }: Frame): number | undefined {
    return this.#isStream && /^\d{1,15}$/.test(offset) ? Number(offset) : undefined;
  }
}
