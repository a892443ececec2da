/**
 * One call of a callback, in whatever process: the payload it is handed, the decoding before it, and what came of it.
 * Hides that a body may be unfit, that a signal is made only for a callback that looks at it, and that whatever a
 * callback throws or returns is caught.
 */
import { isUtf8 } from 'node:buffer';
import { runInContext, type MessageContext } from '../context.js';
import { PubsubError, reasonOf } from '../errors.js';
import type { QueueType } from '../brokers/queues.js';
import { messageEncoder, stringify, type Outgoing, type SendOptions } from '../sending/heads.js';

/**
 * What became of ack() or nack(): on its way to the broker, refused as a second call, or too late. `dead-lettered`: the
 * broker takes something of what was published never, so that the message went to its dead-letter queue.
 */
export type Settlement = 'sent' | 'already-settled' | 'connection-lost' | 'dead-lettered';

/** The callback's view of one message. */
export interface Payload<Body = unknown> {
  /** As received, un-escaped. The object has no prototype: any name is safe to look up. */
  readonly headers: Readonly<Record<string, string>>;
  /** The parsed JSON. */
  readonly body: Body;
  /** The bytes of the body as received, for what JSON cannot keep exact, such as integers above 2^53. */
  readonly raw: Uint8Array;
  /**
   * Aborted when the time limit of the message has passed (its reason is a TimeoutError): what runs on for longer than a
   * second then is given up and its message dead-lettered. Aborted too when a stop has waited its graceful time (an
   * AbortError): the message goes back to its queue.
   */
  readonly signal: AbortSignal;
  /**
   * Tells the broker that the message is done. Resolves once that is on its way, and never rejects:
   * `connection-lost` means that the message will be delivered again.
   */
  readonly ack: () => Promise<Settlement>;
  /** Puts the message into its dead-letter queue. Resolves as ack does. */
  readonly nack: () => Promise<Settlement>;
  /**
   * Publishes with the message's ack: what is given here is sent when the callback acks, and confirmed by the broker
   * before the message leaves its queue. It is discarded when the message is not acked. Never lost, and repeated only with
   * the message itself. Carries the message's correlation id on. Throws `invalid-destination`, `invalid-json`,
   * `invalid-header`, and `invalid-usage` when the message is settled already.
   */
  readonly publish: (destination: string, body: unknown, options?: SendOptions) => void;
}

/** Called once for each delivery. To throw, or to return without ack() or nack(), dead-letters the message. */
export type Callback<Body = never> = (payload: Payload<Body>) => unknown;

/** A callback as its module exports it, with what may stand beside it. */
export interface LoadedCallback {
  /** Where it was loaded from, and the file's time before that, as ISO 8601. */
  readonly origin?: { readonly file: string; readonly changed: string } | undefined;
  readonly call: (payload: Payload) => unknown;
  /** Awaited once in each process before its first message. */
  readonly setup?: (() => unknown) | undefined;
  /** Awaited once in each process after its last message. */
  readonly teardown?: (() => unknown) | undefined;
}

export type Verdict = 'ack' | 'nack';

/** Why a message cannot be, or was not, processed by a callback that threw nothing. */
export type Refusal = 'malformed-body' | 'timeout' | 'callback-exited' | 'callback-crashed' | 'out-of-memory';

/** What a callback published and did not ack goes with an ack that is given for it. */
export type RunResult =
  | { readonly kind: 'returned'; readonly outgoing?: readonly Outgoing[] }
  | { readonly kind: 'threw'; readonly error: unknown }
  | {
      readonly kind: 'refused';
      readonly reason: Refusal | 'nack';
      readonly detail: string;
      readonly error?: unknown;
    };

/** No more comes of it: a message that is not settled goes back, if its connection has not ended anyway. */
export interface Gone {
  readonly kind: 'gone';
  /** What the consumer must end for. */
  readonly fatal?: PubsubError;
}

export interface Invocation {
  /** Resolves when the callback has returned, or has not been called; never rejects. */
  readonly result: Promise<RunResult>;
  /** Aborts the payload's signal; may be called more than once. */
  readonly abort: (reason: AbortReason) => void;
}

/** `timeout`: the message's time limit; `stop`: the end of the graceful wait. */
export type AbortReason = 'timeout' | 'stop';

