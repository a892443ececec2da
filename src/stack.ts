/** Stacks as a person reads them: the user's own frames first, those of this package and of Node folded into a number. */
import { fileURLToPath } from 'node:url';

const frame = /^\s+at /;
/** The folder of this package's modules; undefined in a bundle in CommonJS, where nothing is told apart. */
const url = import.meta.url as string | undefined;
const own = url === undefined ? undefined : [new URL('.', url).href, fileURLToPath(new URL('.', url))];

const isOurs = (line: string): boolean =>
  /[( ]node:/.test(line) || own?.some((folder) => line.includes(folder)) === true;

/** The stack of an error, perhaps with those of its causes. One without any frame of the user's stays as it is. */
export function foldStack(stack: string): string {
  const lines = stack.split('\n');
  const isUsers = (line: string) => frame.test(line) && !isOurs(line);
  if (!lines.some(isUsers)) return stack;
  const folded: string[] = [];
  let count = 0;
  const close = () => {
    if (count > 0) folded.push(`    ... ${count} of stomp-pubsub and Node`);
    count = 0;
  };
  for (const line of lines) {
    if (frame.test(line) && isOurs(line)) {
      count++;
      continue;
    }
    if (!frame.test(line)) close();
    folded.push(line);
  }
  close();
  return folded.join('\n');
}
