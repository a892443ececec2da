/**
 * A STOMP server for tests that need none of a broker's own behaviour: it records every frame, confirms what asks for a
 * receipt and delivers given bodies to whoever subscribes.
 */
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { encodeFrame, type Frame, FrameDecoder } from '../../src/stomp/frames.js';
import { until } from '../support/until.js';
import { at, DEADLINE_MS } from './commands.js';

export interface Script {
  /** Delivered on SUBSCRIBE, each as JSON. */
  readonly bodies?: readonly unknown[];
  /** Instead of the RECEIPT; undefined leaves it to the server. */
  readonly answer?: (frame: Frame, socket: Socket) => boolean | undefined;
}

export class ScriptedServer implements AsyncDisposable {
  readonly frames: Frame[] = [];
  connections = 0;
  readonly #server;
  readonly #sockets = new Set<Socket>();

  /** Tests call startScriptedServer. */
  constructor(script: Script) {
    this.#server = createServer((socket) => this.#accept(socket, script));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The settings that lead a command here. */
  get env(): Record<string, string> {
    return at(this.port);
  }

  commands(): string[] {
    return this.frames.map(({ command }) => command);
  }

  /** Resolves with the first so many frames of that command. */
  async received(command: string, count = 1): Promise<Frame[]> {
    const find = () => this.frames.filter((frame) => frame.command === command);
    await until(
      () => find().length >= count,
      DEADLINE_MS,
      () => `${count} times ${command}; came: ${this.commands().join(' ')}`,
    );
    return find().slice(0, count);
  }

  listen(port = 0): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, '127.0.0.1', resolve);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #accept(socket: Socket, { bodies = [], answer }: Script): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    const decoder = new FrameDecoder({ strict: false, headerBytes: 1e6, bodyBytes: 2e8 }, (frame) => {
      this.#handle(frame, socket, bodies, answer);
    });
    socket.on('data', (chunk) => decoder.push(chunk));
  }

  #handle(frame: Frame, socket: Socket, bodies: readonly unknown[], answer: Script['answer']): void {
    const { command, headers } = frame;
    this.frames.push({ ...frame, body: Buffer.from(frame.body) });
    if (answer?.(frame, socket) === true) return;
    if (command === 'CONNECT') {
      socket.write(
        encodeFrame('CONNECTED', { version: '1.2', server: 'RabbitMQ/3.10.8', 'heart-beat': '0,0' }),
      );
    }
    if (headers.receipt !== undefined) {
      socket.write(encodeFrame('RECEIPT', { 'receipt-id': headers.receipt }));
    }
    if (command !== 'SUBSCRIBE') return;
    for (const [index, body] of bodies.entries()) socket.write(delivery(frame, index, body));
  }
}

/** The MESSAGE that brings a body as JSON to who sent that SUBSCRIBE. */
export function delivery(
  { headers: { id: subscription, destination } }: Frame,
  index: number,
  body: unknown,
): Buffer {
  const json = Buffer.from(JSON.stringify(body));
  const ids = { 'message-id': `m-${index}`, ack: `m-${index}`, 'correlation-id': `c-${index}` };
  const length = { 'content-length': String(json.length) };
  return encodeFrame('MESSAGE', { subscription, destination, ...ids, ...length }, json);
}

/** The answer of one who stands still for longer than any limit: a message comes only before what is asked for after it. */
export function late(body: unknown): NonNullable<Script['answer']> {
  let subscribe: Frame | undefined;
  return (frame, socket) => {
    if (frame.command === 'SUBSCRIBE') subscribe = frame;
    if (frame.command === 'BEGIN' && subscribe !== undefined) socket.write(delivery(subscribe, 0, body));
    if (frame.command === 'BEGIN') subscribe = undefined;
    return false;
  };
}

/** When it is asked for something a message begins to come, in parts, so many ms apart; the answers are behind it. */
export function slowly(body: unknown, parts: number, everyMs: number): NonNullable<Script['answer']> {
  let subscribe: Frame | undefined;
  let behind: Buffer[] | undefined;
  return (frame, socket) => {
    const { receipt } = frame.headers;
    if (frame.command === 'SUBSCRIBE') subscribe = frame;
    if (frame.command === 'BEGIN' && subscribe !== undefined) {
      const waiting: Buffer[] = (behind = []);
      const bytes = delivery(subscribe, 0, body);
      subscribe = undefined;
      let sent = 0;
      const timer = setInterval(() => {
        const part = bytes.subarray(sent, sent + Math.ceil(bytes.length / parts));
        socket.write(part);
        sent += part.length;
        if (sent < bytes.length) return;
        clearInterval(timer);
        behind = undefined;
        for (const answer of waiting) socket.write(answer);
      }, everyMs);
      socket.on('close', () => clearInterval(timer));
    }
    if (receipt !== undefined) behind?.push(encodeFrame('RECEIPT', { 'receipt-id': receipt }));
    return behind !== undefined;
  };
}
/** Listens on a free port of 127.0.0.1. */
export async function startScriptedServer(script: Script = {}): Promise<ScriptedServer> {
  const server = new ScriptedServer(script);
  await server.listen();
  return server;
}
