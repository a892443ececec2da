/**
 * Correlation ids for messages that come without one: random UUIDs (version 4), as crypto.randomUUID makes them. Many are
 * written together into one text, of which each is a part: one by one they are a tenth of what a message costs to send.
 */
import { randomFillSync } from 'node:crypto';

/** Made at once, the first few for a command that sends one. */
const FIRST_COUNT = 4;
const COUNT = 256;
const BYTES = 16;
const LENGTH = 36;
const HEX = Buffer.from('0123456789abcdef');
/** Where the two digits of each byte stand; dashes are between. */
const PLACES = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

let random = Buffer.alloc(0);
let all = '';
let next = 0;

export function newCorrelationId(): string {
  if (next === all.length) refill();
  return all.slice(next, (next += LENGTH));
}

function refill(): void {
  const count = Math.min(COUNT, Math.max(FIRST_COUNT, 4 * (random.length / BYTES)));
  if (random.length !== count * BYTES) random = Buffer.alloc(count * BYTES);
  randomFillSync(random);
  const text = Buffer.alloc(count * LENGTH, '-');
  for (let index = 0; index < count; index++) write(random, index * BYTES, text, index * LENGTH);
  all = text.toString('latin1');
  next = 0;
}

/** A function of its own: what V8 makes of a loop within the other one is thrown away at the end of each refill (Node 20). */
function write(bytes: Buffer, from: number, to: Buffer, start: number): void {
  for (let index = 0; index < BYTES; index++) {
    const byte = withVersion(bytes[from + index] ?? 0, index);
    const place = start + (PLACES[index] ?? 0);
    to[place] = HEX[byte >> 4] ?? 0;
    to[place + 1] = HEX[byte & 15] ?? 0;
  }
}

/** The version stands in the seventh byte, the variant in the ninth (RFC 9562). */
function withVersion(byte: number, index: number): number {
  if (index === 6) return (byte & 0x0f) | 0x40;
  return index === 8 ? (byte & 0x3f) | 0x80 : byte;
}
