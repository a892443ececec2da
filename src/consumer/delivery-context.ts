/** What deliveries share, and what a message has of its own where one subscription brings those of several queues. */
import { sourceOfMessage, type Source } from '../brokers/destinations.js';
import type { Dialect } from '../brokers/dialect.js';
import type { Logger } from '../log.js';
import type { Settings } from '../settings.js';
import type { Frame } from '../stomp/frames.js';
import type { DeadLetterOptions } from './dead-letters.js';
import type { PublishedEvent } from './events.js';
import type { Retries } from './retries.js';

/** What all deliveries of a consumer share. */
export interface DeliveryContext {
  readonly source: Source;
  readonly retries: Retries;
  readonly deadLetters: DeadLetterOptions;
  /** By NACK where the message survives that, as the broker then moves it. */
  readonly isNackPreferred: boolean;
  readonly log: Logger;
  /** Must settling frames be confirmed by the broker (while draining)? */
  readonly isConfirmed: () => boolean;
  /** Is told of each message that a callback published. */
  readonly onPublished: ((event: PublishedEvent) => void) | undefined;
}

export function createContext(
  source: Source,
  { queueType, tellsFailure, deadLetterBy }: Settings,
  {
    callback,
    ...rest
  }: Pick<DeliveryContext, 'retries' | 'log' | 'isConfirmed' | 'onPublished'> & { readonly callback: string },
): DeliveryContext {
  const deadLetters = { source, queueType, callback, tellsError: tellsFailure };
  return { source, deadLetters, isNackPreferred: deadLetterBy === 'nack', ...rest };
}

/** Of a source that means several queues each message has a source of its own. */
export function sourceOf({ headers }: Frame, dialect: Dialect, source: Source): Source {
  return dialect.isOneQueue(source.topic) ? source : sourceOfMessage(source, headers.destination);
}

export function contextOf(frame: Frame, dialect: Dialect, context: DeliveryContext): DeliveryContext {
  const source = sourceOf(frame, dialect, context.source);
  if (source === context.source) return context;
  const { retries, deadLetters } = context;
  return { ...context, source, retries: { ...retries, source }, deadLetters: { ...deadLetters, source } };
}
