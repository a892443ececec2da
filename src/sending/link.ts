/**
 * One connection to send over, for one owner: opened when it is needed, opened again when it was lost, and renewed when it
 * is stale. Renewal goes on under load: what comes then waits until everything on the old connection is confirmed, and only
 * then does the new one carry anything, so that the order of messages is kept.
 *
 * Stale: RabbitMQ declares a queue for the first SEND of a connection alone, and confirms and drops what is sent to one
 * that was deleted since (3.10.8). So no connection is used for longer than a few seconds there.
 */
import { PubsubError } from '../errors.js';
import type { Session } from './connect.js';

/** How long it is taken for granted that a queue is still there. */
export const FRESH_MS = 5000;

/** A connection that is lent; each loan is to be ended once, when all that was sent is confirmed or given up. */
export class Lease {
  readonly session: Session;
  readonly #onUnused: () => void;
  uses = 0;

  constructor(session: Session, onUnused: () => void) {
    this.session = session;
    this.#onUnused = onUnused;
  }

  get isUsable(): boolean {
    return this.session.isOpen;
  }

  get isStale(): boolean {
    const { dialect, openedMs } = this.session;
    return dialect.swallowsWhenDeleted && performance.now() - openedMs > FRESH_MS;
  }

  lend(): this {
    this.uses++;
    return this;
  }

  end(): void {
    if (--this.uses === 0) this.#onUnused();
  }
}

interface Waiting {
  readonly admit: (lease: Lease) => void;
  readonly refuse: (error: unknown) => void;
}

export class Link {
  readonly #open: () => Promise<Session>;
  #current: Lease | undefined;
  #isOpening = false;
  #isClosed = false;
  /** For a connection, the first first. */
  #waiting: Waiting[] = [];

  /** `open` makes a connection; what it rejects with is told to all that wait for one. */
  constructor(open: () => Promise<Session>) {
    this.#open = open;
  }

  /** Lends the connection at once; undefined when it has to be opened or renewed first. */
  tryLease(): Lease | undefined {
    const current = this.#current;
    if (current?.isUsable !== true || this.#waiting.length > 0 || current.isStale) return undefined;
    return current.lend();
  }

  /** Lends the connection, in the order of the calls. Rejects with what opening it rejects with, and after the end. */
  lease(): Promise<Lease> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ admit: (lease) => resolve(lease.lend()), refuse: reject });
      this.#advance();
    });
  }

  /** Lends the connection until the work has settled. Rejects as lease and the work do. */
  async use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const lease = this.tryLease() ?? (await this.lease());
    try {
      return await work(lease.session);
    } finally {
      lease.end();
    }
  }

  /** Disconnects; never rejects. What was sent must have been awaited. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#current?.session.close();
  }

  /** Breaks the connection off. */
  abandon(reason: string): void {
    this.#isClosed = true;
    this.#current?.session.abandon(reason);
  }

  /** Lets in those that wait, or does what they wait for. */
  #advance(): void {
    if (this.#waiting.length === 0 || this.#isOpening) return;
    const current = this.#current;
    if (this.#isClosed) {
      this.#refuse(new PubsubError('connection-lost', 'the connection to send over was closed'));
    } else if (current?.isUsable !== true) {
      void this.#renew();
    } else if (!current.isStale) {
      for (const { admit } of this.#waiting.splice(0)) admit(current);
    } else if (current.uses === 0) {
      this.#current = undefined;
      void current.session.close();
      void this.#renew();
    }
  }

  async #renew(): Promise<void> {
    this.#isOpening = true;
    let session: Session;
    try {
      session = await this.#open();
    } catch (error) {
      this.#refuse(error);
      return;
    } finally {
      this.#isOpening = false;
    }
    if (this.#isClosed) session.abandon('closed while it was opened');
    const lease = new Lease(session, () => this.#advance());
    this.#current = lease;
    void session.closed.then(() => {
      if (this.#current !== lease) return;
      this.#current = undefined;
      this.#advance();
    });
    this.#advance();
  }

  #refuse(error: unknown): void {
    for (const { refuse } of this.#waiting.splice(0)) refuse(error);
  }
}
