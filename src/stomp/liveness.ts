/** The check of the broker's heart-beats. */
import type { Socket } from 'node:net';

/** Beats that may be missing: ActiveMQ's first comes after two intervals (5.17). */
const INTERVALS = 2.5;

/**
 * Calls `onSilent` when nothing has come for too long. A blocked event loop runs timers before it reads, so what waits in
 * the socket is read before the verdict. Returns what ends the check.
 */
export function watchLiveness(
  socket: Socket,
  intervalMs: number,
  onSilent: (limitMs: number) => void,
): () => void {
  let seenBytes = socket.bytesRead;
  let seenMs = performance.now();
  const limitMs = intervalMs * INTERVALS;
  const isSilent = () => {
    // Of one that is not read nothing can be said.
    if (socket.bytesRead !== seenBytes || socket.isPaused()) {
      seenBytes = socket.bytesRead;
      seenMs = performance.now();
    }
    return performance.now() - seenMs > limitMs;
  };
  const timer = setInterval(() => {
    if (!isSilent()) return;
    setImmediate(() => {
      if (isSilent()) onSilent(limitMs);
    });
  }, intervalMs / 2);
  return () => clearInterval(timer);
}
