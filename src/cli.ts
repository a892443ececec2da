/**
 * The commands `stomp-pubsub`, `pubsub` and `publish`: which of the programs runs, the error line and the exit status.
 */
import { CommanderError } from 'commander';
import { PubsubError } from './errors.js';
import { printableText } from './printable.js';
import { createPublish, createPubsub } from './cli/programs.js';

/** Runs the command with the process's arguments and ends the process. */
export async function runCommand(name: 'stomp-pubsub' | 'pubsub' | 'publish'): Promise<void> {
  const { own, words } = splitArguments(process.argv);
  const program = name === 'publish' ? createPublish() : createPubsub(name, words);
  // A reader that leaves, like head, ends neither a consumer nor a broker: what it does not read is not missed.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  try {
    await program.parseAsync(name === 'publish' ? process.argv : own);
    process.exit(0);
  } catch (error) {
    process.exit(report(error, name));
  }
}

/** What is behind `--` is a program with its arguments, in the place of a callback, but for `publish`, which has none. */
function splitArguments(argv: readonly string[]): {
  readonly own: readonly string[];
  readonly words: readonly string[];
} {
  const end = argv.indexOf('--');
  if (end === -1 || argv[2] === 'publish') return { own: argv, words: [] };
  return { own: argv.slice(0, end), words: argv.slice(end + 1) };
}

/** Prints what went wrong on stderr; returns the exit status. */
function report(error: unknown, name: string): number {
  // Commander has printed its own message.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof PubsubError) {
    process.stderr.write(`${printableText(error.message).replace(/^/gm, `${name}: `)}\n`);
    return error.exitStatus;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`${name}: this is a bug, please report it\n${printableText(text)}\n`);
  return 1;
}
