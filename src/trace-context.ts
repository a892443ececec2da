/**
 * The context of a trace as messages carry it in their headers (W3C Trace Context and Baggage). It goes on with what is
 * published because of a message, and into the log, whether or not anything here records traces.
 */

/** Of one trace they belong together: a part of them would say something else. */
export const traceNames = ['traceparent', 'tracestate', 'baggage'] as const;

type Headers = Readonly<Record<string, string>>;

/** The headers that go on with what a message causes; undefined when it is of no trace. */
export function traceHeadersOf(headers: Headers): Headers | undefined {
  if (headers.traceparent === undefined) return undefined;
  return Object.fromEntries(
    traceNames.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])),
  );
}

/** The headers of what is published because of a message of that trace; a trace that they name themselves wins. */
export function carrying<Own extends Headers | undefined>(
  own: Own,
  trace: Headers | undefined,
): Own | Headers {
  return trace === undefined || own?.traceparent !== undefined ? own : { ...own, ...trace };
}

/** Which trace it is, and which span sent the message, for a line of the log; nothing when that cannot be read. */
export function traceFields(traceparent: string | undefined): { traceId?: string; spanId?: string } {
  if (traceparent === undefined) return {};
  const [, traceId, spanId] =
    /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-[\da-f]{2}(?:-|$)/.exec(traceparent) ?? [];
  return traceId === undefined || spanId === undefined ? {} : { traceId, spanId };
}
