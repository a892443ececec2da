/**
 * What is counted of attempts at messages where somebody wants numbers: plain ones, which a consumer adds to while messages
 * run and a scrape reads. An event for each attempt would cost as much as all else that is done for a message.
 */
import type { Outcome, SettledEvent } from './events.js';

/** Upper bounds of the durations of callbacks, in seconds: from a cache hit to the default time limit. */
export const DURATION_BOUNDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1500] as const;
const boundsMs = DURATION_BOUNDS.map((seconds) => seconds * 1000);

export class Numbers {
  readonly outcomes: Record<Outcome, number> = { acked: 0, 'dead-lettered': 0, retried: 0, released: 0 };
  readonly deadLetters = new Map<string, number>();
  /** How many took up to each bound, and longer than all: of each range alone. */
  readonly durations = new Float64Array(DURATION_BOUNDS.length + 1);
  durationMs = 0;
  redelivered = 0;
  /** On performance's clock. */
  lastReceivedMs: number | undefined;

  received(nowMs: number, isRedelivered: boolean): void {
    this.lastReceivedMs = nowMs;
    if (isRedelivered) this.redelivered++;
  }

  settled(outcome: Outcome, reason: SettledEvent['reason'], durationMs: number): void {
    this.outcomes[outcome]++;
    if (outcome === 'dead-lettered') {
      const name = reason ?? 'unknown';
      this.deadLetters.set(name, (this.deadLetters.get(name) ?? 0) + 1);
    }
    let at = 0;
    while (at < boundsMs.length && durationMs > (boundsMs[at] ?? 0)) at++;
    this.durations[at] = (this.durations[at] ?? 0) + 1;
    this.durationMs += durationMs;
  }
}