const remedy = 'call it before ack(), nack() and the end of the callback';
const RETURNED: RunResult = { kind: 'returned' };

interface ReceivedMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly raw: Buffer;
}

/** What ack() and nack() do; `outgoing` is what was published, if anything, and the verdict an ack. */
export type Settle = (verdict: Verdict, outgoing?: readonly Outgoing[]) => Promise<Settlement>;

/** Decodes the body and calls the callback, at once. */
export function invoke(
  callback: LoadedCallback['call'],
  { headers, raw }: ReceivedMessage,
  context: MessageContext,
  queueType: QueueType,
  settle: Settle,
): Invocation {
  const decoded = decodeBody(raw);
  if ('kind' in decoded) return { result: Promise.resolve(decoded), abort: () => undefined };
  const payload = new CallPayload({ headers, raw }, decoded.value, context, queueType, settle);
  return {
    result: call(callback, payload, context),
    // Listeners belong to the callback, as what they print does.
    abort: (reason) => runInContext(context, () => payload.abort(reason)),
  };
}

/** A class for its getter: V8 makes a hidden class of its own for each object literal that has one. */
class CallPayload implements Payload {
  readonly headers: Payload['headers'];
  readonly body: unknown;
  readonly raw: Buffer;
  readonly ack: Payload['ack'];
  readonly nack: Payload['nack'];
  readonly publish: Payload['publish'];
  #outgoing: Outgoing[] | undefined;
  #isSettled = false;
  #controller: AbortController | undefined;
  #reason: DOMException | undefined;

  constructor(
    { headers, raw }: ReceivedMessage,
    body: unknown,
    context: MessageContext,
    queueType: QueueType,
    settle: Settle,
  ) {
    this.headers = headers;
    this.body = body;
    this.raw = raw;
    this.ack = () => settle('ack', this.take());
    this.nack = () => {
      this.take();
      return settle('nack');
    };
    this.publish = (destination, content, options) => {
      if (this.#isSettled)
        throw new PubsubError('invalid-usage', `publish() of a message that is settled: ${remedy}`);
      const { headers: own, correlationId = own?.['correlation-id'] ?? context.correlationId } =
        options ?? {};
      const json = stringify(content);
      const encode = messageEncoder(destination, queueType, { ...options, correlationId });
      (this.#outgoing ??= []).push(encode(json));
    };
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    return this.#controller.signal;
  }

  abort(reason: AbortReason): void {
    this.#reason ??= abortError(reason);
    this.#controller?.abort(this.#reason);
  }

  /** Ends publishing; what was published, the first time. */
  take(): readonly Outgoing[] | undefined {
    const taken = this.#outgoing;
    this.#outgoing = undefined;
    this.#isSettled = true;
    return taken;
  }
}

async function call(
  callback: LoadedCallback['call'],
  payload: CallPayload,
  context: MessageContext,
): Promise<RunResult> {
  try {
    await runInContext(context, () => callback(payload));
    const outgoing = payload.take();
    return outgoing === undefined ? RETURNED : { kind: 'returned', outgoing };
  } catch (error) {
    payload.take();
    return { kind: 'threw', error };
  }
}

function abortError(reason: AbortReason): DOMException {
  return reason === 'timeout'
    ? new DOMException('the time limit of this message has passed', 'TimeoutError')
    : new DOMException('the graceful wait is over', 'AbortError');
}

/** The parsed body in a box, or why it cannot be handed to a callback. */
function decodeBody(body: Buffer): { readonly value: unknown } | RunResult {
  if (body.length === 0) return malformed('the body is empty');
  if (!isUtf8(body)) return malformed('the body is not UTF-8');
  try {
    return { value: JSON.parse(body.toString('utf8')) as unknown };
  } catch (error) {
    return malformed(`the body is not JSON: ${withoutContent(reasonOf(error))}`);
  }
}

const malformed = (detail: string): RunResult => ({ kind: 'refused', reason: 'malformed-body', detail });

/** V8 quotes the text it cannot parse; bodies do not belong in logs. */
function withoutContent(reason: string): string {
  return reason.replace(/,? *(?:\.\.\.)?"[^]*$/, '').slice(0, 120);
}
