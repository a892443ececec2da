/**
 * From `module#export` to a function: which file is meant, how it is loaded, and for each way that fails, one line that
 * says what to type instead. Paths are relative to the working directory.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { PubsubError, reasonOf } from '../errors.js';
import type { LoadedCallback } from './payload.js';
import { placeOf } from './place.js';
import { asSchema, type Schema } from './schema.js';

const extensions = ['.js', '.mjs', '.cjs', '.ts', '.mts'];
const isTypeScript = (url: string): boolean => /\.[mc]?ts$/.test(url);

interface CallbackSpec {
  readonly module: string;
  /** Names from the module's namespace to the function; `default` when none is given. */
  readonly path: readonly string[];
}

/** `./callbacks#ack`, `./callbacks` (the default export), `package#a.b.c` (a function in an object). */
function parseCallbackSpec(text: string): CallbackSpec {
  const hash = text.lastIndexOf('#');
  const module = hash === -1 ? text : text.slice(0, hash);
  const names = hash === -1 ? ['default'] : text.slice(hash + 1).split('.');
  if (module === '' || names.includes('')) {
    throw new PubsubError(
      'callback-not-found',
      `${JSON.stringify(text)} names no callback; write <module>#<export>, like ./callbacks#ack`,
    );
  }
  return { module, path: names };
}

/**
 * Loads the function, the functions `setup`, `teardown` and `healthy` that its module may export, and the `schema` beside it. Rejects
 * with `callback-not-found`, `callback-not-loadable`, `callback-not-exported`, `callback-not-function` or
 * `callback-schema-invalid`, each with what to type; setup, when called, with `callback-setup-failed`.
 */
export async function loadCallback(text: string): Promise<LoadedCallback> {
  const spec = parseCallbackSpec(text);
  const url = await locate(spec);
  const origin = originOf(url);
  const namespace = await load(spec.module, url);
  // A CommonJS module's names that Node could not detect are in its default export.
  const roots = [namespace, (namespace as { default?: unknown }).default].filter(isObject);
  const call = pick(spec, roots);
  const beside = (name: 'setup' | 'teardown' | 'healthy'): (() => unknown) | undefined =>
    roots
      .map((root) => (root as Record<string, unknown>)[name])
      .find((value): value is () => unknown => typeof value === 'function' && spec.path.join('.') !== name);
  const setup = beside('setup');
  return {
    ...{ origin, call, schema: schemaBeside(spec, roots) },
    ...{ setup: setup && explained(spec.module, setup), teardown: beside('teardown') },
    healthy: beside('healthy'),
  };
}

/** From the object that the function is in, or else its module's. */
function schemaBeside({ module, path: names }: CallbackSpec, roots: readonly object[]): Schema | undefined {
  const owner = names.slice(0, -1);
  for (const place of owner.length === 0 ? [owner] : [owner, []]) {
    const where = [...place, 'schema'];
    if (where.join('.') === names.join('.')) continue;
    const found = roots.map((root) => follow(root, where).value).find((value) => value !== undefined);
    if (found !== undefined) return asSchema(found, `${module}#${where.join('.')}`);
  }
  return undefined;
}

function originOf(url: string): LoadedCallback['origin'] {
  if (!url.startsWith('file:')) return undefined;
  const file = fileURLToPath(url);
  const stats = statSync(file, { throwIfNoEntry: false });
  return stats && { file, changed: stats.mtime.toISOString() };
}

function explained(module: string, setup: () => unknown): () => Promise<void> {
  return async () => {
    try {
      await setup();
    } catch (error) {
      const message = `setup() of ${module} failed: ${reasonOf(error)}${at(placeOf(error))}`;
      throw new PubsubError('callback-setup-failed', message, { cause: error });
    }
  };
}

/** What a file exports, in JavaScript or TypeScript. Rejects with `callback-not-loadable`. */
export function loadModule(file: string): Promise<object> {
  return load(path.relative('', file), pathToFileURL(file).href);
}

/** The file that holds the callback. Rejects with `callback-not-found`. */
export async function locateCallback(text: string): Promise<string> {
  return fileURLToPath(await locate(parseCallbackSpec(text)));
}

/** URL of the file that a module's name means. */
async function locate(spec: CallbackSpec): Promise<string> {
  const { module } = spec;
  if (module.startsWith('file:')) return pathToFileURL(locatePath(spec, pathOf(module))).href;
  if (/^\.{0,2}[/\\]|^\.{1,2}$/.test(module) || path.isAbsolute(module)) {
    return pathToFileURL(locatePath(spec, path.resolve(module))).href;
  }
  const { createJiti } = await import('jiti');
  const here = pathToFileURL(path.resolve('_')).href;
  const found = createJiti(here).esmResolve(module, { parentURL: here, try: true });
  if (found !== undefined) return found;
  const problem = `there is no package ${JSON.stringify(module)}; ${suggestPath(module)}`;
  throw new PubsubError('callback-not-found', problem);
}

