/** What was probably meant by a word that nobody knows. */

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
