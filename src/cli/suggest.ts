/** What may have been meant by a word that is no command. */
import { CommanderError, type Command } from 'commander';
import { closest } from '../closest.js';
import { PubsubError } from '../errors.js';

/** May a word on the command line be to blame? */
export function isOfWords(error: unknown): boolean {
  if (error instanceof CommanderError) return error.exitCode !== 0;
  return error instanceof PubsubError && ['callback-not-found', 'invalid-usage'].includes(error.code);
}

/**
 * A command that is misspelt is taken for a destination, and what follows for a callback or an option that there is not:
 * the error then names the command instead.
 */
export function withCommandMeant(error: unknown, { args, commands }: Command, name: string): unknown {
  const isHelp = error instanceof CommanderError && error.code === 'commander.help' && error.exitCode !== 0;
  const word = args[isHelp ? 1 : 0];
  const names = commands.flatMap(namesOf);
  if (word === undefined || names.includes(word) || !isOfWords(error)) return error;
  const meant = closest(word, names);
  if (isHelp) {
    const more = meant === undefined ? `${name} --help shows what there is` : `did you mean ${meant}?`;
    return new PubsubError('invalid-usage', `there is no command ${word}; ${more}`);
  }
  if (meant === undefined) return error;
  const message = `there is no command ${word}; did you mean ${name} ${meant}? (A queue of that name is /queue/${word}.)`;
  return new PubsubError('invalid-usage', message, { cause: error });
}

/** The command that the words were for, as it is typed. */
export function commandMeant({ args: [word = ''], commands }: Command, name: string): string {
  const command = commands.find((one) => namesOf(one).includes(word));
  return command === undefined ? name : `${name} ${command.name()}`;
}

const namesOf = (command: Command): string[] => [command.name(), ...command.aliases()];
