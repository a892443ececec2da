/**
 * What a callback is handed, and the terms of whoever calls it: invoke.ts, in whatever process. Hides that a signal is made
 * only for a callback that looks at it, and when what is published ends.
 */
import type { MessageContext } from '../context.js';
import { PubsubError } from '../errors.js';
import type { QueueRules } from '../brokers/queues.js';
import type { TracedQueue } from '../tracing.js';
import { contentOf, messageEncoder, type Outgoing, type SendOptions } from '../sending/heads.js';
import type { BodyOptions, DecodedBody } from './body.js';
import type { Schema } from './schema.js';

/**
 * What became of ack() or nack(): on its way to the broker, refused as a second call, or too late. `dead-lettered`: the
 * broker takes something of what was published never, so that the message went to its dead-letter queue.
 */
export type Settlement = 'sent' | 'already-settled' | 'connection-lost' | 'dead-lettered';

/** The callback's view of one message. */
export interface Payload<Body = unknown> {
  /** As received, un-escaped. The object has no prototype: any name is safe to look up. */
  readonly headers: Readonly<Record<string, string>>;
  /**
   * The parsed JSON, text or bytes, as the setting `body` (`--body`) says; with a schema beside the callback, what that makes
   * of it.
   */
  readonly body: Body;
  /** The bytes as received, packed if they came packed: exact where JSON is not, as for integers above 2^53. */
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
   * the message itself. Carries the message's correlation id on. A body is sent as JSON; with a `contentType` text and bytes
   * go out as they are. Throws `invalid-destination`, `invalid-json`, `invalid-header`, and `invalid-usage` when the message
   * is settled already.
   */
  readonly publish: (destination: string, body: unknown, options?: SendOptions) => void;
}

/** Called once for each delivery. To throw, or to return without ack() or nack(), dead-letters the message. */
export type Callback<Body = unknown> = (payload: Payload<Body>) => unknown;

/** A callback as its module exports it, with what may stand beside it. */
export interface LoadedCallback {
  /** Where it was loaded from, and the file's time before that, as ISO 8601. */
  readonly origin?: { readonly file: string; readonly changed: string } | undefined;
  readonly call: (payload: Payload) => unknown;
  /** What bodies are checked with before it is called. */
  readonly schema?: Schema | undefined;
  /** Awaited once in each process before its first message. */
  readonly setup?: (() => unknown) | undefined;
  /** Awaited once in each process after its last message. */
  readonly teardown?: (() => unknown) | undefined;
  /** Is what it needs there? A no is false, or a throw. */
  readonly healthy?: (() => unknown) | undefined;
}

export type Verdict = 'ack' | 'nack';

/** Why a message cannot be, or was not, processed by a callback that threw nothing. */
export type Refusal =
  | 'malformed-body'
  | 'too-large'
  | 'schema-mismatch'
  | 'timeout'
  | 'callback-exited'
  | 'callback-crashed'
  | 'out-of-memory';

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
  /** What came of it is known: its span ends. May be called more than once. */
  readonly end: (result: RunResult) => void;
  /** Aborts the payload's signal; may be called more than once. */
  readonly abort: (reason: AbortReason) => void;
}

/** `timeout`: the message's time limit; `stop`: the end of the graceful wait. */
export type AbortReason = 'timeout' | 'stop';

const remedy = 'call it before ack(), nack() and the end of the callback';
/** Of any number of calls: a promise for each would be made in vain. */
export const SENT = Promise.resolve<Settlement>('sent');

export interface ReceivedMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly raw: Buffer;
  /** The bytes are needed as they came, whatever the callback does to its own: it gets a copy, if it looks at them. */
  readonly isKept?: boolean;
  /** Nobody else needs the bytes: they may be freed, and are made again if the callback looks at them. */
  readonly free?: ((bytes: Buffer) => void) | undefined;
}

/** What ack() and nack() do; `outgoing` is what was published, if anything, and the verdict an ack. */
export type Settle = (verdict: Verdict, outgoing?: readonly Outgoing[]) => Promise<Settlement>;

/** What is the same for all calls of a consumer. */
export interface CallOptions extends BodyOptions {
  /** Of the queues that callbacks publish to. */
  readonly queues: QueueRules;
  /** A return is an ack. */
  readonly autoAck: boolean;
  readonly traced: TracedQueue;
}

/** Only of few: a payload with a getter of its own is of no shape that V8 shares. */
function makeWhenRead(payload: object, make: () => Buffer): void {
  let made: Buffer | undefined;
  const get = () => (made ??= make());
  const set = (value: Buffer) => void (made = value);
  Object.defineProperty(payload, 'raw', { enumerable: true, configurable: true, get, set });
}

/** A class for its getter: V8 makes a hidden class of its own for each object literal that has one. */
export class CallPayload implements Payload {
  readonly headers: Payload['headers'];
  body: unknown;
  readonly raw: Buffer;
  readonly ack: Payload['ack'];
  readonly nack: Payload['nack'];
  readonly publish: Payload['publish'];
  readonly #isAckedByReturn: boolean;
  #outgoing: Outgoing[] | undefined;
  #isSettled = false;
  #controller: AbortController | undefined;
  #reason: DOMException | undefined;

  constructor(
    { headers, raw, isKept = false }: ReceivedMessage,
    { value: body, text }: DecodedBody,
    context: MessageContext,
    { queues, autoAck }: CallOptions,
    settle: Settle,
  ) {
    this.headers = headers;
    this.body = body;
    this.raw = raw;
    if (text !== undefined) makeWhenRead(this, () => Buffer.from(text));
    else if (isKept) {
      makeWhenRead(this, () => Buffer.from(raw));
      if (body === raw) this.body = this.raw;
    }
    this.#isAckedByReturn = autoAck;
    this.ack = () => {
      const outgoing = this.take();
      const settled = settle('ack', outgoing);
      return outgoing?.some(({ end }) => end !== undefined) === true ? endSent(outgoing, settled) : settled;
    };
    this.nack = () => {
      this.take();
      return settle('nack');
    };
    this.publish = (destination, content, options) => {
      if (this.#isSettled)
        throw new PubsubError('invalid-usage', `publish() of a message that is settled: ${remedy}`);
      const { headers: own, correlationId = own?.['correlation-id'] ?? context.correlationId } =
        options ?? {};
      const encode = messageEncoder(destination, queues, { ...options, correlationId }, undefined, context);
      const sent = contentOf(content, options);
      // What is sent is what it is now.
      (this.#outgoing ??= []).push(encode(typeof sent === 'string' ? sent : Buffer.from(sent)));
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

  /** The same for a callback that has returned, if that is an ack. What becomes of it is heard by who has the connection. */
  takeReturned(): readonly Outgoing[] | undefined {
    const taken = this.take();
    if (!this.#isAckedByReturn) return undefined;
    for (const { end } of taken ?? []) end?.();
    return taken;
  }
}

/** The spans of what was published end when the broker has confirmed it. */
async function endSent(outgoing: readonly Outgoing[], settled: Promise<Settlement>): Promise<Settlement> {
  const settlement = await settled;
  const failure = settlement === 'sent' ? undefined : { type: settlement };
  for (const { end } of outgoing) end?.(failure);
  return settlement;
}

function abortError(reason: AbortReason): DOMException {
  return reason === 'timeout'
    ? new DOMException('the time limit of this message has passed', 'TimeoutError')
    : new DOMException('the graceful wait is over', 'AbortError');
}
