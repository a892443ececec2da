/**
 * The one pino instance. It writes to stderr at once (a log line survives the death of the process), as JSON lines or
 * as readable text, with secrets redacted and, inside a callback, with the correlation id of its message. A reader
 * that stalls or closes stderr, or a disk that is full, does not stand or end the process; what is too long is cut.
 */
import { format, inspect } from 'node:util';
import type { Logger as PinoLogger } from 'pino';
import { correlationId, currentContext } from './context.js';
import { reasonOf } from './errors.js';
import { LateLogger, loadPino } from './late-pino.js';
import { LogOutput } from './log-output.js';
import { printable, printableText } from './printable.js';
import type { Settings } from './settings.js';
import { foldStack } from './stack.js';
import { traceFields } from './trace-context.js';

/** What this program needs of a logger; pino's own interface fits. Fields first, constant text second. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  isLevelEnabled(level: string): boolean;
}

/** Characters of a text in a line; the rest is cut. */
const LONGEST_TEXT = 120_000;
/** Characters of a line, which may have several texts. */
const LONGEST_LINE = 4 * LONGEST_TEXT;

const output = new LogOutput((dropped) => {
  const fields = { level: 'warn', time: new Date().toISOString(), pid: process.pid, dropped };
  const msg = 'log lines were dropped: nobody read the log for a while';
  return render(`${JSON.stringify({ ...fields, msg })}\n`);
});
/** In a line of JSON, only characters inside of texts are changed, for the escapes that mean them. */
let render = printableText;
/** Undefined until it is known. */
let isJson: boolean | undefined;
/** To the start of the line and erase it: what stands there is a progress line. */
const ERASE_LINE = '\r\x1b[K';
let isTerminalShared = false;
/** Where lines go: to stderr, or from a worker process to the consumer, which writes them. */
let sink = writeLine;

/** How many lines of the log nobody has taken in time. */
export const droppedLines = (): number => output.droppedInAll;

/** Writes a line of the log, as it was made here or in a worker process. */
export function writeLine(line: string): void {
  output.write((isTerminalShared ? ERASE_LINE : '') + render(line));
}

/** The text, or its beginning and how much is missing. */
export function cutText(text: string, most = LONGEST_TEXT): string {
  return text.length <= most ? text : `${text.slice(0, most)}... (${text.length - most} characters cut)`;
}

/** A line of JSON that is no longer than a reader of logs takes; what is cut is texts, so that it stays JSON. */
function cutLine(line: string): string {
  if (line.length <= LONGEST_LINE) return line;
  const cut = (most: number) =>
    `${JSON.stringify(JSON.parse(line), (_, value: unknown) => (typeof value === 'string' ? cutText(value, most) : value))}\n`;
  const shorter = cut(LONGEST_TEXT);
  if (shorter.length <= LONGEST_LINE) return shorter;
  const {
    level,
    time,
    pid,
    correlationId: id,
    reason,
    msg,
  } = JSON.parse(cut(1000)) as Record<string, unknown>;
  return `${JSON.stringify({ level, time, pid, correlationId: id, reason, isCut: true, msg })}\n`;
}

/** Sends every line there, at this level: for a worker process. */
export function redirectLog(to: (line: string) => void, level: Settings['logLevel']): void {
  sink = to;
  log.level = level;
}

/** What a callback throws may be frozen, which pino's own serializer cannot take, or throw when it is looked at. */
export function serializeError(error: unknown): unknown {
  try {
    const told = loadPino().stdSerializers.err(error as Error) as unknown;
    if (told === error) return told;
    const { message, stack } = told as { message: unknown; stack: unknown };
    if (typeof message !== 'string' || typeof stack !== 'string') return told;
    return { ...(told as object), message: cutText(message), stack: cutText(foldStack(stack)) };
  } catch {
    return { message: cutText(reasonOf(error)), stack: cutText(inspectOr(error, '')) };
  }
}

function inspectOr(value: unknown, fallback: string): string {
  try {
    return inspect(value);
  } catch {
    return fallback;
  }
}

/** What went wrong, and which of the programs says so. */
export interface Fatal {
  readonly program: string;
  readonly code: string;
  readonly exitStatus: number;
  readonly message: string;
  /** An error that this program does not know. */
  readonly bug?: unknown;
}

/** The last line of a process that fails: JSON where the log is, which `format` tells of a process that did not get to know. */
export function writeFatal(fatal: Fatal, format: Settings['logFormat']): void {
  if (!(isJson ?? isJsonWanted(format))) {
    output.write(`${isTerminalShared ? ERASE_LINE : ''}${fatalText(fatal)}\n`);
    return;
  }
  const { message, bug, ...fields } = fatal;
  const err = bug === undefined ? {} : { err: serializeError(bug) };
  const head = { level: 'fatal', time: new Date().toISOString(), pid: process.pid };
  sink(cutLine(`${JSON.stringify({ ...head, ...fields, ...err, msg: message })}\n`));
}

