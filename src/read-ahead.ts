/**
 * Modules of ours, read and run at once for the import() that is about to ask for them: import() takes a turn of the event loop for
 * each file of a graph, and require() none, which is a tenth of a command's start on Node 20. For the commands and for worker
 * processes alone: a bundle has the modules in it.
 */
import { createRequire } from 'node:module';

/** What changes modules while they are loaded, as tsx does, may make two of one that is both required and imported. */
const changesModules = /(?:^|\s)(?:-r|--(?:require|import|loader|experimental-loader))\b/;

/** These warn on stderr of what they do, but for what is in node_modules. */
const warns = /^v(?:22\.12|23\.[0-3])\./;

const isPossible =
  process.features.require_module &&
  !warns.test(process.version) &&
  !changesModules.test([...process.execArgv, process.env.NODE_OPTIONS].join(' '));

/** `base` is the `import.meta.url` of who asks. What is wrong with a module is told by its import(). */
export function readAhead(base: string, ...modules: readonly string[]): void {
  if (!isPossible) return;
  const require = createRequire(base);
  try {
    for (const module of modules) require(module);
  } catch {
    // The import() that follows says it.
  }
}
