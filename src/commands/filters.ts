/**
 * Which messages of a queue an operator means: flags become one question to the headers of each. All that are given must be
 * true of it.
 */
import { deathOf, REJECTED, type Death } from '../brokers/deaths.js';
import { PubsubError } from '../errors.js';
import { durationMs } from '../settings/kinds.js';
import type { Headers } from '../stomp/frames.js';

export interface FilterFlags {
  readonly match?: readonly string[];
  readonly reason?: string;
  readonly error?: string;
  readonly since?: string;
  readonly until?: string;
}

export interface Filter {
  /** Nothing was given: it is true of every message. */
  readonly isOpen: boolean;
  readonly isMatch: (headers: Readonly<Headers>) => boolean;
}

/** Times are counted back from now. Throws `invalid-usage` for a flag that cannot be read. */
export function filterOf({ match = [], reason, error, since, until }: FilterFlags): Filter {
  const pairs = match.map(pairOf);
  const [sinceMs, untilMs] = [momentOf('--since', since), momentOf('--until', until)];
  if (sinceMs !== undefined && untilMs !== undefined && sinceMs >= untilMs)
    throw new PubsubError('invalid-usage', '--since must be earlier than --until: 2h is earlier than 1h');
  const ofDeath: ((death: Death) => boolean)[] = [
    ...(reason === undefined ? [] : [(death: Death) => isReason(death, reason)]),
    ...(error === undefined ? [] : [(death: Death) => death.error === error]),
    // Of what has no time of its death nobody knows.
    ...(sinceMs === undefined ? [] : [({ atMs = -Infinity }: Death) => atMs >= sinceMs]),
    ...(untilMs === undefined ? [] : [({ atMs = Infinity }: Death) => atMs < untilMs]),
  ];
  return {
    isOpen: pairs.length === 0 && ofDeath.length === 0,
    isMatch: (headers) => {
      if (!pairs.every(([name, value]) => headers[name] === value)) return false;
      if (ofDeath.length === 0) return true;
      const death = deathOf(headers);
      return ofDeath.every((isTrue) => isTrue(death));
    },
  };
}

/** `rejected` will do for `rejected (other client)`. */
const isReason = (death: Death, reason: string): boolean =>
  death.reason === reason || (death.reason === REJECTED && reason === 'rejected');

function pairOf(text: string): readonly [name: string, value: string] {
  const equals = text.indexOf('=');
  if (equals >= 1) return [text.slice(0, equals), text.slice(equals + 1)];
  throw new PubsubError(
    'invalid-usage',
    `--match ${JSON.stringify(text)} is not of the form <header>=<value>`,
  );
}

/** A duration before now, or a moment as ISO 8601 writes it. */
function momentOf(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const agoMs = durationMs(text);
  const ms = Number.isNaN(agoMs) && /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Date.now() - agoMs;
  if (!Number.isNaN(ms)) return ms;
  const expected = 'a duration like 30m, 1h or 2d, or a time like 2026-01-31T12:00:00Z, expected';
  throw new PubsubError('invalid-usage', `${flag}: ${expected}, not ${JSON.stringify(text)}`);
}
