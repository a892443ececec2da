/** Work and callbacks that end with an AbortSignal, and leave nothing behind on it. */

/** What `work` settles with, or undefined when the signal is aborted before. */
export async function orAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T | undefined> {
  let stop: () => void = () => undefined;
  const stopped = new Promise<undefined>((resolve) => (stop = () => resolve(undefined)));
  const forget = whenAborted(signal, stop);
  try {
    return await Promise.race([work, stopped]);
  } finally {
    forget();
  }
}

/** Calls it when the signal is aborted, at once when it is already; never after the function returned was called. */
export function whenAborted(signal: AbortSignal, call: () => void): () => void {
  if (signal.aborted) call();
  else signal.addEventListener('abort', call, { once: true });
  return () => signal.removeEventListener('abort', call);
}
