/**
 * One STOMP 1.2 connection, from CONNECT to its end, as promises.
 *
 * States: connecting (openSession) -> open -> closing (close: DISCONNECT sent, nothing else goes out) -> ended. It never
 * reconnects and an ended session stays ended, so a stale ACK cannot reach another connection. Whatever is pending when
 * it ends is rejected; `closed` tells why.
 */
import { randomBytes } from 'node:crypto';
import type { ConnectionOptions } from 'node:tls';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import { encodeLines, type Frame } from './frames.js';
import { FrameError, type Headers } from './headers.js';
import { watchLiveness } from './liveness.js';
import { Receipts, type Awaited } from './receipts.js';
import {
  brokerEnd,
  describeEnd,
  endError,
  type Diagnosis,
  type EndCause,
  type SessionEnd,
} from './session-end.js';
import { createWire, type Connect, type Wire } from './wire.js';

/** What a session must know of how its broker is spoken to. */
export interface Manners {
  readonly livesOnAfterError: boolean;
}

/** What is known of broker products, which the wire itself does not know. */
export interface Products<D> {
  /** How to speak to the one that sent this `server` header in CONNECTED. */
  readonly dialectOf: (server: string | undefined) => D;
  /** What the text of an ERROR means, or undefined for one that is not known. */
  readonly diagnose: (text: string) => Diagnosis | undefined;
}

export interface Login {
  readonly user: string | undefined;
  readonly password: string | undefined;
}

export interface SessionOptions<D> {
  readonly host: string;
  readonly port: number;
  /** Undefined for plain TCP. Called for each connection, as `login` is: files may have been renewed. May throw a PubsubError. */
  readonly tls: (() => Promise<ConnectionOptions>) | undefined;
  readonly vhost: string;
  readonly login: () => Login;
  /**
   * How a backslash in CONNECT is sent, which STOMP 1.2 leaves as it is: RabbitMQ 3.10 and ActiveMQ 5.17 un-escape it.
   */
  readonly escapesBackslashes: boolean;
  readonly clientId: string | undefined;
  readonly products: Products<D>;
  readonly outgoingHeartbeatMs: number;
  readonly incomingHeartbeatMs: number;
  readonly connectTimeoutMs: number;
  readonly receiptTimeoutMs: number;
  readonly maxBodyBytes: number;
}

/** Of the time within which a broker wants to hear of a client that has promised nothing. */
const UNPROMISED_BEAT = 0.5;
/** How long DISCONNECT may wait for its receipt before the socket is closed anyway. */
const CLOSE_TIMEOUT_MS = 5000;

/** A transaction of one session. */
export interface Transaction {
  readonly id: string;
  /** Of the receipt of COMMIT and of each message: one number counts those of any number of messages. */
  readonly receipt: number;
  /** Settles once: when the broker has confirmed COMMIT and every message, or when nothing of the kind will happen. */
  readonly confirmed: Promise<void>;
}

export class Session<D extends Manners = Manners> {
  /** Part of every subscription id, so that no acknowledgement can mean a message of another connection. */
  readonly id = randomBytes(9).toString('base64url');
  /** Settles once, when the session has ended; never rejects. */
  readonly closed: Promise<SessionEnd>;
  readonly address: string;
  /** How to speak to the broker, from CONNECTED on. */
  dialect: D;
  /** The `server` header of CONNECTED. */
  server: string | undefined;
  /** The `heart-beat` header of CONNECTED: what the server sends, and what it wants, in ms. */
  heartbeat: string | undefined;
  /** When the handshake was done, by the monotonic clock. */
  openedMs = 0;

