/** What examples/observing asks Prometheus for is what a scrape has. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { families, Tally } from '../../../src/observing/tally.js';
import { packageRoot } from '../../support/process.js';

const read = (file: string) => readFileSync(join(packageRoot, 'examples/observing', file), 'utf8');
const known = Object.keys(families);
const metricsIn = (text: string) =>
  [...text.matchAll(/\bpubsub_[a-z_]+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, ''));

for (const file of ['alerts.yaml', 'dashboard.json']) {
  test(`the metrics that ${file} asks for exist`, () => {
    const used = [...new Set(metricsIn(read(file)))];
    assert.ok(used.length >= 8, String(used));
    assert.deepEqual(
      used.filter((name) => !known.includes(name)),
      [],
    );
  });
}

test('the dashboard shows every metric, and the docs tell of each', () => {
  const docs = readFileSync(join(packageRoot, 'docs/observing.md'), 'utf8');
  for (const text of [read('dashboard.json'), docs])
    assert.deepEqual(
      known.filter((name) => !metricsIn(text).includes(name)),
      [],
    );
});

test('the outcomes and results that are asked for are those that are counted', () => {
  const tally = new Tally('0');
  const valuesOf = (family: 'pubsub_messages_total', label: string) =>
    tally.samples(family).map(({ labels }) => labels[label]);
  const outcomes = valuesOf('pubsub_messages_total', 'outcome');
  const asked = [...read('alerts.yaml').matchAll(/outcome=~"([^"]+)"/g)].flatMap(([, all = '']) =>
    all.split('|'),
  );
  assert.ok(asked.length > 0);
  for (const outcome of asked) assert.ok(outcomes.includes(outcome), outcome);
});

test('the dashboard is JSON with panels that ask for something', () => {
  const { panels } = JSON.parse(read('dashboard.json')) as { panels: { targets: { expr: string }[] }[] };
  for (const { targets } of panels) for (const { expr } of targets) assert.match(expr, /pubsub_/);
});
