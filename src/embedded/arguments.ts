/**
 * Queue arguments: which headers of a SUBSCRIBE or SEND declare something, how they are read and when two declarations
 * of one queue differ. Rules, order and texts are those of RabbitMQ 3.10.8, seen on the wire.
 */
import type { Headers } from '../stomp/frames.js';
import { preconditionFailed, processingError, requireShort, resourceLocked } from './refusal.js';

export interface QueueArguments {
  readonly 'x-expires'?: number;
  readonly 'x-message-ttl'?: number;
  readonly 'x-dead-letter-exchange'?: string;
  readonly 'x-dead-letter-routing-key'?: string;
  readonly 'x-max-length'?: number;
  readonly 'x-max-length-bytes'?: number;
  readonly 'x-max-priority'?: number;
  readonly 'x-queue-type'?: string;
}

export interface Declaration {
  readonly name: string;
  readonly isDurable: boolean;
  readonly isExclusive: boolean;
  readonly isAutoDelete: boolean;
  readonly arguments: QueueArguments;
}

/** In the order RabbitMQ compares them. Other `x-` headers declare nothing (3.10.8). */
const kinds = {
  'x-expires': 'positive',
  'x-message-ttl': 'number',
  'x-dead-letter-exchange': 'text',
  'x-dead-letter-routing-key': 'text',
  'x-max-length': 'number',
  'x-max-length-bytes': 'number',
  'x-max-priority': 'number',
  'x-queue-type': 'text',
} as const satisfies Record<keyof QueueArguments, 'text' | 'number' | 'positive'>;
const names = Object.keys(kinds) as (keyof QueueArguments)[];

/** A quorum queue is declared and compared as one but has no x-delivery-count; RabbitMQ's streams are not there. */
const queueTypes = ['classic', 'quorum'];
const MAX_PRIORITY = 255;

/** `true`, `True`, `false` and `False` count, any other spelling is no value (RabbitMQ 3.10.8). */
export function flag(headers: Readonly<Headers>, name: string): boolean | undefined {
  const text = headers[name];
  if (text === 'true' || text === 'True') return true;
  return text === 'false' || text === 'False' ? false : undefined;
}

/** A whole number, or undefined when the header is absent. Throws for anything else. */
export function integer(headers: Readonly<Headers>, name: string): number | undefined {
  const text = headers[name]?.trim();
  if (text === undefined) return undefined;
  if (!/^[+-]?\d{1,15}$/.test(text)) throw processingError();
  return Number(text);
}

/** What the headers declare for a `/queue/` or a `/topic/`, whose defaults differ (RabbitMQ 3.10.8). */
export function declarationOf(
  name: string,
  kind: 'queue' | 'topic',
  headers: Readonly<Headers>,
): Declaration {
  requireShort('queue name', name);
  const isDurable = flag(headers, 'durable') ?? kind === 'queue';
  const isTopic = kind === 'topic';
  return {
    name,
    isDurable,
    isExclusive: flag(headers, 'exclusive') ?? (!isTopic && !isDurable),
    isAutoDelete: flag(headers, 'auto-delete') ?? (isTopic || !isDurable),
    arguments: argumentsOf(name, headers),
  };
}

function argumentsOf(queue: string, headers: Readonly<Headers>): QueueArguments {
  const found: Record<string, string | number> = {};
  for (const name of names) {
    const text = headers[name];
    if (text === undefined) continue;
    requireShort(name, text);
    const value = kinds[name] === 'text' ? text : (integer(headers, name) ?? 0);
    if (typeof value === 'number' && value < 0)
      throw invalidArgument(queue, name, `{value_negative,${value}}`);
    if (value === 0 && kinds[name] === 'positive') throw invalidArgument(queue, name, '{value_zero,0}');
    found[name] = value;
  }
  if ('x-dead-letter-routing-key' in found && !('x-dead-letter-exchange' in found))
    throw invalidArgument(queue, 'x-dead-letter-routing-key', 'routing_key_but_no_dlx_defined');
  const priority = found['x-max-priority'] ?? 0;
  if (Number(priority) > MAX_PRIORITY)
    throw invalidArgument(queue, 'x-max-priority', `{max_value_exceeded,${priority}}`);
  const type = String(found['x-queue-type'] ?? 'classic');
  if (!queueTypes.includes(type))
    throw invalidArgument(queue, 'x-queue-type', `"unsupported queue type '${type}'"`);
  return found;
}

/** Throws the Refusal by which RabbitMQ answers a second declaration that differs from the first. */
export function requireEquivalent(current: Declaration, wanted: Declaration): void {
  const { name } = current;
  if (current.isExclusive !== wanted.isExclusive) throw resourceLocked(name);
  const differs = (argument: string, received: string, is: string): void => {
    if (received !== is) {
      throw preconditionFailed(
        `inequivalent arg '${argument}' for queue '${name}' in vhost '/': received ${received} but current is ${is}`,
      );
    }
  };
  differs('durable', `'${wanted.isDurable}'`, `'${current.isDurable}'`);
  differs('auto_delete', `'${wanted.isAutoDelete}'`, `'${current.isAutoDelete}'`);
  for (const argument of names) {
    const received = valueOf(argument, wanted);
    const is = valueOf(argument, current);
    const areBothSet = received !== undefined && is !== undefined;
    differs(argument, shown(received, areBothSet), shown(is, areBothSet));
  }
}

/** No type is the same as `classic` (RabbitMQ 3.10.8). */
function valueOf(argument: keyof QueueArguments, declaration: Declaration): string | number | undefined {
  const value = declaration.arguments[argument];
  return argument === 'x-queue-type' ? (value ?? 'classic') : value;
}

function shown(value: string | number | undefined, areBothSet: boolean): string {
  if (value === undefined) return 'none';
  if (areBothSet) return `'${value}'`;
  return `the value '${value}' of type '${typeof value === 'string' ? 'longstr' : 'long'}'`;
}

function invalidArgument(queue: string, argument: string, why: string): Error {
  return preconditionFailed(`invalid arg '${argument}' for queue '${queue}' in vhost '/': ${why}`);
}
