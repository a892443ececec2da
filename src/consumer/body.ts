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

/** The body in a box, or why it is unfit. */
export function decodeBody(
  headers: Readonly<Record<string, string>>,
  raw: Buffer,
  { bodyKind, maxBodyBytes }: BodyOptions,
): { readonly value: unknown } | UnfitBody {
  const { 'content-encoding': encoding, 'content-type': type } = headers;
  let body = raw;
  if (encoding !== undefined) {
    const unpacked = unpack(encoding, raw, maxBodyBytes);
    if (!Buffer.isBuffer(unpacked)) return unpacked;
    body = unpacked;
  }
  switch (bodyKind === 'auto' ? kindOf(type) : bodyKind) {
    case 'json':
      return parseJson(body, encoding);
    case 'text':
      return decodeText(body, charsetOf(type), encoding);
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

function parseJson(packed: Buffer, encoding: string | undefined): { readonly value: unknown } | UnfitBody {
  const body = withoutMark(packed);
  if (body.length === 0) return malformed('the body is empty');
  if (!isUtf8(body)) return malformed(`the body is not UTF-8${packedAs(encoding)}`);
  try {
    return { value: JSON.parse(body.toString('utf8')) as unknown };
  } catch (error) {
    return malformed(`the body is not JSON: ${withoutContent(reasonOf(error))}${packedAs(encoding)}`);
  }
}

function decodeText(
  body: Buffer,
  charset: string,
  encoding: string | undefined,
): { readonly value: string } | UnfitBody {
  if (charset === 'utf-8') {
    if (!isUtf8(body)) return malformed(`the body is not UTF-8${packedAs(encoding)}`);
    return { value: withoutMark(body).toString('utf8') };
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

/** Without the byte order mark of UTF-8. */
const withoutMark = (body: Buffer): Buffer =>
  body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf ? body.subarray(3) : body;

const malformed = (detail: string): UnfitBody => ({ kind: 'refused', reason: 'malformed-body', detail });

/** V8 quotes the text it cannot parse; bodies do not belong in logs. */
function withoutContent(reason: string): string {
  return reason.replace(/,? *(?:\.\.\.)?"[^]*$/, '').slice(0, 120);
}
