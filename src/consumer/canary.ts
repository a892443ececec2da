/**
 * Finds out whether the broker still answers on a connection that brings nothing. An answer that does not come within the
 * receipt timeout ends the session, as every receipt does.
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
      await session.ask();
      onAnswer(performance.now() - sinceMs);
    } catch {
      // The session has ended, and tells why.
    }
    isAsking = false;
  };
  const timer = setInterval(() => void ask(), intervalMs).unref();
  void session.closed.then(() => clearInterval(timer));
}
