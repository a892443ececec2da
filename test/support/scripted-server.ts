/**
 * A STOMP server that does exactly what a test says, frame by frame, on a real socket: for what no broker does on
 * demand. Hides listening, decoding, and that a script which fails makes its test fail. It records what the client
 * sent: frames, heart-beats and the chunks they came in.
 */
import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { encodeFrame, type Frame, FrameDecoder } from '../../src/stomp/frames.js';
import { until, within } from './until.js';

/** Runs once for each connection; the connection outlives it. */
export type Script = (connection: ScriptedConnection) => void | Promise<void>;

export interface ScriptedServerOptions {
  /** Speaks TLS with these; plain TCP when left out. */
  readonly tls?: TlsOptions;
}

type SentHeaders = Readonly<Record<string, string | undefined>>;

/** Far beyond what a loaded machine needs: reached only by what will not come. */
const DEADLINE_MS = 30_000;
/** Above every body a test sends. */
const LIMIT_BYTES = 256 * 1024 * 1024;
const LF = 10;

class ConnectionClosed extends Error {}

export class ScriptedConnection {
  readonly socket: Socket;
  /** Everything that came, in order; `take` and `expect` take from it, but nothing is removed here. */
  readonly received: (Frame | 'beat')[] = [];
  /** The bytes as they were read. */
  readonly chunks: Buffer[] = [];
  /** The client has sent its FIN. */
  isEnded = false;
  /** Settles when the socket is closed, by whomever; never rejects. */
  readonly closed: Promise<void>;
  #taken = 0;
  #isClosed = false;

