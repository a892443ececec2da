/**
 * One transaction from BEGIN to COMMIT or ABORT. Hides what each broker's receipts are worth, and that a connection
 * which is lost in the middle is not waited for. It is never replayed: only the caller knows what a repetition does.
 */
import { existingQueueOf } from '../brokers/queues.js';
import { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Session } from './connect.js';
import { requireTarget } from './existing.js';
import { refuseGivenUp, whenGivenUp, type Attempt } from './giving-up.js';
import { failureOf, linesFor, type Outgoing } from './heads.js';
import { FRESH_MS } from './link.js';
import { explained, Suspects } from './losses.js';

/** Sends a message; the next must wait for what it returns, if anything. */
export type Add = (message: Outgoing) => Promise<void> | undefined;

/**
 * All or nothing: COMMIT when `work` resolves, ABORT when it rejects, and then with its error. Resolves with what `work`
 * gave when the broker has confirmed every message. Rejects with `connection-lost` before COMMIT (nothing was sent), with
 * `not-confirmed` after it (nobody knows), and with `message-too-large` when one is over a limit of the broker.
 */
export async function transact<T>(
  session: Session,
  log: Logger,
  work: (add: Add) => Promise<T>,
  attempt?: Attempt,
): Promise<T> {
  const ends: NonNullable<Outgoing['end']>[] = [];
  try {
    const noting = (add: Add) =>
      work((message) => {
        if (message.end !== undefined) ends.push(message.end);
        try {
          return add(message);
        } catch (error) {
          // Those of a transaction that is over have ended.
          message.end?.(failureOf(error));
          throw error;
        }
      });
    const result = await carryOut(session, log, noting, attempt);
    for (const end of ends) end();
    return result;
  } catch (error) {
    for (const end of ends) end(failureOf(error));
    throw error;
  }
}

async function carryOut<T>(
  session: Session,
  log: Logger,
  work: (add: Add) => Promise<T>,
  attempt: Attempt | undefined,
): Promise<T> {
  const transaction = session.begin();
  const suspects = new Suspects();
  let isOver = false;
  const send: Add = (message) => {
    if (isOver) {
      const problem = 'the transaction is over: await every send inside of it';
      throw new PubsubError('invalid-usage', problem);
    }
    suspects.add(message);
    session.sendInTransaction(transaction, linesFor(message, session.dialect), message.body);
    if (!session.isOpen) return transaction.confirmed;
    return session.isFull ? session.drained() : undefined;
  };
  const targets = new Targets(session, log);
  const add: Add = (message) => {
    const known = targets.require(message.destination);
    return known === undefined ? send(message) : known.then(() => send(message));
  };
  const givingUp = attempt && whenGivenUp(attempt);
  let result: T;
  try {
    // Work may wait for something else: a connection that is lost meanwhile ends the transaction at once.
    const lost = transaction.confirmed.then(() => new Promise<never>(() => undefined));
    // Work that throws at once is not raced with it.
    lost.catch(() => undefined);
    result = await Promise.race([work(add), lost, ...(givingUp === undefined ? [] : [givingUp.stopped])]);
    refuseGivenUp(attempt);
  } catch (error) {
    isOver = true;
    await session.abort(transaction).catch((abortError: unknown) => {
      log.debug({ err: abortError }, 'the connection ended with its transaction: nothing was sent');
    });
    throw await explainLoss(session, error, suspects, log);
  } finally {
    givingUp?.forget();
  }
  isOver = true;
  if (attempt !== undefined) attempt.isSent = true;
  try {
    await session.commit(transaction);
  } catch (error) {
    throw await explainCommit(session, await explainLoss(session, error, suspects, log));
  }
  return result;
}

/** Queues that are used as they are must be there; each is looked for once in a while. */
class Targets {
  readonly #session: Session;
  readonly #log: Logger;
  readonly #looks = new Map<string, { readonly done: Promise<void>; doneMs: number }>();

  constructor(session: Session, log: Logger) {
    this.#session = session;
    this.#log = log;
  }

  /** Undefined when nothing has to be waited for; else it resolves and rejects as requireTarget. */
  require(destination: string): Promise<void> | undefined {
    if (existingQueueOf(destination) === undefined) return undefined;
    const last = this.#looks.get(destination);
    if (last !== undefined && performance.now() - last.doneMs < FRESH_MS)
      return last.doneMs === Infinity ? last.done : undefined;
    const look = { done: requireTarget(this.#session, destination, this.#log), doneMs: Infinity };
    this.#looks.set(destination, look);
    look.done.then(
      () => (look.doneMs = performance.now()),
      () => this.#looks.delete(destination),
    );
    return look.done;
  }
}

/**
 * The error with what the connection was lost for. With a message over a limit of the broker in it no transaction comes to its
 * COMMIT: nothing was sent.
 */
async function explainLoss(
  session: Session,
  error: unknown,
  suspects: Suspects,
  log: Logger,
): Promise<unknown> {
  if (session.isOpen || !(error instanceof PubsubError) || error.code !== 'connection-lost') return error;
  const cause = await suspects.causeOf(session, log);
  return cause?.culprit === undefined ? explained(error, cause) : cause.error;
}

/** What a COMMIT that was not confirmed leaves behind: where frames are carried out one by one, perhaps a part. */
async function explainCommit({ isOpen, closed, dialect }: Session, error: unknown): Promise<unknown> {
  if (!(error instanceof PubsubError)) return error;
  const meaning = isOpen ? undefined : (await closed).meaning;
  const part = dialect.commitsOneByOne ? ', or a part of it,' : '';
  if (error.code === 'message-too-large') return error;
  if (error.code !== 'broker-refused')
    return asUnconfirmed(error, `the transaction${part} may or may not have been carried out`);
  if (meaning === 'nothing-committed' || !dialect.commitsOneByOne) return error;
  return unconfirmed(error, 'what came before that in the transaction may have been carried out');
}

/** A connection that was lost when a confirmation was due. */
export function asUnconfirmed(error: unknown, consequence: string): unknown {
  if (!(error instanceof PubsubError) || error.code !== 'connection-lost') return error;
  return unconfirmed(error, consequence);
}

const unconfirmed = (error: PubsubError, consequence: string): PubsubError =>
  new PubsubError('not-confirmed', `${error.message}; ${consequence}`, { cause: error });
