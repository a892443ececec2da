/**
 * Is this consumer alive, and does it do its work? Told apart, because a consumer that is restarted for what is not its own
 * doing makes things worse: it is live while it can go on by itself, whatever its broker and its callbacks are at, and ready
 * while messages would be processed. It knows what it has been told by the consumer, and the clock.
 */
import type { ConsumerObserver } from '../consumer/events.js';
import type { ConsumerView } from '../consumer/consumer.js';
import type { Settings } from '../settings.js';

/** Beyond what a limit allows: for killing a process, reading its last words, closing a connection. */
const MARGIN_MS = 10_000;
/** A time limit is looked at this share of it too late at most. */
const LOOKS = 1.1;

export interface HealthReport {
  readonly status: 'ok' | 'failing';
  readonly state: 'starting' | 'connecting' | 'waiting' | 'consuming' | 'paused' | 'draining';
  /** Why it is not live, or not ready. */
  readonly reasons: readonly string[];
  readonly destination: string;
  readonly server?: string;
  readonly inFlight: number;
  readonly lastMessageAgeSeconds?: number;
  readonly roundTripSeconds?: number;
  readonly roundTripAgeSeconds?: number;
}

export interface HealthOptions {
  readonly destination: string;
  readonly settings: Settings;
  /** Do callbacks run in processes of their own? */
  readonly hasWorkers: boolean;
}

type Conditions = readonly (readonly [isGiven: boolean, reason: string])[];

export class Health {
  readonly observer: ConsumerObserver;
  readonly #options: HealthOptions;
  #consumer: ConsumerView | undefined;
  #state: HealthReport['state'] = 'starting';
  #server: string | undefined;
  #isSubscribed = false;
  /** Those that are set up. */
  readonly #workers = new Set<number | undefined>();
  /** When the next word of the loop that connects is overdue. */
  #connectDueMs = Infinity;
  #stopDueMs = Infinity;
  /** When the broker last proved that it answers, and how long that took. */
  #answeredMs = 0;
  #roundTripMs: number | undefined;

  constructor(options: HealthOptions) {
    this.#options = options;
    this.observer = {
      onConnection: (event) => this.#turn(event),
      onWorker: ({ kind, pid }) => {
        if (kind === 'ready') this.#workers.add(pid);
        else this.#workers.delete(pid);
      },
      onRoundTrip: ({ durationMs }) => {
        this.#roundTripMs = durationMs;
        this.#answeredMs = performance.now();
      },
    };
  }

  /** The callback is set up, and the consumer begins. */
  begin(consumer: ConsumerView): void {
    this.#consumer = consumer;
  }

  /** Failing: it is stuck by its own doing, and only a restart helps. */
  live(): HealthReport {
    const { timeoutSeconds, gracefulWaitSeconds } = this.#options.settings;
    const nowMs = performance.now();
    const longestRunMs = timeoutSeconds === 0 ? Infinity : timeoutSeconds * 1000 * LOOKS + MARGIN_MS;
    return this.#report([
      [nowMs > this.#connectDueMs, 'no attempt to connect has begun or ended for twice its limit'],
      [
        (this.#consumer?.longestRunMs ?? 0) > longestRunMs,
        `a callback runs on beyond its time limit of ${timeoutSeconds} s`,
      ],
      [nowMs > this.#stopDueMs, `the stop takes longer than its graceful wait of ${gracefulWaitSeconds} s`],
    ]);
  }

  /** Failing: a message that is sent now would wait. */
  ready(): HealthReport {
    const { canaryIntervalSeconds } = this.#options.settings;
    const hasWorker = this.#options.hasWorkers ? this.#workers.size > 0 : this.#consumer !== undefined;
    const silentMs = performance.now() - this.#answeredMs;
    return this.#report([
      [!this.#isSubscribed, 'not subscribed'],
      [!hasWorker, 'no worker has set the callback up'],
      [
        this.#isSubscribed && canaryIntervalSeconds > 0 && silentMs > 2 * canaryIntervalSeconds * 1000,
        `the broker has not answered for ${Math.round(silentMs / 1000)} s`,
      ],
      [this.#consumer?.isPaused === true, 'paused: healthy() says no'],
      [this.#state === 'draining', 'draining'],
    ]);
  }

  #turn({ kind, server, retryInMs = 0 }: Parameters<NonNullable<ConsumerObserver['onConnection']>>[0]): void {
    const { connectTimeoutSeconds, gracefulWaitSeconds } = this.#options.settings;
    const nowMs = performance.now();
    if (kind === 'draining') this.#stopDueMs = nowMs + gracefulWaitSeconds * 1000 + MARGIN_MS;
    this.#isSubscribed = kind === 'subscribed' || (kind === 'draining' && this.#isSubscribed);
    if (this.#isSubscribed) this.#answeredMs = nowMs;
    const isWaitedFor = ['connecting', 'failed', 'lost', 'waiting'].includes(kind);
    this.#connectDueMs = isWaitedFor ? nowMs + retryInMs + 2 * connectTimeoutSeconds * 1000 : Infinity;
    this.#server = server ?? this.#server;
    if (this.#stopDueMs < Infinity) this.#state = 'draining';
    else this.#state = kind === 'subscribed' ? 'consuming' : kind === 'waiting' ? 'waiting' : 'connecting';
  }

  #report(conditions: Conditions): HealthReport {
    const reasons = conditions.filter(([isGiven]) => isGiven).map(([, reason]) => reason);
    const nowMs = performance.now();
    const seconds = (ms: number) => Math.round(ms) / 1000;
    const roundTripMs = this.#roundTripMs;
    const receivedMs = this.#consumer?.receivedMs;
    return {
      status: reasons.length === 0 ? 'ok' : 'failing',
      state: this.#state === 'consuming' && this.#consumer?.isPaused === true ? 'paused' : this.#state,
      reasons,
      destination: this.#options.destination,
      ...(this.#server === undefined ? {} : { server: this.#server }),
      inFlight: this.#consumer?.inFlight ?? 0,
      ...(receivedMs === undefined ? {} : { lastMessageAgeSeconds: seconds(nowMs - receivedMs) }),
      ...(roundTripMs === undefined
        ? {}
        : { roundTripSeconds: seconds(roundTripMs), roundTripAgeSeconds: seconds(nowMs - this.#answeredMs) }),
    };
  }
}
