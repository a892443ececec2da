/**
 * One connection to send over, for one owner: opened when it is needed, opened again when it was lost, and renewed when it
 * is stale. Renewal goes on under load: what comes then waits until everything on the old connection is confirmed, and only
 * then does the new one carry anything, so that the order of messages is kept.
 *
 * Stale: RabbitMQ declares a queue for the first SEND of a connection alone, and confirms and drops what is sent to one
 * that was deleted since (3.10.8). So no connection is used for longer than a few seconds there.
 *
 * Alone: an ERROR of RabbitMQ names no message, and a connection that ends may end for any message under way. So the
 * first message to a destination goes alone over each connection: it is then that a broker refuses a destination.
 */
import { PubsubError } from '../errors.js';
import { WaitingLine } from '../waiting-line.js';
import type { Session } from './connect.js';

/** How long it is taken for granted that a queue is still there. */
export const FRESH_MS = 5000;

/** Destinations that are remembered at once: some programs give every message one of its own. */
const MOST_KNOWN = 10_000;

/** A connection that is lent; each loan is to be ended once, when all that was sent is confirmed or given up. */
export class Lease {
  readonly session: Session;
  readonly #known = new Set<string>();
  readonly #onEnd: () => void;
  uses = 0;
  /** There is one loan, and no other until it has ended. */
  isAlone = false;

  constructor(session: Session, onEnd: () => void) {
    this.session = session;
    this.#onEnd = onEnd;
  }

  /** Can nothing more be sent, or not for sure? */
  get isSpent(): boolean {
    const { dialect, isOpen, openedMs } = this.session;
    return !isOpen || (dialect.swallowsWhenDeleted && performance.now() - openedMs > FRESH_MS);
  }

  /** Has a message to this destination been confirmed over this connection? */
  knows(destination: string): boolean {
    return this.#known.has(destination);
  }

  lend(isAlone: boolean): this {
    this.uses++;
    this.isAlone = isAlone;
    return this;
  }

  /** `confirmed`: the destination that has just been proved to take messages, if any. */
  end(confirmed?: string): void {
    if (confirmed !== undefined && this.isAlone) this.#remember(confirmed);
    this.uses--;
    this.isAlone = false;
    if (this.uses === 0) this.#onEnd();
  }

  #remember(destination: string): void {
    if (this.#known.size >= MOST_KNOWN) this.#known.clear();
    this.#known.add(destination);
  }
}

interface Waiting {
  readonly mustBeAlone: (lease: Lease) => boolean;
  readonly admit: (lease: Lease) => void;
  readonly refuse: (error: unknown) => void;
}

export class Link {
  readonly #open: () => Promise<Session>;
  #current: Lease | undefined;
  readonly #isOrdered: boolean;
  #isOpening = false;
  #isClosed = false;
  /** For a connection, the first first. */
  readonly #waiting = new WaitingLine<Waiting>();

  /**
   * `open` makes a connection; what it rejects with is told to all that wait for one. Where order does not matter, none
   * waits for another: a stale connection that is in use is left to its users, and closed after them.
   */
  constructor(open: () => Promise<Session>, { isOrdered = true } = {}) {
    this.#open = open;
    this.#isOrdered = isOrdered;
  }

  /**
   * Lends the connection at once; undefined when a message to this destination, or to one that is left out because it needs
   * no message that goes alone, has to wait for something.
   */
  tryLease(destination?: string): Lease | undefined {
    const lease = this.#current;
    if (lease === undefined || this.#waiting.length > 0 || lease.isAlone) return undefined;
    const isKnown = destination === undefined || lease.knows(destination);
    return !lease.isSpent && isKnown ? lease.lend(false) : undefined;
  }

  /**
   * Lends the connection for a message to this destination, in the order of the calls; alone if it is the first one, or so
   * wanted. Rejects with what opening the connection rejects with.
   */
  lease(destination: string, isAlone = false): Promise<Lease> {
    return this.#wait((lease) => isAlone || !lease.knows(destination));
  }

  /** Lends the connection until the work has settled. Rejects as lease and the work do. */
  async use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const lease = await this.#wait(() => false);
    try {
      return await work(lease.session);
    } finally {
      lease.end();
    }
  }

  /** Disconnects, for good; never rejects. What was sent must have been awaited, what waits is refused. */
  async close(): Promise<void> {
    this.#end('closed');
    await this.#current?.session.close();
  }

  /** Breaks the connection off, for good. */
  abandon(reason: string): void {
    this.#end(reason);
    this.#current?.session.abandon(reason);
  }

  #end(reason: string): void {
    this.#isClosed = true;
    this.#refuseAll(new PubsubError('connection-lost', reason));
  }

  #refuseAll(error: unknown): void {
    for (const { refuse } of this.#waiting.clear()) refuse(error);
  }

  #wait(mustBeAlone: Waiting['mustBeAlone']): Promise<Lease> {
    return new Promise((admit, refuse) => {
      this.#waiting.push({ mustBeAlone, admit, refuse });
      if (this.#isClosed) this.#end('closed');
      else this.#advance();
    });
  }

  /** Lets in those that wait, or does what they wait for. */
  #advance(): void {
    if (this.#isOpening) return;
    for (let next = this.#waiting.first; next !== undefined; next = this.#waiting.first) {
      const lease = this.#current;
      if (lease === undefined || (lease.isSpent && this.#mayLeave(lease))) {
        this.#current = undefined;
        if (lease?.uses === 0) void lease.session.close();
        void this.#renew();
        return;
      }
      const isAlone = next.mustBeAlone(lease);
      if (lease.isSpent || lease.isAlone || (isAlone && lease.uses > 0)) return;
      this.#waiting.shift();
      next.admit(lease.lend(isAlone));
    }
  }

  #mayLeave({ uses, session }: Lease): boolean {
    return uses === 0 || !session.isOpen || !this.#isOrdered;
  }

  #takeBack(lease: Lease): void {
    if (lease !== this.#current) void lease.session.close();
    this.#advance();
  }

  async #renew(): Promise<void> {
    this.#isOpening = true;
    let session: Session;
    try {
      session = await this.#open();
    } catch (error) {
      this.#isOpening = false;
      this.#refuseAll(error);
      return;
    }
    this.#isOpening = false;
    if (this.#isClosed) session.abandon('closed while it was opened');
    const lease: Lease = new Lease(session, () => this.#takeBack(lease));
    this.#current = lease;
    void session.closed.then(() => this.#advance());
    this.#advance();
  }
}
