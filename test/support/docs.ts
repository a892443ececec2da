/** The parts of docs/ and .env.example that are rendered from tables in the code, between `<!-- x -->` markers. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { errorCodes, exitStatuses } from '../../src/errors.js';
import { renderDotenv, renderMarkdown } from '../../src/settings/render.js';

const root = path.resolve(import.meta.dirname, '../../..');

function statuses(): string {
  const rows = Object.entries(exitStatuses).map(([status, meaning]) => `| ${status} | ${meaning} |`);
  return `| Status | Meaning |\n|---|---|\n${rows.join('\n')}\n| 128+n | ended at once by a second signal n |\n`;
}

function errors(): string {
  const rows = Object.entries(errorCodes).map(
    ([code, { exit, meaning, remedy }]) => `| \`${code}\` | ${exit} | ${meaning} | ${remedy} |`,
  );
  return `| Code | Exit | Meaning | What to do |\n|---|---|---|---|\n${rows.join('\n')}\n`;
}

function between(text: string, marker: string, content: string): string {
  const [start, end] = [`<!-- ${marker} -->`, `<!-- /${marker} -->`];
  const from = text.indexOf(start);
  const to = text.indexOf(end);
  if (from === -1 || to < from) throw new Error(`a page lacks the markers ${start} and ${end}`);
  return `${text.slice(0, from + start.length)}\n${content}${text.slice(to)}`;
}

const pages: readonly (readonly [
  name: string,
  parts: readonly (readonly [marker: string, content: string])[],
])[] = [
  ['docs/settings.md', [['settings', renderMarkdown()]]],
  [
    'docs/errors.md',
    [
      ['statuses', statuses()],
      ['errors', errors()],
    ],
  ],
];

/** Each rendered file with what is in it now and what should be. */
export function renderDocs(): { file: string; actual: string; expected: string }[] {
  const dotenv = path.join(root, '.env.example');
  return [
    ...pages.map(([name, parts]) => {
      const file = path.join(root, name);
      const actual = readFileSync(file, 'utf8');
      return { file, actual, expected: parts.reduce((text, part) => between(text, ...part), actual) };
    }),
    { file: dotenv, actual: readFileSync(dotenv, 'utf8'), expected: renderDotenv() },
  ];
}

/** Writes them. */
export function writeDocs(): void {
  for (const { file, expected } of renderDocs()) writeFileSync(file, expected);
}
