/**
 * Headers as they are read: the text of a head becomes an object of names and values. Any name is data there, `__proto__`
 * too, for these objects have no prototype; and V8 gives one that is made by `createHeaders` properties at fixed places,
 * which are filled, read and copied several times as fast as those of `Object.create(null)`.
 *
 * It makes a dictionary of one that is filled with more than 16, which takes five times as long to copy, but not of the copy
 * of an object that has them all. So when heads with so many names come, the same ones again and again, each begins as such
 * a copy (Node 20 and 24). Beyond 128 a dictionary is as good.
 */

/** Header names and values, un-escaped. Decoded ones have no prototype, so any name is safe to look up. */
export type Headers = Record<string, string>;

/** The peer does not speak STOMP, or went over a limit: the connection cannot be read any further. */
export class FrameError extends Error {
  override name = 'FrameError';
  readonly isOverLimit: boolean;

  constructor(message: string, { isOverLimit = false } = {}) {
    super(message);
    this.isOverLimit = isOverLimit;
  }
}

/** None, and no prototype. */
export function createHeaders(): Headers {
  return Object.setPrototypeOf({}, null) as Headers;
}

/** A copy without a prototype. */
export function copyHeaders(headers: Readonly<Headers>): Headers {
  const names = Object.keys(headers);
  return names.length <= MOST_IN_PLACE
    ? (Object.setPrototypeOf({ ...headers }, null) as Headers)
    : pick(headers, names);
}

function pick(headers: Readonly<Headers>, names: readonly string[]): Headers {
  const picked = createHeaders();
  for (const name of names) picked[name] = headers[name] ?? '';
  return picked;
}

export interface Head {
  readonly command: string;
  readonly headers: Headers;
  /** The text of the header lines, up to the blank line. */
  readonly lines: string;
}

const COLON = 58;
const CR = 13;

/** What is remembered of names is bounded: in number, and each in characters. */
const MOST_NAMES = 256;
const LONGEST_NAME = 128;
/** So many properties V8 keeps at fixed places in an object that is filled one by one, and in one that is copied. */
const MOST_FILLED = 16;
const MOST_IN_PLACE = 128;
/** Heads in a row whose names are the same, before one is expected to have them. */
const SAME = 3;

/** What the heads of a command are like. */
class Shape {
  /** In the order of the last head: the next head has the same ones, but for a few. */
  readonly names: string[] = [];
  /** Of the last head. */
  lines = 0;
  /** To begin with: it has the names of all lines, and no values. */
  start: Headers | undefined;
  #same = 0;

  /** What the next head is like is to be learned, but for its first names. */
  restart(names: readonly string[]): void {
    this.names.splice(0, Infinity, ...names);
    this.lines = 0;
    this.start = undefined;
    this.#same = 0;
  }

  /** Does it begin with so many of these names? */
  begins(names: readonly string[], count: number): boolean {
    for (let line = 0; line < count; line++) if (this.names[line] !== names[line]) return false;
    return true;
  }

