/**
 * Headers as they are read: the text of a head becomes an object of names and values. Any name is data there, `__proto__`
 * too, for these objects have no prototype; and V8 gives one that is made by `createHeaders` properties at fixed places,
 * which are filled, read and copied several times as fast as those of `Object.create(null)`.
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
  return Object.setPrototypeOf({ ...headers }, null) as Headers;
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
/** By command, in the order of the last head: the next head has the same ones, but for a few. */
const lastNames = new Map<string, string[]>(
  ['MESSAGE', 'RECEIPT', 'SEND', 'ACK'].map((command) => [command, []]),
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
  const names = (isEscaped ? undefined : lastNames.get(kind ?? command)) ?? [];
  const headers = createHeaders();
  let start = commandEnd + 1;
  let lineEnd = text.indexOf('\n', start);
  for (let line = 0; lineEnd !== -1; line++, start = lineEnd + 1, lineEnd = text.indexOf('\n', start)) {
    const end = hasCr ? beforeCr(text, start, lineEnd) : lineEnd;
    if (end === start) break;
    const name = nameAt(text, start, end, names, line);
    if (name === undefined) {
      if (isStrict) throw new FrameError(`a header line of ${command.slice(0, 40)} has no colon`);
      continue;
    }
    const value = text.slice(start + name.length + 1, end);
    // Of a repeated header the first counts (STOMP 1.2, "Repeated Header Entries").
    if (isEscaped) headers[unescape(name, isStrict)] ??= unescape(value, isStrict);
    else headers[name] ??= value;
  }
  return { command, headers, lines: text.slice(commandEnd + 1, start) };
}

/** The name that the line begins with, as it stands; undefined when it has no colon. */
function nameAt(text: string, start: number, end: number, names: string[], line: number): string | undefined {
  const expected = names[line];
  if (expected !== undefined) {
    // Text that is a property's name already is found at once; what has just been cut out is looked up letter by letter.
    const colon = start + expected.length;
    if (colon < end && text.charCodeAt(colon) === COLON && text.slice(start, colon) === expected)
      return expected;
  }
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
