/** The workflow runs the gate of this checkout, with the cache where the gate looks for it. */
import assert from 'node:assert/strict';
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { packageRoot } from '../support/process.js';

interface Workflow {
  readonly permissions: Record<string, string>;
  readonly jobs: {
    readonly gate: {
      readonly container: { readonly image: string };
      readonly env: Record<string, string>;
      readonly steps: { readonly uses?: string; readonly run?: string; readonly with?: { path: string } }[];
    };
  };
}

test('the workflow runs the gate on the oldest Node that is supported, and keeps its cache', () => {
  const read = (file: string) => readFileSync(join(packageRoot, file), 'utf8');
  const { permissions, jobs } = parse(read('.github/workflows/ci.yml')) as Workflow;
  const { container, env, steps } = jobs.gate;
  const commands = steps.flatMap(({ run }) => run ?? []);
  assert.deepEqual(commands, ['.ci/run']);
  accessSync(join(packageRoot, '.ci/run'), constants.X_OK);
  const { engines } = JSON.parse(read('package.json')) as { engines: { node: string } };
  assert.equal(/node:(\d+)/.exec(container.image)?.[1], /\d+/.exec(engines.node)?.[0]);
  const cached = steps.flatMap((step) => step.with?.path ?? []);
  assert.ok(cached.includes(env.TEST_CACHE ?? ''));
  assert.match(read('test/support/cache.ts'), /TEST_CACHE/);
  assert.deepEqual(permissions, { contents: 'read' });
});
