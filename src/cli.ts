/**
 * The commands `stomp-pubsub`, `pubsub` and `publish`: which of the programs runs, the error line and the exit status.
 */
import { CommanderError } from 'commander';
import { createPublish, createPubsub, type Typed } from './cli/programs.js';
import { withCommandMeant } from './cli/suggest.js';
import { PubsubError, reasonOf } from './errors.js';
import { writeFatal } from './log.js';

/** Runs the command with the process's arguments and ends the process. */
export async function runCommand(name: 'stomp-pubsub' | 'pubsub' | 'publish'): Promise<void> {
  const typed = splitArguments(name, process.argv);
  const program = name === 'publish' ? createPublish(typed) : createPubsub(name, typed);
  // A reader that leaves, like head, ends neither a consumer nor a broker: what it does not read is not missed.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  try {
    await program.parseAsync(typed.own);
    process.exit(0);
  } catch (error) {
    process.exit(report(withCommandMeant(error, program, name), name));
  }
}

/** What is behind `--` is a program with its arguments, in the place of a callback, but for `publish`, which has none. */
function splitArguments(name: string, argv: readonly string[]): Typed {
  const end = argv.indexOf('--');
  if (end === -1 || name === 'publish' || argv[2] === 'publish') return { own: argv, words: [] };
  return { own: argv.slice(0, end), words: argv.slice(end + 1) };
}

/** Says what went wrong in the last line; returns the exit status. */
function report(error: unknown, name: string): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  if (error instanceof CommanderError) {
    const problem = error.message
      .replace(/^error: /, '')
      .replace(/\n\(Did you mean (.*)\?\)$/s, '; did you mean $1?');
    const message = `${problem} (${name} --help shows what there is)`;
    return report(new PubsubError('invalid-usage', message), name);
  }
  if (error instanceof PubsubError) {
    const { code, message, exitStatus } = error;
    writeFatal(name, message, { code, exitStatus });
    return exitStatus;
  }
  writeFatal(
    name,
    `this is a bug, please report it: ${reasonOf(error)}`,
    { code: 'bug', exitStatus: 1 },
    error,
  );
  return 1;
}
