/**
 * What callbacks count in their worker processes, put together: the latest word of each process that runs, and of those that
 * have ended what must not be forgotten, or counters would go backwards.
 */
import type { Logger } from '../log.js';

/** A metric as prom-client tells it to other processes. */
export interface ToldMetric {
  readonly name: string;
  readonly type: string;
  readonly values: readonly { readonly value: number | null }[];
}

/** prom-client's own way to add them up. */
export type Aggregate = (all: readonly (readonly ToldMetric[])[]) => {
  getMetricsAsJSON(): Promise<readonly unknown[]>;
};

/** A gauge is what is, and that of a process that has ended is no more. */
const isKept = ({ type }: ToldMetric): boolean => type !== 'gauge';

export class CallbackMetrics {
  readonly #aggregate: Aggregate;
  readonly #log: Logger;
  readonly #latest = new Map<number | undefined, readonly ToldMetric[]>();
  #ended: readonly ToldMetric[] = [];
  /** What has ended is added up one after the other. */
  #adding: Promise<void> = Promise.resolve();

  constructor(aggregate: Aggregate, log: Logger) {
    this.#aggregate = aggregate;
    this.#log = log;
  }

  /** A worker has told what it has counted so far. */
  take(pid: number | undefined, text: string): void {
    const told = JSON.parse(text) as readonly ToldMetric[];
    this.#latest.set(pid, told.map(mended));
  }

  /** It has ended, and tells no more. */
  end(pid: number | undefined): void {
    const last = (this.#latest.get(pid) ?? []).filter(isKept);
    this.#latest.delete(pid);
    if (last.length === 0) return;
    this.#adding = this.#adding.then(async () => {
      try {
        const sum = await this.#aggregate([this.#ended, last]).getMetricsAsJSON();
        this.#ended = sum as readonly ToldMetric[];
      } catch (error) {
        this.#log.warn({ err: error, worker: pid }, 'the metrics of a worker that has ended are lost');
      }
    });
  }

  /** Of all workers there are and were. */
  async all(): Promise<readonly (readonly ToldMetric[])[]> {
    await this.#adding;
    return [this.#ended, ...this.#latest.values()];
  }
}

/** JSON has no NaN. */
function mended(metric: ToldMetric): ToldMetric {
  return { ...metric, values: metric.values.map((one) => ({ ...one, value: one.value ?? NaN })) };
}
