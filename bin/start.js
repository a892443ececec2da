import { setFlagsFromString } from 'node:v8';

// With it, as Node 24 has it, a process that calls process.exit() can hang instead, for ever:
// github.com/nodejs/node/issues/54918.
setFlagsFromString('--no-concurrent-sparkplug');

/** Starts a command; in a checkout that is not built, or lacks its packages, says what to type. */
export async function start(name) {
  let cli;
  try {
    const { readAhead } = await import('../dist/src/read-ahead.js');
    readAhead(import.meta.url, '../dist/src/cli.js');
    cli = await import('../dist/src/cli.js');
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    const [reason] = error.message.split(' imported from ');
    process.stderr.write(`${name}: error: it is not built (${reason}): run npm install\n`);
    process.exit(2);
  }
  await cli.runCommand(name);
}
