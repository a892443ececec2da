/**
 * What a consumer tells whoever observes it: what became of each attempt at a message, and how it stands with its
 * broker. These are facts to build on, for health checks, metrics and tests; the log tells the same to people, in words
 * that may change.
 */
import type { ErrorCode } from '../errors.js';
import type { Logger } from '../log.js';
import type { ConnectEvent } from '../sending/connect.js';
import type { Refusal } from './payload.js';

/** Why a message goes to its dead-letter queue. */
export type DeadLetterReason =
  | 'nack'
  | 'callback-failed'
  | 'unsettled'
  | 'forward-refused'
  | 'missing-correlation-id'
  | 'too-large'
  | 'killed'
  | Refusal;

/** Why a message goes back to its queue unsettled. */
export type ReleaseReason = 'connection-lost' | 'stopped';

/**
 * `retried`: a copy of the message comes later, for its next attempt. `released`: the broker delivers the message again.
 * After `acked` and `dead-lettered` this consumer hears of the message no more.
 */
export type Outcome = 'acked' | 'dead-lettered' | 'retried' | 'released';

/** One attempt at a message. Each attempt that was begun is told of once, when its message is settled. */
export interface SettledEvent {
  readonly outcome: Outcome;
  /** Absent when the message is acked. */
  readonly reason?: DeadLetterReason | ReleaseReason;
  /** What the callback threw, or what kept its message from being settled. */
  readonly error?: unknown;
  /** 1 for a message that was not retried. */
  readonly attempt: number;
  /** From the start of this attempt until its message was settled and its callback had returned. */
  readonly durationMs: number;
  /** As received. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * `connecting`: an attempt begins; `failed`: it has failed. `connected`: a session is open. `subscribed`: messages may come.
 * `lost`: the session has ended, and another one is opened unless the consumer drains. `waiting`: the next attempt begins
 * after `retryInMs`. `draining`: the consumer was told to stop and finishes what is in flight.
 */
export interface ConnectionEvent {
  readonly kind: ConnectEvent['kind'] | 'connected' | 'subscribed' | 'lost' | 'draining';
  /** `host:port`; absent when the consumer waits, and when it drains before it was ever connected. */
  readonly server?: string;
  /** Why the attempt failed, the session was lost, or the next attempt waits. */
  readonly reason?: string;
  /** Of an attempt that failed. */
  readonly code?: ErrorCode;
  /** Of `waiting`; Infinity for until the consumer is started again. */
  readonly retryInMs?: number;
  /** Of `connected` and `subscribed`: product and version, as the broker says. */
  readonly broker?: string;
}

/** An attempt at a message begins. */
export interface ReceivedEvent {
  /** It was delivered before, to this consumer or to another. */
  readonly isRedelivered: boolean;
}

/** Why a worker process has ended. `stopped`: with its consumer; `retired`: it had grown; `killed`: by somebody else. */
export type WorkerEndReason = Refusal | 'stopped' | 'retired' | 'killed' | 'not-started';

/** A worker process has set its callback up, or has ended. */
export interface WorkerEvent {
  readonly kind: 'ready' | 'ended';
  readonly pid: number | undefined;
  /** Of one that has ended. */
  readonly reason?: WorkerEndReason;
}

/** What became of a message that a callback published. */
export interface PublishedEvent {
  readonly destination: string;
  /** `unconfirmed`: the message being processed comes again, and it with that. */
  readonly result: 'confirmed' | 'refused' | 'unconfirmed';
}

/** The broker has answered a question over the connection of the consumer. */
export interface RoundTripEvent {
  readonly durationMs: number;
}

/**
 * These functions are called on the event loop of the connection, in the order of what happened, and are not waited for. A
 * function that throws, or returns a promise that rejects, is told of in the log and changes nothing.
 */
export interface ConsumerObserver {
  readonly onSettled?: ((event: SettledEvent) => unknown) | undefined;
  readonly onConnection?: ((event: ConnectionEvent) => unknown) | undefined;
  readonly onReceived?: ((event: ReceivedEvent) => unknown) | undefined;
  readonly onWorker?: ((event: WorkerEvent) => unknown) | undefined;
  readonly onPublished?: ((event: PublishedEvent) => unknown) | undefined;
  readonly onRoundTrip?: ((event: RoundTripEvent) => unknown) | undefined;
}

/** Calls the observer, if there is one; never throws and never rejects. */
export function tell<Event>(
  observe: ((event: Event) => unknown) | undefined,
  event: Event,
  log: Logger,
): void {
  if (observe === undefined) return;
  const fail = (error: unknown) => log.error({ err: error }, 'an observer of this consumer failed; going on');
  try {
    const observed = observe(event);
    if (observed instanceof Promise) observed.catch(fail);
  } catch (error) {
    fail(error);
  }
}
