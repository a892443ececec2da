/**
 * What a callback throws, which may be anything: as text for another process, back again for a log entry, and made safe
 * for those who look at it here.
 */
import { reasonOf } from '../errors.js';
import { cutText, serializeError } from '../log.js';

/** An error as its log entry shows it, or anything else that was thrown, as JSON. */
export interface WireError {
  readonly isError: boolean;
  readonly json: string;
}

/** Longer ones are cut: they are for a log entry. */
const LONGEST_ERROR = 200_000;

/** What was thrown, for another process; never throws. */
export function encodeError(error: unknown): WireError {
  // What is not like an Error is given back as it is.
  const told = serializeError(error);
  const isError = told !== error;
  const json = stringify(told);
  if (json !== undefined && json.length <= LONGEST_ERROR) return { isError, json };
  // Not everything is JSON, and not everything is short: of an error there is more to tell than its text.
  const { type, stack } = (isError ? told : {}) as Record<string, unknown>;
  const message = cutText(reasonOf(error));
  const cut = { type, message, stack: typeof stack === 'string' ? cutText(stack) : undefined };
  return { isError, json: JSON.stringify(isError ? cut : message) };
}

function stringify(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

/** What was thrown there, as it is logged; an Error of the same name, stack and properties. Never throws. */
export function decodeError({ isError, json }: WireError): unknown {
  const value = JSON.parse(json) as unknown;
  // What an error's own toJSON makes of it may be anything.
  if (!isError || typeof value !== 'object' || value === null) return value;
  const { type, message, stack, ...properties } = value as Record<string, unknown>;
  const name = typeof type === 'string' ? type : 'Error';
  const text = typeof message === 'string' ? message : json;
  const hidden = { configurable: true, enumerable: false, writable: true };
  return Object.defineProperties(Object.assign(new Error(text), properties), {
    name: { ...hidden, value: name },
    stack: { ...hidden, value: typeof stack === 'string' ? stack : `${name}: ${text}` },
    // The log takes the type from it, else from the name.
    constructor: { ...hidden, value: undefined },
  });
}

/** The same when it can be looked at without harm, else what can be told of it. Never throws. */
export function tame(thrown: unknown): unknown {
  return isTame(thrown, hasStack) ? thrown : decodeError(encodeError(thrown));
}

/**
 * The same for who does not look at its stack. V8 makes the text of a stack when that is first read, which takes longer than
 * all else about a message that is tried again.
 */
export function tameButStack(thrown: unknown): unknown {
  return isTame(thrown) ? thrown : decodeError(encodeError(thrown));
}

function isTame(thrown: unknown, isRestTame: (error: Error) => boolean = () => true): boolean {
  if (typeof thrown !== 'object' || thrown === null) return typeof thrown !== 'function';
  try {
    return thrown instanceof Error && isText(thrown.name) && isText(thrown.message) && isRestTame(thrown);
  } catch {
    return false;
  }
}

const isText = (value: unknown): boolean => typeof value === 'string' && value.length < LONGEST_ERROR;
const hasStack = ({ stack }: Error): boolean => isText(stack ?? '');
