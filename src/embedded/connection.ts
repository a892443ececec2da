/**
 * One client's socket, from accept to close. Hides bytes and time: answers are encoded and collected, heart-beats are
 * sent and missed, a peer that does not read is not read from.
 *
 * States: opened (waiting for CONNECT), logged in, ending (everything is said, its messages are back in their queues,
 * the socket is waiting for the peer's end), closed.
 */
import { randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import { reasonOf } from '../errors.js';
import { encodeFrame, encodeHead, type Frame } from '../stomp/frames.js';
import { Channel } from './channel.js';
import type { Client } from './client.js';
import { obey } from './commands.js';
import { type Agreement, agree, type Credentials } from './connect.js';
import { Input } from './input.js';
import { binary, headOf, type Message } from './message.js';
import { Output } from './output.js';
import type { Queues } from './queues.js';
import { errorHeaders, invalid, Refusal } from './refusal.js';
import type { ChannelOutput, Subscription } from './subscription.js';

export type ConnectionEvent =
  | { readonly kind: 'connected'; readonly client: string; readonly version: string; readonly user: string }
  | {
      readonly kind: 'subscribed';
      readonly client: string;
      readonly destination: string;
      readonly queue: string;
    }
  | { readonly kind: 'error'; readonly client: string; readonly title: string; readonly detail: string }
  | { readonly kind: 'disconnected'; readonly client: string; readonly reason: string };

export interface ConnectionSurroundings {
  readonly queues: Queues;
  /** The `server` header of CONNECTED. */
  readonly server: string;
  readonly credentials: Credentials | undefined;
  report(event: ConnectionEvent): void;
  loggedIn(connection: Connection): void;
  closed(connection: Connection): void;
}

/** Of answers nobody reads: then nothing more is read from the peer either. */
const UNREAD_BYTES = 1024 * 1024;
/** For the peer to close its side once all is said. */
const LINGER_MS = 5000;
/** Intervals a client may be silent for (RabbitMQ 3.10.8). */
const MISSED_BEATS = 3;

export class Connection implements ChannelOutput {
  readonly name: string;
  #socket: Socket;
  #surroundings: ConnectionSurroundings;
  #input: Input;
  #output: Output;
  #client: Client | undefined;
  #state: 'open' | 'ending' | 'closed' = 'open';
  #session = `session-${randomBytes(16).toString('base64url')}`;
  #lastHeardMs: number;
  /** Frames answered with an ERROR since the last one that was not. */
  #errors = 0;
  #timers = new Map<string, () => void>();

  constructor(socket: Socket, surroundings: ConnectionSurroundings) {
    const { limits, behaviour, clock } = surroundings.queues;
    this.name = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
    this.#socket = socket;
    this.#surroundings = surroundings;
    this.#input = new Input(limits, behaviour, (frame) => this.#handle(frame));
    this.#output = new Output(socket, () => this.#goOn());
    this.#lastHeardMs = clock.now();
    this.#afterReading('connect', limits.connectMs, () => this.#abandon('no CONNECT in time'));
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#hear(chunk));
    socket.on('end', () => this.#finish('closed by the client'));
    socket.on('error', (error) => this.#abandon(reasonOf(error)));
    socket.on('close', () => this.#abandon('closed by the client'));
  }

  get isWritable(): boolean {
    return this.#state === 'open' && this.#output.isOpen;
  }

  /** Says why, then ends the connection. */
  refuse(refusal: Refusal): void {
    if (this.#state !== 'open') return;
    this.#error(refusal);
    this.#finish(refusal.title);
  }

  /** Makes room for others that want to log in: closed at once, without a word. */
  giveWay(): void {
    this.#abandon('too many connections are not logged in');
  }

  /** As a broker that is stopped: the end of the stream and no ERROR. */
  end(): void {
    this.#finish('the broker was stopped');
  }

  /** As a network that breaks: RST, nothing sent. */
  reset(): void {
    // Node 20.20 leaves the handle of a socket that was ended and then reset open, and the process never ends.
    if (!this.#socket.writableEnded) this.#socket.resetAndDestroy();
    this.#abandon('dropped');
  }

  deliver({ options }: Subscription, tag: number, message: Message): void {
    const { address, redelivered, body } = message;
    // RabbitMQ 3.10.8 sends an empty body without one.
    const length = body.length === 0 ? '' : `content-length:${body.length}\n`;
    const id = `${options.idStart}${tag}\n`;
    const isAckSent = options.ackMode !== 'auto' && this.#client?.version === '1.2';
    const start =
      `${options.opening}${address.line}message-id:${id}redelivered:${redelivered}\n` +
      `${isAckSent ? `ack:${id}` : ''}${headOf(message)}${length}\n`;
    if (typeof body === 'string') {
      this.#output.write(`${start}${body}\0\n`);
    } else {
      this.#output.write(start);
      this.#output.write(body);
      this.#output.write('\0\n');
    }
  }

  cancelled({ options }: Subscription): void {
    const id = options.tag.slice('T_'.length);
    const detail = `The server has canceled a subscription.\nNo more messages will be delivered for "id='${id}'".\n`;
    this.#say(
      'ERROR',
      { ...errorHeaders('Server cancelled subscription', detail), subscription: id },
      detail,
    );
  }

  #hear(chunk: Buffer): void {
    this.#lastHeardMs = this.#surroundings.queues.clock.now();
    if (this.#state !== 'open') return;
    try {
      this.#input.push(chunk);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.refuse(error);
    }
    if (this.#output.pending > UNREAD_BYTES) this.#socket.pause();
  }

  /** The peer has read what it was sent. */
  #goOn(): void {
    if (this.#socket.isPaused()) {
      this.#lastHeardMs = this.#surroundings.queues.clock.now();
      this.#socket.resume();
    }
    this.#client?.channel.resume();
  }

  #handle(frame: Frame): void {
    if (this.#state !== 'open') return;
    const errors = this.#errors;
    this.#answer(frame);
    if (this.#errors === errors) this.#errors = 0;
    const { errorsBeforeLogin, errorsInARow } = this.#surroundings.queues.limits;
    const limit = this.#client === undefined ? errorsBeforeLogin : errorsInARow;
    if (this.#errors >= limit)
      throw new Refusal('Too many errors', `${limit} frames in a row were refused\n`, true);
  }

  #answer(frame: Frame): void {
    const isConnect = frame.command === 'CONNECT' || frame.command === 'STOMP';
    if (this.#client !== undefined) {
      // RabbitMQ 3.10.8 closes without a word.
      if (isConnect) throw new Refusal('Illegal command', 'You are logged in already\n', true);
      obey(this.#client, frame);
    } else if (isConnect) {
      this.#connect(frame);
    } else {
      this.#error(invalid('Illegal command', 'You must log in using CONNECT first'));
    }
  }

  #connect({ headers }: Frame): void {
    let agreement: Agreement;
    try {
      agreement = agree(headers, this.#surroundings.credentials);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.isFatal) this.refuse(error);
      else this.#error(error);
      return;
    }
    const { version, user, sendMs, receiveMs } = agreement;
    const { queues, server } = this.#surroundings;
    this.#client = {
      version,
      user,
      session: this.#session,
      queues,
      channel: new Channel(queues, this),
      receipt: (id) => this.#receipt(id),
      error: (refusal) => this.#error(refusal),
      end: () => this.#finish('disconnected'),
      subscribed: (destination, queue) =>
        this.#report({ kind: 'subscribed', client: this.name, destination, queue }),
    };
    this.#cancel('connect');
    this.#input.loggedIn(version);
    this.#surroundings.loggedIn(this);
    this.#say('CONNECTED', {
      server,
      session: this.#session,
      'heart-beat': `${sendMs},${receiveMs}`,
      version,
    });
    if (sendMs > 0) this.#beat(sendMs / 2);
    if (receiveMs > 0) this.#listen(receiveMs * MISSED_BEATS);
    this.#report({ kind: 'connected', client: this.name, version, user });
  }

  #beat(everyMs: number): void {
    this.#after('send', everyMs, () => {
      if (this.#output.pending === 0) this.#output.write('\n');
      this.#beat(everyMs);
    });
  }

  /** A peer that is not read from cannot be heard. */
  #listen(silenceMs: number): void {
    const { clock } = this.#surroundings.queues;
    const check = (): void => {
      const leftMs = this.#lastHeardMs + silenceMs - clock.now();
      if (this.#socket.isPaused()) this.#afterReading('receive', silenceMs, check);
      else if (leftMs > 0) this.#afterReading('receive', leftMs, check);
      else this.#finish('no heart-beat in time');
    };
    this.#afterReading('receive', silenceMs, check);
  }

  #receipt(id: string): void {
    this.#output.write(`${binary(encodeHead('RECEIPT', { 'receipt-id': id }))}\0\n`);
  }

  #error(refusal: Refusal): void {
    const { title, message: detail, isSilent } = refusal;
    this.#errors++;
    if (!isSilent) this.#say('ERROR', errorHeaders(title, detail), detail);
    this.#report({ kind: 'error', client: this.name, title, detail });
  }

  #say(command: string, headers: Readonly<Record<string, string>>, body = ''): void {
    this.#output.write(`${encodeFrame(command, headers, body).toString('latin1')}\n`);
  }

  #report(event: ConnectionEvent): void {
    this.#surroundings.report(event);
  }

  /** The graceful end: what was said goes out, the peer closes. */
  #finish(reason: string): void {
    if (this.#state !== 'open') return;
    this.#leave('ending', reason);
    this.#output.end();
    this.#socket.resume();
    this.#after('linger', LINGER_MS, () => this.#abandon(reason));
  }

  #abandon(reason: string): void {
    if (this.#state === 'closed') return;
    const wasOpen = this.#state === 'open';
    if (wasOpen) this.#leave('closed', reason);
    this.#state = 'closed';
    for (const name of this.#timers.keys()) this.#cancel(name);
    this.#output.close();
    this.#socket.destroy();
    this.#surroundings.closed(this);
  }

  #leave(state: 'ending' | 'closed', reason: string): void {
    this.#state = state;
    for (const name of this.#timers.keys()) this.#cancel(name);
    this.#client?.channel.close();
    if (this.#client !== undefined) this.#report({ kind: 'disconnected', client: this.name, reason });
  }

  /** A blocked event loop runs timers before it reads: what waits in the socket is read before the verdict. */
  #afterReading(name: string, ms: number, run: () => void): void {
    this.#after(name, ms, () => {
      const immediate = setImmediate(run);
      this.#timers.set(name, () => clearImmediate(immediate));
    });
  }

  #after(name: string, ms: number, run: () => void): void {
    this.#timers.set(name, this.#surroundings.queues.clock.after(ms, run));
  }

  #cancel(name: string): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
  }
}
