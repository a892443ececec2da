/**
 * Every error a user can meet, as one class and one table. The table gives, for each code, the exit status of the
 * commands, what it means and what to do; the tables of docs/errors.md are rendered from it.
 */

export const exitStatuses = {
  0: 'done: everything was processed or published, or the consumer was asked to stop and drained',
  1: 'a bug: an error this program does not know; its stack is printed',
  2: 'usage, settings or bad input: nothing was sent to the broker, or the error says how much before the bad line',
  3: 'the callback cannot be loaded: nothing was sent to the broker',
  4: 'the broker refuses, cannot be reached, or did not confirm everything; or a file cannot be written',
  5: 'stopped with work unfinished: callbacks, whose messages go back to the queue, or the rest of the input of publish; or at the failure limit',
} as const;

/** One of the statuses above; a second signal ends with 128 + its number instead. */
export type ExitStatus = keyof typeof exitStatuses;

export const errorCodes = {
  'invalid-usage': { exit: 2, meaning: 'arguments or flags make no sense', remedy: 'see --help' },
  'invalid-setting': {
    exit: 2,
    meaning: 'a flag or variable has a bad value',
    remedy: 'correct every line listed',
  },
  'invalid-destination': {
    exit: 2,
    meaning: 'the destination cannot be consumed or published to',
    remedy: 'use /queue/<name>, /topic/<name> or Consumer.<app>.VirtualTopic.<topic>',
  },
  'invalid-header': {
    exit: 2,
    meaning: 'a header cannot be sent',
    remedy: 'use strings without NUL bytes',
  },
  'invalid-json': { exit: 2, meaning: 'a body is not JSON', remedy: 'correct the line named' },
  'callback-not-found': {
    exit: 3,
    meaning: 'no such module',
    remedy: 'correct the path or install the package',
  },
  'callback-not-loadable': {
    exit: 3,
    meaning: 'the module throws or has a syntax error',
    remedy: 'load the module by itself with node and mend it',
  },
  'callback-not-exported': { exit: 3, meaning: 'the module has no such export', remedy: 'name one it has' },
  'callback-not-function': { exit: 3, meaning: 'the export is not a function', remedy: 'export a function' },
  'callback-schema-invalid': {
    exit: 3,
    meaning: 'the schema beside the callback is none that bodies can be checked with',
    remedy: 'make it with zod, valibot or arktype, or give it another name',
  },
  'callback-setup-failed': {
    exit: 3,
    meaning: 'the setup() of the module failed before the first message',
    remedy: 'mend what it says',
  },
  'broker-unreachable': {
    exit: 4,
    meaning: 'no server accepted a connection in time',
    remedy: 'check STOMP_SERVER_HOST, STOMP_SERVER_PORT and that the broker runs',
  },
  'broker-refused': {
    exit: 4,
    meaning: 'the broker refused for a reason that waiting does not cure',
    remedy: 'change what the message names',
  },
  'connection-lost': {
    exit: 4,
    meaning: 'the connection ended',
    remedy: 'run it again when the broker is back',
  },
  'message-too-large': {
    exit: 4,
    meaning: 'a message is over a limit, of the broker or of STOMP_MAX_MESSAGE_BYTES',
    remedy: 'raise the limit that the message names, or send less',
  },
  'not-confirmed': {
    exit: 4,
    meaning: 'the broker did not confirm every message: the rest may or may not have arrived',
    remedy: 'publish the unconfirmed again if duplicates are acceptable',
  },
  interrupted: {
    exit: 5,
    meaning:
      'publish or restore was asked to stop before the end of its input; or a signal came before a message was sent',
    remedy: 'go on with the --resume-from it names; the message may be sent again',
  },
  'not-saved': {
    exit: 4,
    meaning: 'a file cannot be written: what is not in it was not acked',
    remedy: 'make room, or name another file',
  },
  'failure-limit': {
    exit: 5,
    meaning: 'so many messages in a row failed that the consumer stopped',
    remedy: 'mend the callback or what it needs, then redrive what was dead-lettered',
  },
  'deadline-passed': {
    exit: 5,
    meaning: 'callbacks, or confirmations, were still awaited at the end of the graceful wait',
    remedy: 'raise STOMP_GRACEFUL_WAIT_SECONDS or make the callback heed payload.signal',
  },
} as const satisfies Record<string, { exit: ExitStatus; meaning: string; remedy: string }>;

export type ErrorCode = keyof typeof errorCodes;

/** An expected failure: the message says what failed, with which value, and what to do. */
export class PubsubError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'PubsubError';
    this.code = code;
  }

  get exitStatus(): ExitStatus {
    return errorCodes[this.code].exit;
  }
}

/** The text of anything thrown, also of what is no Error or cannot be printed. */
export function reasonOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message || thrown.name : thrown);
  } catch {
    return `a thrown ${typeof thrown} that cannot be printed`;
  }
}

/** The name of an Error's class; undefined for what is no Error or has no name that can be printed. */
export function nameOf(thrown: unknown): string | undefined {
  try {
    if (!(thrown instanceof Error)) return undefined;
    const name: unknown = thrown.name;
    return String(name);
  } catch {
    return undefined;
  }
}

/** As a promise: for who is not to throw. */
export const rejected = (error: unknown): Promise<never> =>
  Promise.reject(error instanceof Error ? error : new Error(String(error)));
