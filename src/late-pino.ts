/**
 * pino, loaded when the first line is to be written: a worker process whose callback prints nothing starts without it, and
 * a command can load it while it waits for its broker.
 */
import { createRequire } from 'node:module';
import type { Bindings, Logger, pino as Pino } from 'pino';

let known: typeof Pino | undefined;

/** For a bundle, which has only what is imported by name. */
export function providePino(pino: typeof Pino): void {
  known = pino;
}

export function loadPino(): typeof Pino {
  known ??= (createRequire(import.meta.url)('pino') as { readonly pino: typeof Pino }).pino;
  return known;
}

const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
type Level = (typeof levels)[number];
const rankOf = (level: string): number => levels.indexOf(level as Level);

/** A logger whose real one is made for the first line that its level lets through. */
export class LateLogger {
  level: Level = 'info';
  readonly #make: () => Logger;
  #real: Logger | undefined;

  /** `make` is called once, for one that lets everything through. */
  constructor(make: () => Logger) {
    this.#make = make;
  }

  isLevelEnabled(level: string): boolean {
    return rankOf(level) >= rankOf(this.level);
  }

  debug(fields: object, message: string): void {
    if (this.isLevelEnabled('debug')) this.#load().debug(fields, message);
  }

  info(fields: object, message: string): void {
    if (this.isLevelEnabled('info')) this.#load().info(fields, message);
  }

  warn(fields: object, message: string): void {
    if (this.isLevelEnabled('warn')) this.#load().warn(fields, message);
  }

  error(fields: object, message: string): void {
    if (this.isLevelEnabled('error')) this.#load().error(fields, message);
  }

  /** It keeps the level of now. */
  child(fields: Bindings): Logger {
    return this.#load().child(fields, { level: this.level });
  }

  #load(): Logger {
    return (this.#real ??= this.#make());
  }
}
