/** What the end of a callback means for its message, and what keeps one from its callback. */
import type { PubsubError } from '../errors.js';
import type { Logger } from '../log.js';
import type { Outgoing } from '../sending/heads.js';
import { told, type Failure } from './dead-letters.js';
import type { Delivery } from './delivery.js';
import type { Gone, RunResult } from './payload.js';

export interface ConclusionOptions {
  /** A callback that returns has acked. */
  readonly autoAck: boolean;
  readonly log: Logger;
  /** Ends the consumer. */
  readonly fail: (error: PubsubError) => void;
}

/** Settles what its callback has not settled, or leaves it to come again. */
export function conclude(
  delivery: Delivery,
  result: RunResult | Gone,
  { autoAck, log, fail }: ConclusionOptions,
): void {
  if (result.kind === 'gone') {
    delivery.release();
    if (result.fatal !== undefined) fail(result.fatal);
    return;
  }
  if (result.kind === 'returned') {
    if (delivery.state === 'unsettled') settleReturned(delivery, result.outgoing, autoAck);
    return;
  }
  if (delivery.state === 'unsettled') {
    if (result.kind === 'threw') delivery.fail(result.error);
    else delivery.deadLetter(failureOf(result));
  } else {
    log.error(
      { ...told(failureOf(result)), ...delivery.fields(), state: delivery.state },
      'the callback failed after its message was settled',
    );
  }
}

function failureOf(result: Exclude<RunResult, { kind: 'returned' }>): Failure {
  if (result.kind === 'threw') return { reason: 'callback-failed', err: result.error };
  const { reason, detail, error } = result;
  return { reason, detail, ...(error === undefined ? {} : { err: error }) };
}

function settleReturned(
  delivery: Delivery,
  outgoing: readonly Outgoing[] | undefined,
  autoAck: boolean,
): void {
  if (autoAck) void delivery.ack(outgoing);
  else {
    const detail = 'the callback returned without ack() or nack(); await them, or use --auto-ack';
    delivery.deadLetter({ reason: 'unsettled', detail });
  }
}

/** What keeps a message from its callback. */
export function failureBefore(
  { frame: { oversized }, count }: Delivery,
  correlationId: string | undefined,
): Failure | undefined {
  if (oversized !== undefined)
    return { reason: 'too-large', detail: `its ${oversized} is larger than the limit` };
  if (count.standing === 'ended') {
    const detail = `delivered ${count.before} times and never settled; the last time it ran alone, and its consumer ended`;
    return { reason: 'killed', detail };
  }
  if (correlationId !== undefined) return undefined;
  const detail = 'no correlation-id header; STOMP_CORRELATION_ID_REQUIRED=false accepts such messages';
  return { reason: 'missing-correlation-id', detail };
}
