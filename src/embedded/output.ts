/**
 * What a connection writes: frames are collected and go out in one write per turn of the event loop. Hides
 * back-pressure: `isOpen` is false while the peer is behind, and `onOpen` tells when it has caught up.
 */
import type { Socket } from 'node:net';

/** Enough for one write to be worth its system call, little enough to hold for every slow consumer. */
const FULL_BYTES = 256 * 1024;

export class Output {
  #socket: Socket;
  #onOpen: () => void;
  /** Binary text not yet handed to the socket, and large bodies among it. */
  #text = '';
  #parts: (string | Buffer)[] = [];
  #bytes = 0;
  #isScheduled = false;
  #isDraining = false;
  #isClosed = false;
  #wasFull = false;

  constructor(socket: Socket, onOpen: () => void) {
    this.#socket = socket;
    this.#onOpen = onOpen;
    socket.on('drain', () => {
      this.#isDraining = false;
      this.#reopen();
    });
  }

  get isOpen(): boolean {
    return !this.#isClosed && !this.#isDraining && this.#bytes < FULL_BYTES;
  }

  /** Bytes that the peer has not taken. */
  get pending(): number {
    return this.#bytes + this.#socket.writableLength;
  }

  /** Appends binary text, or bytes that nobody changes afterwards. */
  write(part: string | Buffer): void {
    if (this.#isClosed) return;
    if (typeof part === 'string') {
      this.#text += part;
    } else {
      this.#parts.push(this.#text, part);
      this.#text = '';
    }
    this.#bytes += part.length;
    if (this.#bytes >= FULL_BYTES) this.#wasFull = true;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.flush();
    });
  }

  /** Hands everything to the socket now. */
  flush(): void {
    if (this.#isClosed || this.#bytes === 0) return;
    const parts = [...this.#parts, this.#text];
    this.#parts = [];
    this.#text = '';
    this.#bytes = 0;
    this.#socket.cork();
    for (const part of parts) if (part.length > 0) this.#write(part);
    this.#socket.uncork();
    if (this.#wasFull && !this.#isDraining) this.#reopen();
  }

  /** Sends what was written, then the end. */
  end(): void {
    this.flush();
    this.#isClosed = true;
    this.#socket.end();
  }

  /** Forgets what was written. */
  close(): void {
    this.#isClosed = true;
    this.#parts = [];
    this.#text = '';
    this.#bytes = 0;
  }

  #write(part: string | Buffer): void {
    const isTaken = typeof part === 'string' ? this.#socket.write(part, 'latin1') : this.#socket.write(part);
    if (!isTaken) this.#isDraining = this.#wasFull = true;
  }

  #reopen(): void {
    if (this.#isClosed) return;
    this.#wasFull = false;
    this.#onOpen();
  }
}
