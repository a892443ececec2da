/**
 * One STOMP 1.2 connection, from CONNECT to its end, as promises; the only place that knows stompit.
 *
 * States: connecting (openSession) -> open -> closing (close: DISCONNECT sent, nothing else goes out) -> ended. It never
 * reconnects and an ended session stays ended, so a stale ACK cannot reach another connection. Whatever is pending when
 * it ends is rejected; `closed` tells why.
 *
 * stompit's Client does the handshake, our outgoing heart-beats and the teardown. MESSAGE, RECEIPT and ERROR frames go
 * from our decoder straight to the session, in wire order: RabbitMQ answers a SUBSCRIBE it refuses with an ERROR and
 * then a RECEIPT, and stompit hands frames on a tick later, one by one.
 */
import { randomBytes } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import stompit from 'stompit';
import { PubsubError, reasonOf } from '../errors.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import { detectDialect, type Dialect } from './dialects.js';
import { encodeLines, FrameDecoder, FrameError, type Frame, type Headers } from './frames.js';
import { brokerEnd, describeEnd, endError, transportEnd, type SessionEnd } from './session-end.js';
import { FrameWriter } from './writer.js';

export interface SessionOptions {
  readonly host: string;
  readonly port: number;
  /** Undefined for plain TCP. */
  readonly tls: ConnectionOptions | undefined;
  readonly vhost: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly clientId: string | undefined;
  readonly broker: Settings['broker'];
  readonly outgoingHeartbeatMs: number;
  readonly incomingHeartbeatMs: number;
  readonly connectTimeoutMs: number;
  readonly receiptTimeoutMs: number;
  readonly maxBodyBytes: number;
}

/** RabbitMQ takes any number of headers; what goes beyond this is dropped but for what settles the message. */
const MAX_HEADER_BYTES = 16 * 1024 * 1024;
/** How long DISCONNECT may wait for its receipt before the socket is closed anyway. */
const CLOSE_TIMEOUT_MS = 5000;
/** Without any receipt for so long the broker is worth a word: a healthy one confirms within milliseconds. */
const SILENCE_MS = 5000;

/**
 * How long one address of a name may take before the next is tried. Node gives it 250 ms, and then takes a broker that
 * is far away for dead; a second is above every round trip on Earth.
 */
const ADDRESS_TIMEOUT_MS = 1000;

/** A transaction of one session. */
export interface Transaction {
  readonly id: string;
  /** Settles once: when the broker has confirmed COMMIT and every message, or when nothing of the kind will happen. */
  readonly confirmed: Promise<void>;
}

/** How long it is taken for granted that a queue is still there. */
export const FRESH_MS = 5000;

interface PendingReceipt {
  readonly what: string;
  /** Since when it is due; not yet at Infinity. */
  startMs: number;
  /** So many more are to come with this id. */
  left: number;
  readonly settle: (error?: PubsubError) => void;
  /** An ERROR that names this receipt is about its frame alone. */
  readonly isContained?: boolean;
}

/**
 * Connects, over TCP or TLS, up to the CONNECTED frame, within `connectTimeoutMs` for all of it. Rejects with
 * `broker-refused` when only a change of settings can help, else with `broker-unreachable`.
 */
export async function openSession(
  options: SessionOptions,
  log: Logger,
  signal?: AbortSignal,
): Promise<Session> {
  signal?.throwIfAborted();
  const { host, port, tls } = options;
  const tcp = {
    ...{ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 },
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: Math.ceil(Math.min(ADDRESS_TIMEOUT_MS, options.connectTimeoutMs / 2)),
  };
  const socket = tls === undefined ? connectTcp(tcp) : connectTls({ ...tcp, ...tls }).setNoDelay(true);
  const reached = { tcp: false, tls: false };
  socket.once('connect', () => (reached.tcp = true)).once('secureConnect', () => (reached.tls = true));
  const session = new Session(socket, options, log);
  const abort = () =>
    session.destroy({ kind: 'local', message: 'stopped while connecting', isConfiguration: false });
  signal?.addEventListener('abort', abort, { once: true });
  const timer = setTimeout(() => {
    const message = `no answer to CONNECT within ${options.connectTimeoutMs / 1000} s`;
    session.destroy({ kind: 'timeout', message, isConfiguration: false });
  }, options.connectTimeoutMs);
  const opened = new Promise<'opened'>((resolve) => {
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () =>
      session.handshake(() => resolve('opened')),
    );
  });
  const outcome = await Promise.race([opened, session.closed]);
  clearTimeout(timer);
  signal?.removeEventListener('abort', abort);
  if (outcome === 'opened') return session;
  signal?.throwIfAborted();
  // A server without TLS on this port does not say so: it hangs up, or waits.
  const advice = 'no TLS handshake: check STOMP_USE_SSL and the port';
  const end = tls !== undefined && reached.tcp && !reached.tls ? { advice, ...outcome } : outcome;
  throw endError(end, `cannot connect to ${host}:${port}`);
}

