/**
 * One transaction from BEGIN to COMMIT or ABORT. Hides what each broker's receipts are worth, and that a connection
 * which is lost in the middle is not waited for. It is never replayed: only the caller knows what a repetition does.
 */
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Session } from './connect.js';

/** Sends a message, its head encoded (outgoing.ts); the next must wait for what it returns, if anything. */
export type Add = (lines: string, json: string) => Promise<void> | undefined;

/**
 * All or nothing: COMMIT when `work` resolves, ABORT when it rejects, and then with its error. Resolves with what `work`
 * gave when the broker has confirmed every message. Rejects with `connection-lost` before COMMIT (nothing was sent) and
 * with `not-confirmed` after it: nobody knows.
 */
export async function transact<T>(session: Session, log: Logger, work: (add: Add) => Promise<T>): Promise<T> {
  const transaction = session.begin();
  let isOver = false;
  const add: Add = (lines, json) => {
    if (isOver) {
      const problem = 'the transaction is over: await every send inside of it';
      throw new PubsubError('invalid-usage', problem);
    }
    session.sendInTransaction(transaction, lines, json);
    if (!session.isOpen) return transaction.confirmed;
    return session.isFull ? session.drained() : undefined;
  };
  let result: T;
  try {
    // Work may wait for something else: a connection that is lost meanwhile ends the transaction at once.
    const lost = transaction.confirmed.then(() => new Promise<never>(() => undefined));
    result = await Promise.race([work(add), lost]);
  } catch (error) {
    isOver = true;
    await session.abort(transaction).catch((abortError: unknown) => {
      log.debug({ err: abortError }, 'the connection ended with its transaction: nothing was sent');
    });
    throw error;
  }
  isOver = true;
  try {
    await session.commit(transaction);
  } catch (error) {
    const isRefused = error instanceof PubsubError && error.code === 'broker-refused';
    // Newer RabbitMQ says that before it has come to COMMIT.
    const isEarly = isRefused && /Too many actions|frames in a transaction/.test(error.message);
    if (isRefused && !isEarly && session.dialect.commitsOneByOne)
      throw unconfirmed(error, 'what came before that in the transaction may have been carried out');
    throw asUnconfirmed(error, 'the transaction may or may not have been carried out');
  }
  return result;
}

/** A connection that was lost when a confirmation was due. */
export function asUnconfirmed(error: unknown, consequence: string): unknown {
  if (!(error instanceof PubsubError) || error.code !== 'connection-lost') return error;
  return unconfirmed(error, consequence);
}

const unconfirmed = (error: PubsubError, consequence: string): PubsubError =>
  new PubsubError('not-confirmed', `${error.message}; ${consequence}`, { cause: error });
