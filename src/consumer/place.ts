/** Where in the user's own code an error comes from, by its stack. */
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Of this package. */
const own = path.resolve(import.meta.dirname, '..');
const frame = /(?:\(|\bat )(?:async )?((?:file:\/\/)?\/[^()\n]+?):(\d+):(\d+)\)?$/;

/** `config.ts:3:12`, from the working directory; '' when nothing of the user's is in it. */
export function placeOf(error: unknown): string {
  const stack = error instanceof Error && typeof error.stack === 'string' ? error.stack : '';
  for (const line of stack.split('\n')) {
    const [, where, row, column] = frame.exec(line) ?? [];
    if (where === undefined) continue;
    const file = where.startsWith('file:') ? fileURLToPath(where) : where;
    if (file.startsWith(own + path.sep) || file.includes(`${path.sep}node_modules${path.sep}`)) continue;
    const relative = path.relative('', file);
    return `${relative.startsWith('..') ? file : relative}:${row ?? ''}:${column ?? ''}`;
  }
  return '';
}
