/**
 * Why and when a dead letter died, whoever put it where it lies: told by the consumer's own headers, else by those that its
 * broker adds to what other clients reject and to what it moves by itself.
 */
import type { Headers } from '../stomp/frames.js';

export interface Death {
  /** `callback-failed` and others of ours, `rejected (other client)`, `expired`, `maxlen`, `delivery_limit`, or `unknown`. */
  readonly reason: string;
  /** The class of what the callback threw, where it did and that may be told. */
  readonly error: string | undefined;
  /** In ms of the epoch; undefined when nobody has written it down. */
  readonly atMs: number | undefined;
}

export const REJECTED = 'rejected (other client)';
const UNKNOWN = 'unknown';

/** What the headers of a dead letter say of its death; nothing of a queue it was copied to by hand. */
export function deathOf(headers: Readonly<Headers>): Death {
  const { 'x-failure-reason': reason, 'x-failure-error': error, 'x-failure-at': at = '' } = headers;
  if (reason !== undefined) return { reason, error, atMs: epochMs(Date.parse(at)) };
  return { error: undefined, ...brokersWord(headers) };
}

function brokersWord(headers: Readonly<Headers>): Pick<Death, 'reason' | 'atMs'> {
  const { 'x-first-death-reason': first, dlqDeliveryFailureCause: cause } = headers;
  // RabbitMQ 3.10 tells no time: that is in `x-death`, which is a list, and lists do not come by STOMP.
  if (first !== undefined) return { reason: first === 'rejected' ? REJECTED : first, atMs: undefined };
  // ActiveMQ 5.17: "java.lang.Throwable: Message Expired. Expiration:1726000000000", or what a redelivery policy says.
  const expiredMs = /Message Expired\. Expiration\D*(\d{12,15})/.exec(cause ?? '')?.[1];
  if (expiredMs !== undefined) return { reason: 'expired', atMs: epochMs(Number(expiredMs)) };
  if (cause !== undefined && /redeliver/i.test(cause)) return { reason: 'delivery_limit', atMs: undefined };
  // It gives no cause for a NACK.
  const isDead = cause !== undefined || headers['original-destination'] !== undefined;
  return { reason: isDead ? REJECTED : UNKNOWN, atMs: undefined };
}

/** A stranger's time may be none. */
const epochMs = (ms: number): number | undefined => (Number.isFinite(ms) && ms > 0 ? ms : undefined);
