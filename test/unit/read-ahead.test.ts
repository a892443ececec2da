import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { readAhead } from '../../src/read-ahead.js';
import { packageRoot, runProgram, type Running } from '../support/process.js';

const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-read-ahead-'));
after(() => rmSync(folder, { recursive: true }));
const base = pathToFileURL(join(folder, '_')).href;
const importOf = (name: string) => import(new URL(name, base).href) as Promise<object>;

/** Below 22.12 `require()` takes no modules, and these warn of it. */
const readsNothing = /^v(?:22\.(?:\d|1[0-2])|23\.[0-3])\./.test(process.version) && 'not on this Node';

it(
  'a module that is read ahead has run, and is the one that is imported',
  { skip: readsNothing },
  async () => {
    const runs: unknown[] = [];
    Object.assign(globalThis, { readAheadRuns: runs });
    writeFileSync(join(folder, 'one.mjs'), 'export const own = {}; globalThis.readAheadRuns.push(own);');
    readAhead(base, './one.mjs');
    assert.equal(runs.length, 1);
    const { own } = (await importOf('one.mjs')) as { own: unknown };
    assert.deepEqual(runs, [own]);
    assert.equal(runs[0], own);
  },
);

describe('what is wrong with a module is told by its import', () => {
  writeFileSync(join(folder, 'throws.mjs'), 'throw new Error("as it runs")');
  writeFileSync(join(folder, 'syntax.mjs'), 'export {');
  writeFileSync(join(folder, 'late.mjs'), 'export const late = await Promise.resolve(1)');
  const wrong: [name: string, expected: object][] = [
    ['throws.mjs', { message: 'as it runs' }],
    ['syntax.mjs', { name: 'SyntaxError' }],
    ['missing.mjs', { code: 'ERR_MODULE_NOT_FOUND' }],
  ];
  for (const [name, expected] of wrong) {
    it(name, async () => {
      readAhead(base, `./${name}`);
      await assert.rejects(importOf(name), expected);
    });
  }

  it('but one that cannot be read ahead is imported all the same', async () => {
    readAhead(base, './late.mjs');
    assert.equal(((await importOf('late.mjs')) as { late: unknown }).late, 1);
  });
});

it('where require() takes no modules, the commands start without', async () => {
  const flags = ['--no-experimental-require-module', join(packageRoot, 'bin/publish.js'), '--version'];
  const running = runProgram(process.execPath, flags);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  assert.equal(running.stderr, '');
});

describe('nothing is read ahead where what is loaded may be changed, which makes two of one module', () => {
  const preloaded = join(packageRoot, 'test/fixtures/print-required.cjs');
  const command = [join(packageRoot, 'bin/publish.js'), '--version'];
  const check = async (running: Running) => {
    assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
    assert.match(running.stderr, /required .*commander/);
    assert.doesNotMatch(running.stderr, /required .*dist\/src/);
  };

  for (const flag of ['--require', '-r', '--import']) {
    it(`${flag} in NODE_OPTIONS`, () =>
      check(runProgram(process.execPath, command, { env: { NODE_OPTIONS: `${flag} ${preloaded}` } })));

    it(`${flag} on the command line`, () =>
      check(runProgram(process.execPath, [flag, preloaded, ...command])));
  }
});
