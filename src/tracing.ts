/**
 * Spans by OpenTelemetry, where who runs this has it: of each attempt at a message, and of each message that is sent. Its API
 * is not ours but the callback's. Hides that nothing may be recorded, now or ever, that messages carry the context in their
 * headers, and the names of attributes (semantic conventions for messaging 1.45).
 */
import { setTimeout as delay } from 'node:timers/promises';
import type * as Api from '@opentelemetry/api';
import { log } from './log.js';
import { requireOptional } from './optional.js';
import { traceHeadersOf, traceNames } from './trace-context.js';
import { version } from './version.js';

type Headers = Readonly<Record<string, string>>;

/** How the spans of a consumer look. */
export interface TracedQueue {
  readonly queue: string;
  /** Is the context of a message the parent of its span, or is that the first of a trace, with a link? */
  readonly parent: 'message' | 'link';
}

export interface Failure {
  /** Of few values. */
  readonly type: string;
  readonly detail?: string | undefined;
  readonly error?: unknown;
}

export interface SendSpan {
  /** What the message carries. */
  readonly headers: Headers;
  /** The first time it is called. */
  readonly end: (failure?: Failure) => void;
}

/** `headers`: what is sent because of it carries. */
export interface ProcessSpan extends SendSpan {
  /** As a callback runs: what it starts are children. */
  readonly run: <T>(work: () => T) => T;
}

export interface Sent {
  readonly destination: string;
  readonly correlationId: string | undefined;
  readonly bytes: number;
  /** The headers that its sender gave it. */
  readonly own: Headers | undefined;
  /** Those of the message being processed, if there is one. */
  readonly cause: Headers | undefined;
}

/** An attempt that ended with its process, which can tell of it no more. Times are of the epoch, in ms. */
export interface LostAttempt extends Failure {
  readonly headers: Headers;
  readonly bytes: number;
  readonly startMs: number;
  readonly endMs: number;
}

/** What the API gives stands for the one of an SDK, if there is one. */
interface Provider extends Api.TracerProvider {
  getDelegate?(): Provider;
  /** Undefined when there is none. */
  getDelegateTracer?(name: string, version: string): Api.Tracer | undefined;
  forceFlush?(): Promise<void>;
}

/** What flushing may take: a collector that is away must not hold a stop up. */
const FLUSH_MS = 5000;
const NAME = 'stomp-pubsub';

/** Where the API, of whatever copy, keeps what an SDK has registered with it: without that it need not be loaded. */
const REGISTERED = Symbol.for('opentelemetry.js.api.1');

export class Tracing {
  readonly #callbackFile: string | undefined;
  #hasLooked = false;
  #loaded: typeof Api | undefined;
  #known: Api.Tracer | undefined;
  #hasFailed = false;

  /** By the API that this callback would import. */
  constructor(callbackFile: string | undefined) {
    this.#callbackFile = callbackFile;
  }

  /** To be asked for when it is on. */
  get #api(): typeof Api {
    if (this.#loaded === undefined) throw new Error('nothing records');
    return this.#loaded;
  }

