/**
 * Settings of the form `name=value`, any number of them: arguments of queues and headers of subscriptions. Hides which
 * names and values may be given, and what is said of those that may not.
 */
import { setting, type Setting, type SettingGroup } from './kinds.js';

export type Pairs = Readonly<Record<string, string>>;

/** What a value must look like, as a pattern and in words. */
type Rule = readonly [pattern: RegExp, expected: string];

const count: Rule = [/^\d{1,15}$/, 'a whole number'];
const positive: Rule = [/^0*[1-9]\d{0,14}$/, 'a whole number from 1'];

/** All that RabbitMQ takes over STOMP (3.10.8): it ignores others without a word, those of its 4.x included. */
const queueArguments: Readonly<Record<string, Rule>> = {
  'x-message-ttl': count,
  'x-expires': positive,
  'x-max-length': count,
  'x-max-length-bytes': count,
  'x-max-priority': [/^0*(?:[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])$/, 'a whole number from 1 to 255'],
  'x-queue-type': [/^(?:classic|quorum)$/, 'classic or quorum'],
};

/** Throws for what is no argument of a queue that we may be given. */
export function checkQueueArgument(name: string, value: string): void {
  if (/^x-dead-letter-(?:exchange|routing-key)$/.test(name))
    throw new Error(
      `${name} is set by this program: with another one, declare the queue and use --no-declare`,
    );
  const rule = queueArguments[name];
  if (rule === undefined)
    throw new Error(
      `${name}: RabbitMQ ignores this over STOMP: declare the queue yourself and use --no-declare`,
    );
  checkValue(name, value, rule);
}

/** Of `activemq.*` brokers/ knows which of them there are, and on which product. */
const subscriptionHeaders: readonly (readonly [name: RegExp, ...Rule])[] = [
  [/^selector$/, /\S/, 'a condition'],
  [/^activemq\.(?!prefetchSize$|subs?criptionName$)\w+$/, /\S/, 'a value'],
  [
    /^x-stream-offset$/,
    /^(?:first|last|next|(?:offset|timestamp)=\d{1,15})$/,
    'first, last, next, offset=<number> or timestamp=<seconds>',
  ],
];

/** Throws for what is no header of a subscription that we may be given. */
export function checkSubscriptionHeader(name: string, value: string): void {
  if (name === 'x-priority') throw new Error(`${name}: RabbitMQ ignores this over STOMP`);
  const found = subscriptionHeaders.find(([pattern]) => pattern.test(name));
  if (found === undefined)
    throw new Error(
      `${name} cannot be given: selector, activemq.* and x-stream-offset can, what else there is is set by this program`,
    );
  const [, ...rule] = found;
  checkValue(name, value, rule);
}

function checkValue(name: string, value: string, [pattern, expected]: Rule): void {
  if (/[\r\n\0]/.test(value) || !pattern.test(value))
    throw new Error(`${name}: ${expected} expected, not ${JSON.stringify(value)}`);
}

/** Repeated flags come as an array, what the library is given as an object; a variable has commas before each name. */
function parsePairs(text: string, check: (name: string, value: string) => void): Pairs {
  const pairs = Object.create(null) as Record<string, string>;
  for (const [name, value] of split(text)) {
    if (name in pairs) throw new Error(`${name} is given twice`);
    check(name, value);
    pairs[name] = value;
  }
  return pairs;
}

function split(text: string): (readonly [name: string, value: string])[] {
  if (text.startsWith('{'))
    return Object.entries(JSON.parse(text) as Record<string, unknown>).map(([name, value]) => [
      name,
      String(value),
    ]);
  const parts = text.startsWith('[')
    ? (JSON.parse(text) as string[])
    : text.split(/,(?=\s*(?:selector|activemq\.\w+|x-[\w-]+)=)/);
  return parts.map((part) => {
    const equals = part.indexOf('=');
    if (equals < 1) throw new Error(`<name>=<value> expected, not ${JSON.stringify(part)}`);
    return [part.slice(0, equals).trim(), part.slice(equals + 1)];
  });
}

/** Headers of a subscription from the values of a repeated flag. Throws an Error that says what is expected. */
export const parseSubscriptionHeaders = (values: readonly string[]): Pairs =>
  parsePairs(JSON.stringify(values), checkSubscriptionHeader);

/** A row of the table of settings whose flag may be repeated; `check` throws for what may not be given. */
export const pairs = (
  group: SettingGroup,
  variable: string,
  flag: string,
  check: (name: string, value: string) => void,
  help: string,
): Setting<Pairs> => ({
  ...setting<Pairs>([group, variable, flag, {}], help, (text) => parsePairs(text, check)),
  isList: true,
});
