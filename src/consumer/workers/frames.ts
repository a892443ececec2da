/**
 * Frames on the byte streams between the consumer and a worker process: how they are laid out, read from whatever chunks
 * they come in, and gathered for one write. A frame is a kind, a number, a head (JSON) and a body, the bytes as received:
 *
 *     kind 1 | number 8 (double) | length of the head 4 | length of the body 4 | head | body
 *
 * Kinds have their highest bit set, so that text that strays onto the stream is seen for what it is.
 */

export interface WireFrame {
  readonly kind: number;
  /** The run that it is about, or the call. */
  readonly number: number;
  readonly head: Buffer;
  readonly body: Buffer;
}

/** Bytes of a frame without head and body. */
export const PREFIX = 17;
/** Of heads: V8 takes longer texts, and nothing that is right is as long. */
const LONGEST_HEAD = 2 ** 29;
/** A body of the longest message, and far more than what a callback publishes with one ack. */
const LONGEST_BODY = 2 ** 31;
const NONE = Buffer.alloc(0);
/** Up to here copying a body costs less than writing it by itself. */
const COPIED = 16_384;
/** Frames are written into pieces of so many bytes, which last for many. */
const SLAB = 65_536;
/** A body as long as that has memory of its own. A shorter one may be in the chunk that is read into, which nobody may give away. */
export const OF_ITS_OWN = SLAB;
/** To be read into: each read costs as much as some kilobytes. */
const SMALLEST_PLACE = 16_384;

/** Takes a stream apart. `push` throws when it is not of this protocol. */
export class FrameReader {
  readonly #isKnown: (kind: number) => boolean;
  readonly #take: (frame: WireFrame) => void;
  /** The start of a frame whose rest has not come. */
  #rest: Buffer = NONE;
  /** A frame longer than its chunk, and how much of it has come. */
  #long: Buffer | undefined;
  #filled = 0;
  /** What is left of the chunk that is read into. */
  #place: Buffer = NONE;

  constructor(isKnown: (kind: number) => boolean, take: (frame: WireFrame) => void) {
    this.#isKnown = isKnown;
    this.#take = take;
  }

  /**
   * Where the next bytes go, for who can choose, and pushes them then. Those of a long frame are in their place at once: no chunks
   * of it pile up until they are collected.
   */
  place(): Buffer {
    if (this.#long !== undefined) return this.#long.subarray(this.#filled);
    if (this.#place.length < SMALLEST_PLACE) this.#place = Buffer.allocUnsafeSlow(SLAB);
    return this.#place;
  }

  push(chunk: Buffer): void {
    if (chunk.buffer === this.#place.buffer) this.#place = this.#place.subarray(chunk.length);
    let from = 0;
    if (this.#long !== undefined) {
      from = this.#fill(this.#long, chunk, 0);
    } else if (this.#rest.length > 0) {
      chunk = Buffer.concat([this.#rest, chunk]);
      this.#rest = NONE;
    }
    while (from < chunk.length) {
      if (!this.#isKnown(chunk.readUInt8(from))) throw new Error('bytes that are no frame');
      if (chunk.length - from < PREFIX) break;
      const length = frameLength(chunk, from);
      if (chunk.length - from < length) {
        // It is put together in one piece, whatever number of chunks it comes in.
        this.#long = Buffer.allocUnsafeSlow(length);
        this.#filled = 0;
        this.#fill(this.#long, chunk, from);
        return;
      }
      this.#take(parse(chunk, from, length));
      from += length;
    }
    if (from < chunk.length) this.#rest = chunk.subarray(from);
  }

  /** Adds what `chunk` has for it, from there, unless it is in its place; returns where the next frame begins. */
  #fill(long: Buffer, chunk: Buffer, from: number): number {
    const isThere = chunk.buffer === long.buffer;
    const copied = isThere ? chunk.length : chunk.copy(long, this.#filled, from);
    this.#filled += copied;
    if (this.#filled === long.length) {
      this.#long = undefined;
      this.#take(parse(long, 0, long.length));
    }
    return from + copied;
  }
}

function frameLength(chunk: Buffer, from: number): number {
  const head = chunk.readUInt32LE(from + 9);
  const body = chunk.readUInt32LE(from + 13);
  if (head > LONGEST_HEAD || body > LONGEST_BODY) throw new Error('a frame that is too long');
  return PREFIX + head + body;
}

function parse(chunk: Buffer, from: number, length: number): WireFrame {
  const headEnd = from + PREFIX + chunk.readUInt32LE(from + 9);
  return {
    kind: chunk.readUInt8(from),
    number: chunk.readDoubleLE(from + 1),
    head: headEnd === from + PREFIX ? NONE : chunk.subarray(from + PREFIX, headEnd),
    body: headEnd === from + length ? NONE : chunk.subarray(headEnd, from + length),
  };
}

/** Writes a frame without head and body there; returns where the next one goes. */
export function encodePlain(buffer: Buffer, at: number, kind: number, number: number): number {
  buffer[at] = kind;
  buffer.writeDoubleLE(number, at + 1);
  buffer.fill(0, at + 9, at + PREFIX);
  return at + PREFIX;
}

/** Frames that are to be written together. */
export class FrameGatherer {
  #buffer = Buffer.allocUnsafeSlow(SLAB);
  #used = 0;
  readonly #done: Buffer[] = [];

  get isEmpty(): boolean {
    return this.#used === 0 && this.#done.length === 0;
  }

  add(kind: number, number: number, head = '', body: Uint8Array = NONE): void {
    const headLength = Buffer.byteLength(head);
    const isCopied = body.length <= COPIED;
    const start = this.#reserve(PREFIX + headLength + (isCopied ? body.length : 0));
    const buffer = this.#buffer;
    buffer[start] = kind;
    buffer.writeDoubleLE(number, start + 1);
    buffer.writeUInt32LE(headLength, start + 9);
    buffer.writeUInt32LE(body.length, start + 13);
    if (headLength > 0) buffer.write(head, start + PREFIX);
    if (isCopied) {
      if (body.length > 0) buffer.set(body, start + PREFIX + headLength);
      return;
    }
    this.#cut();
    this.#done.push(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
  }

  /** What there is, for one write. */
  take(): Buffer[] {
    this.#cut();
    return this.#done.splice(0);
  }

  #reserve(length: number): number {
    if (this.#used + length > this.#buffer.length) {
      this.#cut();
      if (length > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(Math.max(length, SLAB));
    }
    const start = this.#used;
    this.#used += length;
    return start;
  }

  /** Closes what has been gathered, so that it stays as it is. */
  #cut(): void {
    if (this.#used > 0) this.#done.push(this.#buffer.subarray(0, this.#used));
    this.#buffer = this.#buffer.subarray(this.#used);
    this.#used = 0;
  }
}
