import assert from 'node:assert/strict';
import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { type Running, runFile } from '../../support/process.js';

describe('a process under test', () => {
  const folder = mkdtempSync(join(tmpdir(), 'stomp-pubsub-process-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const script = (text: string) => {
    const file = join(folder, 'script.cjs');
    writeFileSync(file, text);
    return file;
  };

  it('gets its input and nothing of the settings around it', async () => {
    process.env.STOMP_SERVER_HOST = 'elsewhere';
    const file = script(`
      console.error(Object.keys(process.env).filter((name) => name.startsWith('STOMP_')).join());
      process.stdin.pipe(process.stdout);
    `);
    const running = runFile(file, [], { env: { STOMP_USE_SSL: 'false' }, input: 'hello' });
    assert.deepEqual(await running.exit(), { code: 0, signal: null });
    assert.equal(running.stdout, 'hello');
    assert.equal(running.stderr, 'STOMP_USE_SSL\n');
    delete process.env.STOMP_SERVER_HOST;
  });

  it('is seen to speak, and to end without having spoken', async () => {
    const running = runFile(script(`console.log('ready 42'); process.exitCode = 3;`), []);
    assert.equal((await running.waitFor(/ready (\d+)/))[1], '42');
    await assert.rejects(running.waitFor(/never/), /ended before \/never\//);
  });

  let survivor: Running | undefined;
  it('is started in one test', async () => {
    survivor = runFile(script(`setInterval(() => undefined, 1000); console.log('up');`), []);
    await survivor.waitFor(/up/);
  });
  it('and gone in the next', async () => {
    assert.deepEqual(await survivor?.exit(), { code: null, signal: 'SIGKILL' });
  });
});
