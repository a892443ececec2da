/**
 * Stops a consumer when message after message fails: then it is the deploy that is broken, not the messages, and the whole
 * queue would end up in its dead-letter queue. What is in flight then is finished, as at every stop.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { BoundReached } from './bounds.js';
import type { Delivery } from './delivery.js';

export class FailureLimit {
  /** What the consumer ends with, once the limit is reached. */
  error: PubsubError | undefined;
  readonly #limit: number;
  readonly #stop: (why: BoundReached) => void;
  readonly #log: Logger;
  #failures = 0;

  /** `limit` 0: never. */
  constructor(limit: number, stop: (why: BoundReached) => void, log: Logger) {
    this.#limit = limit;
    this.#stop = stop;
    this.#log = log;
  }

  /** Counts an attempt at a message. One that goes back undone counts for neither. */
  settled({ outcome, why }: Pick<Delivery, 'outcome' | 'why'>): void {
    if (outcome === 'acked') this.#failures = 0;
    if (outcome === 'acked' || outcome === 'released') return;
    if (++this.#failures !== this.#limit) return;
    this.error = new PubsubError(
      'failure-limit',
      `${this.#limit} messages in a row failed (STOMP_FAILURE_LIMIT), the last one by ${why.reason ?? outcome}: stopped before more do`,
    );
    this.#log.error({ failures: this.#failures }, 'too many messages in a row failed; stopping');
    this.#stop('failure-limit');
  }
}
