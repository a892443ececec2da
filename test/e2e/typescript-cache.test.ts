/** What TypeScript became is kept for the next start: never older than its source, never what somebody else has put there. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { until } from '../support/until.js';
import { DEADLINE_MS, printed, pubsub, temporaryFolder } from './commands.js';
import { startScriptedServer } from './scripted-server.js';

/** An enum is what Node does not strip by itself. */
const sourceOf = (word: string) => `
  enum Words { First = '${word}' }
  export const run = async (payload: { ack(): Promise<unknown> }): Promise<void> => {
    await payload.ack();
    console.log(Words.First);
  };`;

/** A folder with a callback, and one for caches. */
function project(word = 'before') {
  const cwd = temporaryFolder({ 'words.ts': sourceOf(word), 'cache/empty': '' });
  return { cwd, cache: join(cwd, 'cache/stomp-pubsub') };
}

/** What the callback prints when it gets its one message; its log has nothing else that warns of anything. */
async function wordOf(cwd: string, env: Record<string, string> = { XDG_CACHE_HOME: join(cwd, 'cache') }) {
  await using server = await startScriptedServer({ bodies: [{ n: 1 }] });
  const consumer = pubsub(server, '/queue/xpto', './words.ts#run', { cwd, env });
  await until(
    () => printed(consumer).length > 0,
    DEADLINE_MS,
    () => `a word of the callback in ${consumer.stderr}`,
  );
  consumer.signal('SIGTERM');
  await consumer.exit();
  assert.doesNotMatch(consumer.stderr, /"level":"(warn|error)"/);
  return printed(consumer).at(-1);
}

/** The one file that is kept. */
function fileIn(folder: string): string {
  const [name = '', ...others] = readdirSync(folder);
  assert.deepEqual(others, []);
  return join(folder, name);
}

const modeOf = (file: string) => statSync(file).mode & 0o777;
/** What has been written anew is another one. */
const inodeOf = (file: string) => statSync(file).ino;

/** Has the file say something else, as if it were right. */
function forge(file: string): void {
  const [head = '', ...lines] = readFileSync(file, 'utf8').split('\n');
  const code = lines.join('\n').replaceAll('before', 'forged');
  assert.match(code, /forged/);
  const digest = createHash('sha256').update(code).digest('hex');
  writeFileSync(file, `${head.split(' ')[0] ?? ''} ${digest}\n${code}`);
}

describe('the cache of TypeScript', () => {
  it('is a folder of its user alone, and serves the next start until the source changes', async () => {
    const { cwd, cache } = project();
    assert.equal(await wordOf(cwd), 'before');
    const file = fileIn(cache);
    assert.deepEqual([modeOf(cache), modeOf(file)], [0o700, 0o600]);
    const inode = inodeOf(file);
    assert.equal(await wordOf(cwd), 'before');
    assert.equal(inodeOf(file), inode);
    forge(file);
    assert.equal(await wordOf(cwd), 'forged');
    writeFileSync(join(cwd, 'words.ts'), sourceOf('after'));
    assert.equal(await wordOf(cwd), 'after');
    assert.equal(fileIn(cache), file);
    assert.notEqual(inodeOf(file), inode);
  });

  it('is not believed where it is cut off, or was open to others', async () => {
    const { cwd, cache } = project();
    await wordOf(cwd);
    const file = fileIn(cache);
    writeFileSync(file, readFileSync(file, 'utf8').replace('before', 'forged'));
    assert.equal(await wordOf(cwd), 'before');
    forge(file);
    chmodSync(file, 0o666);
    assert.equal(await wordOf(cwd), 'before');
  });

  it('is not used, and nothing is said, in a folder that others may write to', async () => {
    const { cwd, cache } = project();
    await wordOf(cwd);
    forge(fileIn(cache));
    chmodSync(cache, 0o777);
    assert.equal(await wordOf(cwd), 'before');
  });

  it('is not used behind a link', async () => {
    const { cwd, cache } = project();
    mkdirSync(join(cwd, 'elsewhere'), { mode: 0o700 });
    symlinkSync(join(cwd, 'elsewhere'), cache);
    assert.equal(await wordOf(cwd), 'before');
    assert.deepEqual(readdirSync(join(cwd, 'elsewhere')), []);
  });

  it('is done without where no folder can be made, and where it is turned off', async () => {
    const { cwd } = project();
    assert.equal(await wordOf(cwd, { XDG_CACHE_HOME: join(cwd, 'words.ts') }), 'before');
    // Nobody can make a folder there, root neither.
    assert.equal(await wordOf(cwd, { XDG_CACHE_HOME: '/proc/self' }), 'before');
    const off = { XDG_CACHE_HOME: join(cwd, 'cache'), JITI_FS_CACHE: 'false' };
    assert.equal(await wordOf(cwd, off), 'before');
    assert.deepEqual(readdirSync(join(cwd, 'cache')), ['empty']);
  });
});
