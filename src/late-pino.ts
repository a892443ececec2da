/**
 * pino, loaded when the first line is to be written: a worker process whose callback prints nothing starts without it, and
 * a command can load it while it waits for its broker. Hides the logger that stands in for it until then, and becomes a child
 * of the real one.
 */
import { createRequire } from 'node:module';
import type { Logger, pino as Pino } from 'pino';

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
const isLevel = (text: string): text is Level => (levels as readonly string[]).includes(text);

/** A logger like the one that `make` gives, which is called once: for the first line that its level lets through. */
export function createLater(make: () => Logger, firstLevel: Level): Logger {
  let level = firstLevel;
  let real: Logger | undefined;
  const isEnabled = (wanted: string) => isLevel(wanted) && levels.indexOf(wanted) >= levels.indexOf(level);
  const load = (): Logger => {
    if (real !== undefined) return real;
    real = make();
    real.level = level;
    for (const name of Object.keys(own)) Reflect.deleteProperty(standIn, name);
    // As pino makes its children: what they do not have is that of their parent.
    Object.setPrototypeOf(standIn, real);
    return real;
  };
  const own: PropertyDescriptorMap = {
    level: {
      get: () => level,
      set: (wanted: string) => {
        if (isLevel(wanted)) level = wanted;
        else load().level = wanted;
      },
    },
    isLevelEnabled: { value: isEnabled },
  };
  for (const name of levels) {
    const write = (...line: [object, string]) => {
      if (real === undefined && !isEnabled(name)) return;
      load();
      standIn[name](...line);
    };
    own[name] = { value: write };
  }
  for (const one of Object.values(own)) Object.assign(one, { configurable: true, enumerable: true });
  // Whatever else is asked for is the real one's.
  const others: ProxyHandler<object> = {
    get: (_target, name, asked) => Reflect.get(load(), name, asked) as unknown,
    set: (_target, name, value, asked) => Reflect.set(load(), name, value, asked),
    has: (_target, name) => Reflect.has(load(), name),
  };
  const standIn = Object.create(new Proxy({}, others), own) as Logger;
  return standIn;
}
