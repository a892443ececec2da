/**
 * Packages that are used when their user has them. They are looked for from the callback's own folder first: a second copy
 * beside the one that the callback uses would gather nothing, in silence.
 */
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** What the package exports, loaded at once (all of those meant are CommonJS); undefined when nobody has it. */
export function requireOptional(name: string, callbackFile: string | undefined): unknown {
  // A bundle in CommonJS has no import.meta.url.
  const url = import.meta.url as string | undefined;
  const bases = [callbackFile, path.resolve('_'), url && fileURLToPath(url)];
  for (const base of bases) {
    if (base === undefined) continue;
    const require = createRequire(base);
    let file: string;
    try {
      file = require.resolve(name);
    } catch {
      continue;
    }
    return require(file) as unknown;
  }
  return undefined;
}
