/**
 * Where what is published comes from: an argument, a file, standard input; as one document or one a line. Hides that input
 * is read in chunks which end anywhere, that it may be of any length or never end, and how a stop interrupts it.
 */
import { isUtf8 } from 'node:buffer';
import { createReadStream, fstatSync, statSync } from 'node:fs';
import { addAbortSignal, type Readable } from 'node:stream';
import type { Content } from '../brokers/content-types.js';
import { PubsubError, reasonOf } from '../errors.js';
import { printable } from '../printable.js';

/** One message to be. Lines are counted from 1, blank ones too. */
export interface Document {
  readonly line: number;
  readonly body: string | Uint8Array;
}

/** A line longer than this is refused: no broker takes such a message. */
const MAX_LINE_BYTES = 256 * 1024 * 1024;
const LF = 10;
const EMPTY = Buffer.alloc(0);
/** What a line that is not blank has. */
const visible = /[^\0- ]/;

export class InputReader {
  /** The size of the input; undefined when nobody knows it before the end. */
  readonly totalBytes: number | undefined;
  readBytes = 0;
  readonly #what: string;
  readonly #stream: Readable;
  readonly #stop: AbortSignal;

  /** Of the file named, or of standard input. A stop ends reading with `interrupted`. Throws `invalid-usage`. */
  constructor(file: string | undefined, isAskedFor: boolean, stop: AbortSignal) {
    this.#stop = stop;
    if (file !== undefined && file !== '-') {
      this.#what = `--file ${file}`;
      this.totalBytes = sizeOf(() => statSync(file));
      this.#stream = createReadStream(file);
    } else if (process.stdin.isTTY && !isAskedFor) {
      const message = 'no body: give it as an argument, with --file, or on standard input';
      throw new PubsubError('invalid-usage', message);
    } else {
      this.#what = 'standard input';
      if (isFolder(0))
        throw new PubsubError('invalid-usage', 'standard input cannot be read: it is a folder; name a file');
      this.totalBytes = sizeOf(() => fstatSync(0));
      this.#stream = process.stdin;
    }
    addAbortSignal(stop, this.#stream);
  }

  /** Rejects with `invalid-usage` for a file or stream that cannot be read. */
  async *chunks(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of this.#stream as AsyncIterable<Buffer>) {
        this.readBytes += chunk.length;
        yield chunk;
      }
    } catch (error) {
      this.#throwIfStopped();
      throw new PubsubError('invalid-usage', `${this.#what} cannot be read: ${reasonOf(error)}`, {
        cause: error,
      });
    }
    this.#throwIfStopped();
  }

  /** The whole input as one document. Rejects as `chunks` does, and as checkBody throws. */
  async document(content: Content): Promise<Document> {
    const chunks: Buffer[] = [];
    for await (const chunk of this.chunks()) chunks.push(chunk);
    return {
      line: 1,
      body: checkBody(content, Buffer.concat(chunks), this.#what.replace(/^--file /, '')),
    };
  }

  /**
   * One document a line, without blank lines, after the first `skip` lines; those that came together at once, for to be
   * handed on one by one costs more than to be sent. A line that is not what it should be is handed to `onInvalid`, and ends
   * the reading when `onInvalid` throws.
   */
  async *lines(
    content: Content,
    skip: number,
    onInvalid: (error: PubsubError, line: number) => void,
  ): AsyncGenerator<Iterable<Document>> {
    const splitter = new LineSplitter(content, skip, onInvalid, () => this.#throwIfStopped());
    for await (const chunk of this.chunks()) yield splitter.push(chunk);
    yield splitter.end();
  }

  #throwIfStopped(): void {
    if (this.#stop.aborted) throw new PubsubError('interrupted', 'stopped before the end of the input');
  }
}

class LineSplitter {
  readonly #content: Content;
  readonly #skip: number;
  readonly #onInvalid: (error: PubsubError, line: number) => void;
  readonly #goOn: () => void;
  #line = 0;
  /** What came of the current line in earlier chunks. */
  #pieces: Buffer[] = [];
  #pieceBytes = 0;
  /** The current line is over the limit: its bytes are not kept. */
  #isTooLong = false;

  /** `goOn` is called before the line that follows one that was handed on, and may throw. */
  constructor(
    content: Content,
    skip: number,
    onInvalid: (error: PubsubError, line: number) => void,
    goOn: () => void,
  ) {
    this.#content = content;
    this.#skip = skip;
    this.#onInvalid = onInvalid;
    this.#goOn = goOn;
  }

  *push(chunk: Buffer): Generator<Document> {
    const firstEnd = this.#pieceBytes > 0 ? chunk.indexOf(LF) : -1;
    if (firstEnd !== -1) yield* this.#only(this.#takeBytes(chunk.subarray(0, firstEnd)));
    const end = chunk.lastIndexOf(LF) + 1;
    const bytes = chunk.subarray(firstEnd + 1, end);
    // Made text of together, unless one of them is none.
    const text = textOf(bytes);
    const lines = text ?? bytes;
    let start = 0;
    for (let lineEnd = lines.indexOf('\n'); lineEnd !== -1; lineEnd = lines.indexOf('\n', start)) {
      const document =
        text === undefined
          ? this.#takeBytes(bytes.subarray(start, lineEnd))
          : this.#take(text.slice(start, lineEnd));
      start = lineEnd + 1;
      if (document === undefined) continue;
      yield document;
      this.#goOn();
    }
    this.#keep(chunk.subarray(end));
  }

  *end(): Generator<Document> {
    if (this.#pieceBytes > 0) yield* this.#only(this.#takeBytes(EMPTY));
    if (this.#line < this.#skip) {
      const message = `--resume-from ${this.#skip}: the input has only ${this.#line} lines`;
      throw new PubsubError('invalid-usage', message);
    }
  }

  *#only(document: Document | undefined): Generator<Document> {
    if (document === undefined) return;
    yield document;
    this.#goOn();
  }

  #keep(piece: Buffer): void {
    this.#pieceBytes += piece.length;
    if (this.#pieceBytes > MAX_LINE_BYTES) {
      if (!this.#isTooLong && this.#line >= this.#skip) {
        const line = this.#line + 1;
        const message = `line ${line} is longer than ${MAX_LINE_BYTES} bytes`;
        this.#onInvalid(new PubsubError('invalid-json', message), line);
      }
      this.#isTooLong = true;
      this.#pieces = [];
    } else if (piece.length > 0) {
      this.#pieces.push(piece);
    }
  }

  /** A line that may be anything, and may have begun in earlier chunks. */
  #takeBytes(last: Buffer): Document | undefined {
    const bytes = this.#pieces.length === 0 ? last : Buffer.concat([...this.#pieces, last]);
    const isTooLong = this.#isTooLong;
    this.#pieces = [];
    this.#pieceBytes = 0;
    this.#isTooLong = false;
    return this.#take(isTooLong ? '' : textOf(bytes));
  }

  /** Undefined for bytes that are no text. */
  #take(text: string | undefined): Document | undefined {
    const line = ++this.#line;
    if (line <= this.#skip || (text !== undefined && !visible.test(text))) return undefined;
    try {
      // An editor of another system ends lines with two characters.
      const own = text?.endsWith('\r') === true ? text.slice(0, -1) : text;
      return { line, body: checkText(this.#content, own, line) };
    } catch (error) {
      if (!(error instanceof PubsubError)) throw error;
      this.#onInvalid(error, line);
      return undefined;
    }
  }
}

/** What goes out of it, which is as it should be. Throws `invalid-json`, and `invalid-usage` for text that is none. */
export function checkBody(content: Content, bytes: Buffer, what: string): string | Uint8Array {
  return content === 'bytes' ? bytes : checkText(content, textOf(bytes), what);
}

const textOf = (bytes: Buffer): string | undefined => (isUtf8(bytes) ? bytes.toString('utf8') : undefined);

/** The same with its text, undefined for bytes that are none. A number is that of a line. */
function checkText(content: Content, text: string | undefined, what: string | number): string {
  if (text === undefined) throw notUtf8(content, nameOf(what));
  return content === 'text' ? text : checkJson(text, what);
}

const nameOf = (what: string | number): string => (typeof what === 'number' ? `line ${what}` : what);

function notUtf8(content: Content, name: string): PubsubError {
  if (content === 'json') return new PubsubError('invalid-json', `${name} is not UTF-8`);
  const remedy = 'correct it, or send it with --body bytes and its --content-type';
  return new PubsubError('invalid-usage', `${name} is not UTF-8: ${remedy}`);
}

/** The text as it stands, without the white space around it: parsing and printing it would round large numbers. */
function checkJson(text: string, what: string | number): string {
  const json = text.trim();
  try {
    JSON.parse(json);
    return json;
  } catch (cause) {
    const name = nameOf(what);
    if (json === '') throw new PubsubError('invalid-json', `${name} is empty; JSON is expected`);
    const message = `${name} is not JSON: ${printable(reasonOf(cause))}${hintOn(json)}`;
    throw new PubsubError('invalid-json', message, { cause });
  }
}

/** The two mistakes of every day: a shell that took the quotes away, and lines that are messages. */
function hintOn(text: string): string {
  if (/^\{'?\w+'?:/.test(text)) return `; in a shell write '{"key":"value"}', in single quotes`;
  const [first = '', ...others] = text.split('\n');
  return others.length > 0 && isJson(first) ? '; for one message a line say --lines' : '';
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Node reads one as if it were an empty file. */
function isFolder(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isDirectory();
  } catch {
    return false;
  }
}

/** The bytes that reading a file will give; a file that is not there says so when it is read. */
function sizeOf(stat: () => { isFile(): boolean; size: number }): number | undefined {
  try {
    const stats = stat();
    return stats.isFile() ? stats.size : undefined;
  } catch {
    return undefined;
  }
}
