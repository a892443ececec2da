/**
 * Writes dist/cjs, which is what require('stomp-pubsub') gets: the same modules, which Node requires since 20.19, and
 * declarations that TypeScript reads as those of CommonJS. There is one instance of everything, however it is loaded.
 */
import { cpSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const dist = join(import.meta.dirname, '../dist');
const target = join(dist, 'cjs');

rmSync(target, { recursive: true, force: true });
cpSync(join(dist, 'src'), target, {
  recursive: true,
  filter: (from) => statSync(from).isDirectory() || from.endsWith('.d.ts'),
});
mkdirSync(target, { recursive: true });
writeFileSync(join(target, 'package.json'), '{ "type": "commonjs" }\n');
for (const name of ['index', 'testing'])
  writeFileSync(join(target, `${name}.js`), `module.exports = require('../src/${name}.js');\n`);
