/**
 * The STOMP 1.2 codec, pure: bytes to frames and frames to bytes, for both ends of a connection.
 *
 *     frame  = command EOL *( name ":" value EOL ) EOL body NUL *EOL          EOL = [CR] LF
 *
 * Names and values are UTF-8 with `\\ \n \r \c` escaped, except in CONNECTED. The body is `content-length`
 * bytes, or all bytes before the first NUL. FrameDecoder is fed chunks as they come off a socket, split anywhere; its
 * state is "in a head" (collecting up to the blank line) or "in a body" (collecting up to its length or NUL). Work is
 * linear in the bytes received and what it keeps is bounded by its limits.
 */
import { PubsubError } from '../errors.js';
import { FrameError, readHead, type Head, type Headers } from './headers.js';
import { Pieces } from './pieces.js';
import { readPlainReceipts } from './plain-receipts.js';

export type { Headers } from './headers.js';

export interface Frame {
  readonly command: string;
  readonly headers: Readonly<Headers>;
  readonly body: Buffer;
  /** The header lines as they came, of a frame that was decoded. */
  readonly lines?: string;
  /** Set when a part was over its limit and dropped: settle-relevant headers are kept, a body is empty. */
  readonly oversized?: 'headers' | 'body';
}

export interface FrameLimits {
  readonly headerBytes: number;
  readonly bodyBytes: number;
}

export interface DecoderOptions extends FrameLimits {
  /**
   * A lenient decoder (a client, whose peer relays what strangers sent) keeps undefined escapes as they stand, skips
   * header lines without a colon and drops what is over a limit. A strict one (a server) throws FrameError for each.
   */
  readonly strict: boolean;
}

const LF = 10;
const CR = 13;
const EMPTY = Buffer.alloc(0);

/** What a message can still be settled and dead-lettered by when the rest of its headers is dropped. */
const essentialLine =
  /^(?:subscription|destination|message-id|ack|redelivered|persistent|correlation-id|content-length|content-type|receipt-id|message):/;
/** How much of an essential or an unfinished line survives; ids and destinations are far shorter. */
const KEPT_LINE_BYTES = 4096;

export class FrameDecoder {
  #options: DecoderOptions;
  readonly #onFrame: (frame: Frame) => void;
  readonly #onReceipt: ((id: number) => void) | undefined;
  /** Of the current head or body, from earlier chunks. */
  readonly #pieces = new Pieces();
  #head: Head | undefined;
  /** Of the current body; undefined: it ends at the first NUL. */
  #contentLength: number | undefined;
  #isLineEmpty = false;
  /** Where in this chunk the next CR stands that is not before the current head; its length for nowhere. */
  #nextCr = -1;
  #oversized: 'headers' | 'body' | undefined;

  /**
   * `onFrame` is called synchronously, in wire order; bodies are views of the chunks passed to push. `onReceipt`, if given, is
   * called in the place of it for receipts with a number and nothing else.
   */
  constructor(options: DecoderOptions, onFrame: (frame: Frame) => void, onReceipt?: (id: number) => void) {
    this.#options = options;
    this.#onFrame = onFrame;
    this.#onReceipt = onReceipt;
  }

  /** Is a frame begun and not finished? */
  get isMidFrame(): boolean {
    return this.#head !== undefined || this.#pieces.bytes > 0;
  }

  /** Holds for what is decoded from now on, also for the rest of a chunk when it is called from onFrame. */
  setLimits({ headerBytes, bodyBytes }: FrameLimits): void {
    this.#options = { ...this.#options, headerBytes, bodyBytes };
  }

  /** `push` of bytes in memory that is read into again: it keeps none of them. */
  pushCopy(bytes: Buffer): void {
    const filled = this.#pieces.fill(bytes);
    if (filled < bytes.length) this.push(Buffer.from(bytes.subarray(filled)));
  }

