/**
 * One call of a callback, in whatever process: its body is decoded and checked, a span is begun, and what came of it is told.
 * Hides that a body may be unfit, and that whatever a callback throws or returns is caught.
 */
import { boundHere, runInContext, type MessageContext } from '../context.js';
import { reasonOf } from '../errors.js';
import { log } from '../log.js';
import { traceHeadersOf } from '../trace-context.js';
import { openTracing, type Failure, type Tracing } from '../tracing.js';
import { decodeBody } from './body.js';
import {
  CallPayload,
  type CallOptions,
  type Invocation,
  type LoadedCallback,
  type ReceivedMessage,
  type RunResult,
  type Settle,
  type Verdict,
} from './payload.js';
import { describeIssues, type Schema, type SchemaResult } from './schema.js';
import { tame } from './thrown.js';

type Callable = Pick<LoadedCallback, 'call' | 'schema'>;

const RETURNED: RunResult = { kind: 'returned' };
const doNothing = () => undefined;

/** What records the spans of a callback, if anything does. */
export const tracingOf = ({ origin }: Pick<LoadedCallback, 'origin'>): Tracing => openTracing(origin?.file);

/**
 * Decodes the body, checks it and calls the callback: at once, unless the schema takes its time. `done` is called once, after
 * this has returned, when the callback has returned or is not to be called. A promise for that, and what waits for it, would
 * cost a tenth of a short message.
 */
export function invoke(
  callable: Callable & { readonly tracing: Tracing },
  message: ReceivedMessage,
  context: MessageContext,
  options: CallOptions,
  settle: Settle,
  done: (result: RunResult) => void,
): Invocation {
  const { tracing } = callable;
  if (tracing.isOn) return invokeTraced(tracing, callable, message, context, options, settle, done);
  const trace = traceHeadersOf(message.headers);
  const within = trace === undefined ? context : { ...context, trace };
  return start(callable, message, within, options, settle, done);
}

function start(
  { call, schema }: Callable,
  message: ReceivedMessage,
  context: MessageContext,
  options: CallOptions,
  settle: Settle,
  done: (result: RunResult) => void,
): Invocation {
  const decoded = decodeBody(message.headers, message.raw, options, message.free);
  if ('kind' in decoded) return unfit(decoded, done);
  const payload = new CallPayload(message, decoded, context, options, settle);
  if (schema === undefined) callWith(payload, call, context, done);
  else checkAndCall(payload, schema, call, context, done);
  // Listeners belong to the callback, as what they print does.
  return { end: doNothing, abort: (reason) => runInContext(context, () => payload.abort(reason)) };
}

/** Apart: what a closure uses is allocated in each call of the function it stands in. */
function unfit(result: RunResult, done: (result: RunResult) => void): Invocation {
  queueMicrotask(() => done(result));
  return { end: doNothing, abort: doNothing };
}

/** The same below a span of its own, which tells what came of it. */
function invokeTraced(
  tracing: Tracing,
  callable: Callable,
  message: ReceivedMessage,
  context: MessageContext,
  options: CallOptions,
  settle: Settle,
  done: (result: RunResult) => void,
): Invocation {
  const { headers, raw } = message;
  const span = tracing.process(options.traced, headers, raw.length);
  if (span === undefined) return start(callable, message, context, options, settle, done);
  let verdict: Verdict | undefined = options.autoAck ? 'ack' : undefined;
  const within = { ...context, trace: span.headers, receivedTrace: headers.traceparent };
  const note: Settle = (given, outgoing) => {
    verdict = given;
    return settle(given, outgoing);
  };
  // What comes after it is not below its span.
  const outside = boundHere(done);
  const invocation = span.run(() => start(callable, message, within, options, note, outside));
  return { ...invocation, end: (result) => span.end(failureOf(result, verdict)) };
}

function failureOf(result: RunResult, verdict: Verdict | undefined): Failure | undefined {
  if (result.kind === 'returned') return verdict === 'ack' ? undefined : { type: verdict ?? 'unsettled' };
  if (result.kind === 'refused') return { type: result.reason, detail: result.detail, error: result.error };
  const error = tame(result.error);
  return { type: error instanceof Error ? error.name : typeof error, detail: reasonOf(error), error };
}

/** Waits as `await` does, nearly: it looks at the constructor of a promise twice. An async function would make one promise more. */
function callWith(
  payload: CallPayload,
  callback: LoadedCallback['call'],
  context: MessageContext,
  done: (result: RunResult) => void,
): void {
  const onReturn = () => {
    const outgoing = payload.takeReturned();
    done(outgoing === undefined ? RETURNED : { kind: 'returned', outgoing });
  };
  const onThrow = (error: unknown) => {
    payload.take();
    done({ kind: 'threw', error });
  };
  try {
    const returned = runInContext(context, callback, payload);
    // A promise of the callback's may have a `then` of its own, which `await` does not call.
    void Promise.prototype.then.call(Promise.resolve(returned), onReturn, onThrow);
  } catch (error) {
    // Who called it does not have the invocation yet.
    queueMicrotask(() => onThrow(error));
  }
}

/** A schema that answers at once must not put the call off: that it blocks its process is known by when it is called. */
function checkAndCall(
  payload: CallPayload,
  schema: Schema,
  callback: LoadedCallback['call'],
  context: MessageContext,
  done: (result: RunResult) => void,
): void {
  const end = (result: RunResult) => queueMicrotask(() => done(result));
  const goOn = (result: SchemaResult<unknown>): void => {
    if (result.issues === undefined) {
      if (!('value' in result)) throw new Error('the schema answers neither a value nor issues');
      payload.body = result.value;
      callWith(payload, callback, context, done);
    } else {
      end({ kind: 'refused', reason: 'schema-mismatch', detail: describeIssues(result.issues) });
    }
  };
  const fail = (error: unknown) => end({ kind: 'threw', error });
  try {
    const checked = runInContext(context, () => schema['~standard'].validate(payload.body));
    // Whoever's promise it is.
    if ('then' in checked) Promise.resolve(checked).then(goOn).catch(fail);
    else goOn(checked);
  } catch (error) {
    fail(error);
  }
}

/** Never rejects. */
export async function askHealth({ healthy }: Pick<LoadedCallback, 'healthy'>): Promise<boolean> {
  try {
    return (await healthy?.()) !== false;
  } catch (error) {
    log.warn({ err: error }, 'healthy() threw, which is a no');
    return false;
  }
}
