/**
 * pino, loaded when the first line is to be written: a worker process whose callback prints nothing starts without it, and
 * a command can load it while it waits for its broker.
 */
import { createRequire } from 'node:module';
import type { Bindings, ChildLoggerOptions, LogFn, Logger, pino as Pino } from 'pino';

let known: typeof Pino | undefined;

/** For a bundle, which has only what is imported by name. */
export function providePino(pino: typeof Pino): void {
  known = pino;
}

export const isPinoLoaded = (): boolean => known !== undefined;

export function loadPino(): typeof Pino {
  known ??= (createRequire(import.meta.url)('pino') as { readonly pino: typeof Pino }).pino;
  return known;
}

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
type Level = (typeof levels)[number];
const rankOf = (level: string): number => levels.indexOf(level as Level);

/**
 * A logger whose real one is made for the first line that its level lets through and that is not written without. Its methods
 * take what pino's take.
 */
export class LateLogger {
  readonly trace = this.#writer('trace');
  readonly debug = this.#writer('debug');
  readonly info = this.#writer('info');
  readonly warn = this.#writer('warn');
  readonly error = this.#writer('error');
  readonly fatal = this.#writer('fatal');
  readonly #make: () => Logger;
  readonly #writePlain: (level: string, line: Parameters<LogFn>) => boolean;
  #level: Level = 'info';
  #real: Logger | undefined;

  /**
   * `make` is called once, for one that lets everything through. `writePlain` is asked until pino is loaded, and answers whether
   * it has written the line.
   */
  constructor(make: () => Logger, writePlain: (level: string, line: Parameters<LogFn>) => boolean) {
    this.#make = make;
    this.#writePlain = writePlain;
  }

  get level(): Level {
    return this.#level;
  }

  /** Throws for what is none. */
  set level(level: Level) {
    if (rankOf(level) === -1) throw new Error(`unknown level ${level}`);
    this.#level = level;
  }

  isLevelEnabled(level: string): boolean {
    return rankOf(level) >= rankOf(this.#level);
  }

  /** It keeps the level of now, unless the options say another. */
  child(fields: Bindings, options: ChildLoggerOptions = {}): Logger {
    return this.#load().child(fields, { level: this.#level, ...options });
  }

  #writer(level: Exclude<Level, 'silent'>): LogFn {
    return (...line: Parameters<LogFn>) => {
      if (!this.isLevelEnabled(level) || (!isPinoLoaded() && this.#writePlain(level, line))) return;
      this.#load()[level](...line);
    };
  }

  #load(): Logger {
    return (this.#real ??= this.#make());
  }
}
