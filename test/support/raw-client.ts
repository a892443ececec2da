/**
 * A STOMP client for tests, frame by frame over a plain socket: it shares the codec with the product and nothing else,
 * so it can do what the product never does and tell what really went over the wire.
 */
import { connect, type Socket } from 'node:net';
import { randomUUID } from 'node:crypto';
import { encodeFrame, type Frame, FrameDecoder } from '../../src/stomp/frames.js';
import type { BrokerName, BrokerUnderTest } from './brokers.js';
import { within } from './until.js';

export type RawHeaders = Readonly<Record<string, string | undefined>>;

/** As much of a broker as a connection needs. */
export interface Address {
  readonly host: string;
  readonly port: number;
}
export interface Login extends Address {
  readonly name: BrokerName;
  readonly user: string;
  readonly password: string;
  readonly vhost?: string;
}

export interface RawConnectOptions {
  readonly version?: '1.0' | '1.1' | '1.2';
  readonly login?: string;
  readonly passcode?: string;
  /** Added to the CONNECT; undefined leaves one out. */
  readonly headers?: RawHeaders;
  readonly deadlineMs?: number;
}

interface Waiter {
  readonly isMatch: (frame: Frame) => boolean;
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: Error) => void;
}

export interface Waiting {
  readonly deadlineMs?: number;
  /** What the frame would tell, for the message when it does not come. */
  readonly reason?: string;
}

/** Far beyond what a loaded machine needs: reached only by what will not come. */
const DEADLINE_MS = 30_000;
/** Above every body a test sends. */
const LIMIT_BYTES = 256 * 1024 * 1024;
const SHOWN_FRAMES = 20;

/** The broker answered with an ERROR frame where something else was asked for. */
export class ErrorFrame extends Error {
  override name = 'ErrorFrame';
  readonly frame: Frame;

  constructor(frame: Frame, asked: string) {
    super(`ERROR instead of ${asked}: ${frame.headers.message ?? ''} ${frame.body.toString()}`.trim());
    this.frame = frame;
  }
}

export class RawClient {
  /** Everything that arrived, in order; `next` takes from it, but nothing is removed here. */
  readonly frames: Frame[] = [];
  /** Settles when the socket is closed, by whomever; never rejects. */
  readonly closed: Promise<void>;
  /** Bytes that came between frames count here too. */
  bytesReceived = 0;
  readonly #socket: Socket;
  #untaken: Frame[] = [];
  #waiters: Waiter[] = [];
  #isClosed = false;
  #failure: Error | undefined;

