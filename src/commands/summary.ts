/**
 * Dead letters counted: a group for each reason and error, with how old they are, the first and the last of them and the id
 * of one. Hides that strangers may have written any number of names: beyond some there is one group for all others.
 */
import type { Death } from '../brokers/deaths.js';

const MOST_GROUPS = 500;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** How long ago they died: within the last hour, day or seven days, before that, or nobody knows. */
const ages = ['hour', 'day', 'week', 'older', 'unknown'] as const;
type Age = (typeof ages)[number];
const ageNames: Record<Age, string> = {
  hour: '<1h',
  day: '<1d',
  week: '<7d',
  older: '>7d',
  unknown: 'of unknown age',
};

export interface DeathGroup {
  readonly reason: string;
  readonly error?: string;
  readonly count: number;
  readonly ages: Readonly<Partial<Record<Age, number>>>;
  /** ISO 8601; absent when no time is known. */
  readonly first?: string;
  readonly last?: string;
  /** Of the latest one that has an id to be found by. */
  readonly example?: string;
}

interface Counting {
  readonly reason: string;
  readonly error: string | undefined;
  count: number;
  readonly ages: Partial<Record<Age, number>>;
  firstMs: number;
  lastMs: number;
  example: string | undefined;
}

export class DeathSummary {
  readonly heading = ['COUNT', 'REASON', 'ERROR', 'FIRST', 'LAST', 'AGES', 'EXAMPLE'];
  readonly #groups = new Map<string, Counting>();
  readonly #nowMs = Date.now();

  add({ reason, error, atMs }: Death, id: string | undefined): void {
    const group = this.#groupOf(reason, error);
    group.count++;
    const age = this.#ageOf(atMs);
    group.ages[age] = (group.ages[age] ?? 0) + 1;
    if (atMs !== undefined) {
      group.firstMs = Math.min(group.firstMs, atMs);
      group.lastMs = Math.max(group.lastMs, atMs);
    }
    group.example = id ?? group.example;
  }

  /** The largest first. */
  groups(): DeathGroup[] {
    return [...this.#groups.values()]
      .sort((one, other) => other.count - one.count)
      .map(({ firstMs, lastMs, error, example, ...group }) => ({
        ...group,
        ...(error === undefined ? {} : { error }),
        ...(firstMs === Infinity ? {} : { first: iso(firstMs), last: iso(lastMs) }),
        ...(example === undefined ? {} : { example }),
      }));
  }

  /** The same as rows below the heading. */
  rows(): string[][] {
    return this.groups().map(
      ({ reason, error = '-', count, first = '-', last = '-', example = '-', ...group }) => {
        const old = ages.flatMap((age) =>
          group.ages[age] === undefined ? [] : `${group.ages[age]} ${ageNames[age]}`,
        );
        return [String(count), reason, error, first, last, old.join(', '), example];
      },
    );
  }

  #groupOf(reason: string, error: string | undefined): Counting {
    const key = JSON.stringify([reason, error]);
    const known = this.#groups.get(key);
    if (known !== undefined) return known;
    if (this.#groups.size > MOST_GROUPS && reason !== OTHERS) return this.#groupOf(OTHERS, undefined);
    const group = {
      reason,
      error,
      count: 0,
      ages: {},
      firstMs: Infinity,
      lastMs: -Infinity,
      example: undefined,
    };
    this.#groups.set(key, group);
    return group;
  }

  #ageOf(atMs: number | undefined): Age {
    if (atMs === undefined) return 'unknown';
    const agoMs = this.#nowMs - atMs;
    return agoMs < HOUR_MS ? 'hour' : agoMs < DAY_MS ? 'day' : agoMs < 7 * DAY_MS ? 'week' : 'older';
  }
}

const OTHERS = '(others)';
const iso = (ms: number): string => new Date(ms).toISOString();
