/**
 * The rule for messages that something else than their callbacks keeps from being settled: what must be sent first is not
 * taken, or no worker starts that could run them. They are held un-acked for a while, below RabbitMQ's consumer_timeout of
 * 30 minutes. Then the connection is given up, so that they go back, and the consumer stays away, ever longer: to come
 * again at once would be a loop, and each delivery counts towards the limit of a quorum queue, which is 20 on RabbitMQ 4.
 */
import type { Session } from '../sending/connect.js';
import type { Delivery } from './delivery.js';

const LONGEST_ABSENCE_MS = 3_600_000;
/** From so many deliveries on a message is not fetched again before somebody has looked at what is wrong. */
const MANY_DELIVERIES = 15;
const LOOKS = 20;

export class StuckWatch {
  readonly #limitMs: number;
  readonly #inFlight: () => readonly Delivery[];
  /** Absences in a row. */
  #absences = 0;

  constructor(limitMs: number, inFlight: () => readonly Delivery[]) {
    this.#limitMs = limitMs;
    this.#inFlight = inFlight;
  }

  /** What was stuck goes on: the next absence is a short one. */
  reset(): void {
    this.#absences = 0;
  }

  /** Gives the session up when something is stuck on it. */
  watch(session: Session): void {
    const timer = setInterval(() => {
      const stuck = this.#stuckOn(session);
      if (stuck.length > 0) this.#stayAway(session, stuck);
    }, this.#limitMs / LOOKS);
    void session.closed.then(() => clearInterval(timer));
  }

  #stuckOn(session: Session): Delivery[] {
    const sinceMs = performance.now() - this.#limitMs;
    return this.#inFlight().filter((delivery) => delivery.session === session && delivery.heldMs < sinceMs);
  }

  #stayAway(session: Session, stuck: readonly Delivery[]): void {
    const { deliveryLimit } = session.dialect;
    const counts = stuck.map(({ frame }) => deliveryLimit?.deliveriesOf(frame.headers) ?? 0);
    const isForGood = Math.max(...counts) >= MANY_DELIVERIES;
    const waitMs = Math.min(LONGEST_ABSENCE_MS, this.#limitMs * 2 ** Math.min(this.#absences++, 20));
    const reason =
      `${stuck.length} messages could not be settled for ${this.#limitMs / 1000} s (STOMP_HOLD_SECONDS) and go back: ` +
      'see the log for the queue that takes nothing, or the worker that does not start' +
      (isForGood
        ? `; they were delivered ${MANY_DELIVERIES} times and more: restart the consumer when it is mended`
        : '');
    session.abandon(reason, { stayAwayMs: isForGood ? Infinity : waitMs });
  }
}
