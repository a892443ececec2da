/** Rows of text in columns, for a terminal: what a stranger wrote cannot break out of its cell. */
import { printable } from '../printable.js';

/** A longer cell is cut, but for the last one of its row. */
const WIDEST = 60;

/** One line each, the columns as wide as their widest cell; the last one may be of any width. */
export function tableOf(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell, column) => shown(cell, column === row.length - 1)));
  const widths = cells.reduce<number[]>(
    (most, row) => row.map((cell, column) => Math.max(most[column] ?? 0, cell.length)),
    [],
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ');
  return cells.map((row) => `${line(row).trimEnd()}\n`).join('');
}

function shown(cell: string, isLast: boolean): string {
  const text = printable(cell);
  return isLast || text.length <= WIDEST ? text : `${text.slice(0, WIDEST - 3)}...`;
}
