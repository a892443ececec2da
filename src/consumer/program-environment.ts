/**
 * What a program is told by its environment: the message's headers, its attempt and the context of its trace, beside the
 * consumer's own environment without what is secret there.
 */
import { environmentForPrograms } from '../settings/dotenv.js';
import { traceNames } from '../trace-context.js';
import type { Job } from './runner.js';
import { attemptOf } from './retries.js';

/** Linux takes 128 KiB for one variable, and a quarter of the stack for all of them. */
const LONGEST_VALUE = 32_768;
const LONGEST_TOTAL = 262_144;

export interface ProgramEnvironment {
  readonly env: Readonly<Record<string, string>>;
  /** Names of headers that are too long for it. */
  readonly omitted: readonly string[];
}

/** A name as OpenTelemetry has it of what carries a context in variables. */
const variableOf = (header: string): string => header.toUpperCase().replace(/[^A-Z0-9]/g, '_');
const ofTrace = new Set(traceNames.map(variableOf));

/** `context.trace`: where its spans belong. */
export function environmentOf({
  headers,
  context: { correlationId, trace = {} },
}: Pick<Job, 'headers' | 'context'>): ProgramEnvironment {
  const own: Record<string, string> = {};
  const omitted: string[] = [];
  let total = 0;
  const named = [
    ...Object.entries(trace).map(([header, value]) => [header, variableOf(header), value] as const),
    ...Object.entries(headers).map(
      ([header, value]) => [header, `STOMP_HEADER_${variableOf(header)}`, value] as const,
    ),
  ];
  for (const [header, name, value] of named) {
    const length = Buffer.byteLength(name) + Buffer.byteLength(value);
    if (length > LONGEST_VALUE || total + length > LONGEST_TOTAL || value.includes('\0')) {
      omitted.push(header.slice(0, 100));
    } else if (own[name] === undefined) {
      own[name] = value;
      total += length;
    }
  }
  const message = { STOMP_CORRELATION_ID: correlationId, STOMP_ATTEMPT: String(attemptOf(headers)) };
  // A trace that the consumer was started in is not that of the message.
  const others = Object.entries(environmentForPrograms()).filter(([name]) => !ofTrace.has(name));
  return { env: { ...Object.fromEntries(others), ...own, ...message }, omitted: [...new Set(omitted)] };
}