/**
 * Another connection to the same server, for what must not share the first one. Rejects as openSession does. A client id
 * is the first one's alone.
 */
export function openBeside(
  { options }: Session,
  log: Logger,
  signal: AbortSignal,
  receiptTimeoutMs = options.receiptTimeoutMs,
): Promise<Session> {
  return openSession({ ...options, clientId: undefined, receiptTimeoutMs }, log, signal);
}

export class Session {
  /** Part of every subscription id, so that no acknowledgement can mean a message of another connection. */
  readonly id = randomBytes(9).toString('base64url');
  /** Settles once, when the session has ended; never rejects. */
  readonly closed: Promise<SessionEnd>;
  readonly address: string;
  dialect: Dialect;
  /** The `server` header of CONNECTED. */
  server: string | undefined;

  readonly options: SessionOptions;
  #openedMs = 0;
  readonly #log: Logger;
  readonly #socket: Socket;
  readonly #writer: FrameWriter;
  readonly #client: InstanceType<typeof stompit.Client>;
  readonly #subscriptions = new Map<string, (frame: Frame) => void>();
  readonly #receipts = new Map<string, PendingReceipt>();
  #receiptTimer: NodeJS.Timeout | undefined;
  #livenessTimer: NodeJS.Timeout | undefined;
  #lastId = 0;
  /**
   * Frames are answered with a byte then. ActiveMQ 5.17 leaves Nagle's algorithm on: of two frames, the receipt of a COMMIT
   * and the next message, one waits until the other is acknowledged, which the kernel puts off by 40 ms when there is
   * nothing to send.
   */
  #hasOffered = false;
  #end: SessionEnd | undefined;
  #resolveClosed: (end: SessionEnd) => void = () => undefined;
  #closing: Promise<void> | undefined;

