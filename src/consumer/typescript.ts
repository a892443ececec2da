/**
 * Loading TypeScript that Node cannot run by itself, with jiti: enums, parameter properties, `export =`, imports without
 * extension, paths of the nearest tsconfig.json. Hides what it cannot do as the compiler does, which is refused with what
 * to type: nothing may run differently in silence.
 */
import type { Jiti, TransformOptions } from 'jiti';
import { reasonOf } from '../errors.js';
import { openCodeCache } from './code-cache.js';

const remedy =
  'preload a loader that follows your tsconfig.json: npm install tsx, then --import tsx ' +
  '(for emitDecoratorMetadata: npm install @swc-node/register @swc/core, then --import @swc-node/register/esm-register), ' +
  'or compile it and name the .js file';

/** What jiti 2.7 makes of decorators: a method's descriptor comes back without its value. */
const decorated = /\bvar (?:_dec|_class)\d*\b/;
const decorator = /^\s*@[A-Za-z_$]/m;
const comments = /\/\*[^]*?\*\//g;
/** It says so of `accessor`, and of a decorated field that is only declared. */
const unknownSyntax = /experimental syntax|modifier cannot be initialized/;

/** The module's namespace; `default` is what `export =` says. Rejects as the module does, or with what to type. */
export async function importTypeScript(file: string): Promise<object> {
  const { createJiti } = await import('jiti');
  // Its cache of transformed files is a folder that everybody on the machine may write to: ours is not.
  const options = { interopDefault: false, fsCache: false, tsconfigPaths: true };
  let plain: Jiti | undefined;
  const cached = openCodeCache();
  const compile = (given: TransformOptions) => {
    plain ??= createJiti(file, options);
    const code = plain.transform(given);
    if (given.ts === true && hasDecorators(given.source, code))
      throw new SyntaxError(`decorators in ${given.filename ?? file}; ${remedy}`);
    return code;
  };
  const transform = (given: TransformOptions) => ({
    code: cached(given.filename ?? file, given, () => compile(given)),
  });
  try {
    const loaded = await createJiti(file, { ...options, transform }).import<object>(file);
    return typeof loaded === 'function' ? { default: loaded } : loaded;
  } catch (error) {
    const reason = reasonOf(error);
    if (!unknownSyntax.test(reason)) throw error;
    throw new SyntaxError(`${reason.split('\n')[0] ?? ''}; ${remedy}`, { cause: error });
  }
}

/**
 * What Node makes of TypeScript by itself. It advises by a warning to set "type": "module" when that fails (22.23, 24.21):
 * it is not what is wrong, and what is wrong is told by what comes of it.
 */
export async function importByNode(url: string): Promise<object> {
  const given = Object.getOwnPropertyDescriptor(process, 'emit');
  const emit = process.emit.bind(process) as (name: string, ...args: unknown[]) => boolean;
  const emitOthers = (name: string, ...args: unknown[]): boolean =>
    (name === 'warning' && reasonOf(args[0]).startsWith('Failed to load the ES module')) ||
    emit(name, ...args);
  Object.defineProperty(process, 'emit', { configurable: true, writable: true, value: emitOthers });
  try {
    return (await import(url)) as object;
  } finally {
    // The module may have put its own in its place.
    const isOurs = Object.is(Object.getOwnPropertyDescriptor(process, 'emit')?.value, emitOthers);
    if (isOurs && given !== undefined) Object.defineProperty(process, 'emit', given);
    else if (isOurs) Reflect.deleteProperty(process, 'emit');
  }
}

function hasDecorators(source: string, code: string): boolean {
  return decorated.test(code) || decorator.test(source.replace(comments, ''));
}
