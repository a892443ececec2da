/**
 * Where the log goes: stderr, without ever waiting for its reader. States: open -> stalled (lines wait in a bounded
 * buffer, more are dropped and counted) -> open again, with one line that says how many were dropped.
 *
 * A blocking descriptor would stand the whole process. A pipe and a terminal are therefore opened once more, so that not
 * to block is a matter of this descriptor alone and not of everybody who shares it; a socket cannot be, and Node's own
 * stream makes that one non-blocking. A file does not stall.
 */
import { constants, fstatSync, openSync, writeSync } from 'node:fs';

/** Bytes that wait for the reader of a log; V8's own text of a crash is far smaller. */
const MAX_WAITING = 2_000_000;
/** How often a stalled reader is tried again. */
const RETRY_MS = 50;
/** What the reader has to take the last lines at the end of the process. */
const LAST_MS = 500;

/** The descriptor of stderr, or another one of the same that does not block. */
function openStderr(): number {
  try {
    const stats = fstatSync(2);
    if (stats.isFIFO() || stats.isCharacterDevice())
      return openSync('/proc/self/fd/2', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // There is no such folder but on Linux, and it may belong to another user.
  }
  // Looking at the stream is enough; of a file, or when it is closed, it changes nothing.
  return process.stderr.fd;
}

export class LogOutput {
  readonly #renderDropped: (dropped: number) => string;
  #fd = -1;
  readonly #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  /** Lines that nobody took in time. */
  droppedInAll = 0;
  #isRetrying = false;
  #isGone = false;

  /** `renderDropped` makes the line that says how many are missing. */
  constructor(renderDropped: (dropped: number) => string) {
    this.#renderDropped = renderDropped;
  }

  /** Never blocks and never throws. */
  write(text: string): void {
    if (this.#isGone) return;
    if (this.#waiting.length > 0 && this.#waitingBytes + text.length > MAX_WAITING) {
      this.#dropped++;
      this.droppedInAll++;
      return;
    }
    const bytes = Buffer.from(text);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    // Behind what waits; the timer tries again.
    if (this.#waiting.length === 1) this.#flush();
  }

  #flush(): void {
    if (this.#fd === -1) {
      this.#fd = openStderr();
      process.once('exit', () => this.#flushLast());
    }
    while (this.#send());
    if (this.#waiting.length === 0 || this.#isGone) return;
    if (this.#isRetrying) return;
    this.#isRetrying = true;
    setTimeout(() => {
      this.#isRetrying = false;
      this.#flush();
    }, RETRY_MS).unref();
  }

  /** False when there is no more, or it is not taken now. */
  #send(): boolean {
    const [first] = this.#waiting;
    if (first === undefined) return false;
    let written: number;
    try {
      written = writeSync(this.#fd, first);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // Nobody will read any more; whatever else it is, like a full disk, may pass.
      if (code === 'EPIPE' || code === 'EBADF' || code === 'EIO') this.#giveUp();
      return false;
    }
    this.#waitingBytes -= written;
    if (written < first.length) this.#waiting[0] = first.subarray(written);
    else this.#waiting.shift();
    if (this.#waiting.length === 0) this.#tellDropped();
    return true;
  }

  #tellDropped(): void {
    if (this.#dropped === 0) return;
    const line = Buffer.from(this.#renderDropped(this.#dropped));
    this.#dropped = 0;
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
  }

  #giveUp(): void {
    this.#isGone = true;
    this.#waiting.length = 0;
    this.#waitingBytes = 0;
  }

  /** The process ends: a reader that is slow still gets them, one that is not there does not hold it. */
  #flushLast(): void {
    const endMs = performance.now() + LAST_MS;
    const pause = new Int32Array(new SharedArrayBuffer(4));
    while (this.#waiting.length > 0 && performance.now() < endMs) {
      if (!this.#send()) Atomics.wait(pause, 0, 0, 5);
    }
  }
}
