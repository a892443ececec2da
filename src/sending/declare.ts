/**
 * Brings queues into being without touching their messages: a subscription with a prefetch of -1 declares its queue,
 * compares the arguments and is handed nothing, and marks nothing as redelivered (RabbitMQ 3.10.8, 4.0.5 and 4.3.6, classic
 * and quorum). It needs no transaction, whose frames may wait for COMMIT, and a memory alarm does not hold it up.
 */
import type { Declaration } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import { openBeside } from '../stomp/open.js';
import type { Session } from './connect.js';
import { FRESH_MS } from './link.js';

/**
 * Declares over a short connection of its own to the same server: what is refused ends that one alone. Resolves when the
 * queues are there, with those that are there with `other` arguments. Rejects with `broker-refused` (no permission),
 * `broker-unreachable` or `connection-lost`.
 */
export async function declareQueues(
  beside: Session,
  declarations: readonly Declaration[],
  log: Logger,
  signal?: AbortSignal,
): Promise<{ readonly other: PubsubError | undefined }> {
  let other: PubsubError | undefined;
  let left = declarations;
  while (left.length > 0) {
    const session = await openBeside(beside, log, signal);
    try {
      for (const declaration of left) {
        left = left.slice(1);
        await declare(session, declaration);
      }
    } catch (error) {
      if (!(error instanceof PubsubError) || (await session.closed).meaning !== 'other-queue') throw error;
      other ??= error;
    } finally {
      await session.close();
    }
  }
  return { other };
}

async function declare(session: Session, { destination, headers }: Declaration): Promise<void> {
  try {
    await session.subscribe({ destination, ...headers, 'prefetch-count': '-1' }, '', () => undefined);
  } catch (error) {
    if (!(error instanceof PubsubError)) throw error;
    throw new PubsubError(error.code, `cannot declare ${destination}: ${error.message}`, { cause: error });
  }
}

/**
 * Queues that must be there for what the broker itself moves to them: declared again before that, unless it was done
 * lately.
 */
export class DeclaredQueues {
  readonly #beside: Session;
  readonly #declarations: readonly Declaration[];
  readonly #log: Logger;
  #declaredMs = performance.now();
  #declaring: Promise<void> | undefined;

  /** Of queues that were declared just now. */
  constructor(beside: Session, declarations: readonly Declaration[], log: Logger) {
    this.#beside = beside;
    this.#declarations = declarations;
    this.#log = log;
  }

  /** Resolves when they are there, or it is told in the log that nobody knows; never rejects. */
  async ensure(): Promise<void> {
    if (this.#declarations.length === 0 || performance.now() - this.#declaredMs < FRESH_MS) return;
    this.#declaring ??= this.#declare().finally(() => (this.#declaring = undefined));
    await this.#declaring;
  }

  async #declare(): Promise<void> {
    try {
      await declareQueues(this.#beside, this.#declarations, this.#log);
      this.#declaredMs = performance.now();
    } catch (error) {
      this.#log.warn({ err: error }, 'it is not known whether the dead-letter queue is still there');
    }
  }
}
