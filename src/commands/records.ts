/** A message as an operator reads it: as one line of JSON that keeps every byte, or as text on a terminal. */
import { isUtf8 } from 'node:buffer';
import { isOfDelivery } from '../brokers/headers.js';
import { PubsubError, reasonOf } from '../errors.js';
import { printable, printableText } from '../printable.js';
import type { Frame } from '../stomp/frames.js';
import { print } from './operating.js';

/**
 * `{"headers":{...},"body":"..."}`, with `bodyBase64` in place of `body` when that is not UTF-8 text. Of a message that was
 * too large to be read `oversized` tells which part is missing.
 */
export function toJson({ headers, body, oversized }: Frame): string {
  const content = isUtf8(body) ? { body: body.toString('utf8') } : { bodyBase64: body.toString('base64') };
  return JSON.stringify({ headers, ...content, oversized });
}

/** The message of a line that toJson made; `what` names the line in an error. Throws `invalid-json`. */
export function fromJson(line: string, what: string): Frame {
  let record: Partial<Record<'headers' | 'body' | 'bodyBase64' | 'oversized', unknown>>;
  try {
    record = Object(JSON.parse(line)) as typeof record;
  } catch (error) {
    throw new PubsubError('invalid-json', `${what} is not JSON: ${printable(reasonOf(error))}`, {
      cause: error,
    });
  }
  const { headers, body, bodyBase64, oversized } = record;
  const content = body ?? bodyBase64;
  const isWhole = typeof content === 'string' && oversized === undefined;
  const areHeaders =
    typeof headers === 'object' &&
    headers !== null &&
    !Array.isArray(headers) &&
    Object.values(headers).every((value) => typeof value === 'string');
  if (!isWhole || !areHeaders)
    throw new PubsubError(
      'invalid-json',
      `${what} is no message: headers and body, or bodyBase64, are expected`,
    );
  return {
    command: 'MESSAGE',
    headers: headers as Frame['headers'],
    body: Buffer.from(content, body === undefined ? 'base64' : 'utf8'),
  };
}

/** Prints them whole: as text on a terminal, with the headers of the delivery if wanted, else a line of JSON each. */
export async function printMessages(found: readonly Frame[], hasAllHeaders: boolean): Promise<void> {
  if (process.stdout.isTTY)
    await print(found.map((message) => toText(message, hasAllHeaders)).join(`${'-'.repeat(40)}\n`));
  else for (const message of found) await print(`${toJson(message)}\n`);
}

/** Readable text: the headers, a blank line, the body, indented when it is JSON. */
function toText({ headers, body, oversized }: Frame, hasAllHeaders: boolean): string {
  const shown = Object.entries(headers).filter(([name]) => hasAllHeaders || !isOfDelivery(name));
  const lines = shown.map(([name, value]) => `${printable(name)}: ${printable(value)}`);
  const content = oversized === undefined ? bodyText(body) : `(its ${oversized} is too large to be shown)`;
  return `${lines.join('\n')}\n\n${content}\n`;
}

function bodyText(body: Buffer): string {
  if (!isUtf8(body)) return `(${body.length} bytes that are no text) ${body.toString('base64')}`;
  const text = body.toString('utf8');
  return printableText(indented(text) ?? text);
}

/** Undefined when the text is no JSON, or when parsing would change a number. */
function indented(text: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isExact = withoutSpace(JSON.stringify(value)) === withoutSpace(text);
    return isExact ? JSON.stringify(value, undefined, 2) : undefined;
  } catch {
    return undefined;
  }
}

const withoutSpace = (text: string): string => text.replace(/\s+/g, '');