/** Of what is no package. To install one of a name that may be a slip is no good advice. */
function suggestPath(module: string): string {
  const exists = (name: string) => candidates(path.resolve(name)).some(isFile);
  if (exists(module)) return `write ./${module}`;
  // As Django has it: callbacks.ack.
  const names = module.split('.');
  const [folder, name = ''] = [names.slice(0, -1).join('/'), names.at(-1)];
  if (folder !== '' && exists(folder)) return `did you mean ./${folder}#${name}?`;
  return 'install the one that is meant, or write the path of a file, like ./callbacks#ack';
}

function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    const problem = `${JSON.stringify(url)} names no file: ${reasonOf(error)}; write file:///<path>#<export>`;
    throw new PubsubError('callback-not-found', problem, { cause: error });
  }
}

function locatePath({ module, path: names }: CallbackSpec, absolute: string): string {
  const found = candidates(absolute).find(isFile);
  if (found !== undefined) return found;
  throw new PubsubError(
    'callback-not-found',
    `no module ${module === absolute ? module : `${module} (${absolute})`}; ${suggestFile(module, absolute, names)}`,
  );
}

function candidates(absolute: string): string[] {
  const index = extensions.map((extension) => path.join(absolute, `index${extension}`));
  return [absolute, ...extensions.map((extension) => absolute + extension), ...index];
}

function isFile(file: string): boolean {
  return existsSync(file) && statSync(file).isFile();
}

function suggestFile(module: string, absolute: string, names: readonly string[]): string {
  const folder = path.dirname(absolute);
  const isFolder = existsSync(absolute);
  if (isFolder) return `the folder has no index (${extensions.join(', ')}); name a file in it`;
  if (!existsSync(folder)) return `there is no folder ${folder}`;
  if (!isDirectory(folder))
    return `write ${path.dirname(module)}#${path.basename(module)}: the name of an export stands behind #`;
  const wanted = path.basename(absolute);
  const near = readdirSync(folder)
    .filter((file) => extensions.includes(path.extname(file)) || isDirectory(path.join(folder, file)))
    .filter((file) => !file.startsWith('.') && file !== 'node_modules')
    // The likeliest first: sorting keeps the order of the others.
    .sort((one, other) => sharedStart(other, wanted) - sharedStart(one, wanted))
    .slice(0, 10);
  if (near.length > 0) return `${path.dirname(module)}/ has ${near.join(', ')}`;
  const file = extensions.includes(path.extname(module)) ? module : `${module}.mjs`;
  return `${folder} has no modules. For a first one put this into ${file}:\n\n${firstCallback(names)}`;
}

function firstCallback([name = 'default']: readonly string[]): string {
  const head = name === 'default' ? 'default async function' : `async function ${name}`;
  return `/** @param {import('stomp-pubsub').Payload} payload */
export ${head}(payload) {
  console.log('received', payload.body);
  await payload.ack();
}`;
}

function sharedStart(one: string, other: string): number {
  let length = 0;
  while (length < one.length && one[length] === other[length]) length++;
  return length;
}

