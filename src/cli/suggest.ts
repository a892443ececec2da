/** What may have been meant by a word that is no command. */
import { CommanderError, type Command } from 'commander';
import { PubsubError } from '../errors.js';

/**
 * A command that is misspelt is taken for a destination, and what follows for a callback or an option that there is not:
 * the error then names the command instead.
 */
export function withCommandMeant(error: unknown, { args, commands }: Command, name: string): unknown {
  const [word] = args;
  const isUsage = error instanceof CommanderError && error.exitCode !== 0;
  const isCallback =
    error instanceof PubsubError && ['callback-not-found', 'invalid-usage'].includes(error.code);
  const names = commands.flatMap((command) => [command.name(), ...command.aliases()]);
  if (word === undefined || names.includes(word) || !(isUsage || isCallback)) return error;
  const meant = closest(word, names);
  if (meant === undefined) return error;
  const message = `there is no command ${word}; did you mean ${name} ${meant}? (A queue of that name is /queue/${word}.)`;
  return new PubsubError('invalid-usage', message, { cause: error });
}

/** The candidate that differs in so few letters that it is probably meant. */
export function closest(word: string, candidates: readonly string[]): string | undefined {
  const [best] = candidates
    .filter((candidate) => candidate !== word)
    .map((candidate) => ({ candidate, distance: distanceOf(word, candidate) }))
    .filter(({ candidate, distance }) => distance <= Math.max(1, Math.floor(candidate.length * 0.35)))
    .sort((one, other) => one.distance - other.distance);
  return best?.candidate;
}

/** Letters to add, leave out, change or swap with the next. */
function distanceOf(one: string, other: string): number {
  const rows = [Array.from({ length: other.length + 1 }, (_, column) => column)];
  for (let row = 1; row <= one.length; row++) {
    const current = [row];
    for (let column = 1; column <= other.length; column++) {
      const cost = one[row - 1] === other[column - 1] ? 0 : 1;
      const isSwap = one[row - 1] === other[column - 2] && one[row - 2] === other[column - 1];
      current[column] = Math.min(
        (rows[row - 1]?.[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (rows[row - 1]?.[column - 1] ?? 0) + cost,
        ...(isSwap ? [(rows[row - 2]?.[column - 2] ?? 0) + 1] : []),
      );
    }
    rows.push(current);
  }
  return rows.at(-1)?.at(-1) ?? 0;
}