/** For people. Only the lines of one that lists problems all begin so: what follows elsewhere is to be copied. */
export function fatalText({ program, code, message, bug }: Fatal): string {
  const text = bug instanceof Error ? `${message}\n${foldStack(bug.stack ?? '')}` : message;
  const line = printableText(text);
  return line.replace(code === 'invalid-setting' ? /^/gm : /^/, `${program}: error: `);
}

/** A sentence for a person at a terminal, in the place of a line of the log. False when nobody is there to read it. */
export function tellPerson(sentence: string): boolean {
  if (isJson !== false || !process.stderr.isTTY || !log.isLevelEnabled('info')) return false;
  output.write(`${isTerminalShared ? ERASE_LINE : ''}${printableText(sentence)}\n`);
  return true;
}

const isJsonWanted = (format: Settings['logFormat']): boolean =>
  format === 'json' || (format === 'auto' && !process.stderr.isTTY);

const secretNames = ['password', 'passcode', 'login'];

/** Usable from the start, as JSON lines at info; `configureLog` changes it in place. */
export const log = new LateLogger(openLog, writePlain);

const isPlainValue = (value: unknown): boolean =>
  ['string', 'number', 'boolean', 'undefined'].includes(typeof value);

/** Names that stand in each line, and those of secrets. */
const specialNames = new Set(['level', 'time', 'pid', 'msg', ...secretNames]);

/**
 * A line of ours with a few words and numbers is what pino makes of it, byte for byte: a command that says no more than that does
 * without. False for any other.
 */
function writePlain(level: string, [fields, message, ...values]: readonly unknown[]): boolean {
  const isPlain =
    typeof fields === 'object' &&
    fields !== null &&
    Object.getPrototypeOf(fields) === Object.prototype &&
    Object.entries(fields).every(([name, value]) => !specialNames.has(name) && isPlainValue(value));
  if (!isPlain || typeof message !== 'string' || values.length > 0 || currentContext() !== undefined)
    return false;
  const head = { level, time: new Date().toISOString(), pid: process.pid };
  sink(cutLine(`${JSON.stringify({ ...head, ...fields, msg: message })}\n`));
  return true;
}

function openLog(): PinoLogger {
  const pino = loadPino();
  return pino(
    {
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: serializeError },
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: [...secretNames, ...secretNames.map((name) => `*.${name}`), '*.authorization'],
        censor: '[redacted]',
      },
      mixin: () => {
        const context = currentContext();
        if (context === undefined) return {};
        const { correlationId: id, consumer, trace } = context;
        return {
          correlationId: id,
          ...(consumer === undefined ? {} : { consumer }),
          ...traceFields(trace?.traceparent),
        };
      },
      level: 'trace',
    },
    { write: (line: string) => sink(cutLine(line)) },
  );
}

/**
 * For who is about to wait for somebody else: a first line shall not be what is waited for later, nor fail when no file can be
 * opened any more.
 */
export function prepareLog(): void {
  if (log.level === 'silent') return;
  setImmediate(() => {
    try {
      loadPino();
    } catch {
      // The first line tries again.
    }
  });
}

/** While somebody keeps a line at the bottom of the terminal, log lines replace it; it is for them to draw it again. */
export function shareTerminal(isShared: boolean): void {
  isTerminalShared = isShared;
}

/** Sets level and format; `auto` is readable text when stderr is a terminal. */
export async function configureLog({
  logLevel,
  logFormat,
  color,
}: Pick<Settings, 'logLevel' | 'logFormat' | 'color'>): Promise<void> {
  log.level = logLevel;
  isJson = isJsonWanted(logFormat);
  if (isJson) return;
  const [{ prettyFactory }, { hasColors }] = await Promise.all([
    import('pino-pretty'),
    import('./settings/environment.js'),
  ]);
  const pretty = prettyFactory({
    ...{
      colorize: hasColors(process.stderr, color),
      ignore: 'pid',
      singleLine: true,
      translateTime: 'SYS:HH:MM:ss.l',
    },
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
 * What is printed outside of a callback goes where it always went, or the same way when `isComplete`.
 */
export function bridgeConsole(isComplete = false): void {
  const levels = { debug: 'debug', log: 'info', info: 'info', warn: 'warn', error: 'error' } as const;
  for (const [method, level] of Object.entries(levels) as [
    keyof typeof levels,
    (typeof levels)[keyof typeof levels],
  ][]) {
    // eslint-disable-next-line no-console -- this is what is replaced
    const print = console[method].bind(console);
    // eslint-disable-next-line no-console -- see above
    console[method] = (...values: unknown[]) => {
      if (isComplete || correlationId() !== undefined)
        log[level]({ source: 'console' }, cutText(format(...values)));
      else print(...values);
    };
  }
}
