/** From `module#export` on the command line to a function: every form that loads, and what is said about one that does not. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../support/process.js';
import { until } from '../support/until.js';
import { DEADLINE_MS, fixture, printed, pubsub, temporaryFolder } from './commands.js';
import { startScriptedServer } from './scripted-server.js';

const callbacks = fixture('.');

/** What the callback prints when it gets its one message, which it must ack. */
async function printedBy(spec: string, cwd = callbacks, flags: string[] = []): Promise<string> {
  await using server = await startScriptedServer({ bodies: [{ n: 1 }] });
  const consumer = pubsub(server, '/queue/xpto', spec, { cwd, flags });
  await server.received('ACK').catch((error: unknown) => {
    throw new Error(consumer.stderr, { cause: error });
  });
  await until(
    () => printed(consumer).length > 0,
    DEADLINE_MS,
    () => `a word of the callback in ${consumer.stderr}`,
  );
  // With it comes the last line.
  consumer.signal('SIGTERM');
  await consumer.exit();
  return printed(consumer).at(-1) ?? '';
}

/** The one line on stderr, without the name of the command; the broker may have been greeted, and no more. */
async function complaintAbout(spec: string, cwd = callbacks): Promise<string> {
  await using server = await startScriptedServer();
  const consumer = pubsub(server, '/queue/xpto', spec, { cwd });
  const { code } = await consumer.exit();
  assert.equal(code, 3, consumer.stderr);
  assert.equal(consumer.stdout, '');
  assert.match(consumer.stderr, /^pubsub: error: [^\n]+\n$/);
  const asked = server.commands().filter((command) => !['CONNECT', 'DISCONNECT'].includes(command));
  assert.deepEqual(asked, []);
  return consumer.stderr.slice('pubsub: error: '.length).trimEnd();
}

const packages = {
  'node_modules/esm-only/package.json': JSON.stringify({
    name: 'esm-only',
    type: 'module',
    exports: { '.': { import: './main.js' }, './orders': { import: './orders.js' } },
  }),
  'node_modules/esm-only/main.js':
    'export const handlers = { ack: async (payload) => { await payload.ack(); console.log("esm-only"); } };',
  'node_modules/esm-only/orders.js':
    'export async function ack(payload) { await payload.ack(); console.log("esm-only/orders"); }',
  'node_modules/@scope/common/package.json': JSON.stringify({ name: '@scope/common', main: 'lib/main.js' }),
  'node_modules/@scope/common/lib/main.js':
    'exports.ack = async (payload) => { await payload.ack(); console.log("@scope/common"); };',
};

const enumSource = `
  enum Colour { Red = 'red', Blue = 'blue' }
  namespace Places { export const here = 'here'; }
  export class Orders {
    constructor(private readonly colour: Colour = Colour.Blue) {}
    ack = async (payload: { ack(): Promise<unknown> }): Promise<void> => {
      await payload.ack();
      console.log('enum', this.colour, Places.here);
    };
  }
  export const orders = new Orders();
`;

const decorators = `function logged(_target: object, name: string, descriptor: PropertyDescriptor): PropertyDescriptor {
  return { ...descriptor, value: (...args: any[]) => { console.log('calling', name); return descriptor.value(...args); } };
}
class Orders {
  @logged
  async run(payload: any): Promise<void> { await payload.ack(); }
}
const orders = new Orders();
export const run = (payload: any) => orders.run(payload);`;

/** A folder of a project in TypeScript. */
const typescript = {
  'package.json': '{ "type": "commonjs" }',
  'tsconfig.json': JSON.stringify({
    compilerOptions: {
      module: 'commonjs',
      experimentalDecorators: true,
      baseUrl: '.',
      paths: { '@lib/*': ['lib/*'] },
    },
  }),
  'lib/money.ts': 'export const cents = (euros: number): number => Math.round(euros * 100);',
  'lib/settings.ts':
    'const raw: string | undefined = process.env.NOBODY_SETS_THIS;\n\nexport const address = raw!.trim();',
  'paths.ts': `import { cents } from '@lib/money';
    export const run = async (payload: any) => { await payload.ack(); console.log('cents', cents(payload.body.n)); };`,
  'export-equals.ts': `const run = async (payload: any) => { await payload.ack(); console.log('export ='); };
    export = run;`,
  'needs-environment.ts': `import { address } from './lib/settings';
    export const run = async (payload: any) => { console.log(address); await payload.ack(); };`,
  'decorators.ts': decorators,
  'parameter.ts':
    'class A { constructor(@((..._: any[]) => undefined) readonly a: string) {} }\nexport const run = () => new A("");',
  'accessor.ts': 'class A { accessor a = 1; }\nexport const run = () => new A();',
  'class-callback.ts': 'export class Orders { constructor(readonly payload: any) {} }',
};