  /** A head of so many lines has been read; `isSame`: each has the name that it has in `names`. */
  note(lines: number, isSame: boolean): void {
    this.#same = isSame && lines === this.lines ? this.#same + 1 : 0;
    this.lines = lines;
    if (this.#same === 0) this.start = undefined;
    if (this.#same !== SAME || lines <= MOST_FILLED || lines > MOST_IN_PLACE) return;
    const names = new Set(this.names.slice(0, lines));
    if (names.size === lines)
      this.start = copyHeaders(Object.fromEntries([...names].map((name) => [name, ''])));
  }
}

/** Those of a command: messages that come for the first time, and those that come again, have other names and take turns. */
class Shapes {
  /** That of the last head. */
  recent = new Shape();
  #other = new Shape();

  /** For a head that is like the last one for so many lines, and then has this one: the other shape, if need be anew. */
  turn(count: number, text: string, start: number, end: number): Shape {
    const { recent } = this;
    const other = this.#other;
    this.recent = other;
    this.#other = recent;
    const isLike = expectedAt(text, start, end, other.names[count]) !== undefined;
    if (!isLike || !other.begins(recent.names, count)) other.restart(recent.names.slice(0, count));
    return other;
  }
}

const shapes = new Map<string, Shapes>(
  ['MESSAGE', 'RECEIPT', 'SEND', 'ACK'].map((command) => [command, new Shapes()]),
);

/**
 * Reads a head, from its command to its blank line; text without one is read to its end. A lenient reader keeps undefined
 * escapes as they stand and skips lines without a colon, a strict one throws FrameError for each. `kind`: the command whose
 * heads have the same names, where the first line is another one.
 */
export function readHead(text: string, isStrict: boolean, kind?: string): Head {
  const hasCr = text.includes('\r');
  const commandEnd = text.indexOf('\n');
  const command = text.slice(0, hasCr ? beforeCr(text, 0, commandEnd) : commandEnd);
  const isEscaped = command !== 'CONNECTED' && text.includes('\\');
  const known = isEscaped ? undefined : shapes.get(kind ?? command);
  let shape = known?.recent;
  let { names, lines } = shape ?? { names: [], lines: 0 };
  let isStarted = shape?.start !== undefined;
  let headers = shape?.start === undefined ? createHeaders() : copyHeaders(shape.start);
  let isSame = true;
  let mayTurn = true;
  let line = 0;
  let start = commandEnd + 1;
  let lineEnd = text.indexOf('\n', start);
  for (; lineEnd !== -1; line++, start = lineEnd + 1, lineEnd = text.indexOf('\n', start)) {
    const end = hasCr ? beforeCr(text, start, lineEnd) : lineEnd;
    if (end === start) break;
    let name = expectedAt(text, start, end, names[line]);
    if (name === undefined && known !== undefined && mayTurn && line < MOST_NAMES) {
      mayTurn = false;
      shape = known.turn(line, text, start, end);
      ({ names, lines } = shape);
      isStarted = shape.start !== undefined;
      headers = begun(shape.start, headers, names.slice(0, line));
      name = expectedAt(text, start, end, names[line]);
    }
    if (name === undefined) {
      if (isStarted) headers = pick(headers, names.slice(0, line));
      if (shape !== undefined) shape.start = undefined;
      isStarted = false;
      isSame = false;
      name = nameAt(text, start, end, names, line);
    }
    if (name === undefined) {
      if (isStrict) throw new FrameError(`a header line of ${command.slice(0, 40)} has no colon`);
      continue;
    }
    const value = text.slice(start + name.length + 1, end);
    // Of a repeated header the first counts (STOMP 1.2, "Repeated Header Entries").
    if (isEscaped) headers[unescape(name, isStrict)] ??= unescape(value, isStrict);
    else if (isStarted && line < lines) headers[name] = value;
    else headers[name] ??= value;
  }
  if (isStarted && line < lines) headers = pick(headers, names.slice(0, line));
  shape?.note(line, isSame);
  return { command, headers, lines: text.slice(commandEnd + 1, start) };
}

/** What has been read so far, in an object of another shape. */
function begun(
  start: Readonly<Headers> | undefined,
  read: Readonly<Headers>,
  names: readonly string[],
): Headers {
  const headers = start === undefined ? createHeaders() : copyHeaders(start);
  for (const name of names) headers[name] = read[name] ?? '';
  return headers;
}

/**
 * The name that the line is expected to begin with, if it does. Text that is a property's name already is found at once; what
 * has just been cut out is looked up letter by letter.
 */
function expectedAt(
  text: string,
  start: number,
  end: number,
  expected: string | undefined,
): string | undefined {
  if (expected === undefined) return undefined;
  const colon = start + expected.length;
  const isThere = colon < end && text.charCodeAt(colon) === COLON && text.slice(start, colon) === expected;
  return isThere ? expected : undefined;
}

/** The name that the line begins with, as it stands, noted among the others; undefined when it has no colon. */
function nameAt(text: string, start: number, end: number, names: string[], line: number): string | undefined {
  const colon = text.indexOf(':', start);
  if (colon === -1 || colon >= end) return undefined;
  const name = text.slice(start, colon);
  if (line < MOST_NAMES && name.length <= LONGEST_NAME) names[line] = name;
  return name;
}

function beforeCr(text: string, start: number, end: number): number {
  return end > start && text.charCodeAt(end - 1) === CR ? end - 1 : end;
}

const unescapes: Record<string, string> = { '\\\\': '\\', '\\r': '\r', '\\n': '\n', '\\c': ':' };

function unescape(text: string, isStrict: boolean): string {
  if (!text.includes('\\')) return text;
  return text.replace(/\\[^]?/g, (escape) => {
    const plain = unescapes[escape];
    if (plain === undefined && isStrict)
      throw new FrameError(`undefined escape ${JSON.stringify(escape)} in a header`);
    return plain ?? escape;
  });
}
