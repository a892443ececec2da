/**
 * Messages that were lost with their connection where nobody sends them again. Hides how the one that a broker ended it for,
 * without a word, is found among many: the longest and the one with the most headers are examined, once for all of them.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import { openBeside } from '../stomp/open.js';
import { describeEnd } from '../stomp/session-end.js';
import type { Session } from './connect.js';
import { examine, tooLarge, wordless } from './examine.js';
import { sizeOf, type Outgoing } from './heads.js';

/** Somebody waits for the error, and the broker may be blocked. */
const LIMIT_MS = 5000;

const quick = ({ options }: Session): Pick<Session, 'options'> => ({
  options: {
    ...options,
    connectTimeoutMs: Math.min(options.connectTimeoutMs, LIMIT_MS),
    receiptTimeoutMs: Math.min(options.receiptTimeoutMs, LIMIT_MS),
  },
});

/** What a connection ended for, as the error to tell. `culprit`: the message that is over a limit of the broker, if one is. */
export interface Cause {
  readonly error: PubsubError;
  readonly culprit?: Outgoing;
}

/** Of the messages of a connection those that may have met a limit. */
export class Suspects {
  #longest: Outgoing | undefined;
  #richest: Outgoing | undefined;
  #bytes = -1;
  #headers = -1;

  add(message: Outgoing): void {
    const { bytes, headers } = sizeOf(message);
    if (bytes > this.#bytes) [this.#longest, this.#bytes] = [message, bytes];
    if (headers > this.#headers) [this.#richest, this.#headers] = [message, headers];
  }

  /** What the session ended for; undefined when that is not to be found out. Never rejects. */
  async causeOf(session: Session, log: Logger, stop?: AbortSignal): Promise<Cause | undefined> {
    const end = await session.closed;
    if (end.kind !== 'transport') return undefined;
    let cause: Cause | undefined;
    for (const message of new Set([this.#longest, this.#richest])) {
      if (message === undefined) continue;
      const finding = await examine(() => openBeside(quick(session), log, stop), message);
      if (finding === 'unknown') return undefined;
      if (finding === 'unreadable') return { error: tooLarge(message, describeEnd(end)), culprit: message };
      cause = { error: new PubsubError('connection-lost', wordless) };
    }
    return cause;
  }
}

/** The losses of one owner's connections. */
export class Losses {
  readonly #log: Logger;
  readonly #stop = new AbortController();
  readonly #known = new WeakMap<Session, { suspects: Suspects; cause: Promise<Cause | undefined> }>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** What the session ended for that this message was lost with. Never rejects. To be called as soon as it is lost. */
  causeOf(session: Session, message: Outgoing): Promise<Cause | undefined> {
    const loss = this.#known.get(session) ?? this.#begin(session);
    loss.suspects.add(message);
    return loss.cause;
  }

  /** Nothing is found out any longer. */
  end(): void {
    this.#stop.abort();
  }

  /** All that end with a session are told of it before its end is. */
  #begin(session: Session) {
    const suspects = new Suspects();
    const loss = { suspects, cause: suspects.causeOf(session, this.#log, this.#stop.signal) };
    this.#known.set(session, loss);
    return loss;
  }
}

/** The error with its cause, when that is known. */
export function explained(error: PubsubError, cause: Cause | undefined): PubsubError {
  if (cause === undefined) return error;
  return new PubsubError(error.code, `${error.message}: ${cause.error.message}`, { cause: cause.error });
}
