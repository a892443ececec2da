/**
 * The one pino instance. It writes to stderr at once (a log line survives the death of the process), as JSON lines or
 * as readable text, with secrets redacted and, inside a callback, with the correlation id of its message. A reader
 * that closes stderr, or a disk that is full, does not take the process down.
 */
import { format, inspect } from 'node:util';
import { pino } from 'pino';
import { correlationId } from './context.js';
import { reasonOf } from './errors.js';
import { printable, printableText } from './printable.js';
import type { Settings } from './settings.js';

/** What this program needs of a logger; pino's own interface fits. Fields first, constant text second. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  isLevelEnabled(level: string): boolean;
}

/** Characters that are kept while stderr takes none. */
const MAX_UNWRITTEN = 1_000_000;

const stderr = pino.destination({ fd: 2, sync: true, maxLength: MAX_UNWRITTEN });
stderr.on('error', () => undefined);
/** In a line of JSON, only characters inside of texts are changed, for the escapes that mean them. */
let render = printableText;
/** To the start of the line and erase it: what stands there is a progress line. */
const ERASE_LINE = '\r\x1b[K';
let isTerminalShared = false;
/** Where lines go: to stderr, or from a worker thread to the main one, which writes them. */
let sink = writeLine;

/** Writes a line of the log, as it was made here or in a worker thread. */
export function writeLine(line: string): void {
  stderr.write((isTerminalShared ? ERASE_LINE : '') + render(line));
}

/** Sends every line there, at this level: for a worker thread. */
export function redirectLog(to: (line: string) => void, level: string): void {
  sink = to;
  log.level = level;
}

/** What a callback throws may be frozen, which pino's own serializer cannot take, or throw when it is looked at. */
export function serializeError(error: unknown): unknown {
  try {
    return pino.stdSerializers.err(error as Error);
  } catch {
    return { message: reasonOf(error), stack: inspectOr(error, '') };
  }
}

function inspectOr(value: unknown, fallback: string): string {
  try {
    return inspect(value);
  } catch {
    return fallback;
  }
}

/** Usable from the start, as JSON lines at info; `configureLog` changes it in place. */
export const log = pino(
  {
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: serializeError },
    formatters: { level: (label) => ({ level: label }) },
    redact: {
      paths: ['password', 'passcode', 'login', '*.password', '*.passcode', '*.login', '*.authorization'],
      censor: '[redacted]',
    },
    mixin: () => {
      const id = correlationId();
      return id === undefined ? {} : { correlationId: id };
    },
    level: 'info',
  },
  { write: (line: string) => sink(line) },
);

/** While somebody keeps a line at the bottom of the terminal, log lines replace it; it is for them to draw it again. */
export function shareTerminal(isShared: boolean): void {
  isTerminalShared = isShared;
}

/** Sets level and format; `auto` is readable text when stderr is a terminal. */
export async function configureLog({
  logLevel,
  logFormat,
}: Pick<Settings, 'logLevel' | 'logFormat'>): Promise<void> {
  log.level = logLevel;
  if (logFormat === 'json' || (logFormat === 'auto' && !process.stderr.isTTY)) return;
  const { prettyFactory } = await import('pino-pretty');
  // hasColors heeds NO_COLOR, FORCE_COLOR and TERM=dumb.
  const colorize = process.stderr.isTTY && process.stderr.hasColors();
  const pretty = prettyFactory({
    ...{ colorize, ignore: 'pid', singleLine: true, translateTime: 'SYS:HH:MM:ss.l' },
  });
  // It prints messages and stacks as they are, so that they must be harmless before.
  render = (line) => pretty(JSON.parse(line, (_name, value: unknown) => harmless(value)));
}

/** A text without control characters; of an object, which has harmless values by now, the names. */
function harmless(value: unknown): unknown {
  if (typeof value === 'string') return printableText(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([name, own]) => [printable(name), own as unknown]));
}

/**
 * Sends what a callback prints with console.* through the log, so that it carries the correlation id of its message.
 * What is printed outside of a callback goes where it always went.
 */
export function bridgeConsole(): void {
  const levels = { debug: 'debug', log: 'info', info: 'info', warn: 'warn', error: 'error' } as const;
  for (const [method, level] of Object.entries(levels) as [
    keyof typeof levels,
    (typeof levels)[keyof typeof levels],
  ][]) {
    // eslint-disable-next-line no-console -- this is what is replaced
    const print = console[method].bind(console);
    // eslint-disable-next-line no-console -- see above
    console[method] = (...values: unknown[]) => {
      if (correlationId() === undefined) print(...values);
      else log[level]({ source: 'console' }, format(...values));
    };
  }
}
