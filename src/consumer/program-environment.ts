/**
 * What a program is told by its environment: the message's headers and attempt, beside the consumer's own environment
 * without what is secret there.
 */
import { environmentForPrograms } from '../settings.js';
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

export function environmentOf({
  headers,
  context: { correlationId },
}: Pick<Job, 'headers' | 'context'>): ProgramEnvironment {
  const own: Record<string, string> = {};
  const omitted: string[] = [];
  let total = 0;
  for (const [header, value] of Object.entries(headers)) {
    const name = `STOMP_HEADER_${header.toUpperCase().replace(/[^A-Z0-9]/g, '_')}`;
    const length = Buffer.byteLength(name) + Buffer.byteLength(value);
    if (length > LONGEST_VALUE || total + length > LONGEST_TOTAL || value.includes('\0')) {
      omitted.push(header.slice(0, 100));
    } else if (own[name] === undefined) {
      own[name] = value;
      total += length;
    }
  }
  const message = { STOMP_CORRELATION_ID: correlationId, STOMP_ATTEMPT: String(attemptOf(headers)) };
  return { env: { ...environmentForPrograms(), ...own, ...message }, omitted };
}