  /** Undefined for as long as nothing records: the API alone does not. */
  get #tracer(): Api.Tracer | undefined {
    if (this.#known !== undefined) return this.#known;
    if (!(REGISTERED in globalThis)) return undefined;
    if (!this.#hasLooked) {
      this.#hasLooked = true;
      this.#loaded = requireOptional('@opentelemetry/api', this.#callbackFile) as typeof Api | undefined;
    }
    if (this.#loaded === undefined) return undefined;
    const provider = this.#loaded.trace.getTracerProvider() as Provider;
    this.#known =
      provider.getDelegateTracer === undefined
        ? provider.getTracer(NAME, version)
        : provider.getDelegateTracer(NAME, version);
    return this.#known;
  }

  /** What it gives, or nothing when it throws: whatever is wrong with what records, messages go their way. */
  #guarded<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!this.#hasFailed) log.warn({ err: error }, 'OpenTelemetry throws: spans are missing');
      this.#hasFailed = true;
      return undefined;
    }
  }

  get isOn(): boolean {
    return this.#guarded(() => this.#tracer) !== undefined;
  }

  /** An attempt begins; undefined when nothing records. */
  process(by: TracedQueue, headers: Headers, bytes: number): ProcessSpan | undefined {
    return this.#guarded(() => {
      const { context, propagation, trace, ROOT_CONTEXT } = this.#api;
      const received = propagation.extract(ROOT_CONTEXT, headers);
      const span = this.#startProcess(by, headers, bytes, received);
      if (span === undefined) return undefined;
      const within = trace.setSpan(received, span);
      return {
        headers: this.#carried(within) ?? traceHeadersOf(headers) ?? {},
        run: (work) => context.with(within, work),
        end: this.#ending(span),
      };
    });
  }

  /** Tells of an attempt that another process began. */
  lost(by: TracedQueue, attempt: LostAttempt): void {
    this.#guarded(() => this.#recordLost(by, attempt));
  }

  #recordLost(by: TracedQueue, { headers, bytes, startMs, endMs, ...failure }: LostAttempt): void {
    const received = this.#api.propagation.extract(this.#api.ROOT_CONTEXT, headers);
    // A number below the start of this process would be taken for an offset to it.
    const span = this.#startProcess(by, headers, bytes, received, new Date(startMs));
    if (span !== undefined) this.#ending(span)(failure, new Date(endMs));
  }

  #startProcess(
    { queue, parent }: TracedQueue,
    headers: Headers,
    bytes: number,
    received: Api.Context,
    startTime?: Date,
  ): Api.Span | undefined {
    const sender = this.#api.trace.getSpanContext(received);
    const ofLink = { root: true, links: sender === undefined ? [] : [{ context: sender }] };
    const attributes = {
      ...this.#attributes('process', queue, bytes, headers['correlation-id']),
      'messaging.message.id': headers['message-id'],
    };
    return this.#tracer?.startSpan(
      `process ${queue}`,
      {
        ...{ kind: this.#api.SpanKind.CONSUMER, attributes },
        ...(startTime === undefined ? {} : { startTime }),
        ...(parent === 'link' ? ofLink : {}),
      },
      received,
    );
  }

  /** A message begins to be sent, below what its sender is at; undefined when nothing records. */
  send(sent: Sent): SendSpan | undefined {
    return this.#guarded(() => this.#startSend(sent));
  }

  #startSend({ destination, correlationId, bytes, own, cause }: Sent): SendSpan | undefined {
    const { trace, SpanKind } = this.#api;
    const parent = this.#parentOf(own, cause);
    const attributes = this.#attributes('send', destination, bytes, correlationId);
    const span = this.#tracer?.startSpan(
      `send ${destination}`,
      { kind: SpanKind.PRODUCER, attributes },
      parent,
    );
    if (span === undefined) return undefined;
    const carried = this.#carried(trace.setSpan(parent, span));
    return { headers: carried ?? traceHeadersOf(own ?? {}) ?? cause ?? {}, end: this.#ending(span) };
  }

  /** A context that the sender names, or the running code's, or that of the message being processed. */
  #parentOf(own: Headers | undefined, cause: Headers | undefined): Api.Context {
    const { context, propagation, trace, ROOT_CONTEXT } = this.#api;
    if (own?.traceparent !== undefined) return propagation.extract(ROOT_CONTEXT, own);
    const active = context.active();
    const isInSpan = trace.getSpan(active) !== undefined;
    return isInSpan || cause === undefined ? active : propagation.extract(active, cause);
  }

  /** Those that it carries are ours to give. */
  withoutContext(headers: Headers): Headers {
    const fields = this.#guarded(() => this.#api.propagation.fields()) ?? [];
    const ours = new Set<string>([...traceNames, ...fields]);
    return Object.fromEntries(Object.entries(headers).filter(([name]) => !ours.has(name)));
  }

  #carried(context: Api.Context): Headers | undefined {
    const carrier: Record<string, string> = {};
    this.#api.propagation.inject(context, carrier);
    return Object.keys(carrier).length === 0 ? undefined : carrier;
  }

  /** That a client calls the system by its protocol is what the conventions want of one that speaks to several. */
  #attributes(operation: string, name: string, bytes: number, correlationId: string | undefined) {
    return {
      'messaging.system': 'stomp',
      'messaging.operation.name': operation,
      'messaging.operation.type': operation,
      'messaging.destination.name': name,
      'messaging.message.body.size': bytes,
      'messaging.message.conversation_id': correlationId,
    };
  }

  #ending(span: Api.Span): (failure?: Failure, time?: Date) => void {
    let isOver = false;
    return (failure, time) => {
      if (isOver) return;
      isOver = true;
      this.#guarded(() => {
        if (failure !== undefined) this.#describe(span, failure);
        span.end(time);
      });
    };
  }

  #describe(span: Api.Span, { type, detail, error }: Failure): void {
    span.setAttribute('error.type', type);
    if (error instanceof Error) span.recordException(error);
    const message = detail === undefined ? {} : { message: detail };
    span.setStatus({ code: this.#api.SpanStatusCode.ERROR, ...message });
  }

  /** Resolves when what has been recorded is exported, or was given its time. Never rejects. */
  async flush(): Promise<void> {
    const over = new AbortController();
    try {
      const proxy = this.#api.trace.getTracerProvider() as Provider;
      const provider = proxy.getDelegate?.() ?? proxy;
      if (provider.forceFlush === undefined) return;
      await Promise.race([
        provider.forceFlush(),
        delay(FLUSH_MS, undefined, { signal: over.signal }).then(() => {
          throw new Error(`the exporter took longer than ${FLUSH_MS / 1000} s`);
        }),
      ]);
    } catch (error) {
      // The SDK rejects with one for each of its exporters.
      const [err]: unknown[] = [error].flat(3);
      log.warn({ err }, 'spans may be lost at the end');
    } finally {
      over.abort();
    }
  }
}

/** Of this process: what it sends uses the API that its callback uses. */
let latest: Tracing | undefined;

/** By the API that the callback would import. */
export function openTracing(callbackFile: string | undefined): Tracing {
  return (latest = new Tracing(callbackFile));
}

/** That of the callback that was loaded here, or what a program has; undefined when nothing records. */
export function currentTracing(): Tracing | undefined {
  const tracing = latest ?? openTracing(undefined);
  return tracing.isOn ? tracing : undefined;
}

/** Before this process ends. Never rejects. */
export async function flushSpans(): Promise<void> {
  await currentTracing()?.flush();
}
