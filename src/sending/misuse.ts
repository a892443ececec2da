/** What the compiler refuses, from JavaScript: told with what was given and what is expected, before anything is sent. */
import { PubsubError } from '../errors.js';

/** The beginning of a value is enough to find it. */
const LONGEST_SHOWN = 60;

const optionKinds = [
  ['headers', 'object', 'an object, like { tenant: "7" }'],
  ['correlationId', 'string', 'a string'],
  ['isPersistent', 'boolean', 'true or false'],
  ['contentType', 'string', 'a string, like "text/csv"'],
  ['contentEncoding', 'string', 'a string, like "gzip"'],
] as const;

/** Throws `invalid-usage` for a destination or options of another type. */
export function checkSending(destination: unknown, options: unknown): void {
  if (typeof destination !== 'string')
    throw misused('destination', 'a string, like "/queue/orders"', destination);
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null)
    throw misused('options', 'an object, like { headers: { tenant: "7" } }', options);
  const given = options as Record<string, unknown>;
  for (const [name, type, expected] of optionKinds) {
    const value = given[name];
    if (value !== undefined && (typeof value !== type || value === null || Array.isArray(value)))
      throw misused(name, expected, value);
  }
}

/** Throws `invalid-usage` for what is no AbortSignal. */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw misused('signal', 'an AbortSignal, like AbortSignal.timeout(5000)', signal);
}

/** An argument that is not what it must be. */
export const misused = (name: string, expected: string, given: unknown): PubsubError =>
  new PubsubError('invalid-usage', `${name} must be ${expected}, not ${shown(given)}`);

function shown(value: unknown): string {
  const isPlain = ['string', 'number', 'boolean'].includes(typeof value);
  if (!isPlain) return value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value;
  const text = JSON.stringify(value);
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}...` : text;
}
