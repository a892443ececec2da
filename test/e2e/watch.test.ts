/** `--watch`: what is edited serves, what does not load never does, and no message notices. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { bodiesIn, put } from '../support/messages.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  DEADLINE_MS,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';

const id = { 'correlation-id': 'c-1' };
const flags = ['--watch', '--workers', '2', '--concurrency', '4'];
/** TEST_EDITS asks for more. */
const EDITS = Number(process.env.TEST_EDITS ?? 12);

const version = (text: string) => `export default ${JSON.stringify(text)};\n`;
const callback = `
import { appendFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import version from './version.js';
export async function record(payload) {
  await setTimeout(20);
  appendFileSync(process.env.LEDGER, JSON.stringify([payload.body, version]) + '\\n');
  await payload.ack();
}
`;
const broken = ['export default', 'throw new Error("broken");\nexport default "broken";\n'];

describe('--watch', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;

  it('serves each edit that loads, none that does not, and repeats and loses nothing', async () => {
    const name = unique('watch');
    const folder = temporaryFolder({
      'package.json': '{ "type": "module" }',
      'callback.js': callback,
      'version.js': version('0'),
      ledger: '',
    });
    const file = join(folder, 'version.js');
    const ledger = () =>
      readFileSync(join(folder, 'ledger'), 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as [number, string]);
    const env = { LEDGER: join(folder, 'ledger') };
    const consumer = await startPubsub(broker, `/queue/${name}`, join(folder, 'callback.js#record'), {
      flags,
      env,
    });

    let sent = 0;
    const publishUntil = async (isDone: () => boolean) => {
      await until(
        async () => {
          await put(broker, `/queue/${name}`, sent++, id);
          return isDone();
        },
        2 * DEADLINE_MS,
        () => `what was edited to serve: ${consumer.stderr}`,
      );
    };
    const served = (text: string) => ledger().some(([, one]) => one === text);
    const complaints = () =>
      consumer.logLines.filter(({ msg }) => String(msg).includes('does not load')).length;
    for (let edit = 1; edit <= EDITS; edit++) {
      if (edit % 3 === 0) {
        // There may have been one about a file that was being written.
        const before = complaints();
        writeFileSync(file, broken[(edit / 3) % 2] ?? '');
        await publishUntil(() => complaints() > before);
      } else {
        writeFileSync(file, version(String(edit)));
        await publishUntil(() => served(String(edit)));
      }
    }
    await until(
      () => ledger().length === sent,
      DEADLINE_MS,
      () => `${sent} messages; came: ${ledger().length}`,
    );
    const bodies = ledger().map(([body]) => body);
    assert.deepEqual(
      bodies.sort((a, b) => a - b),
      Array.from({ length: sent }, (_, n) => n),
    );
    assert.ok(!served('broken'));
    const { redelivered, acked, deadLettered } = await stopPubsub(consumer);
    assert.deepEqual({ redelivered, acked, deadLettered }, { redelivered: 0, acked: sent, deadLettered: 0 });
    assert.equal(consumer.said('subscribed').length, 1);
    assert.deepEqual(await bodiesIn(broker, `/queue/${name}`), []);
  });

  it('lets a message in flight finish in the worker that has it', async () => {
    const queue = `/queue/${unique('watch')}`;
    const held = `
      import { existsSync } from 'node:fs';
      import { setTimeout } from 'node:timers/promises';
      export default async ({ ack }) => {
        console.log('started');
        while (!existsSync(process.env.GATE)) await setTimeout(10);
        console.log('first version');
        await ack();
      };`;
    const folder = temporaryFolder({ 'package.json': '{ "type": "module" }', 'callback.js': held });
    const env = { GATE: join(folder, 'gate') };
    const consumer = await startPubsub(broker, queue, join(folder, 'callback.js'), { flags, env });
    await put(broker, queue, 1, id);
    await consumer.waitFor(/"msg":"started"/);
    writeFileSync(
      join(folder, 'callback.js'),
      'export default async ({ ack }) => { console.log("second version"); await ack(); };',
    );
    await consumer.waitFor(/"msg":"the callback is loaded anew"/);
    await put(broker, queue, 2, id);
    await consumer.waitFor(/"msg":"second version"/);
    writeFileSync(join(folder, 'gate'), '');
    await consumer.waitFor(/"msg":"first version"/);
    const { acked, redelivered } = await stopPubsub(consumer);
    assert.deepEqual([acked, redelivered], [2, 0]);
  });

  it('is refused where nothing can be loaded anew', async () => {
    const folder = temporaryFolder({ 'callback.mjs': 'export default () => undefined;' });
    const inline = pubsub({ env: at(1) }, '/queue/x', join(folder, 'callback.mjs'), {
      flags: ['--watch', '--inline'],
    });
    assert.equal((await inline.exit()).code, 2);
    assert.match(inline.stderr, /--watch needs worker processes: leave out --inline/);
    const program = pubsub({ env: at(1) }, '/queue/x', '--watch', { flags: ['--', 'true'] });
    assert.equal((await program.exit()).code, 2);
    assert.match(program.stderr, /a program is started anew/);
  });
});
