import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { quorumDeliveryLimit } from '../../src/brokers/delivery-limit.js';
import { parseSource } from '../../src/brokers/destinations.js';
import { rabbitmq } from '../../src/brokers/rabbitmq.js';
import { renderDocs } from '../support/docs.js';
import { packageRoot } from '../support/process.js';

for (const { file, actual, expected } of renderDocs()) {
  test(`${file.split('/').at(-1) ?? file} tells what the tables in the code say (npm run docs renders it)`, () => {
    assert.equal(actual, expected);
  });
}

const outsideOfCode = (text: string): string =>
  text.replace(/^```[^]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(file: string): string[] {
  const text = readFileSync(file, 'utf8').replace(/^```[^]*?^```$/gm, '');
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

const pages = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md'].concat(
  readdirSync(path.join(packageRoot, 'docs')).map((name) => `docs/${name}`),
);

for (const page of pages) {
  test(`every link of ${page} leads to a file and a heading`, () => {
    const own = path.join(packageRoot, page);
    const links = [...outsideOfCode(readFileSync(own, 'utf8')).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, target = '']) => target)
      .filter((target) => !/^https?:/.test(target));
    const broken = links.filter((target) => {
      const [name = '', anchor] = target.split('#');
      const file = name === '' ? own : path.resolve(path.dirname(own), name);
      return !existsSync(file) || (anchor !== undefined && !anchorsOf(file).includes(anchor));
    });
    assert.deepEqual(broken, []);
    if (page === 'README.md') assert.ok(links.length > 10, `${links.length} links found`);
  });
}

test('docs/guarantees.md names the policies as the program does', () => {
  const text = readFileSync(path.join(packageRoot, 'docs/guarantees.md'), 'utf8');
  const options = { queueType: 'quorum', hasRetries: true } as const;
  const [warning = ''] = rabbitmq.warnings(parseSource('/queue/orders'), options);
  for (const told of [warning, quorumDeliveryLimit.remedy('DLQ.orders')]) {
    const [command = ''] = /rabbitmqctl .*/.exec(told) ?? [];
    assert.ok(command !== '' && text.includes(`\n${command}\n`), command);
  }
});
