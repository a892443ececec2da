/**
 * Sending that its caller may give up on, by an AbortSignal. What was not on its way yet is not sent then; of what was, nobody
 * knows: the error says which.
 */
import { setMaxListeners } from 'node:events';
import { whenAborted } from '../aborted.js';
import { PubsubError } from '../errors.js';

export interface Abortable {
  /**
   * Aborted: the call rejects at once. With `interrupted` nothing is sent; with `not-confirmed` it was on its way, and may or may
   * not have arrived.
   */
  readonly signal?: AbortSignal | undefined;
}

/** One call that may be given up. */
export interface Attempt {
  readonly signal: AbortSignal;
  /** It cannot be taken back any more. */
  isSent: boolean;
}

/** Settles as `work` does, or rejects when the signal is aborted before. The work finds out by its attempt. */
export async function untilGivenUp<T>(
  signal: AbortSignal,
  work: (attempt: Attempt) => Promise<T>,
): Promise<T> {
  const attempt = { signal, isSent: false };
  // One for any number of calls: Node would warn of the eleventh.
  setMaxListeners(0, signal);
  refuseGivenUp(attempt);
  const { stopped, forget } = whenGivenUp(attempt);
  try {
    return await Promise.race([work(attempt), stopped]);
  } finally {
    forget();
  }
}

/** A promise that rejects when it is given up, until `forget` is called. */
export function whenGivenUp(attempt: Attempt): { stopped: Promise<never>; forget: () => void } {
  let refuse: (error: PubsubError) => void = () => undefined;
  const stopped = new Promise<never>((_, reject) => (refuse = reject));
  stopped.catch(() => undefined);
  return { stopped, forget: whenAborted(attempt.signal, () => refuse(givenUp(attempt))) };
}

/** Throws when it has been given up. */
export function refuseGivenUp(attempt: Attempt | undefined): void {
  if (attempt?.signal.aborted === true) throw givenUp(attempt);
}

function givenUp({ signal, isSent }: Attempt): PubsubError {
  const cause: unknown = signal.reason;
  return isSent
    ? new PubsubError('not-confirmed', 'given up by its signal on its way: it may or may not have arrived', {
        cause,
      })
    : new PubsubError('interrupted', 'given up by its signal: nothing was sent', { cause });
}
