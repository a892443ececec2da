/**
 * From the bytes of a message to what a callback gets as its body. Hides packed bodies and how much they may become, byte
 * order marks, charsets, and what makes a body unfit for what the callback asked for.
 */
import { isUtf8 } from 'node:buffer';
import { brotliDecompressSync, gunzipSync, inflateRawSync, inflateSync } from 'node:zlib';
import { charsetOf, codingsOf, kindOf, type BodyKind } from '../brokers/content-types.js';
import { reasonOf } from '../errors.js';

export interface BodyOptions {
  readonly bodyKind: BodyKind;
  /** So long may a body be when it is unpacked; a longer one is `too-large`. */
  readonly maxBodyBytes: number;
}

/** Why a body cannot be handed to a callback. */
export interface UnfitBody {
  readonly kind: 'refused';
  readonly reason: 'malformed-body' | 'too-large';
  readonly detail: string;
}

type Unpack = (body: Buffer, options: { maxOutputLength: number }) => Buffer;

const unpackers: Readonly<Record<string, Unpack>> = {
  gzip: gunzipSync,
  br: brotliDecompressSync,
  // Meant is zlib's format, and some send what is in it without its head.
  deflate: (body, options) =>
    ((body[0] ?? 0) & 0x0f) === 8 ? inflateSync(body, options) : inflateRawSync(body, options),
};

/** A body in a box. */
export interface DecodedBody {
  readonly value: unknown;
  /** What is left of bytes that have been freed. */
  readonly text?: string | undefined;
}

type Free = (bytes: Buffer) => void;

/**
 * The body, or why it is unfit. `free`: nobody else needs the bytes, and where their text says all that they say they are
 * freed before anything is made of that.
 */
export function decodeBody(
  headers: Readonly<Record<string, string>>,
  raw: Buffer,
  { bodyKind, maxBodyBytes }: BodyOptions,
  free?: Free,
): DecodedBody | UnfitBody {
  const { 'content-encoding': encoding, 'content-type': type } = headers;
  let body = raw;
  if (encoding !== undefined) {
    const unpacked = unpack(encoding, raw, maxBodyBytes);
    if (!Buffer.isBuffer(unpacked)) return unpacked;
    body = unpacked;
  }
  switch (bodyKind === 'auto' ? kindOf(type) : bodyKind) {
    case 'json':
      return parseJson(body, encoding, body === raw ? free : undefined);
    case 'text':
      return decodeText(body, charsetOf(type), encoding, body === raw ? free : undefined);
    case 'bytes':
      return { value: body };
  }
}

/**
 * Undoes what was done last first. What is no packing that is known stays as it is: other clients give the name of a charset
 * there (`utf-8`), or use a packing that the callback may know.
 */
function unpack(encoding: string, raw: Buffer, maxOutputLength: number): Buffer | UnfitBody {
  let body = raw;
  for (const coding of codingsOf(encoding).reverse()) {
    const undo = Object.hasOwn(unpackers, coding) ? unpackers[coding] : undefined;
    if (undo === undefined) return body;
    try {
      body = undo(body, { maxOutputLength });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
        const detail = `unpacked (${coding}) its body is longer than ${maxOutputLength} bytes (STOMP_MAX_MESSAGE_BYTES)`;
        return { kind: 'refused', reason: 'too-large', detail };
      }
      return malformed(`the body is not ${coding}, which its content-encoding says: ${reasonOf(error)}`);
    }
  }
  return body;
}

function parseJson(
  body: Buffer,
  encoding: string | undefined,
  free: Free | undefined,
): DecodedBody | UnfitBody {
  const text = utf8Of(body, free);
  if (text === undefined) return malformed(`the body is not UTF-8${packedAs(encoding)}`);
  const json = withoutMark(text);
  if (json === '') return malformed('the body is empty');
  try {
    return { value: JSON.parse(json) as unknown, text: free && text };
  } catch (error) {
    return malformed(`the body is not JSON: ${withoutContent(reasonOf(error))}${packedAs(encoding)}`);
  }
}

function decodeText(
  body: Buffer,
  charset: string,
  encoding: string | undefined,
  free: Free | undefined,
): DecodedBody | UnfitBody {
  if (charset === 'utf-8') {
    const text = utf8Of(body, free);
    if (text === undefined) return malformed(`the body is not UTF-8${packedAs(encoding)}`);
    return { value: withoutMark(text), text: free && text };
  }
  try {
    return { value: new TextDecoder(charset, { fatal: true }).decode(body) };
  } catch (error) {
    const isUnknown = error instanceof RangeError;
    return malformed(
      isUnknown
        ? `the charset ${JSON.stringify(charset.slice(0, 40))} of the body is not known`
        : `the body is not ${charset}${packedAs(encoding)}`,
    );
  }
}

const packedAs = (encoding: string | undefined): string =>
  encoding === undefined ? '' : ` (content-encoding ${JSON.stringify(encoding.slice(0, 40))})`;

/** With its byte order mark, so that the bytes can be made of it again. */
function utf8Of(body: Buffer, free: Free | undefined): string | undefined {
  if (!isUtf8(body)) return undefined;
  const text = body.toString('utf8');
  free?.(body);
  return text;
}

const withoutMark = (text: string): string => (text.startsWith('\ufeff') ? text.slice(1) : text);

const malformed = (detail: string): UnfitBody => ({ kind: 'refused', reason: 'malformed-body', detail });

/** V8 quotes the text it cannot parse; bodies do not belong in logs. */
function withoutContent(reason: string): string {
  return reason.replace(/,? *(?:\.\.\.)?"[^]*$/, '').slice(0, 120);
}
