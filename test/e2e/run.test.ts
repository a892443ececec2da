/** `pubsub run`: several consumers by one file, in one process, which start, stop and fail together. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { bodiesIn, put, putAll } from '../support/messages.js';
import { pagesOf } from '../support/probes.js';
import { childrenOf, packageRoot, run, type Running } from '../support/process.js';
import { Scrape } from '../support/scrape.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  DEADLINE_MS,
  fixture,
  printed,
  skipWithout,
  temporaryFolder,
  unique,
} from './commands.js';

const id = { 'correlation-id': 'c-1' };
const nobody = at(1);

const callbacks = `
export async function tell({ body, ack }) { console.log('told ' + body + ' by ' + process.pid); await ack(); }
export async function leave({ body }) { if (body === 'leave') process.exit(7); }
export async function setup() { console.log('set up ' + process.pid); }
`;
const config = (consumers: object, defaults: object = {}) => JSON.stringify({ defaults, consumers });

async function ends(running: Running, code: number): Promise<string> {
  assert.deepEqual(await running.exit(), { code, signal: null }, running.stderr);
  return running.stderr;
}

/** Resident, of all of them, in KB. */
function memoryOf(pid: number): number {
  const sizes = [pid, ...childrenOf(pid)].map(
    (one) => /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${one}/status`, 'utf8'))?.[1],
  );
  return sizes.reduce((sum, size) => sum + Number(size), 0);
}

describe('pubsub run', skipWithout(anyBroker()), () => {
  const broker = anyBroker()!;
  const runIn = (cwd: string, args: string[] = [], env = broker.env) =>
    run('pubsub', ['run', ...args], { cwd, env });

  it('serves each consumer in workers that they share, says whose each line is, and drains them all', async () => {
    const [orders, mails, jobs] = [unique('orders'), unique('mails'), unique('jobs')];
    const folder = temporaryFolder({
      'package.json': '{}',
      'callbacks.mjs': callbacks,
      'pubsub.config.ts': `
        import { defineConsumers } from 'stomp-pubsub';
        export default defineConsumers({
          defaults: { concurrency: 5 },
          consumers: {
            orders: { destination: '/queue/${orders}', callback: './callbacks.mjs#tell' },
            mails: { destination: '${mails}', callback: './callbacks.mjs#tell', concurrency: 2 },
            jobs: { destination: '${jobs}', callback: ['cat'] },
          },
        });`,
    });
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(packageRoot, join(folder, 'node_modules/stomp-pubsub'));
    const running = runIn(folder);
    await running.says('subscribed', 3);
    await put(broker, `/queue/${orders}`, '"one"', id);
    await put(broker, `/queue/${mails}`, '"two"', id);
    await put(broker, `/queue/${jobs}`, 'three', id);
    await until(
      () => running.stderr.includes('"three"') && printed(running).length === 3,
      DEADLINE_MS,
      () => running.stderr,
    );
    running.signal('SIGTERM');
    await ends(running, 0);
    const [setup, ...told] = printed(running);
    const worker = /set up (\d+)/.exec(setup ?? '')?.[1];
    assert.deepEqual(told.sort(), [`told one by ${worker}`, `told two by ${worker}`]);
    const whose = running.logLines.filter(({ msg }) => /^(told .*|three)$/.test(String(msg)));
    assert.deepEqual(whose.map(({ consumer }) => consumer).sort(), ['jobs', 'mails', 'orders']);
    const stopped = running.said('stopped').map(({ consumer, acked }) => [consumer, acked]);
    assert.deepEqual(stopped.sort(), [
      ['jobs', 1],
      ['mails', 1],
      ['orders', 1],
    ]);
  });

  async function memoryOfOne(folder: string): Promise<number> {
    const running = runIn(folder, ['one.json']);
    await running.says('subscribed');
    const memory = memoryOf(running.pid);
    running.signal('SIGTERM');
    await ends(running, 0);
    return memory;
  }

  it('takes twenty destinations into the processes of one, and less than 1.5 times its memory', async () => {
    const name = unique('many');
    const many = Object.fromEntries(
      Array.from({ length: 20 }, (_, n) => [
        `c${n}`,
        { destination: `${name}-${n}`, callback: './callbacks.mjs#tell' },
      ]),
    );
    const one = { one: { destination: unique('one'), callback: './callbacks.mjs#tell' } };
    const folder = temporaryFolder({
      ...{ 'callbacks.mjs': callbacks, 'many.json': config(many), 'one.json': config(one) },
    });
    const running = runIn(folder, ['many.json']);
    await running.says('subscribed', 20);
    assert.equal(childrenOf(running.pid).length, 1);
    for (let n = 0; n < 20; n++) await put(broker, `/queue/${name}-${n}`, JSON.stringify(n), id);
    await until(
      () => printed(running).length === 21,
      DEADLINE_MS,
      () => running.stderr,
    );
    const twenty = memoryOf(running.pid);
    running.signal('SIGTERM');
    await ends(running, 0);
    assert.ok(running.said('stopped').every(({ acked }) => acked === 1));
    assert.ok(twenty < 1.5 * (await memoryOfOne(folder)), String(twenty));
  });

  it('costs a neighbour nothing when the callback of another takes their worker down', async () => {
    const [bad, good] = [unique('bad'), unique('good')];
    const folder = temporaryFolder({
      'callbacks.mjs': callbacks,
      'pubsub.config.json': config({
        bad: { destination: bad, callback: './callbacks.mjs#leave' },
        good: { destination: good, callback: './callbacks.mjs#tell' },
      }),
    });
    const running = runIn(folder);
    await running.says('subscribed', 2);
    await Promise.all([
      put(broker, `/queue/${bad}`, '"leave"', id),
      putAll(broker, `/queue/${good}`, [1, 2, 3], id),
    ]);
    await running.says('dead-lettered');
    await until(
      () => [1, 2, 3].every((n) => printed(running).some((line) => line.startsWith(`told ${n} `))),
      DEADLINE_MS,
      () => running.stderr,
    );
    running.signal('SIGTERM');
    await ends(running, 0);
    const [letter] = running.said('dead-lettered');
    assert.deepEqual([letter?.consumer, letter?.reason], ['bad', 'callback-exited']);
    assert.deepEqual(await bodiesIn(broker, `/queue/${good}`), []);
  });

  it('answers probes and scrapes for all of them on one port, and leaves out one that has ended', async () => {
    const [orders, mails, jobs] = [unique('orders'), unique('mails'), unique('jobs')];
    const counted = fixture('counted.mjs#byBody');
    const consumers = {
      orders: { destination: orders, callback: counted },
      mails: { destination: mails, callback: counted },
      jobs: { destination: jobs, callback: ['cat'], limit: 1 },
    };
    const defaults = { healthPort: 0, servesMetrics: true };
    const running = runIn(temporaryFolder({ 'pubsub.config.json': config(consumers, defaults) }));
    const get = await pagesOf(running);
    const reports = async () => (await get('/ready')).report.consumers as Record<string, { status: string }>;
    await until(async () => (await get('/ready')).status === 200, DEADLINE_MS, 'all of them ready');
    assert.deepEqual(Object.keys(await reports()), ['orders', 'mails', 'jobs']);
    await putAll(
      broker,
      `/queue/${orders}`,
      ['ack', 'ack', 'nack'].map((how) => JSON.stringify({ how })),
      id,
    );
    await put(broker, `/queue/${mails}`, { how: 'ack' }, id);
    await put(broker, `/queue/${jobs}`, '1', id);
    const scrape = async () => new Scrape((await get('/metrics')).body);
    const total = async (labels = {}) => (await scrape()).sum('pubsub_messages_total', labels);
    await until(async () => (await total()) === 5, DEADLINE_MS, 'all five counted');
    assert.deepEqual(
      [
        await total({ destination: orders }),
        await total({ destination: mails }),
        await total({ destination: jobs }),
      ],
      [3, 1, 1],
    );
    // A worker may take longer to tell than a scrape waits for it.
    const counts = async () => (await scrape()).by('orders_seen_total', 'how');
    await until(async () => (await counts()).ack === 3, DEADLINE_MS, 'what the callbacks counted');
    assert.deepEqual(await counts(), { ack: 3, nack: 1 });
    await until(async () => !('jobs' in (await reports())), DEADLINE_MS, 'the end of one');
    assert.equal((await get('/live')).status, 200);
    const { consumers: left, status } = (await get('/ready')).report;
    assert.deepEqual([status, Object.keys(left as object)], ['ok', ['orders', 'mails']]);
    running.signal('SIGTERM');
    await ends(running, 0);
  });

  it('loads what changes anew with --watch, in the workers of all, and says what does not load', async () => {
    const [one, two] = [unique('watched'), unique('watched')];
    const callback = (version: string) =>
      `export default ({ ack }) => { console.log('${version}'); return ack(); };`;
    const folder = temporaryFolder({
      'package.json': '{ "type": "module" }',
      'one.js': callback('one'),
      'two.js': callback('two'),
      'pubsub.config.json': config({
        one: { destination: one, callback: './one.js' },
        // Workers of its own.
        two: { destination: two, callback: './two.js', timeoutSeconds: 60 },
        jobs: { destination: unique('watched'), callback: ['cat'] },
      }),
    });
    const running = runIn(folder, ['--watch']);
    await running.says('subscribed', 3);
    writeFileSync(join(folder, 'one.js'), callback('one again'));
    await running.waitFor(/("changed":"one.js".*"msg":"the callback is loaded anew"[^]*){2}/);
    writeFileSync(join(folder, 'two.js'), 'export default');
    await running.waitFor(/"changed":"two.js".*"msg":"the changed callback does not load/);
    await put(broker, `/queue/${one}`, 1, id);
    await put(broker, `/queue/${two}`, 2, id);
    await until(
      () => printed(running).length === 2,
      DEADLINE_MS,
      () => running.stderr,
    );
    assert.deepEqual(printed(running).toSorted(), ['one again', 'two']);
    assert.equal(running.said('subscribed').length, 3);
    running.signal('SIGTERM');
    await ends(running, 0);
    writeFileSync(join(folder, 'two.js'), callback('two'));
    const inline = run('pubsub', ['run', '--watch'], {
      ...{ cwd: folder, env: { ...nobody, STOMP_PROCESS_MSG_ON_BACKGROUND: 'false' } },
    });
    await ends(inline, 2);
    assert.match(inline.stderr, /--watch needs worker processes/);
  });

  it('serves those that are named alone', async () => {
    const [one, other] = [unique('one'), unique('other')];
    const folder = temporaryFolder({
      'callbacks.mjs': callbacks,
      'pubsub.config.json': config({
        one: { destination: one, callback: './callbacks.mjs#tell' },
        other: { destination: other, callback: './missing.mjs#tell' },
      }),
    });
    const running = runIn(folder, ['--only', 'one']);
    const { consumer } = await running.says('subscribed');
    assert.equal(consumer, 'one');
    running.signal('SIGTERM');
    await ends(running, 0);
  });

  it('drains the others when the broker refuses one: 4, and the error names it', async () => {
    const good = unique('good');
    const folder = temporaryFolder({
      'callbacks.mjs': callbacks,
      'pubsub.config.json': config({
        good: { destination: good, callback: './callbacks.mjs#tell' },
        bad: {
          destination: unique('bad'),
          callback: './callbacks.mjs#tell',
          user: 'nobody',
          password: 'wrong',
        },
      }),
    });
    const running = runIn(folder);
    assert.match(await ends(running, 4), /bad: .*(credentials|password|login|refused)/i);
    assert.deepEqual(
      running.said('stopped').map(({ consumer }) => consumer),
      ['good'],
    );
  });
});

describe('pubsub run, before anything is sent', () => {
  const refused = async (files: Record<string, string>, args: string[], code: number) => {
    const running = run('pubsub', ['run', ...args], { cwd: temporaryFolder(files), env: nobody });
    return ends(running, code);
  };

  it('tells all that is wrong with the settings of all', async () => {
    const consumers = {
      one: { destination: '/queue/x', callback: './callbacks.mjs#tell', concurrency: 0 },
      two: { destination: '/nothing/x', callback: './callbacks.mjs#tell' },
      three: { callback: 7, concurency: 2 },
    };
    const said = await refused(
      { 'pubsub.config.json': config(consumers) },
      ['--only', 'one,two,three,four'],
      2,
    );
    for (const problem of [
      /one: --concurrency: .* not 0/,
      /two: .*\/nothing\/x/,
      /three: destination/,
      /three: callback/,
      /three: concurency: there is no such/,
      /--only: there is no consumer "four"; there are one, two, three/,
    ])
      assert.match(said, problem);
  });

  it('tells all callbacks that do not load', async () => {
    const consumers = {
      one: { destination: 'x', callback: './callbacks.mjs#missing' },
      two: { destination: 'y', callback: './nothing.mjs' },
      three: { destination: 'z', callback: ['./no-program'] },
    };
    const files = { 'callbacks.mjs': callbacks, 'pubsub.config.json': config(consumers) };
    const said = await refused(files, [], 3);
    for (const problem of [/callbacks\.mjs#missing/, /nothing\.mjs/, /no-program/])
      assert.match(said, problem);
  });

  it('has one port for all: other ones are refused', async () => {
    const consumers = {
      one: { destination: 'x', callback: './callbacks.mjs#tell', healthPort: 8080 },
      other: { destination: 'y', callback: './callbacks.mjs#tell', healthPort: 8081 },
    };
    const said = await refused({ 'pubsub.config.json': config(consumers) }, [], 2);
    assert.match(said, /STOMP_HEALTH_PORT: one for all consumers of a process, not 8080 and 8081/);
  });

  it('says that there is no file, what is no JSON, what does not load and what defines nothing', async () => {
    assert.match(await refused({}, [], 2), /none of pubsub\.config\.ts.* it exports defineConsumers/);
    assert.match(await refused({}, ['other.ts'], 2), /there is no file other\.ts/);
    assert.match(await refused({ 'pubsub.config.json': '{' }, [], 2), /pubsub\.config\.json cannot be read/);
    assert.match(
      await refused({ 'pubsub.config.mjs': 'throw new Error("oh")' }, [], 2),
      /does not load: Error: oh/,
    );
    assert.match(
      await refused({ 'pubsub.config.mjs': 'export default {}' }, [], 2),
      /no consumers are defined/,
    );
  });
});
