/** After `npm install` in a checkout: builds it, or says what to type where the compiler was left out. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const has = (file) => existsSync(join(root, file));

// npx in a checkout prepares it each time.
if (process.env.npm_command !== 'exec') {
  if (has('node_modules/typescript')) {
    const { status } = spawnSync('npm', ['run', 'build'], { cwd: root, stdio: 'inherit' });
    process.exitCode = status ?? 1;
  } else if (!has('dist/src/cli.js')) {
    console.error(
      'stomp-pubsub is not built: its compiler is a development dependency, which was left out.\n' +
        'Run npm install, then npm prune --omit=dev; or copy dist/ from where it was built.',
    );
  }
}
