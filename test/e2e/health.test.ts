/** How a consumer is, as probes see it: over HTTP and by files, in every state that it can be in. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { put } from '../support/messages.js';
import { pagesOf, sample, type Answer } from '../support/probes.js';
import { packageRoot, runProgram, type Running } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { until } from '../support/until.js';
import {
  anyBroker,
  at,
  fixture,
  printed,
  pubsub,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';

const SOON_MS = 30_000;
const id = { 'correlation-id': 'c-1' };
const served = ['--health-port', '0'];
const ack = fixture('plain.js#ack');
const silence = /^the broker has not answered for (\d+) s$/;
/** The status, of one whose broker answers: a busy machine may keep it from that for longer than two intervals, of a second. */
const exceptSilence = ({ status, report: { reasons = [] } }: Answer): number => {
  const [, seconds = '0'] = silence.exec(reasons.join()) ?? [];
  return status === 503 && Number(seconds) >= 2 ? 200 : status;
};

describe('health', { ...skipWithout(anyBroker()), concurrency: 2 }, () => {
  const broker = anyBroker()!;
  const untilIs = (ask: () => Promise<{ status: number; body: string }>, status: number, why: string) => {
    let last = '';
    const isIt = async () => {
      const answer = await ask();
      last = answer.body;
      return answer.status === status;
    };
    return until(isIt, SOON_MS, () => `${status}: ${why}; it says ${last}`);
  };

  it('a consumer tells how it is, what it is at, and no secrets', async () => {
    const queue = unique('told');
    const running = await startPubsub(broker, queue, ack, {
      flags: [...served, '--canary-interval', '0.2', '--log-level', 'debug'],
    });
    const get = await pagesOf(running);
    await put(broker, `/queue/${queue}`, { n: 1 }, id);
    await running.says('settled');
    let last = '';
    const { report, body, headers } = await until(
      async () => {
        const answer = await get('/ready?verbose');
        last = answer.body;
        return answer.status === 200 && 'roundTripSeconds' in answer.report && answer;
      },
      SOON_MS,
      () => `ready, with a round trip; it says ${last}`,
    );
    const { lastMessageAgeSeconds, roundTripSeconds, roundTripAgeSeconds, ...told } = report;
    assert.deepEqual(told, {
      ...{ status: 'ok', state: 'consuming', reasons: [], destination: queue, inFlight: 0 },
      server: `${broker.host}:${broker.port}`,
    });
    for (const seconds of [lastMessageAgeSeconds, roundTripSeconds, roundTripAgeSeconds])
      assert.ok(typeof seconds === 'number' && seconds >= 0 && seconds < 20, body);
    assert.match(headers.get('content-type') ?? '', /^application\/json/);
    assert.equal((await get('/live')).status, 200);
    await stopPubsub(running);
  });

  it('GET and HEAD of what there is are answered, and nothing else', async () => {
    const running = await startPubsub(broker, unique('methods'), ack, { flags: served });
    const get = await pagesOf(running);
    const head = await get('/live', { method: 'HEAD' });
    assert.deepEqual([head.status, head.body], [200, '']);
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS']) {
      const { status, headers } = await get('/live', { method });
      assert.deepEqual([status, headers.get('allow')], [405, 'GET, HEAD']);
    }
    for (const path of ['/', '/metrics', '/live/', '/__proto__', '/constructor'])
      assert.equal((await get(path)).status, 404, path);
  });

  it('a port that is taken ends the start with 2, before the broker hears of it', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await until(() => taken.listening, SOON_MS, 'a port');
    const { port } = taken.address() as AddressInfo;
    await using proxy = await startProxy(broker);
    const running = pubsub({ env: { ...broker.env, ...at(proxy.port) } }, unique('taken'), ack, {
      flags: ['--health-port', String(port)],
      env: { STOMP_HEALTH_HOST: '127.0.0.1' },
    });
    assert.equal((await running.exit()).code, 2);
    assert.match(
      running.stderr,
      new RegExp(`pubsub: error: STOMP_HEALTH_PORT: cannot listen on port ${port} `),
    );
    assert.equal(proxy.connections, 0);
    taken.close();
  });

  it('a broker that has gone silent, or is away, makes it unready and not dead', async () => {
    await using proxy = await startProxy(broker);
    const running = await startPubsub({ env: { ...broker.env, ...at(proxy.port) } }, unique('silent'), ack, {
      flags: [...served, '--canary-interval', '1', '--wait-to-connect', '0.5'],
    });
    const get = await pagesOf(running);
    const live = sample(() => get('/live'));
    const ready = () => get('/ready');
    await untilIs(ready, 200, 'it consumes');
    proxy.stall();
    await untilIs(ready, 503, 'nothing is answered');
    // Two intervals after the last answer, and not before.
    const [, silentSeconds] = silence.exec((await ready()).report.reasons?.join() ?? '') ?? [];
    assert.ok(Number(silentSeconds) >= 2, silentSeconds);
    proxy.resume();
    await untilIs(ready, 200, 'it is answered again');
    assert.equal(running.said('no connection').length, 0, 'the connection was kept');

    await proxy.refuse();
    proxy.cut();
    const isAway = async () => (await ready()).report.reasons?.join() === 'not subscribed';
    await until(isAway, SOON_MS, 'there is no broker');
    assert.equal((await ready()).status, 503);
    await running.says('no connection', 3);
    await proxy.accept();
    await untilIs(ready, 200, 'the broker is back');
    assert.deepEqual([...(await live.end())], [200]);
  });

  it('a quiet hour, shortened, leaves it live and ready', async () => {
    const running = await startPubsub(broker, unique('quiet'), ack, {
      flags: [...served, '--canary-interval', '1'],
    });
    const get = await pagesOf(running);
    const [live, ready] = [sample(() => get('/live')), sample(() => get('/ready'), exceptSilence)];
    // An answer each 30 s: an hour has 120 of them.
    const ages = new Set<unknown>();
    const rounds = async () => {
      const { status, report } = await get('/ready');
      return status === 200 && ages.add(report.roundTripSeconds).size >= 3;
    };
    await until(rounds, SOON_MS, 'rounds of different lengths');
    assert.deepEqual([[...(await live.end())], [...(await ready.end())]], [[200], [200]]);
  });

  it('a callback that blocks its worker for ever, without a time limit, is let be', async () => {
    const queue = unique('blocked');
    const running = await startPubsub(broker, queue, fixture('blocking.mjs#orAck'), {
      flags: [...served, '--timeout', '0', '--canary-interval', '1', '--concurrency', '1'],
    });
    const get = await pagesOf(running);
    const [live, ready] = [sample(() => get('/live')), sample(() => get('/ready'), exceptSilence)];
    await put(broker, `/queue/${queue}`, { blocks: true }, id);
    await until(() => printed(running).includes('blocked'), SOON_MS, 'the callback');
    const before = (await get('/ready')).report;
    assert.equal(before.inFlight, 1);
    const isOlder = async () => {
      const { status, report } = await get('/ready');
      return status === 200 && Number(report.lastMessageAgeSeconds) > 2;
    };
    await until(isOlder, SOON_MS, 'some time');
    assert.deepEqual([[...(await live.end())], [...(await ready.end())]], [[200], [200]]);
  });

  it('one with a time limit costs its message and its worker, and the consumer is ready again', async () => {
    const queue = unique('limited');
    const running = await startPubsub(broker, queue, fixture('blocking.mjs#orAck'), {
      flags: [...served, '--timeout', '0.5', '--log-level', 'debug'],
    });
    const get = await pagesOf(running);
    const live = sample(() => get('/live'));
    await put(broker, `/queue/${queue}`, { blocks: true }, id);
    await running.says('dead-lettered');
    await untilIs(() => get('/ready'), 200, 'another worker has taken over');
    await put(broker, `/queue/${queue}`, { blocks: false }, id);
    await running.waitFor(/"outcome":"acked"/);
    assert.deepEqual([...(await live.end())], [200]);
  });

  it('inline, a callback that blocks for ever keeps the probes from an answer', async () => {
    const queue = unique('inline');
    const running = await startPubsub(broker, queue, fixture('blocking.mjs#orAck'), {
      flags: [...served, '--inline'],
    });
    const get = await pagesOf(running);
    assert.equal((await get('/live')).status, 200);
    await put(broker, `/queue/${queue}`, { blocks: true }, id);
    await until(
      () =>
        get('/live', { signal: AbortSignal.timeout(1000) }).then(
          () => false,
          () => true,
        ),
      SOON_MS,
      'no answer',
    );
    await running.kill();
  });

  it('a consumer that drains is live and no longer ready', async () => {
    const queue = unique('draining');
    const folder = temporaryFolder();
    const running = await startPubsub(broker, queue, fixture('stop.mjs#untilFile'), { flags: served });
    const get = await pagesOf(running);
    await put(broker, `/queue/${queue}`, JSON.stringify(join(folder, 'gate')), id);
    await until(() => printed(running).includes('started'), SOON_MS, 'the callback');
    running.signal('SIGTERM');
    await untilIs(() => get('/ready'), 503, 'it drains');
    const { report } = await get('/ready');
    assert.deepEqual([report.state, report.reasons], ['draining', ['draining']]);
    assert.equal((await get('/live')).status, 200);
    writeFileSync(join(folder, 'gate'), '');
    assert.equal((await running.exit()).code, 0);
    await assert.rejects(get('/live'));
  });

  it('before its callback is set up it is live and not ready', async () => {
    const folder = temporaryFolder({
      'slow.mjs': `import { existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
export async function setup() {
  while (!existsSync(new URL('./gate', import.meta.url))) await setTimeout(10);
}
export default (payload) => payload.ack();
`,
    });
    const running = pubsub(broker, unique('setup'), join(folder, 'slow.mjs'), { flags: served });
    const get = await pagesOf(running);
    const { status, report } = await get('/ready');
    assert.deepEqual(
      [status, report.state, report.reasons],
      [503, 'starting', ['not subscribed', 'no worker has set the callback up']],
    );
    assert.equal((await get('/live')).status, 200);
    writeFileSync(join(folder, 'gate'), '');
    await untilIs(() => get('/ready'), 200, 'it is set up');
  });

  describe('by files', () => {
    const isThere = (file: string) => existsSync(file) && readFileSync(file).length === 0;
    const startWith = (file: string): Running =>
      pubsub(broker, unique('files'), ack, { flags: ['--health-file', file] });

    it('they are there and young while it is live and ready, and gone at the end', async () => {
      const file = join(temporaryFolder({ health: '', 'health.ready': '' }), 'health');
      utimesSync(file, 0, 0);
      const running = startWith(file);
      await until(() => isThere(`${file}.ready`) && statSync(file).mtimeMs > 0, SOON_MS, 'ready');
      const { mtimeMs } = statSync(file);
      await until(() => statSync(file).mtimeMs > mtimeMs, SOON_MS, 'it is touched');
      await stopPubsub(running);
      assert.deepEqual([existsSync(file), existsSync(`${file}.ready`)], [false, false]);
    });

    for (const page of ['README.md', 'docs/observing.md'])
      it(`the probe of ${page} tells whether it is live`, async () => {
        const text = readFileSync(join(packageRoot, page), 'utf8');
        const [line] = /^test -n "\$\(find \/tmp\/health .*?\)"/m.exec(text) ?? [];
        assert.ok(line, 'a line for the shell');
        const file = join(temporaryFolder(), 'health');
        const probe = async () => {
          const asked = runProgram('sh', ['-c', line.replace('/tmp/health', file)]);
          return (await asked.exit()).code;
        };
        assert.equal(await probe(), 1, 'not started');
        const running = startWith(file);
        await until(() => isThere(file), SOON_MS, 'the file');
        assert.equal(await probe(), 0, running.stderr);
        await running.kill();
        const long = Date.now() / 1000 - 120;
        utimesSync(file, long, long);
        assert.equal(await probe(), 1, 'it is gone, and its file is old');
      });

    it('those of a consumer that was killed are gone at the next start, until it is ready', async () => {
      const folder = temporaryFolder();
      const file = join(folder, 'health');
      const first = startWith(file);
      await until(() => isThere(`${file}.ready`), SOON_MS, 'ready');
      await first.kill();
      assert.ok(isThere(`${file}.ready`), 'left behind');
      const silent = pubsub({ env: at(1) }, unique('files'), ack, { flags: ['--health-file', file] });
      await silent.says('no connection');
      assert.deepEqual([existsSync(file), existsSync(`${file}.ready`)], [true, false]);
    });

    it('a file of somebody else is not touched, nor is one that cannot be made', async () => {
      const folder = temporaryFolder({ precious: 'data' });
      for (const [name, problem] of [
        ['precious', /STOMP_HEALTH_FILE: .*precious exists and is no health file/],
        ['none/health', /STOMP_HEALTH_FILE: ENOENT/],
      ] as const) {
        const running = startWith(join(folder, name));
        assert.equal((await running.exit()).code, 2);
        assert.match(running.stderr, problem);
      }
      assert.equal(readFileSync(join(folder, 'precious'), 'utf8'), 'data');
    });
  });
});