function isDirectory(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** What Node's own type stripping cannot do: other syntax than types, extensions left out, packages. */
const needsJiti = new Set([
  'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX',
  'ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING',
  'ERR_UNKNOWN_FILE_EXTENSION',
  'ERR_MODULE_NOT_FOUND',
]);

async function load(module: string, url: string): Promise<object> {
  try {
    return await importModule(url);
  } catch (error) {
    const file = fileURLToPath(url);
    const reason = `${error instanceof Error ? `${error.name}: ` : ''}${reasonOf(error).split('\n')[0]?.trim() ?? ''}`;
    const where = isSyntaxError(error) ? locateSyntaxError(error, file) : at(placeOf(error));
    throw new PubsubError(
      'callback-not-loadable',
      `${module} does not load: ${reason}${where}; ${remedyFor(reason, module, file)}`,
      { cause: error },
    );
  }
}

function remedyFor(reason: string, module: string, file: string): string {
  if (!extensions.includes(path.extname(file))) return `a program stands behind --, as in: -- ${module}`;
  const isModule = /Unexpected token 'export'|Cannot use import statement/.test(reason);
  return isModule && file.endsWith('.js')
    ? `it is an ES module: put "type": "module" into its package.json, or name it .mjs`
    : `mend ${file}`;
}

const at = (place: string): string => (place === '' ? '' : ` at ${place}`);

/** jiti's errors of that kind are of no class of their own. */
function isSyntaxError(error: unknown): error is Error {
  return error instanceof SyntaxError || (error instanceof Error && error.message.startsWith('ParseError'));
}

/** Where it is: in the stack (CommonJS), in the message (jiti), or told by nobody but Node itself (ESM, Node 20). */
function locateSyntaxError({ stack = '', message }: Error, file: string): string {
  const pattern = /^\s*((?:file:\/\/)?\/.+?:\d+)/m;
  const place = /^((?:file:)?\/.+:\d+)$/m.exec(stack)?.[1] ?? pattern.exec(message)?.[1];
  if (place !== undefined) return ` at ${place}`;
  const check = spawnSync(process.execPath, ['--check', file], { encoding: 'utf8' });
  if (check.status === 0) return ' in a module that it imports';
  const found = pattern.exec(check.stderr)?.[1];
  return found === undefined ? '' : ` at ${found}`;
}

async function importModule(url: string): Promise<object> {
  if (!isTypeScript(url)) return (await import(url)) as object;
  const { importByNode, importTypeScript } = await import('./typescript.js');
  try {
    return await importByNode(url);
  } catch (error) {
    // These are found before any of the module's code has run, so loading again repeats nothing.
    const code = (error as { code?: unknown } | undefined)?.code;
    const isSyntax = error instanceof SyntaxError;
    if (!isSyntax && !(typeof code === 'string' && needsJiti.has(code))) throw error;
  }
  return importTypeScript(fileURLToPath(url));
}

function pick({ module, path: names }: CallbackSpec, roots: readonly object[]): LoadedCallback['call'] {
  let found: unknown;
  for (const root of roots) {
    const { owner, value } = follow(root, names);
    if (isClass(value)) throw new PubsubError('callback-not-function', describeClass(module, names));
    if (typeof value === 'function') return (value as LoadedCallback['call']).bind(owner);
    found ??= value;
  }
  const name = `${module}#${names.join('.')}`;
  if (found !== undefined) {
    const message = `${name} is no function but of type ${typeof found}; ${suggestExport(module, roots, names.length)}`;
    throw new PubsubError('callback-not-function', message);
  }
  throw new PubsubError(
    'callback-not-exported',
    `there is no ${name}; ${suggestExport(module, roots, names.length)}`,
  );
}

/** What these names lead to, and the object that has it. */
function follow(root: object, names: readonly string[]): { owner: object; value: unknown } {
  let owner = root;
  let value: unknown = root;
  for (const name of names) {
    owner = isObject(value) ? value : {};
    value = isObject(value) ? (value as Record<string, unknown>)[name] : undefined;
  }
  return { owner, value };
}

/** It cannot be called: every message would fail. */
function isClass(value: unknown): boolean {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}

function describeClass(module: string, names: readonly string[]): string {
  const name = `${module}#${names.join('.')}`;
  return `${name} is a class, not a function to call; export a function, like (payload) => new ${names.at(-1) ?? ''}().run(payload)`;
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

/** The functions there are, from the depth that was asked for; deeper ones when there are none. */
function suggestExport(module: string, roots: readonly object[], depth: number): string {
  const functions = (most: number) => [...new Set(roots.flatMap((root) => functionsIn(root, most)))];
  const names = [functions(depth), functions(depth + 1)].find(({ length }) => length > 0)?.slice(0, 10);
  if (names === undefined) return 'it exports no functions';
  return `write ${names.map((name) => (name === 'default' ? module : `${module}#${name}`)).join(' or ')}`;
}

/** `ack`, `orders.created`: the names of functions, so many levels down at most. */
function functionsIn(owner: object, depth: number): string[] {
  return namesIn(owner).flatMap((name) => {
    const value = (owner as Record<string, unknown>)[name];
    if (typeof value === 'function') return [name];
    // A default export is looked through as if its names were the module's own.
    if (depth === 1 || name === 'default' || typeof value !== 'object' || value === null) return [];
    return functionsIn(value, depth - 1).map((inner) => `${name}.${inner}`);
  });
}

/** Methods of a class too. */
function namesIn(owner: object): string[] {
  const prototype = Object.getPrototypeOf(owner) as object | null;
  const isPlain = prototype === null || prototype === Object.prototype || typeof owner === 'function';
  const inherited = isPlain ? [] : Object.getOwnPropertyNames(prototype);
  return [...Object.keys(owner), ...inherited.filter((name) => name !== 'constructor')];
}
