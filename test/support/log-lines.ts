/**
 * What a command says in its log, told by the fields of the lines: their texts are for people, and may change without a
 * test that notices.
 */

export type LogFields = Readonly<Record<string, unknown>>;

/** For each thing that is said, the fields that tell its lines from the others of the same command. */
const marks = {
  answering: ['port', 'paths'],
  connected: ['dialect'],
  subscribed: ['concurrency', 'broker'],
  'no connection': ['reason', 'retryInMs'],
  'dead-lettered': ['reason', 'deadLetterQueue'],
  'to be tried again': ['attempt', 'delayMs'],
  settled: ['outcome'],
  'failed after settling': ['reason', 'state'],
  stopping: ['signal', 'gracefulWaitMs'],
  'waiting for callbacks': ['inFlight'],
  stopped: ['received', 'acked'],
  published: ['perSecond'],
  'line left out': ['line', 'reason'],
  'message left': ['messageId', 'reason'],
} as const;

export type Said = keyof typeof marks;

export function says(line: LogFields, what: Said): boolean {
  return marks[what].every((field) => field in line);
}
