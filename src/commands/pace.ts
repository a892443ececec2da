/** `--rate 50/s`: so many messages a second at most, evenly, so that whoever gets them keeps up. */
import { setTimeout as delay } from 'node:timers/promises';
import { PubsubError } from '../errors.js';

/** No message waits for its turn much longer than that: RabbitMQ takes the connection away after 30 minutes. */
const LONGEST_WAIT_SECONDS = 600;
const unitSeconds: Record<string, number> = { s: 1, m: 60, h: 3600 };

export class Pace {
  /** Messages that may be held at once. */
  readonly window: number;
  readonly #intervalMs: number;
  #nextMs = 0;

  constructor(perSecond: number) {
    this.window = Math.max(1, Math.floor(perSecond * LONGEST_WAIT_SECONDS));
    this.#intervalMs = 1000 / perSecond;
  }

  /** Resolves when it is the next one's turn, in the order of the calls; with false when the signal is aborted before. */
  async turn(signal: AbortSignal): Promise<boolean> {
    const nowMs = performance.now();
    this.#nextMs = Math.max(nowMs, this.#nextMs);
    const waitMs = this.#nextMs - nowMs;
    this.#nextMs += this.#intervalMs;
    await delay(waitMs, undefined, { signal }).catch(() => undefined);
    return !signal.aborted;
  }
}

/** Undefined when none is given. Throws `invalid-usage`. */
export function paceOf(text: string | undefined): Pace | undefined {
  if (text === undefined) return undefined;
  const [, number = '', unit = 's'] = /^(\d{1,6}(?:\.\d+)?)(?:\/(s|m|h))?$/.exec(text.trim()) ?? [];
  const perSecond = Number(number || NaN) / (unitSeconds[unit] ?? NaN);
  if (perSecond > 0) return new Pace(perSecond);
  throw new PubsubError(
    'invalid-usage',
    `--rate: a number for each second, minute or hour, like 50/s or 600/m, expected, not ${JSON.stringify(text)}`,
  );
}
