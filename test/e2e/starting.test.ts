/** The connection is made while the callback is loaded and set up: what becomes of it meanwhile is nobody's concern. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Frame } from '../../src/stomp/frames.js';
import { pagesOf } from '../support/probes.js';
import type { Running } from '../support/process.js';
import { freePorts } from '../support/server-process.js';
import { until } from '../support/until.js';
import { at, DEADLINE_MS, printed, pubsub, temporaryFolder } from './commands.js';
import { ScriptedServer, startScriptedServer } from './scripted-server.js';

const source = `
  import { existsSync, writeFileSync } from 'node:fs';
  import { setTimeout } from 'node:timers/promises';
  export const setup = async () => {
    writeFileSync('is-begun', '');
    while (!existsSync('is-done')) await setTimeout(20);
  };
  export const run = async (payload) => {
    await payload.ack();
    console.log('ran');
  };`;

const project = () => temporaryFolder({ 'slow.mjs': source });
const finishSetup = (cwd: string) => writeFileSync(join(cwd, 'is-done'), '');
const untilSetUp = (cwd: string) => until(() => existsSync(join(cwd, 'is-begun')), DEADLINE_MS, 'setup()');
const untilRun = (consumer: Running) =>
  until(
    () => printed(consumer).includes('ran'),
    DEADLINE_MS,
    () => `a run in ${consumer.stderr}`,
  );

async function stop(consumer: Running): Promise<void> {
  consumer.signal('SIGTERM');
  assert.deepEqual(await consumer.exit(), { code: 0, signal: null }, consumer.stderr);
}

for (const flags of [[], ['--inline']]) {
  describe(`the start of a consumer ${flags.join(' ')}`.trimEnd(), () => {
    it('connects during setup(), subscribes after it, and makes another connection when that one has ended', async () => {
      const sockets: Socket[] = [];
      const subscribed: Socket[] = [];
      const answer = ({ command, headers }: Frame, socket: Socket) => {
        if (command === 'CONNECT') sockets.push(socket);
        if (command === 'SUBSCRIBE' && headers.destination === '/queue/xpto') subscribed.push(socket);
        return undefined;
      };
      await using server = await startScriptedServer({ bodies: [{ n: 1 }], answer });
      const cwd = project();
      const consumer = pubsub(server, '/queue/xpto', './slow.mjs#run', { cwd, flags });
      await server.received('CONNECT');
      await untilSetUp(cwd);
      const [first] = sockets;
      first?.destroy();
      await until(() => first?.closed === true, DEADLINE_MS, 'closed');
      assert.deepEqual(server.commands(), ['CONNECT']);
      finishSetup(cwd);
      await untilRun(consumer);
      assert.notEqual(subscribed.at(-1), first);
      await stop(consumer);
    });

    it('says nothing of a broker that was away only while setup() ran', async () => {
      const [port = 0] = await freePorts(1);
      const cwd = project();
      const asked = [...flags, '--health-port', '0'];
      const consumer = pubsub({ env: at(port) }, '/queue/xpto', './slow.mjs#run', { cwd, flags: asked });
      await untilSetUp(cwd);
      // It answers when it has taken what had come before: that nobody listens.
      const get = await pagesOf(consumer);
      await get('/live');
      await using server = new ScriptedServer({ bodies: [{ n: 1 }] });
      await server.listen(port);
      finishSetup(cwd);
      await untilRun(consumer);
      await stop(consumer);
      assert.doesNotMatch(consumer.stderr, /"level":"(warn|error)"/);
    });

    it('takes its leave of the broker when it is stopped during setup(), with nothing subscribed', async () => {
      await using server = await startScriptedServer();
      const cwd = project();
      const debug = [...flags, '--log-level', 'debug'];
      const consumer = pubsub(server, '/queue/xpto', './slow.mjs#run', { cwd, flags: debug });
      await consumer.says('connected');
      await untilSetUp(cwd);
      await stop(consumer);
      assert.deepEqual(server.commands(), ['CONNECT', 'DISCONNECT']);
    });
  });
}

const hasProc = existsSync('/proc/self/cmdline');

/** Processes with that text on their command lines. */
const processesWith = (text: string) =>
  readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text);
    } catch {
      // It has ended meanwhile.
      return false;
    }
  });

it(
  'a worker process that was started early does not outlive a start that fails, whatever it loads',
  { skip: !hasProc && 'needs /proc' },
  async () => {
    const cwd = temporaryFolder({ 'endless.mjs': 'await new Promise(() => setInterval(() => {}, 1000));' });
    const endless = join(cwd, 'endless.mjs');
    const [port = 0] = await freePorts(1);
    const flags = ['--import', endless];
    const consumer = pubsub({ env: at(port) }, '/nonsense/xpto', './slow.mjs#run', { cwd, flags });
    assert.deepEqual(await consumer.exit(), { code: 2, signal: null }, consumer.stderr);
    await until(() => processesWith(endless).length === 0, DEADLINE_MS, 'its worker ends');
  },
);
