/** `pubsub config`: each setting, its value and where it came from; secrets are masked. */
import { printable } from '../printable.js';
import { loadDotenv } from '../settings/dotenv.js';
import { uselessVariables } from '../settings/environment.js';
import { explain } from '../settings/resolve.js';
import { print } from './operating.js';

/** Resolves when it is printed. Rejects with `invalid-setting` as every command would. */
export async function config(isJson: boolean, flags: Record<string, unknown>): Promise<void> {
  await loadDotenv();
  for (const { variable, isIgnored, meant } of uselessVariables())
    if (!isIgnored)
      process.stderr.write(
        `pubsub: ${printable(variable)} is no setting${meant === undefined ? '' : `; did you mean ${meant}?`}\n`,
      );
  const rows = explain(flags);
  if (isJson) {
    for (const row of rows) await print(`${JSON.stringify(row)}\n`);
    return;
  }
  const width = Math.max(...rows.map(({ variable }) => variable.length));
  for (const { variable, value, origin } of rows) {
    const text = printable(
      typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value),
    );
    await print(`${variable.padEnd(width)}  ${origin.padEnd(11)}  ${text}`.trimEnd() + '\n');
  }
}