  /** Of an accepted socket; tests call startScriptedServer. */
  constructor(socket: Socket) {
    this.socket = socket;
    const decoder = new FrameDecoder(
      { strict: true, headerBytes: LIMIT_BYTES, bodyBytes: LIMIT_BYTES },
      (frame) => this.received.push(frame),
    );
    socket.setNoDelay(true);
    socket.on('data', (chunk) => {
      this.chunks.push(chunk);
      this.#decode(decoder, chunk);
    });
    socket.on('end', () => (this.isEnded = true));
    // A client that resets its connection is one of the things tested.
    socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true;
        resolve();
      });
    });
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get frames(): Frame[] {
    return this.received.filter((each) => each !== 'beat');
  }

  get commands(): string[] {
    return this.frames.map(({ command }) => command);
  }

  get beats(): number {
    return this.received.length - this.frames.length;
  }

  /** Resolves with the next frame that was not taken before. Rejects when the connection ends first. */
  async take(deadlineMs = DEADLINE_MS): Promise<Frame> {
    const index = this.#taken++;
    await until(
      () => this.frames.length > index || this.#isClosed,
      deadlineMs,
      () => `frame ${index + 1} of the client; so far ${this.commands.join(' ')}`,
    );
    const frame = this.frames[index];
    if (frame === undefined) throw new ConnectionClosed('the client is gone');
    return frame;
  }

  /** Takes the next frame, which must be this one. */
  async expect(command: string): Promise<Frame> {
    const frame = await this.take();
    assert.equal(frame.command, command, `what the client sends after ${this.commands.join(' ')}`);
    return frame;
  }

  /** Fails when a frame comes within some turns of the event loop: long enough for a client of this process. */
  async expectNothing(): Promise<void> {
    for (let left = 20; left > 0; left--) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(this.commands.slice(this.#taken), [], 'what the client sends meanwhile');
  }

  /** Takes the CONNECT and answers with CONNECTED. */
  async accept(headers: SentHeaders = {}): Promise<Frame> {
    const connect = await this.expect('CONNECT');
    this.send('CONNECTED', { version: '1.2', 'heart-beat': '0,0', ...headers });
    return connect;
  }

  /** Takes a SUBSCRIBE, confirms it and resolves with its id. */
  async acceptSubscription(): Promise<string> {
    const subscribe = await this.expect('SUBSCRIBE');
    this.confirm(subscribe);
    return subscribe.headers.id ?? '';
  }

  /** The RECEIPT of a frame that asks for one. */
  confirm(frame: Frame): void {
    const { receipt } = frame.headers;
    if (receipt !== undefined) this.send('RECEIPT', { 'receipt-id': receipt });
  }

  /** Confirms every frame from now on until the client is gone; each is shown to `onFrame` after that. */
  async confirmAll(onFrame?: (frame: Frame) => void): Promise<never> {
    for (;;) {
      const frame = await this.take(Infinity);
      this.confirm(frame);
      onFrame?.(frame);
    }
  }

  /** Sends one frame, in one write. Nothing is added to the headers; undefined ones are left out. */
  send(command: string, headers: SentHeaders = {}, body?: string | Uint8Array): void {
    this.socket.write(encodeFrame(command, headers, body));
  }

  /** A MESSAGE with the headers that brokers send; `headers` win, and undefined leaves one out. */
  deliver(
    subscription: string,
    id: string,
    body: string | Uint8Array = '{}',
    headers: SentHeaders = {},
  ): void {
    const length = String(Buffer.byteLength(body));
    this.send('MESSAGE', { ...messageHeaders(subscription, id), 'content-length': length, ...headers }, body);
  }

  /** Sends bytes as they are. */
  write(bytes: string | Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Sends bytes one at a time. A turn of the event loop in between lets a client of this process read each alone. */
  async writeByteByByte(bytes: Uint8Array): Promise<void> {
    for (const byte of bytes) {
      this.socket.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** FIN, after what was sent. */
  end(): void {
    this.socket.end();
  }

  /** RST, at once. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Reads nothing from now on. */
  stopReading(): void {
    this.socket.pause();
  }

  startReading(): void {
    this.socket.resume();
  }

  /** Resolves when the client has closed the connection. */
  waitForClose(): Promise<void> {
    return within(this.closed, DEADLINE_MS, () => `the client closes; it sent ${this.commands.join(' ')}`);
  }

  /** In pieces that end where a frame may end, so that the line feeds in between can be told apart. */
  #decode(decoder: FrameDecoder, chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      if (!decoder.isMidFrame) {
        for (; chunk[at] === LF; at++) this.received.push('beat');
      }
      const nul = chunk.indexOf(0, at);
      const end = nul === -1 ? chunk.length : nul + 1;
      decoder.push(chunk.subarray(at, end));
      at = end;
    }
  }
}

export function messageHeaders(subscription: string, id: string): Record<string, string> {
  return {
    subscription,
    destination: '/queue/orders',
    'message-id': id,
    ack: id,
    redelivered: 'false',
    persistent: 'true',
    'correlation-id': `correlation of ${id}`,
    'content-type': 'application/json',
  };
}

export class ScriptedServer implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly port: number;
  /** In the order of their coming, ended ones too. With TLS: those whose handshake was completed. */
  readonly connections: ScriptedConnection[] = [];
  /** How many TCP connections came, whatever became of them. */
  accepted = 0;
  readonly #listener: Server;
  readonly #sockets = new Set<Socket>();
  #failure: { readonly error: unknown } | undefined;

  /** Of a listening server; tests call startScriptedServer. */
  constructor(listener: Server, event: 'connection' | 'secureConnection', script: Script) {
    this.#listener = listener;
    this.port = (listener.address() as AddressInfo).port;
    listener.on('connection', (socket: Socket) => {
      this.accepted++;
      this.#sockets.add(socket);
      socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
    });
    listener.on('tlsClientError', () => undefined);
    listener.on(event, (socket: Socket) => {
      const connection = new ScriptedConnection(socket);
      this.connections.push(connection);
      void this.#perform(script, connection);
    });
  }

  /** Resolves with that connection, counted from 0, when it has come. */
  connection(index = 0): Promise<ScriptedConnection> {
    return until(
      () => this.connections[index],
      DEADLINE_MS,
      () => `connection ${index + 1} of the client; so far ${this.connections.length}`,
    );
  }

  /** Cuts every connection, stops listening and rejects with what went wrong in a script. */
  async close(): Promise<void> {
    for (const { socket } of this.connections) socket.destroy();
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#listener.close(resolve));
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #perform(script: Script, connection: ScriptedConnection): Promise<void> {
    try {
      await script(connection);
    } catch (error) {
      if (error instanceof ConnectionClosed) return;
      this.#failure ??= { error };
      connection.socket.destroy();
    }
  }
}

/** On a free port of 127.0.0.1. The default script accepts every CONNECT and confirms every frame. */
export async function startScriptedServer(
  script: Script = obliging(),
  { tls }: ScriptedServerOptions = {},
): Promise<ScriptedServer> {
  const listener = tls === undefined ? createServer() : createTlsServer(tls);
  await new Promise<void>((resolve, reject) => {
    listener.once('error', reject);
    listener.listen(0, '127.0.0.1', resolve);
  });
  return new ScriptedServer(listener, tls === undefined ? 'connection' : 'secureConnection', script);
}

/** A script: accepts and confirms everything, shows each frame after CONNECT to `onFrame`. */
export function obliging(
  headers: SentHeaders = {},
  onFrame?: (frame: Frame, connection: ScriptedConnection) => void,
): Script {
  return async (connection) => {
    await connection.accept(headers);
    await connection.confirmAll((frame) => onFrame?.(frame, connection));
  };
}