  /** Decodes all frames that end in this chunk. Throws FrameError; after that the decoder must not be used again. */
  push(chunk: Buffer): void {
    let at = 0;
    this.#nextCr = -1;
    while (at < chunk.length) {
      if (this.#onReceipt !== undefined && !this.isMidFrame)
        at = readPlainReceipts(chunk, at, this.#onReceipt);
      at = this.#head === undefined ? this.#readHead(chunk, at) : this.#readBody(chunk, at, this.#head);
    }
  }

  #readHead(chunk: Buffer, start: number): number {
    let at = start;
    if (this.#pieces.bytes === 0) {
      while (chunk[at] === LF || chunk[at] === CR) at++;
      if (at === chunk.length) return at;
      const end = this.#findHeadEnd(chunk, at);
      if (end !== -1 && end - at <= this.#options.headerBytes)
        return this.#beginBody(chunk.toString('utf8', at, end), end);
      this.#isLineEmpty = false;
    }
    return this.#readHeadByBytes(chunk, at);
  }

  /**
   * Where a head that begins there ends, if all of it is in this chunk and its lines end with LF alone; else -1. It looks
   * no further than to the next CR: in a chunk of heads with CRLF each search would go through all of it.
   */
  #findHeadEnd(chunk: Buffer, start: number): number {
    if (this.#nextCr < start) {
      const cr = chunk.indexOf(CR, start);
      this.#nextCr = cr === -1 ? chunk.length : cr;
    }
    if (this.#nextCr === chunk.length) {
      const end = chunk.indexOf('\n\n', start);
      return end === -1 ? -1 : end + 2;
    }
    const end = chunk.subarray(start, this.#nextCr).indexOf('\n\n');
    return end === -1 ? -1 : start + end + 2;
  }

  #readHeadByBytes(chunk: Buffer, from: number): number {
    let at = from;
    for (let isLineEmpty = this.#isLineEmpty; ; at++) {
      if (at === chunk.length) {
        this.#isLineEmpty = isLineEmpty;
        this.#pieces.add(chunk.subarray(from));
        if (this.#pieces.bytes > this.#options.headerBytes) this.#pruneHead();
        return at;
      }
      const byte = chunk[at];
      if (byte === LF) {
        if (isLineEmpty) break;
        isLineEmpty = true;
      } else if (byte !== CR) {
        isLineEmpty = false;
      }
    }
    let last = chunk.subarray(from, at + 1);
    if (this.#pieces.bytes + last.length > this.#options.headerBytes) {
      this.#pieces.add(last);
      this.#pruneHead();
      last = EMPTY;
    }
    return this.#beginBody(this.#pieces.take(last).toString(), at + 1);
  }

  #beginBody(head: string, at: number): number {
    this.#head = readHead(head, this.#options.strict);
    this.#contentLength = contentLengthOf(this.#head.headers);
    this.#pieces.expect(this.#contentLength ?? 0);
    if ((this.#contentLength ?? 0) > this.#options.bodyBytes) this.#overflowBody();
    return at;
  }

  #readBody(chunk: Buffer, start: number, head: Head): number {
    const end = this.#endOfBody(chunk, start, this.#contentLength);
    const piece = chunk.subarray(start, end);
    if (this.#pieces.bytes + piece.length > this.#options.bodyBytes) this.#overflowBody();
    if (end === chunk.length) {
      this.#pieces.add(piece);
      return end;
    }
    if (chunk[end] !== 0) throw new FrameError('a body is longer than its content-length says');
    const oversized = this.#oversized;
    const { command, headers, lines } = head;
    const body = this.#pieces.take(piece);
    this.#head = undefined;
    this.#oversized = undefined;
    if (oversized === undefined) this.#onFrame({ command, headers, body, lines });
    else this.#onFrame({ command, headers, body: oversized === 'body' ? EMPTY : body, lines, oversized });
    return end + 1;
  }

  /** Where in this chunk the body's NUL stands, or its length when it is not in it. */
  #endOfBody(chunk: Buffer, start: number, contentLength: number | undefined): number {
    if (contentLength !== undefined)
      return Math.min(chunk.length, start + contentLength - this.#pieces.bytes);
    const nul = chunk.indexOf(0, start);
    return nul === -1 ? chunk.length : nul;
  }

  #overflowBody(): void {
    const { strict, bodyBytes } = this.#options;
    if (strict) throw new FrameError(`a body is over the limit of ${bodyBytes} bytes`, { isOverLimit: true });
    this.#pieces.drop();
    this.#oversized = 'body';
  }

  /** Keeps the command, the essential lines and the start of the unfinished line; its later bytes will follow that. */
  #pruneHead(): void {
    const { strict, headerBytes } = this.#options;
    if (strict)
      throw new FrameError(`the headers are over the limit of ${headerBytes} bytes`, { isOverLimit: true });
    const lines = this.#pieces.take().toString('latin1').split('\n');
    const unfinished = lines.pop() ?? '';
    const isFinished = unfinished === '' && lines.at(-1)?.replace('\r', '') === '';
    const names = new Set<string>();
    const kept = lines.filter((line, index) => {
      const name = line.length <= KEPT_LINE_BYTES ? essentialLine.exec(line)?.[0] : undefined;
      if (index > 0 && (name === undefined || names.has(name))) return false;
      names.add(name ?? '');
      return true;
    });
    const text = [
      ...kept.map((line) => line.slice(0, KEPT_LINE_BYTES)),
      unfinished.slice(0, KEPT_LINE_BYTES),
    ];
    this.#pieces.add(Buffer.from(text.join('\n') + (isFinished ? '\n' : ''), 'latin1'));
    this.#oversized = 'headers';
  }
}

function contentLengthOf(headers: Headers): number | undefined {
  const text = headers['content-length'];
  if (text === undefined) return undefined;
  if (!/^\s*\d{1,15}\s*$/.test(text))
    throw new FrameError(`content-length is no number: ${text.slice(0, 40)}`);
  return Number(text);
}

const escapes: Record<string, string> = { '\\': '\\\\', '\r': '\\r', '\n': '\\n', ':': '\\c' };

const special = /[\\\r\n:\0]/;
const specials = new RegExp(special, 'g');

/** A name or value as it goes on the wire. Throws `invalid-header`. */
export function escape(text: string): string {
  if (!special.test(text)) return text;
  return text.replace(specials, (character) => {
    const escaped = escapes[character];
    if (escaped === undefined)
      throw new PubsubError('invalid-header', `a header contains a NUL byte: ${JSON.stringify(text)}`);
    return escaped;
  });
}

/**
 * CONNECT and CONNECTED know no escapes in STOMP 1.2: what would need one is refused, so that no value can add a header. Brokers
 * un-escape what a client sends all the same (RabbitMQ 3.10, ActiveMQ 5.17): backslashes are the caller's business.
 */
function verbatim(text: string): string {
  if (/[\r\n\0]/.test(text)) {
    throw new PubsubError(
      'invalid-header',
      'a login, passcode, host or client id contains a line break or a NUL byte',
    );
  }
  return text;
}

/**
 * The command line and header lines, without the blank line that ends a head: more lines may follow. Headers that are
 * undefined are left out. Throws `invalid-header`.
 */
export function encodeLines(command: string, headers: Readonly<Record<string, string | undefined>>): string {
  return `${command}\n${encodeHeaders(headers, command === 'CONNECT' || command === 'CONNECTED' ? verbatim : escape)}`;
}

/** One header line. Throws `invalid-header`. */
export function encodeHeader(name: string, value: string, encode = escape): string {
  return `${encode(name)}:${encode(value)}\n`;
}

/** Header lines alone, to be added to others. Throws `invalid-header`. */
export function encodeHeaders(
  headers: Readonly<Record<string, string | undefined>>,
  encode = escape,
): string {
  let lines = '';
  for (const name in headers) {
    const value = headers[name];
    if (value !== undefined) lines += encodeHeader(name, value, encode);
  }
  return lines;
}

/** The whole head, up to the body. Throws `invalid-header`. */
export function encodeHead(command: string, headers: Readonly<Record<string, string | undefined>>): string {
  return `${encodeLines(command, headers)}\n`;
}

/** A whole frame. With a body that may contain NUL bytes the caller sets `content-length`. Throws `invalid-header`. */
export function encodeFrame(
  command: string,
  headers: Readonly<Record<string, string | undefined>>,
  body: Uint8Array | string = '',
): Buffer {
  const head = encodeHead(command, headers);
  if (typeof body === 'string') return Buffer.from(`${head}${body}\0`);
  return Buffer.concat([Buffer.from(head), body, Buffer.from('\0')]);
}
