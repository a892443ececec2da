/**
 * Stops a consumer when message after message fails: then it is the deploy that is broken, not the messages, and the whole
 * queue would end up in its dead-letter queue. What is in flight then is finished, as at every stop.
 */
import { whenAborted } from '../aborted.js';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import type { Delivery } from './delivery.js';

interface Stop {
  readonly drain: AbortSignal;
  readonly abort: AbortSignal;
}

export class FailureLimit implements Stop {
  /** Those it was given, or its own. */
  readonly drain: AbortSignal;
  readonly abort: AbortSignal;
  /** What the consumer ends with, once the limit is reached. */
  error: PubsubError | undefined;
  readonly #limit: number;
  readonly #stop: () => void;
  readonly #log: Logger;
  #failures = 0;

  /** `failureLimit` 0: never. */
  constructor({ failureLimit, gracefulWaitSeconds }: Settings, given: Stop, log: Logger) {
    this.#limit = failureLimit;
    this.#log = log;
    if (failureLimit === 0) {
      this.drain = given.drain;
      this.abort = given.abort;
      this.#stop = () => undefined;
      return;
    }
    const [drain, abort] = [new AbortController(), new AbortController()];
    whenAborted(given.drain, () => drain.abort());
    whenAborted(given.abort, () => abort.abort());
    this.drain = drain.signal;
    this.abort = abort.signal;
    this.#stop = () => {
      setTimeout(() => abort.abort(), gracefulWaitSeconds * 1000).unref();
      drain.abort();
    };
  }

  /** Counts an attempt at a message. One that goes back undone counts for neither. */
  settled({ outcome, why }: Pick<Delivery, 'outcome' | 'why'>): void {
    if (outcome === 'acked') this.#failures = 0;
    if (outcome === 'acked' || outcome === 'released' || this.drain.aborted) return;
    if (++this.#failures !== this.#limit) return;
    this.error = new PubsubError(
      'failure-limit',
      `${this.#limit} messages in a row failed (STOMP_FAILURE_LIMIT), the last one by ${why.reason ?? outcome}: stopped before more do`,
    );
    this.#log.error({ failures: this.#failures }, 'too many messages in a row failed; stopping');
    this.#stop();
  }
}
