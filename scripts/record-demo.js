/**
 * Renews docs/demo.svg, the picture in the README: runs the demo and draws what it prints, in its colours.
 */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const file = process.argv[2] ?? join(root, 'docs/demo.svg');

/** By the number of an escape sequence: how text is drawn from there on. */
const styles = { 1: 'font-weight="bold"', 2: 'fill="#8b949e"', 31: 'fill="#ff7b72"', 32: 'fill="#7ee787"' };
Object.assign(styles, { 33: 'fill="#e3b341"', 36: 'fill="#79c0ff"' });
/** Of a character and a line, in pixels; 14 px of a font of one width. */
const [WIDTH, HEIGHT, COLUMNS, MARGIN, BAR] = [8.43, 20, 82, 16, 34];

const escaped = (text) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');

/** A line of a terminal as spans of text. */
function drawLine(line) {
  let style = '';
  // eslint-disable-next-line no-control-regex -- the escape sequences of colours
  return line.split(/(\x1b\[\d+m)/).map((part) => {
    // eslint-disable-next-line no-control-regex -- see above
    const [, number] = /^\x1b\[(\d+)m$/.exec(part) ?? [];
    if (number !== undefined) style = styles[number] ?? '';
    if (number !== undefined || part === '') return '';
    return style === '' ? escaped(part) : `<tspan ${style}>${escaped(part)}</tspan>`;
  });
}

const demo = spawnSync(process.execPath, [join(root, 'bin/pubsub.js'), 'demo', '--color'], {
  encoding: 'utf8',
});
if (demo.status !== 0) throw new Error(`the demo failed: ${demo.stderr}`);
const lines = ['$ \x1b[1mnpx stomp-pubsub demo\x1b[22m', '', ...demo.stdout.trimEnd().split('\n')];
const [width, height] = [Math.ceil(COLUMNS * WIDTH) + 2 * MARGIN, lines.length * HEIGHT + BAR + 2 * MARGIN];
const rows = lines.map((line, row) => {
  const y = BAR + MARGIN + row * HEIGHT + 4;
  return `    <text x="${MARGIN}" y="${y}">${drawLine(line).join('')}</text>`;
});
const lights = ['#ff5f56', '#ffbd2e', '#27c93f'].map(
  (colour, n) => `  <circle cx="${20 + n * 20}" cy="18" r="6" fill="${colour}"/>`,
);
writeFileSync(
  file,
  `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
  <title>npx stomp-pubsub demo</title>
  <rect width="100%" height="100%" rx="8" fill="#0d1117"/>
${lights.join('\n')}
  <g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14" fill="#e6edf3" xml:space="preserve">
${rows.join('\n')}
  </g>
</svg>
`,
);