describe('a callback is loaded from', () => {
  const forms: [what: string, spec: string, expected: string][] = [
    ['a .js file', './plain.js#ack', 'plain.js'],
    ['a .js file without its extension', './plain#ack', 'plain.js'],
    ['an absolute path', join(callbacks, 'plain.js#ack'), 'plain.js'],
    ['a file: URL', `${pathToFileURL(callbacks).href}/plain.js#ack`, 'plain.js'],
    ['a .mjs file', './modern.mjs#ack', 'modern.mjs'],
    ['a .mjs file without its extension', './modern#ack', 'modern.mjs'],
    ['a .cjs file', './common.cjs#ack', 'common.cjs'],
    ['a .cjs file without its extension', './common#ack', 'common.cjs'],
    ['a .cjs file that is the function', './function.cjs', 'function.cjs'],
    ['a .ts file', './typed.ts#ack', 'typed.ts 1'],
    ['a .ts file without its extension', './typed#ack', 'typed.ts 1'],
    ['a .mts file', './typed-module.mts#ack', 'typed-module.mts'],
    ['a .mts file without its extension', './typed-module#ack', 'typed-module.mts'],
    ['a folder with an index', './folder#ack', 'folder/index.mjs'],
    ['a folder with a slash behind it', './folder/#ack', 'folder/index.mjs'],
    ['the default export', './plain.js', 'default of plain.js'],
    ['the default export by its name', './plain.js#default', 'default of plain.js'],
    ['an object, with the object as this', './plain.js#orders.onOrder', 'orders of plain.js'],
    ['an object in an object', './plain.js#nested.deeper.ack', 'deeper of plain.js'],
  ];
  for (const [what, spec, expected] of forms) {
    it(what, async () => assert.equal(await printedBy(spec), expected));
  }

  it('the example callbacks of the package', async () => {
    assert.equal(await printedBy('./callbacks#ack', packageRoot), 'received { n: 1 }');
  });

  it('TypeScript with syntax that is more than types', async () => {
    const cwd = temporaryFolder({ 'enum.ts': enumSource, 'folder/index.ts': enumSource });
    assert.equal(await printedBy('./enum.ts#orders.ack', cwd), 'enum blue here');
    assert.equal(await printedBy('./folder#orders.ack', cwd), 'enum blue here');
  });

  it('TypeScript as its tsconfig.json has it: paths, export =', async () => {
    const cwd = temporaryFolder(typescript);
    assert.equal(await printedBy('./paths.ts#run', cwd), 'cents 100');
    assert.equal(await printedBy('./export-equals.ts', cwd), 'export =');
  });

  it('TypeScript with decorators, by a loader that is preloaded', async () => {
    const cwd = temporaryFolder({
      ...typescript,
      'loader.mjs': `import { register } from 'node:module';
        const source = 'export async function run(payload) { await payload.ack(); console.log("by the loader"); }';
        const hooks = \`export async function load(url, context, next) {
          if (!url.endsWith('decorators.ts')) return next(url, context);
          return { format: 'module', shortCircuit: true, source: \${JSON.stringify(source)} };
        }\`;
        register('data:text/javascript,' + encodeURIComponent(hooks));`,
    });
    assert.equal(await printedBy('./decorators.ts#run', cwd, ['--import', './loader.mjs']), 'by the loader');
  });

  it('tells what a worker process said that ended before anybody asked it for anything', async () => {
    await using server = await startScriptedServer();
    const cwd = temporaryFolder({ 'orders.mjs': 'export const run = (payload) => payload.ack();' });
    const flags = ['--import', './missing.mjs'];
    const consumer = pubsub(server, '/queue/xpto', './orders.mjs#run', { cwd, flags });
    const { code } = await consumer.exit();
    assert.equal(code, 3, consumer.stderr);
    assert.match(consumer.stderr, /Cannot find module '[^']*missing\.mjs'/);
    assert.match(
      consumer.stderr,
      /error: \.\/orders\.mjs#run does not load: the worker ended with status 1; --import \.\/missing\.mjs is loaded before\n$/,
    );
    assert.ok(!server.commands().includes('SUBSCRIBE'));
  });

  it('a package: with ESM-only exports, a subpath, CommonJS in a scope', async () => {
    const cwd = temporaryFolder(packages);
    assert.equal(await printedBy('esm-only#handlers.ack', cwd), 'esm-only');
    assert.equal(await printedBy('esm-only/orders#ack', cwd), 'esm-only/orders');
    assert.equal(await printedBy('@scope/common#ack', cwd), '@scope/common');
  });

  it('a path with a blank, a per cent sign and a # in it', async () => {
    const source = 'export async function ack(payload) { await payload.ack(); console.log("odd name"); }';
    const cwd = temporaryFolder({ 'odd name %41 #1/index.mjs': source });
    assert.equal(await printedBy('./odd name %41 #1#ack', cwd), 'odd name');
  });
});

