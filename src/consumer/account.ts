/**
 * What a consumer says of itself: its attempts counted for the summary, and each of them, like every turn of its
 * connection, told to whoever observes it and to the log. After the consumer has given up nothing more is told.
 */
import type { Logger } from '../log.js';
import type { Session } from '../sending/connect.js';
import { describeEnd } from '../stomp/session-end.js';
import type { Delivery } from './delivery.js';
import {
  tell,
  type ConnectionEvent,
  type ConsumerObserver,
  type PublishedEvent,
  type RoundTripEvent,
  type SettledEvent,
} from './events.js';
import type { Numbers } from './numbers.js';
import { attemptOf } from './retries.js';
import { tame } from './thrown.js';

/**
 * What a consumer did, counted in deliveries. `redelivered` are those that were delivered before, to this consumer or to
 * another; `released` those that the broker delivers again.
 */
export interface ConsumeSummary {
  received: number;
  redelivered: number;
  acked: number;
  deadLettered: number;
  /** Sent again by us, to come later. */
  retried: number;
  released: number;
}

export const nothingYet = (): ConsumeSummary => ({
  received: 0,
  redelivered: 0,
  acked: 0,
  deadLettered: 0,
  retried: 0,
  released: 0,
});

const countOf = {
  acked: 'acked',
  'dead-lettered': 'deadLettered',
  retried: 'retried',
  released: 'released',
} as const;

export class Account {
  readonly #observer: ConsumerObserver;
  readonly #log: Logger;
  readonly #numbers: Numbers | undefined;
  readonly summary = nothingYet();
  #isClosed = false;

  constructor(observer: ConsumerObserver, log: Logger, numbers: Numbers | undefined) {
    this.#observer = observer;
    this.#log = log;
    this.#numbers = numbers;
  }

  started({ startedMs }: Delivery, isRedelivered: boolean): void {
    this.summary.received++;
    if (isRedelivered) this.summary.redelivered++;
    this.#numbers?.received(startedMs, isRedelivered);
    const { onReceived } = this.#observer;
    if (onReceived !== undefined) tell(onReceived, { isRedelivered }, this.#log);
  }

  published(event: PublishedEvent): void {
    if (!this.#isClosed) tell(this.#observer.onPublished, event, this.#log);
  }

  answered(event: RoundTripEvent): void {
    if (!this.#isClosed) tell(this.#observer.onRoundTrip, event, this.#log);
  }

  settled(delivery: Delivery): void {
    const { outcome, why } = delivery;
    this.summary[countOf[outcome]]++;
    if (this.#isClosed) return;
    this.#numbers?.settled(outcome, why.reason, performance.now() - delivery.startedMs);
    if (this.#isHeard) this.#tellSettled(delivery, { outcome, ...why });
  }

  /** The last that is told: the attempts whose callbacks still run. */
  giveUp(unfinished: readonly Delivery[]): void {
    this.#isClosed = true;
    for (const delivery of unfinished) {
      const { outcome, why } = delivery;
      const told = outcome === 'released' ? ({ outcome, reason: 'stopped' } as const) : { outcome, ...why };
      this.#numbers?.settled(outcome, told.reason, performance.now() - delivery.startedMs);
      this.#tellSettled(delivery, told);
    }
  }

  /** Tells that the session is open, and why when it is lost. */
  watch(session: Session): void {
    this.turned('connected', session);
    void session.closed.then((end) => {
      if (end.kind !== 'closed') this.turned('lost', session, { reason: describeEnd(end) });
    });
  }

  turned(
    kind: ConnectionEvent['kind'],
    session: Session | undefined,
    why: Pick<ConnectionEvent, 'reason'> = {},
  ): void {
    const isUp = kind === 'connected' || kind === 'subscribed';
    this.tellConnection({
      kind,
      ...(session === undefined ? {} : { server: session.address }),
      ...(session !== undefined && isUp ? { broker: session.server ?? session.dialect.name } : {}),
      ...why,
    });
  }

  tellConnection(event: ConnectionEvent): void {
    if (!this.#isClosed) tell(this.#observer.onConnection, event, this.#log);
  }

  get #isHeard(): boolean {
    return this.#observer.onSettled !== undefined || this.#log.isLevelEnabled('debug');
  }

  #tellSettled(delivery: Delivery, what: Pick<SettledEvent, 'outcome' | 'reason' | 'error'>): void {
    const isLogged = this.#log.isLevelEnabled('debug');
    const { onSettled } = this.#observer;
    const { headers } = delivery.frame;
    const durationMs = Math.round((performance.now() - delivery.startedMs) * 1000) / 1000;
    const { outcome } = what;
    if (isLogged) this.#log.debug({ ...delivery.fields(), durationMs, outcome }, 'message processed');
    if (onSettled === undefined) return;
    const error = 'error' in what ? { error: tame(what.error) } : {};
    tell(onSettled, { ...what, ...error, attempt: attemptOf(headers), durationMs, headers }, this.#log);
  }
}