  /** Of a connected socket; tests call openRaw or connectRaw. */
  constructor(socket: Socket) {
    this.#socket = socket;
    const decoder = new FrameDecoder(
      { strict: false, headerBytes: LIMIT_BYTES, bodyBytes: LIMIT_BYTES },
      (frame) => this.#arrived(frame),
    );
    socket.on('data', (chunk) => {
      this.bytesReceived += chunk.length;
      try {
        decoder.push(chunk);
      } catch (error) {
        this.#failure = error as Error;
        socket.destroy();
      }
    });
    socket.on('error', (error) => (this.#failure = error));
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true;
        for (const { reject } of this.#waiters) reject(this.#endedError());
        resolve();
      });
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** From the `server` header of CONNECTED, e.g. `3.10.8`; `unknown` when the broker does not say. */
  get serverVersion(): string {
    const connected = this.frames.find((frame) => frame.command === 'CONNECTED');
    return /\/([\w.-]+)/.exec(connected?.headers.server ?? '')?.[1] ?? 'unknown';
  }

  /** Sends one frame. Nothing is added to the headers; undefined ones are left out. */
  send(command: string, headers: RawHeaders = {}, body?: string | Uint8Array): void {
    this.#socket.write(encodeFrame(command, headers, body));
  }

  /** Sends bytes as they are. */
  write(bytes: string | Uint8Array): void {
    this.#socket.write(bytes);
  }

  /**
   * Resolves with the first matching frame (a command, or a predicate) that was not taken before, and takes it.
   * Rejects at the deadline, and when the connection ends, with what it waited for and what came instead.
   */
  async next(match: string | ((frame: Frame) => boolean), waiting: Waiting = {}): Promise<Frame> {
    const { deadlineMs = DEADLINE_MS, reason = typeof match === 'string' ? match : 'a matching frame' } =
      waiting;
    const isMatch = typeof match === 'string' ? (frame: Frame) => frame.command === match : match;
    const state = () => `${reason}; came instead: ${this.#summary()}`;
    const index = this.#untaken.findIndex(isMatch);
    if (index !== -1) return this.#untaken.splice(index, 1)[0]!;
    const { promise, waiter } = waiterFor(isMatch);
    if (this.#isClosed) waiter.reject(this.#endedError());
    this.#waiters.push(waiter);
    try {
      return await within(promise, deadlineMs, state);
    } catch (error) {
      throw this.#isClosed ? new Error(`the connection ended before ${state()}`, { cause: error }) : error;
    } finally {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    }
  }

  /** Takes all frames with this command that have arrived and were not taken, without waiting. */
  takeArrived(command: string): Frame[] {
    const taken = this.#untaken.filter((frame) => frame.command === command);
    this.#untaken = this.#untaken.filter((frame) => frame.command !== command);
    return taken;
  }

  /** Sends with a fresh receipt and resolves with its RECEIPT. Rejects with ErrorFrame when an ERROR comes first. */
  async receipt(command: string, headers: RawHeaders = {}, body?: string | Uint8Array): Promise<Frame> {
    const id = randomUUID();
    this.send(command, { ...headers, receipt: id }, body);
    const asked = `the RECEIPT of ${command}`;
    const answer = await this.next(
      (frame) => frame.command === 'ERROR' || frame.headers['receipt-id'] === id,
      { reason: asked },
    );
    if (answer.command === 'ERROR') throw new ErrorFrame(answer, asked);
    return answer;
  }

  /** Sends a persistent message and resolves with its RECEIPT. A body that is neither text nor bytes is sent as JSON. */
  put(destination: string, body: unknown, headers: RawHeaders = {}): Promise<Frame> {
    const bytes =
      body instanceof Uint8Array ? body : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    return this.receipt(
      'SEND',
      {
        destination,
        persistent: 'true',
        'content-type': 'application/json;charset=utf-8',
        'content-length': String(bytes.length),
        ...headers,
      },
      bytes,
    );
  }

  /** Subscribes with a fresh id, `client-individual` and no bound on what is delivered; resolves with the id. */
  async subscribe(destination: string, headers: RawHeaders = {}): Promise<string> {
    const id = headers.id ?? `raw-${randomUUID()}`;
    await this.receipt('SUBSCRIBE', {
      destination,
      id,
      ack: 'client-individual',
      'activemq.prefetchSize': '10000',
      ...headers,
    });
    return id;
  }

  /** Acks or nacks (to the dead-letter queue) a MESSAGE and resolves with the RECEIPT. */
  settle(verb: 'ACK' | 'NACK', message: Frame, headers: RawHeaders = {}): Promise<Frame> {
    return this.receipt(verb, {
      ...settlingHeaders(message),
      ...(verb === 'NACK' && { requeue: 'false' }),
      ...headers,
    });
  }

  /** DISCONNECT with a receipt, then the end of the connection. */
  async disconnect(): Promise<void> {
    await this.receipt('DISCONNECT');
    this.#socket.end();
    await within(this.closed, DEADLINE_MS, 'the connection ends after DISCONNECT');
  }

  /** Closes at once, without a word. */
  destroy(): void {
    this.#socket.destroy();
  }

  /** Closes at once with a reset, as a crashed machine's router does. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  /** Reads nothing from now on: a slow consumer. */
  stopReading(): void {
    this.#socket.pause();
  }

  startReading(): void {
    this.#socket.resume();
  }

  #arrived(frame: Frame): void {
    this.frames.push(frame);
    const index = this.#waiters.findIndex(({ isMatch }) => isMatch(frame));
    if (index === -1) this.#untaken.push(frame);
    else this.#waiters.splice(index, 1)[0]!.resolve(frame);
  }

  #endedError(): Error {
    return new Error('the connection ended', { cause: this.#failure });
  }

  #summary(): string {
    if (this.#untaken.length === 0) return 'nothing';
    const shown = this.#untaken.slice(-SHOWN_FRAMES).map((frame) => {
      const body = frame.body.length === 0 ? '' : ` ${frame.body.subarray(0, 200).toString()}`;
      return `\n  ${frame.command} ${JSON.stringify(frame.headers)}${body}`;
    });
    return `${this.#untaken.length} frames, the last of them:${shown.join('')}`;
  }
}

/** By what a MESSAGE is acked in its version: `ack` in 1.2, `message-id` and `subscription` before. */
export function settlingHeaders(message: Frame): RawHeaders {
  const { ack, subscription, 'message-id': messageId } = message.headers;
  return ack === undefined ? { 'message-id': messageId, subscription } : { id: ack };
}

function waiterFor(isMatch: Waiter['isMatch']): { promise: Promise<Frame>; waiter: Waiter } {
  let waiter: Waiter | undefined;
  const promise = new Promise<Frame>((resolve, reject) => (waiter = { isMatch, resolve, reject }));
  return { promise, waiter: waiter! };
}

/** A TCP connection and not a word said yet. */
export async function openRaw({ host, port }: Address, deadlineMs = DEADLINE_MS): Promise<RawClient> {
  const socket = connect({ host, port, noDelay: true });
  try {
    await within(
      new Promise<void>((resolve, reject) => {
        socket.once('connect', resolve);
        socket.once('error', reject);
      }),
      deadlineMs,
      `a connection to ${host}:${port}`,
    );
  } catch (error) {
    socket.destroy();
    throw error;
  }
  return new RawClient(socket);
}

/** A logged-in connection. Rejects with ErrorFrame when the broker refuses. */
export async function connectRaw(broker: Login, options: RawConnectOptions = {}): Promise<RawClient> {
  const { version = '1.2', login = broker.user, passcode = broker.password, headers = {} } = options;
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS;
  const client = await openRaw(broker, deadlineMs);
  try {
    client.send('CONNECT', {
      'accept-version': version,
      host: broker.vhost ?? broker.host,
      login,
      passcode,
      'heart-beat': '0,0',
      ...headers,
    });
    const answer = await client.next(({ command }) => command === 'CONNECTED' || command === 'ERROR', {
      deadlineMs,
      reason: 'CONNECTED',
    });
    if (answer.command === 'ERROR') throw new ErrorFrame(answer, 'CONNECTED');
  } catch (error) {
    client.destroy();
    throw error;
  }
  return client;
}

/** Runs `work` with a connection of its own. */
export async function withRaw<T>(
  broker: BrokerUnderTest,
  work: (client: RawClient) => Promise<T>,
): Promise<T> {
  const client = await connectRaw(broker);
  try {
    return await work(client);
  } finally {
    client.destroy();
  }
}