describe('a callback that cannot be loaded ends with 3 and one line before anything is sent:', () => {
  const failures: [what: string, spec: string, ...expected: RegExp[]][] = [
    ['a mistyped file, with the files there are', './plian.js#ack', /plian\.js/, /plain\.js/],
    ['a mistyped file far down the list, with the likeliest first', './typd.ts#ack', /\.\/ has typed/],
    ['a mistyped folder', './folders/orders.js#ack', /there is no folder .*folders/],
    ['a folder without an index', '..#ack', /no index/],
    ['a package that is not installed', 'no-such-package#ack', /no-such-package/, /write the path of a file/],
    ['a path that looks like a package', 'plain.js#ack', /\.\/plain\.js/],
    ['a missing export, with those there are', './plain.js#akc', /plain\.js#akc/, /\.\/plain\.js#ack/],
    ['a missing default export', './modern.mjs', /modern\.mjs#ack/],
    [
      'a missing name in an object, with those there are',
      './plain.js#orders.onOder',
      /orders\.onOder/,
      /write .*\.\/plain\.js#orders\.onOrder/,
    ],
    ['a mistyped object', './plain.js#ordres.onOrder', /\.\/plain\.js#orders\.onOrder/],
    ['a missing name far down', './plain.js#nested.deeper.akc', /\.\/plain\.js#nested\.deeper\.ack/],
    ['an export that is no function', './plain.js#version', /plain\.js#version.*number/, /#ack/],
    ['a name behind a slash', './plain.js/ack', /write \.\/plain\.js#ack/],
    ['an empty name', './plain.js#', /"\.\/plain\.js#"/, /\.\/callbacks#ack/],
    ['an empty module', '#ack', /"#ack"/, /\.\/callbacks#ack/],
    ['nothing at all', '', /""/, /\.\/callbacks#ack/],
    ['a file: URL of no file', 'file:///no/such/file.mjs#ack', /\/no\/such/],
    ['a file: URL with a host', 'file://host/file.mjs#ack', /file:\/\/host\/file\.mjs/],
    ['an http: URL', 'http://localhost/callback.mjs#ack', /http:\/\/localhost\/callback\.mjs/],
  ];
  for (const [what, spec, ...expected] of failures) {
    it(what, async () => {
      const line = await complaintAbout(spec);
      for (const pattern of expected) assert.match(line, pattern);
    });
  }

  const sources: [what: string, file: string, source: string, ...expected: RegExp[]][] = [
    ['a syntax error in ESM, with its line', 'broken.mjs', '\n\nexport function ack( {', /broken\.mjs:3/],
    ['a syntax error in CommonJS, with its line', 'broken.cjs', '\n\nexports.ack = (;', /broken\.cjs:3/],
    [
      'a syntax error in TypeScript, with its line',
      'broken.ts',
      '\n\nexport function ack( {',
      /broken\.ts:3/,
    ],
    [
      'a syntax error in a module that it imports',
      'outer.mjs',
      'import "./broken.mjs"; export function ack() {}',
      /outer\.mjs/,
      /SyntaxError.* in a module that it imports/,
    ],
    [
      'a module that throws',
      'throws.mjs',
      'export function ack() {}\nthrow new TypeError("no database\\nsecond line")',
      /throws\.mjs/,
      /TypeError: no database/,
    ],
    [
      'a module that throws undefined',
      'undefined.mjs',
      'export function ack() {}\nthrow undefined',
      /undefined/,
    ],
    ['a module that rejects', 'rejects.mjs', 'await Promise.reject(new Error("not ready"))', /not ready/],
    [
      'an import of a file that is missing',
      'imports.mjs',
      'import "./gone.mjs"; export function ack() {}',
      /gone\.mjs/,
      /imports\.mjs/,
    ],
    [
      'an import of a package that is missing, from TypeScript',
      'imports.ts',
      'import gone from "gone-package"; export const ack = (): unknown => gone;',
      /gone-package/,
      /imports\.ts/,
    ],
    [
      'a name that the imported module does not have',
      'names.mjs',
      'import { nothing } from "node:fs"; export const ack = () => nothing;',
      /nothing/,
      /names\.mjs/,
    ],
    [
      'an error of a module that it imports, with its place',
      'needs-environment.ts',
      typescript['needs-environment.ts'],
      /lib\/settings\.ts:3:\d+/,
    ],
    ['decorators, with what to type', 'decorators.ts', typescript['decorators.ts'], /--import tsx/],
    ['a decorated parameter, with what to type', 'parameter.ts', typescript['parameter.ts'], /--import tsx/],
    ['an accessor, with what to type', 'accessor.ts', typescript['accessor.ts'], /--import tsx/],
    ['a JSON file', 'data.json', '{"ack":1}', /data\.json/],
    ['a module without exports', 'empty.mjs', '', /it exports no functions/],
  ];
  it('a program', async () => {
    const line = await complaintAbout('./job.sh', temporaryFolder({ 'job.sh': '#!/bin/sh' }));
    assert.match(line, /a program stands behind --, as in: -- \.\/job\.sh/);
  });

  it('an ES module in a package of CommonJS', async () => {
    const files = { 'package.json': '{"type":"commonjs"}', 'esm.js': 'export const ack = () => 1;' };
    // Node may warn in words of its own before that.
    const consumer = pubsub({ env: {} }, 'xpto', './esm.js#ack', { cwd: temporaryFolder(files) });
    assert.equal((await consumer.exit()).code, 3, consumer.stderr);
    assert.match(
      consumer.stderr,
      /it is an ES module: put "type": "module" into its package\.json, or name it \.mjs/,
    );
  });

  it('a class', async () => {
    const line = await complaintAbout('./class-callback.ts#Orders', temporaryFolder(typescript));
    assert.match(line, /is a class, not a function to call/);
  });

  it('its stack is in the log at debug', async () => {
    const cwd = temporaryFolder(typescript);
    const consumer = pubsub({ env: {} }, 'xpto', './needs-environment.ts#run', {
      cwd,
      flags: ['--log-level', 'debug'],
    });
    assert.deepEqual(await consumer.exit(), { code: 3, signal: null });
    const line = consumer.logLines.find(({ msg }) => msg === 'the callback cannot be started');
    assert.match((line?.err as { stack: string }).stack, /settings\.ts:3/);
  });

  const cwd = () =>
    temporaryFolder({
      ...typescript,
      'broken.mjs': '\n\nexport function ack( {',
      ...Object.fromEntries(sources.map(([, file, source]) => [file, source])),
    });
  for (const [what, file, , ...expected] of sources) {
    it(what, async () => {
      const line = await complaintAbout(`./${file}#ack`, cwd());
      for (const pattern of expected) assert.match(line, pattern);
    });
  }
});
