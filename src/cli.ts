/**
 * The commands `stomp-pubsub`, `pubsub` and `publish`: which of the programs runs, the error line and the exit status.
 */
import { CommanderError, type Command } from 'commander';
import { createPublish, createPubsub, isToConsume, type Typed } from './cli/programs.js';
import { commandMeant, isOfWords, withCommandMeant } from './cli/suggest.js';
import { adviceFor } from './commands/first-broker.js';
import { PubsubError, reasonOf } from './errors.js';
import { writeFatal } from './log.js';
import { logFormatMeant } from './settings/environment.js';

/** Runs the command with the process's arguments and ends the process. */
export async function runCommand(name: 'stomp-pubsub' | 'pubsub' | 'publish'): Promise<void> {
  const typed = splitArguments(name, process.argv);
  const program = name === 'publish' ? createPublish(typed) : createPubsub(name, typed);
  if (name !== 'publish' && !isToConsume(typed)) await addAll(program, typed);
  // A reader that leaves, like head, ends neither a consumer nor a broker: what it does not read is not missed.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
  try {
    await program.parseAsync(typed.own);
    process.exit(0);
  } catch (error) {
    if (name !== 'publish' && isToConsume(typed) && isOfWords(error)) await addAll(program, typed);
    process.exit(report(withCommandMeant(error, program, name), name, program));
  }
}

async function addAll(program: Command, typed: Typed): Promise<void> {
  const { addCommands } = await import('./cli/subcommands.js');
  addCommands(program, typed);
}

/** What is behind `--` is a program with its arguments, in the place of a callback, but for `publish`, which has none. */
function splitArguments(name: string, argv: readonly string[]): Typed {
  const end = argv.indexOf('--');
  if (end === -1 || name === 'publish' || argv[2] === 'publish') return { own: argv, words: [] };
  return { own: argv.slice(0, end), words: argv.slice(end + 1) };
}

/** Says what went wrong in the last line; returns the exit status. */
function report(error: unknown, name: string, program: Command): number {
  if (error instanceof CommanderError && error.exitCode === 0) return 0;
  const known = error instanceof CommanderError ? misuse(error, commandMeant(program, name)) : error;
  const flag = [program, ...program.commands].map(
    (command) => command.getOptionValue('logFormat') as unknown,
  );
  const format = logFormatMeant(flag.find((value) => value !== undefined));
  if (known instanceof PubsubError) {
    const { code, exitStatus } = known;
    const message = `${known.message}${process.stderr.isTTY ? firstSteps(known) : ''}`;
    writeFatal({ program: name, code, exitStatus, message }, format);
    return exitStatus;
  }
  const message = `this is a bug, please report it: ${reasonOf(error)}`;
  writeFatal({ program: name, code: 'bug', exitStatus: 1, message, bug: error }, format);
  return 1;
}

function misuse({ message }: CommanderError, command: string): PubsubError {
  const problem = message
    .replace(/^error: /, '')
    .replace(/\n\(Did you mean (.*)\?\)$/s, '; did you mean $1?');
  return new PubsubError('invalid-usage', `${problem} (${command} --help shows what there is)`);
}

/** What to do about a broker that is not there yet, for the error's own line. */
function firstSteps(error: PubsubError): string {
  const advice = adviceFor(error.message);
  return advice === undefined ? '' : `\n${advice}`;
}
