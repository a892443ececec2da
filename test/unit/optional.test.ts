import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { requireOptional } from '../../src/optional.js';

test("a package of the callback's own folder comes before ours, and one that nobody has is none", (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-optional-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const home = join(folder, 'node_modules/prom-client');
  mkdirSync(home, { recursive: true });
  writeFileSync(join(home, 'index.js'), 'module.exports = "theirs";');
  assert.equal(requireOptional('prom-client', join(folder, 'callback.ts')), 'theirs');
  const ours = requireOptional('prom-client', undefined) as { Registry?: unknown };
  assert.equal(typeof ours.Registry, 'function');
  assert.equal(requireOptional('no-such-package-at-all', join(folder, 'callback.ts')), undefined);
});
