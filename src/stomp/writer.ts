/**
 * What goes out on one connection. Frames of one tick are gathered and written together, in order: their text in one string,
 * and what is none, or long, beside it in the same call of the system, byte for byte. It stands in for
 * stompit's own writer, which adds no content-length, wedges for ever on a value it cannot print and never says when
 * the socket is full. Open until the socket ends; after that everything is refused quietly: the session's end tells.
 */
import { isUtf8 } from 'node:buffer';
import type { Duplex } from 'node:stream';
import { encodeLines, type Headers } from './frames.js';

/** Characters. A batch this long is written at once: a loop that never ends its tick must learn that the socket is full. */
const BATCH_LENGTH = 64 * 1024;

export class FrameWriter {
  readonly #socket: Duplex;
  /** Text of this tick's frames that is not written yet. */
  #batch = '';
  #isFlushing = false;
  /** There is something beside the text of this tick. */
  #isCorked = false;
  #drained: Promise<void> | undefined;
  #isFinished = false;

  constructor(socket: Duplex) {
    this.#socket = socket;
    for (const event of ['error', 'close', 'finish']) socket.on(event, () => this.finish());
  }

  /** Queues one frame for the end of this tick. Throws `invalid-header`, having queued nothing. */
  send(
    command: string,
    headers: Readonly<Record<string, string | undefined>>,
    body: string | Uint8Array = '',
  ): void {
    this.sendLines(encodeLines(command, headers), body);
  }

  /** The same with a head from encodeLines. */
  sendLines(lines: string, body: string | Uint8Array = ''): void {
    if (this.#isFinished) return;
    const text = typeof body === 'string' ? body : textOf(body);
    if (text !== undefined) {
      this.#append(`${lines}\n${text}\0`);
    } else {
      this.#append(`${lines}\n`);
      if (!this.#isCorked) this.#socket.cork();
      this.#isCorked = true;
      this.#writeBatch();
      this.#socket.write(body);
      this.#append('\0');
      if (body.length >= BATCH_LENGTH) this.#flush();
    }
  }

  /** Is so much unsent that the caller should wait for `drained`? */
  get isFull(): boolean {
    return !this.#isFinished && this.#socket.writableNeedDrain;
  }

  /** Resolves when the socket takes more, or has ended. */
  drained(): Promise<void> {
    if (!this.isFull) return Promise.resolve();
    this.#drained ??= new Promise((resolve) => {
      const done = () => {
        this.#socket.off('drain', done).off('close', done);
        this.#drained = undefined;
        resolve();
      };
      this.#socket.on('drain', done).on('close', done);
    });
    return this.#drained;
  }

  /** stompit's way to send: used by its CONNECT alone. */
  frame(command: string, headers: Headers): { headers: Headers; on(): undefined; end(): void } {
    return { headers, on: () => undefined, end: () => this.send(command, headers) };
  }

  heartbeat(): void {
    // Bytes that wait are as good as a beat, and beats must not pile up behind a reader that stalls.
    if (!this.#isFinished && !this.#socket.writableNeedDrain) this.#append('\n');
  }

  finish(): void {
    this.#isFinished = true;
    this.#batch = '';
  }

  hasFinished(): boolean {
    return this.#isFinished;
  }

  setVersion(version: string): boolean {
    return version === '1.2';
  }

  #append(text: string): void {
    this.#batch += text;
    if (this.#batch.length >= BATCH_LENGTH) this.#flush();
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    process.nextTick(() => {
      this.#isFlushing = false;
      this.#flush();
    });
  }

  #flush(): void {
    this.#writeBatch();
    if (this.#isCorked) this.#socket.uncork();
    this.#isCorked = false;
  }

  #writeBatch(): void {
    if (this.#batch === '' || this.#isFinished) return;
    this.#socket.write(this.#batch, 'utf8');
    this.#batch = '';
  }
}

/** Of a body that may as well go with the rest of its batch: from here on copying it costs more than another piece. */
const COPIED_BYTES = 16 * 1024;

function textOf(body: Uint8Array): string | undefined {
  if (body.length > COPIED_BYTES || !isUtf8(body)) return undefined;
  return Buffer.from(body.buffer, body.byteOffset, body.length).toString();
}
