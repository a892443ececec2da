import assert from 'node:assert/strict';
import { setMaxListeners } from 'node:events';
import { it } from 'node:test';
import { resolve } from '../../../src/settings/resolve.js';
import { sessions } from '../../../src/sending/connect.js';
import { startProxy } from '../../support/proxy.js';
import { obliging, startScriptedServer } from '../../support/scripted-server.js';
import { until } from '../../support/until.js';
import { RecordedLog } from '../stomp/session-under-test.js';

const CROWD = 200;
const DEADLINE_MS = 60_000;
/** The span of the wait before the third attempt, in ms; a wait is a random part of it, at least a fifth. */
const SPAN_MS = 400;
const LEAST = 0.2;
const PARTS = 8;

it('two hundred consumers that lose one broker do not come back together', async (t) => {
  await using server = await startScriptedServer(obliging());
  await using proxy = await startProxy(server);
  const stop = new AbortController();
  t.after(() => stop.abort());
  setMaxListeners(0, stop.signal);
  const logs = Array.from({ length: CROWD }, () => new RecordedLog());
  const loops = logs.map(async (log, n) => {
    const settings = resolve(
      {
        ...{ host: proxy.host, port: proxy.port, outgoingHeartbeatMs: 0, incomingHeartbeatMs: 0 },
        ...{ clientId: `c${n}`, durableTopicSubscription: true },
        // An attempt that is given up would be counted as one that came back.
        connectTimeoutSeconds: 600,
      },
      {},
    );
    for await (const session of sessions(settings, log, stop.signal)) {
      stop.signal.addEventListener('abort', () => void session.close(), { once: true });
    }
  });
  const clients = (): string[] =>
    server.connections.map(({ frames }) => frames[0]?.headers['client-id'] ?? '');
  const waits = (log: RecordedLog): number[] =>
    log.find(/trying again/).map(({ retryInMs }) => Number(retryInMs));
  await until(() => clients().filter(Boolean).length === CROWD, DEADLINE_MS, 'all are connected');

  await proxy.refuse();
  proxy.cut();
  await until(() => logs.every((log) => waits(log).length >= 3), DEADLINE_MS, 'all have failed twice more');
  await proxy.accept();
  const returned = () => clients().slice(CROWD);
  await until(() => returned().filter(Boolean).length === CROWD, DEADLINE_MS, 'all are back');
  stop.abort();
  await Promise.all(loops);

  const order = returned().map((client) => Number(client.slice(1, -'-listener'.length)));
  assert.equal(new Set(order).size, CROWD);
  // Nobody waits for as long as everybody else: the waits fill their span, an eighth of them in each eighth.
  const counts = new Array<number>(PARTS).fill(0);
  for (const log of logs) {
    const share = (waits(log)[1]! / SPAN_MS - LEAST) / (1 - LEAST);
    counts[Math.min(PARTS - 1, Math.floor(share * PARTS))]!++;
  }
  assert.ok(Math.max(...counts) < CROWD * 0.3, `of ${CROWD} waits, by their length: ${counts.join(' ')}`);
  // Nor do they come in the order in which they were lost: half of the pairs are the other way round.
  const inversions = order.reduce(
    (sum, client, at) => sum + order.slice(at).filter((later) => later < client).length,
    0,
  );
  assert.ok(inversions > (CROWD * CROWD) / 8, `${inversions} pairs of ${(CROWD * CROWD) / 2} changed places`);
});
