/**
 * The question whose answer proves that the broker still reads and answers on a connection: a transaction that is begun and
 * aborted with nothing in it. It changes nothing, and a memory alarm does not hold it up: RabbitMQ stops reading a connection
 * that has sent a SEND, and a consumer's own never does (seen on RabbitMQ 3.10.8, ActiveMQ 5.17.2). An answer that does not
 * come within the receipt timeout ends the session, as every receipt does.
 */
import type { Session } from '../sending/connect.js';

/** Asks every so often, for as long as the session lives; 0 for never. `onAnswer` is told how long each answer took, in ms. */
export function keepAsking(
  session: Session,
  intervalMs: number,
  onAnswer: (durationMs: number) => void,
): void {
  if (intervalMs === 0) return;
  let isAsking = false;
  const ask = async () => {
    if (isAsking || !session.isOpen) return;
    isAsking = true;
    const sinceMs = performance.now();
    try {
      await session.abort(session.begin());
      onAnswer(performance.now() - sinceMs);
    } catch {
      // The session has ended, and tells why.
    }
    isAsking = false;
  };
  const timer = setInterval(() => void ask(), intervalMs).unref();
  void session.closed.then(() => clearInterval(timer));
}
