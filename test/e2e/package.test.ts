/**
 * The package as it is published, in the projects of others: its metadata, its types under every module resolution that
 * TypeScript 5 and 6 have, and the tests of a callback with each test runner. Their tools are those of test/projects/.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import { packageRoot, runFile, runProgram, type Running } from '../support/process.js';
import { temporaryFolder } from './commands.js';

const tools = join(packageRoot, 'test/projects/node_modules');
const skip = existsSync(tools) ? {} : { skip: 'npm ci --prefix test/projects installs what it needs' };
const deadlineMs = 120_000;

describe('the package as it is published', skip, () => {
  const project = temporaryFolder({ 'package.json': '{ "private": true }' });
  const modules = join(project, 'node_modules');
  let tarball = '';

  // What npm install does, with the packages of this checkout instead of the registry's.
  before(() => {
    const pack = ['pack', '--silent', '--ignore-scripts', '--pack-destination', project];
    const { stdout, stderr } = spawnSync('npm', pack, { cwd: packageRoot, encoding: 'utf8' });
    tarball = join(project, stdout.trim());
    mkdirSync(join(modules, 'stomp-pubsub'), { recursive: true });
    const unpack = ['-xzf', tarball, '-C', join(modules, 'stomp-pubsub'), '--strip-components', '1'];
    assert.equal(spawnSync('tar', unpack).status, 0, stderr);
    const { dependencies } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
      dependencies: object;
    };
    for (const name of Object.keys(dependencies))
      symlinkSync(join(packageRoot, 'node_modules', name), join(modules, name));
    for (const name of readdirSync(tools))
      if (!existsSync(join(modules, name))) symlinkSync(join(tools, name), join(modules, name));
    cpSync(join(packageRoot, 'examples/testing'), project, { recursive: true });
  });

  const tool = (file: string, ...args: string[]): Running =>
    runFile(join(tools, file), args, { cwd: project, env: { NO_COLOR: '1' } });
  const passes = async (running: Running): Promise<string> => {
    const { code } = await running.exit(deadlineMs);
    assert.equal(code, 0, running.stdout + running.stderr);
    return running.stdout + running.stderr;
  };

  it('has nothing that publint finds', async () => {
    await passes(tool('publint/src/cli.js', 'run', tarball, '--strict'));
  });

  it('has types that are those of its code, which attw looks at', async () => {
    await passes(tool('@arethetypeswrong/cli/dist/index.js', tarball));
  });

  for (const version of [5, 6]) {
    it(`has types that TypeScript ${version} finds, whatever the module and its resolution`, async () => {
      const settings: [module: string, resolution: string, extension: string][] = [
        ['commonjs', 'node10', 'ts'],
        ['node16', 'node16', 'cts'],
        ['node16', 'node16', 'mts'],
        ['nodenext', 'nodenext', 'cts'],
        ['nodenext', 'nodenext', 'mts'],
        ['esnext', 'bundler', 'ts'],
        ...(version > 5 ? ([['commonjs', 'bundler', 'ts']] as [string, string, string][]) : []),
      ];
      const folders = settings.map(([module, moduleResolution, extension]) => {
        const folder = join(project, `typescript-${version}`, `${module}-${moduleResolution}-${extension}`);
        mkdirSync(folder, { recursive: true });
        cpSync(join(packageRoot, 'test/projects/main.ts'), join(folder, `main.${extension}`));
        const compilerOptions = {
          ...{ module, moduleResolution, target: 'es2022', lib: ['es2022'], types: ['node'], strict: true },
          // pino's declarations want it.
          esModuleInterop: true,
          // Whatever is wrong in our declarations is to be found here.
          skipLibCheck: false,
          ...(moduleResolution === 'node10' && version > 5 ? { ignoreDeprecations: '6.0' } : {}),
        };
        const files = [`main.${extension}`];
        writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
        return folder;
      });
      await passes(tool(`typescript-${version}/lib/tsc.js`, '--build', ...folders));
    });
  }

  it('is loaded by import and by require, and is one and the same', async () => {
    const script = `
      const required = require('stomp-pubsub');
      require('stomp-pubsub/testing').startBroker().then((broker) => broker.close());
      import('stomp-pubsub').then(({ PubsubError }) => console.log(PubsubError === required.PubsubError));
    `;
    const node = runProgram(process.execPath, ['-e', script], { cwd: project });
    assert.deepEqual([await passes(node)], ['true\n']);
  });

  it("has an example of a callback's test for Jest", async () => {
    const jest = ['--testMatch', '**/*.jest.test.mjs'];
    const running = runFile(join(tools, 'jest/bin/jest.js'), jest, {
      ...{ cwd: project, env: { NO_COLOR: '1' }, nodeFlags: ['--experimental-vm-modules'] },
    });
    assert.match(await passes(running), /Tests: +2 passed/);
  });

  it("has an example of a callback's test for Vitest", async () => {
    assert.match(await passes(tool('vitest/vitest.mjs', 'run', 'orders.vitest')), /Tests +2 passed/);
  });

  it("has an example of a callback's test for Node's own runner", async () => {
    const test = ['--test', '--test-reporter', 'tap', 'orders.node.test.mjs'];
    assert.match(await passes(runProgram(process.execPath, test, { cwd: project })), /^# pass 2$/m);
  });
});