  constructor(socket: Socket, options: SessionOptions, log: Logger) {
    this.#socket = socket;
    this.options = options;
    this.#log = log;
    this.address = `${options.host}:${options.port}`;
    this.dialect = detectDialect(undefined, options.broker);
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    // Heard before stompit, which takes the end of a connection, and its reset, for a fault in the protocol.
    socket.on('error', (error) => this.destroy(transportEnd(error)));
    socket.on('end', () =>
      this.destroy(transportEnd(socket.errored ?? new Error('the server ended the connection'))),
    );
    this.#writer = new FrameWriter(socket);
    this.#client = new stompit.Client(socket, {
      outgoingFrameStream: this.#writer,
      transform: this.#createTransform(),
      // Beats leave early: ActiveMQ 5.17 drops a client whose beat is a few ms late.
      heartbeatOutputMargin: Math.floor(options.outgoingHeartbeatMs * 0.3),
    });
    this.#client.on('error', (error: Error & { code?: string; isProtocolError?: () => boolean }) => {
      this.destroy(transportEnd(error));
    });
    this.#client.on('end', () =>
      this.destroy({ kind: 'transport', message: 'connection ended', isConfiguration: false }),
    );
    // stompit hears neither a socket that closes without FIN nor one that is destroyed.
    socket.on('close', () =>
      this.destroy({ kind: 'transport', message: 'connection closed', isConfiguration: false }),
    );
  }

  /**
   * Should what is sent to a queue from now on go over another connection? RabbitMQ 3.10.8 declares a queue for the first
   * SEND of a connection alone, and confirms and drops what is sent to one that was deleted since.
   */
  get isStale(): boolean {
    return this.dialect.hasQueueArguments && performance.now() - this.#openedMs > FRESH_MS;
  }

  get isOpen(): boolean {
    return this.#end === undefined && this.#closing === undefined;
  }

  /** Sends CONNECT; `onConnected` is called once, at CONNECTED. Any failure ends the session instead. */
  handshake(onConnected: () => void): void {
    const { outgoingHeartbeatMs, incomingHeartbeatMs, vhost, user, password, clientId } = this.options;
    const headers: Headers = {
      'accept-version': '1.2',
      host: vhost,
      'heart-beat': `${outgoingHeartbeatMs},${incomingHeartbeatMs}`,
      ...(user === undefined ? {} : { login: user }),
      ...(password === undefined ? {} : { passcode: password }),
      ...(clientId === undefined ? {} : { 'client-id': clientId }),
    };
    try {
      this.#client.connect(headers, (error) => {
        if (error !== null) return;
        const { version, server, 'heart-beat': heartbeat } = this.#client.headers;
        if (version !== '1.2') {
          const message = `the broker speaks STOMP ${version ?? '1.0'}; 1.2 is needed`;
          this.destroy({ kind: 'protocol', message, isConfiguration: true });
          return;
        }
        this.server = server;
        this.dialect = detectDialect(server, this.options.broker);
        this.#watchLiveness(Number(heartbeat?.split(',')[0] ?? 0));
        this.#openedMs = performance.now();
        onConnected();
      });
    } catch (error) {
      this.destroy({ kind: 'protocol', message: reasonOf(error), isConfiguration: true });
      return;
    }
    // Ours is the check of the broker's beats: stompit's kills a healthy connection after a blocked event loop.
    this.#client.setHeartbeat([outgoingHeartbeatMs, 0]);
  }

  /**
   * Subscribes with client-individual acknowledgement. Resolves when the broker confirms; `onMessage` may be called
   * before that. Rejects with `broker-refused` or `connection-lost`. There is no unsubscribing: an ACK that follows an
   * UNSUBSCRIBE is lost on RabbitMQ and ActiveMQ, so a subscription ends with its session.
   */
  subscribe(headers: Headers, idPrefix: string, onMessage: (frame: Frame) => void): Promise<void> {
    const id = `${idPrefix}${this.id}-${this.#nextId()}`;
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

  /** Like request, for a SEND whose head is encoded (encodeLines), and with a callback: a promise costs as much. */
  transmit(lines: string, body: string | Uint8Array, settle: (error?: PubsubError) => void): void {
    if (this.isOpen) this.#transmit('SEND', lines, body, settle);
    else settle(this.#lost('SEND'));
  }

  /** Sends a frame without a receipt. False: the session is not open and nothing was sent. */
  send(command: string, headers: Readonly<Headers>, body?: string | Uint8Array): boolean {
    if (!this.isOpen) return false;
    this.#writer.send(command, headers, body);
    return true;
  }

  /** Begins a transaction. Its id is new: BEGIN with a used one throws the first one's frames away (RabbitMQ 3.10). */
  begin(): Transaction {
    // Short: RabbitMQ 3.10.8 keeps 16 bytes for each character of each header until COMMIT.
    const id = `t${this.#nextId()}`;
    let settle: PendingReceipt['settle'] = () => undefined;
    const confirmed = new Promise<void>((resolve, reject) => (settle = settlerOf(resolve, reject)));
    confirmed.catch(() => undefined);
    // COMMIT and all messages ask for a receipt of the same id: one number counts those of any number of messages.
    if (this.isOpen) this.#receipts.set(id, { what: 'a transaction', startMs: Infinity, left: 1, settle });
    else settle(this.#lost('BEGIN'));
    this.send('BEGIN', { transaction: id });
    return { id, confirmed };
  }

  /** Sends a message in a transaction, its head encoded (encodeLines). RabbitMQ confirms it only after COMMIT. */
  transmitIn({ id }: Transaction, lines: string, body: string): void {
    const receipt = this.#receipts.get(id);
    if (!this.isOpen || receipt === undefined) return;
    this.#writer.sendLines(`${lines}transaction:${id}\nreceipt:${id}\n`, body);
    receipt.left++;
  }

  /**
   * Sends a message in a transaction; resolves when the broker has taken it into that, which RabbitMQ never says before
   * COMMIT. Rejects with `broker-refused`, the session and the transaction being as they were, when the ERROR frame names
   * this very message (ActiveMQ 5.17; another one ends the session).
   */
  offer({ id }: Transaction, lines: string, body: string | Uint8Array): Promise<void> {
    if (!this.isOpen) return Promise.reject(this.#lost('SEND'));
    this.#hasOffered = true;
    return new Promise((resolve, reject) => {
      const inTransaction = `${lines}transaction:${id}\n`;
      this.#transmit('SEND', inTransaction, body, settlerOf(resolve, reject), true);
    });
  }

  /**
   * Resolves when the broker has confirmed COMMIT and every message. RabbitMQ's receipt of COMMIT alone promises nothing
   * (3.10.8: a kill at that moment left 0 to 64 of 3,000 messages): only those of the SENDs do, and they come after it.
   */
  commit({ id, confirmed }: Transaction): Promise<void> {
    const receipt = this.#receipts.get(id);
    if (receipt !== undefined && this.send('COMMIT', { transaction: id, receipt: id })) {
      receipt.startMs = performance.now();
      this.#receiptTimer ??= this.#armReceiptTimer(SILENCE_MS);
    }
    return confirmed;
  }

  /** Resolves when the broker confirms that nothing of the transaction happens. */
  async abort({ id }: Transaction): Promise<void> {
    const receipt = this.#receipts.get(id);
    this.#receipts.delete(id);
    receipt?.settle(new PubsubError('not-confirmed', 'the transaction was aborted'));
    await this.request('ABORT', { transaction: id });
  }

  /** Is so much unsent that the caller should wait for `drained`? */
  get isFull(): boolean {
    return this.#writer.isFull;
  }

  /** Resolves when the connection takes more without buffering it, or has ended: it may take as long as a receipt. */
  async drained(): Promise<void> {
    if (!this.isFull) return;
    // A broker that is blocked reads no more, and in a transaction of RabbitMQ no receipt is due yet that would tell.
    const id = `drained-${this.#nextId()}`;
    const what = 'a SEND, which the broker does not read,';
    this.#receipts.set(id, { what, startMs: performance.now(), left: 1, settle: () => undefined });
    this.#receiptTimer ??= this.#armReceiptTimer(SILENCE_MS);
    await this.#writer.drained();
    this.#receipts.delete(id);
  }

  /**
   * Sends DISCONNECT, waits a bounded time for its receipt and ends the session. Idempotent, never rejects. RabbitMQ
   * drops the receipts of SENDs still pending then: await those first.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Ends the session at once, for this reason unless it has ended already. */
  destroy(end: SessionEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    clearTimeout(this.#receiptTimer);
    clearInterval(this.#livenessTimer);
    this.#writer.finish();
    this.#subscriptions.clear();
    const pending = [...this.#receipts.values()];
    this.#receipts.clear();
    for (const { what, settle } of pending) settle(this.#lost(what));
    this.#client.destroy();
    this.#resolveClosed(end);
  }

  async #close(): Promise<void> {
    if (this.#end !== undefined) return;
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_TIMEOUT_MS);
    await this.#request('DISCONNECT', {}).catch((error: unknown) => {
      this.#log.debug({ err: error }, 'the broker did not confirm DISCONNECT');
    });
    clearTimeout(timer);
    this.destroy({ kind: 'closed', message: 'closed', isConfiguration: false });
  }

  #request(command: string, headers: Readonly<Headers>, body?: string | Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#transmit(command, encodeLines(command, headers), body, settlerOf(resolve, reject));
    });
  }

  #transmit(
    what: string,
    lines: string,
    body: string | Uint8Array | undefined,
    settle: PendingReceipt['settle'],
    isContained = false,
  ): void {
    const id = String(this.#nextId());
    this.#writer.sendLines(`${lines}receipt:${id}\n`, body);
    this.#receipts.set(id, { what, startMs: performance.now(), left: 1, settle, isContained });
    this.#receiptTimer ??= this.#armReceiptTimer(SILENCE_MS);
  }

  #nextId(): number {
    return ++this.#lastId;
  }

  #lost(what: string): PubsubError {
    if (this.#end === undefined)
      return new PubsubError('connection-lost', `${what}: the connection is being closed`);
    return endError(this.#end, `${what} not confirmed`);
  }

  /** One timer for all receipts; it looks at the oldest. */
  #armReceiptTimer(delayMs: number): NodeJS.Timeout {
    const timeoutMs = this.options.receiptTimeoutMs;
    const advice = 'the broker may be blocked by a memory or disk alarm, which it tells nobody';
    return setTimeout(
      () => {
        this.#receiptTimer = undefined;
        if (this.#receipts.size === 0) return;
        const oldest = [...this.#receipts.values()].reduce((a, b) => (b.startMs < a.startMs ? b : a));
        // Whole ones: what rounding leaves of the time would be waited for, again and again.
        const waitedMs = Math.max(0, Math.round(performance.now() - oldest.startMs));
        if (waitedMs >= timeoutMs) {
          const message = `no receipt for ${oldest.what} within ${timeoutMs / 1000} s`;
          this.destroy({ kind: 'unconfirmed', message, advice, isConfiguration: false });
          return;
        }
        if (waitedMs >= SILENCE_MS) {
          const fields = { server: this.address, waitedMs, timeoutMs };
          this.#log.warn(fields, 'no receipt for some seconds: the broker is busy, or blocked by an alarm');
        }
        const nextMs = waitedMs >= SILENCE_MS ? timeoutMs : SILENCE_MS;
        this.#receiptTimer = this.#armReceiptTimer(nextMs - waitedMs);
      },
      Math.min(delayMs, timeoutMs),
    );
  }

  /**
   * Ends a session whose broker has been silent for 2.5 intervals: ActiveMQ's first beat comes after 2. A blocked event
   * loop runs timers before it reads, so what waits in the socket is read before the verdict.
   */
  #watchLiveness(serverIntervalMs: number): void {
    if (serverIntervalMs === 0 || this.options.incomingHeartbeatMs === 0) return;
    const intervalMs = Math.max(serverIntervalMs, this.options.incomingHeartbeatMs);
    let seenBytes = this.#socket.bytesRead;
    let seenMs = performance.now();
    const isSilent = () => {
      if (this.#socket.bytesRead !== seenBytes) {
        seenBytes = this.#socket.bytesRead;
        seenMs = performance.now();
      }
      return performance.now() - seenMs > intervalMs * 2.5;
    };
    this.#livenessTimer = setInterval(() => {
      if (!isSilent()) return;
      setImmediate(() => {
        if (!isSilent()) return;
        const message = `no heart-beat within ${Math.round(intervalMs * 2.5)} ms`;
        this.destroy({ kind: 'timeout', message, isConfiguration: false });
      });
    }, intervalMs / 2);
  }

  #createTransform() {
    type Incoming = Parameters<ConstructorParameters<typeof stompit.Client>[1]['transform']>;
    // CONNECTED is stompit's: it reads the version and starts the heart-beats.
    let push: (frame: Frame) => void = () => undefined;
    const limits = { strict: false, headerBytes: MAX_HEADER_BYTES, bodyBytes: this.options.maxBodyBytes };
    const decoder = new FrameDecoder(limits, (frame) => this.#dispatch(frame, push));
    return function transform(
      this: { push(frame: object): void },
      chunk: Incoming[0],
      _encoding: string,
      callback: Incoming[2],
    ): void {
      push = (frame) => this.push(asStompitFrame(frame));
      try {
        decoder.push(chunk);
        callback();
      } catch (error) {
        callback(error instanceof Error ? error : new FrameError(reasonOf(error)));
      }
    };
  }

  #dispatch(frame: Frame, pushToStompit: (frame: Frame) => void): void {
    if (this.#end !== undefined) return;
    if (this.#hasOffered) this.#writer.heartbeat();
    switch (frame.command) {
      case 'MESSAGE':
        // One for an unknown subscription is ignored, as the brokers' own late deliveries must be.
        this.#subscriptions.get(frame.headers.subscription ?? '')?.(frame);
        return;
      case 'RECEIPT': {
        const id = frame.headers['receipt-id'] ?? '';
        const receipt = this.#receipts.get(id);
        if (receipt === undefined) return;
        if (--receipt.left > 0) {
          // A transaction that is being confirmed is alive, however long all of it takes.
          if (receipt.startMs !== Infinity) receipt.startMs = performance.now();
          return;
        }
        this.#receipts.delete(id);
        receipt.settle();
        return;
      }
      case 'ERROR': {
        const end = brokerEnd(frame);
        const id = frame.headers['receipt-id'] ?? '';
        const receipt = this.#receipts.get(id);
        if (receipt?.isContained === true) {
          this.#receipts.delete(id);
          receipt.settle(new PubsubError('broker-refused', `${receipt.what} refused: ${describeEnd(end)}`));
          return;
        }
        this.destroy(end);
        return;
      }
      case 'CONNECTED':
        pushToStompit(frame);
        return;
      default:
        throw new FrameError(
          `the server sent ${JSON.stringify(frame.command.slice(0, 40))}, which is no STOMP frame`,
        );
    }
  }
}

function settlerOf(resolve: () => void, reject: (error: PubsubError) => void): PendingReceipt['settle'] {
  return (error) => {
    if (error === undefined) resolve();
    else reject(error);
  };
}

/** What stompit's Client asks of a frame. Bodies are complete, so whoever waits for the end is called at once. */
function asStompitFrame({ command, headers, body }: Frame) {
  return {
    command,
    headers,
    on: (_event: 'end', listener: () => void) => listener(),
    readEmptyBody: (callback: (isEmpty: boolean) => void) => callback(body.length === 0),
  };
}