  readonly options: SessionOptions<D>;
  readonly #log: Logger;
  readonly #wire: Wire;
  readonly #subscriptions = new Map<string, (frame: Frame) => void>();
  readonly #receipts: Receipts;
  #endLiveness: (() => void) | undefined;
  #lastId = 0;
  #beating: NodeJS.Timeout | undefined;
  #end: SessionEnd | undefined;
  #resolveClosed: (end: SessionEnd) => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(connect: Connect, options: SessionOptions<D>, log: Logger) {
    this.options = options;
    this.#log = log;
    this.address = `${options.host.includes(':') ? `[${options.host}]` : options.host}:${options.port}`;
    this.dialect = options.products.dialectOf(undefined);
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.#receipts = this.#createReceipts();
    this.#wire = createWire(
      connect,
      options,
      (frame) => this.#dispatch(frame),
      (id) => this.#receipts.arrive(id),
      (end) => this.destroy(end),
    );
  }

  get isOpen(): boolean {
    return this.#end === undefined && this.#closing === undefined;
  }

  /** Sends CONNECT; `onConnected` is called once, at CONNECTED. Any failure ends the session instead. */
  handshake({ user, password }: Login, onConnected: () => void): void {
    const { outgoingHeartbeatMs, incomingHeartbeatMs, vhost, clientId, escapesBackslashes } = this.options;
    const escaped = (text: string) => (escapesBackslashes ? text.replaceAll('\\', '\\\\') : text);
    const headers: Headers = {
      'accept-version': '1.2',
      host: escaped(vhost),
      'heart-beat': `${outgoingHeartbeatMs},${incomingHeartbeatMs}`,
      ...(user === undefined ? {} : { login: escaped(user) }),
      ...(password === undefined ? {} : { passcode: escaped(password) }),
      ...(clientId === undefined ? {} : { 'client-id': escaped(clientId) }),
    };
    try {
      this.#wire.handshake(headers, (connected) => {
        if (this.#begin(connected)) onConnected();
      });
    } catch (error) {
      this.destroy({ kind: 'protocol', message: reasonOf(error), isConfiguration: true });
    }
  }

  /**
   * Subscribes with client-individual acknowledgement. Resolves when the broker confirms; `onMessage` may be called
   * before that. Rejects with `broker-refused` or `connection-lost`. There is no unsubscribing: an ACK that follows an
   * UNSUBSCRIBE is lost on RabbitMQ and ActiveMQ, so a subscription ends with its session.
   */
  subscribe(headers: Headers, idPrefix: string, onMessage: (frame: Frame) => void): Promise<void> {
    const id = `${idPrefix}${this.id}-${++this.#lastId}`;
    this.#subscriptions.set(id, onMessage);
    return this.request('SUBSCRIBE', { ...headers, id, ack: 'client-individual' });
  }

  /**
   * Sends a frame with a receipt; resolves when the broker confirms it. Rejects with `connection-lost`, `broker-refused`
   * or `invalid-header`. A receipt that does not come within `receiptTimeoutMs` ends the session.
   */
  request(command: string, headers: Readonly<Headers>, body?: string | Uint8Array): Promise<void> {
    if (!this.isOpen) return Promise.reject(this.#lost(command));
    return this.#request(command, headers, body);
  }

  /**
   * Sends a message with a receipt, its head encoded (encodeLines); `settle` is called when the broker has confirmed it,
   * or with why not. With `broker-refused` and an open session the ERROR frame named this very message (ActiveMQ 5.17).
   */
  sendWithReceipt(lines: string, body: string | Uint8Array, settle: (error?: PubsubError) => void): void {
    if (this.isOpen) this.#sendWithReceipt('SEND', lines, body, settle, true);
    else settle(this.#lost('SEND'));
  }

  /** Sends a frame without a receipt. False: the session is not open and nothing was sent. */
  sendWithoutReceipt(command: string, headers: Readonly<Headers>, body?: string | Uint8Array): boolean {
    if (!this.isOpen) return false;
    this.#wire.writer.send(command, headers, body);
    return true;
  }

  /** Begins a transaction. Its id is new: BEGIN with a used one throws the first one's frames away (RabbitMQ 3.10). */
  begin(): Transaction {
    // Short: RabbitMQ 3.10.8 keeps 16 bytes for each character of each header until COMMIT.
    const id = `t${++this.#lastId}`;
    let settle: Awaited['settle'] = () => undefined;
    const confirmed = new Promise<void>((resolve, reject) => (settle = settlerOf(resolve, reject)));
    confirmed.catch(() => undefined);
    if (!this.isOpen) settle(this.#lost('BEGIN'));
    const receipt = this.isOpen ? this.#receipts.addLater('a transaction', settle) : 0;
    this.sendWithoutReceipt('BEGIN', { transaction: id });
    return { id, receipt, confirmed };
  }

  /** Sends a message in a transaction, its head encoded (encodeLines). RabbitMQ confirms it only after COMMIT. */
  sendInTransaction({ id, receipt }: Transaction, lines: string, body: string | Uint8Array): void {
    const awaited = this.#receipts.get(receipt);
    if (!this.isOpen || awaited === undefined) return;
    this.#wire.writer.sendLines(`${lines}transaction:${id}\nreceipt:${receipt}\n`, body);
    awaited.left++;
  }

  /**
   * Resolves when the broker has confirmed COMMIT and every message. RabbitMQ's receipt of COMMIT alone promises nothing
   * (3.10.8: a kill at that moment left 0 to 64 of 3,000 messages): only those of the SENDs do, and they come after it.
   */
  commit({ id, receipt, confirmed }: Transaction): Promise<void> {
    const isDue = this.#receipts.get(receipt) !== undefined;
    if (isDue && this.sendWithoutReceipt('COMMIT', { transaction: id, receipt: String(receipt) }))
      this.#receipts.expect(receipt);
    return confirmed;
  }

  /** Resolves when the broker confirms that nothing of the transaction happens. */
  async abort({ id, receipt }: Transaction): Promise<void> {
    this.#receipts.take(receipt)?.settle(new PubsubError('not-confirmed', 'the transaction was aborted'));
    await this.request('ABORT', { transaction: id });
  }

  /**
   * A question whose answer proves that the broker still reads and answers on this connection, and before which comes what
   * was on its way: a transaction that is begun and aborted with nothing in it. It changes nothing, and a memory alarm does
   * not hold it up: RabbitMQ stops reading a connection that has sent a SEND, and a consumer's own never does (seen on
   * RabbitMQ 3.10.8, ActiveMQ 5.17.2). Rejects as `request` does; it is not overdue while messages come, or parts of one.
   */
  ask(): Promise<void> {
    if (!this.isOpen) return Promise.reject(this.#lost('BEGIN'));
    const transaction = `t${++this.#lastId}`;
    this.sendWithoutReceipt('BEGIN', { transaction });
    return new Promise((resolve, reject) => {
      const receipt = this.#receipts.addBehind('ABORT', settlerOf(resolve, reject), () => this.#wire.heard);
      this.sendWithoutReceipt('ABORT', { transaction, receipt: String(receipt) });
    });
  }

  /** Is so much unsent that the caller should wait for `drained`? */
  get isFull(): boolean {
    return this.#wire.writer.isFull;
  }

  /** Resolves when the connection takes more without buffering it, or has ended: it may take as long as a receipt. */
  async drained(): Promise<void> {
    if (!this.isFull) return;
    // A broker that is blocked reads no more, and in a transaction of RabbitMQ no receipt is due yet that would tell.
    const id = this.#receipts.add('a SEND, which the broker does not read,', () => undefined);
    await this.#wire.writer.drained();
    this.#receipts.take(id);
  }

  /**
   * Reads nothing more until `resume`, but for what has been read already. Meanwhile nothing that is awaited is overdue and no
   * heart-beat of the broker is missed; ours are sent.
   */
  pause(): void {
    if (this.#wire.socket.isPaused()) return;
    this.#wire.socket.pause();
    this.#receipts.pause();
  }

  resume(): void {
    if (!this.#wire.socket.isPaused()) return;
    this.#wire.socket.resume();
    this.#receipts.resume();
  }

  /**
   * Sends DISCONNECT, waits a bounded time for its receipt and ends the session. Idempotent, never rejects. RabbitMQ
   * drops the receipts of SENDs still pending then: await those first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Ends the session at once, by our own doing: for what waiting does not cure, or with how long to stay away. */
  abandon(reason: string, how: Pick<EndCause, 'isConfiguration' | 'stayAwayMs'> = {}): void {
    this.destroy({ kind: 'abandoned', message: reason, ...how });
  }

  /** Ends the session at once, for this reason unless it has ended already. */
  destroy(cause: EndCause): void {
    if (this.#end !== undefined) return;
    const end = { isConfiguration: false, ...cause };
    this.#end = end;
    this.#endLiveness?.();
    clearInterval(this.#beating);
    this.#wire.writer.finish();
    this.#subscriptions.clear();
    for (const { what, settle } of this.#receipts.clear()) settle(this.#lost(what));
    this.#wire.destroy();
    this.#resolveClosed(end);
  }

  /** What CONNECTED tells. False: it has ended the session. */
  #begin({ version, server, 'heart-beat': heartbeat }: Readonly<Headers>): boolean {
    if (version !== '1.2') {
      const message = `the broker speaks STOMP ${version ?? '1.0'}; 1.2 is needed`;
      this.destroy({ kind: 'protocol', message, isConfiguration: true });
      return false;
    }
    this.server = server;
    this.heartbeat = heartbeat;
    this.dialect = this.options.products.dialectOf(server);
    this.openedMs = performance.now();
    const { outgoingHeartbeatMs, incomingHeartbeatMs } = this.options;
    const [serverIntervalMs = 0, wantedIntervalMs = 0] = heartbeat?.split(',').map(Number) ?? [];
    // Artemis ends a connection that promises nothing and sends nothing for a minute (2.40).
    if (outgoingHeartbeatMs === 0 && wantedIntervalMs > 0)
      this.#beating = setInterval(() => this.#wire.writer.heartbeat(), wantedIntervalMs * UNPROMISED_BEAT);
    if (serverIntervalMs > 0 && incomingHeartbeatMs > 0) {
      const intervalMs = Math.max(serverIntervalMs, incomingHeartbeatMs);
      this.#endLiveness = watchLiveness(this.#wire.socket, intervalMs, (limitMs) => {
        this.destroy({ kind: 'timeout', message: `no heart-beat within ${Math.round(limitMs)} ms` });
      });
    }
    return true;
  }

  #createReceipts(): Receipts {
    const { receiptTimeoutMs: timeoutMs } = this.options;
    const advice =
      'the broker may be blocked by a memory or disk alarm, or the queue by its limit, or the node that holds it is down, which it tells nobody';
    return new Receipts({
      timeoutMs,
      onSilence: (waitedMs) => {
        const fields = { server: this.address, waitedMs, timeoutMs };
        this.#log.warn(fields, 'no receipt for some seconds: the broker is busy, or blocked by an alarm');
      },
      onOverdue: (what) => {
        const message = `no receipt for ${what} within ${timeoutMs / 1000} s`;
        this.destroy({ kind: 'unconfirmed', message, advice });
      },
    });
  }

  async #close(): Promise<void> {
    if (this.#end !== undefined) return;
    this.resume();
    const timer = setTimeout(() => this.#wire.socket.destroy(), CLOSE_TIMEOUT_MS);
    await this.#request('DISCONNECT', {}).catch((error: unknown) => {
      this.#log.debug({ err: error }, 'the broker did not confirm DISCONNECT');
    });
    clearTimeout(timer);
    this.destroy({ kind: 'closed', message: 'closed' });
  }

  #request(command: string, headers: Readonly<Headers>, body?: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#sendWithReceipt(command, encodeLines(command, headers), body, settlerOf(resolve, reject));
    });
  }

  #sendWithReceipt(
    what: string,
    lines: string,
    body: string | Uint8Array | undefined,
    settle: Awaited['settle'],
    isContained = false,
  ): void {
    const id = this.#receipts.add(what, settle, isContained);
    this.#wire.writer.sendLines(`${lines}receipt:${id}\n`, body);
  }

  #lost(what: string): PubsubError {
    if (this.#end === undefined)
      return new PubsubError('connection-lost', `${what}: the connection is being closed`);
    return endError(this.#end, `${what} not confirmed`);
  }

  #dispatch(frame: Frame): void {
    if (this.#end !== undefined) return;
    switch (frame.command) {
      case 'MESSAGE':
        // One for an unknown subscription is ignored, as the brokers' own late deliveries must be.
        this.#subscriptions.get(frame.headers.subscription ?? '')?.(frame);
        return;
      case 'RECEIPT':
        this.#receipts.arrive(Number(frame.headers['receipt-id']));
        return;
      case 'ERROR':
        this.#takeError(frame);
        return;
      default:
        throw new FrameError(
          `the server sent ${JSON.stringify(frame.command.slice(0, 40))}, which is no STOMP frame`,
        );
    }
  }

  #takeError(frame: Frame): void {
    const end = brokerEnd(frame, this.options.products.diagnose);
    const id = Number(frame.headers['receipt-id']);
    const awaited = this.#receipts.get(id);
    if (awaited?.isContained === true && this.dialect.livesOnAfterError) {
      this.#receipts.take(id);
      awaited.settle(new PubsubError('broker-refused', `${awaited.what} refused: ${describeEnd(end)}`));
    } else {
      this.destroy(end);
    }
  }
}

function settlerOf(resolve: () => void, reject: (error: PubsubError) => void): Awaited['settle'] {
  return (error) => {
    if (error === undefined) resolve();
    else reject(error);
  };
}
