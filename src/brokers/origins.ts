/**
 * Where a dead letter came from, told by its headers. The broker's own word counts before the publisher's, and before
 * both what agrees with the name of the dead-letter queue: the headers may be of an earlier death, of a queue in which a
 * message only waited for its next attempt, or name the virtual topic in place of the application's queue.
 */
import type { Headers } from '../stomp/frames.js';

/**
 * The name of the queue, or why none can be told. `deathHeaders` are those that tell it on this broker, the surest first.
 */
export function originOf(
  headers: Readonly<Headers>,
  deadLetterQueue: string,
  deathHeaders: readonly string[],
): { readonly queue: string } | { readonly problem: string } {
  const named = [...deathHeaders, 'tshoot-destination'].map((name) => headers[name]);
  const candidates = named.filter((value) => value !== undefined).map(parse);
  const owner = deadLetterQueue.startsWith('DLQ.') ? deadLetterQueue.slice('DLQ.'.length) : undefined;
  if (owner !== undefined && candidates.some((candidate) => belongsTo(candidate, owner)))
    return { queue: owner };
  const queue = candidates.find(({ kind, name }) => kind === 'queue' && name !== deadLetterQueue)?.name;
  if (queue !== undefined) return { queue };
  const topic = candidates.find(({ kind }) => kind === 'topic')?.name;
  return {
    problem:
      topic === undefined
        ? `none of ${deathHeaders.join(', ')} and tshoot-destination tells where it came from`
        : `it came by the topic ${topic}, where all subscribers would get it again`,
  };
}

interface Candidate {
  readonly kind: 'queue' | 'topic' | 'other';
  readonly name: string;
}

function parse(value: string): Candidate {
  const [, prefix = '', name = ''] =
    /^(\/queue\/|\/amq\/queue\/|\/topic\/|\/[^/]*\/)?([^]*)$/.exec(value) ?? [];
  if (name === '') return { kind: 'other', name: value };
  if (prefix === '/topic/') return { kind: 'topic', name };
  return { kind: prefix === '' || prefix.endsWith('queue/') ? 'queue' : 'other', name };
}

/** Is it this queue, one in which its messages wait for a retry, or the virtual topic that feeds it? */
function belongsTo({ kind, name }: Candidate, queue: string): boolean {
  if (kind === 'topic') return queue.startsWith('Consumer.') && queue.endsWith(`.${name}`);
  return kind === 'queue' && (name === queue || name.startsWith(`${queue}.retry.`));
}
