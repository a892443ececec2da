/** `pubsub check`: what it says of set-ups that are broken, each in its own way, on real brokers, and that it changes nothing. */
import assert from 'node:assert/strict';
import { createServer } from 'node:tls';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { startEmbeddedBroker } from '../../src/embedded/broker.js';
import { consumerTimeoutOf } from '../../src/brokers/limits.js';
import { startActivemq } from '../support/activemq.js';
import { brokerUnderTest, describeBroker, type BrokerUnderTest } from '../support/brokers.js';
import { put } from '../support/messages.js';
import { packageRoot } from '../support/process.js';
import { findProgram, freePorts } from '../support/server-process.js';
import { Authority, opensslMissing } from '../unit/sending/certificates.js';
import { at, fixture, skipWithout, temporaryFolder, unique } from './commands.js';
import { assertHarmless, onTerminal, startOperator } from './operator.js';

interface Checked {
  readonly code: number | null;
  /** What is not ok: `status step: detail -> remedy`, with what differs from run to run left out. */
  readonly wrong: readonly string[];
  /** `status step` of all. */
  readonly steps: readonly string[];
  readonly stderr: string;
}

const callback = fixture('plain.js#ack');

async function check(
  env: Readonly<Record<string, string | undefined>>,
  args: readonly string[],
): Promise<Checked> {
  const running = startOperator({ env: {} }, ['check', ...args], { env });
  const { code } = await running.exit(60_000);
  const found = running.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, string>);
  const plain = (text: string) =>
    text
      .replace(/\d+\.\d+\.\d+\.\d+:\d+/g, 'BROKER')
      .replace(/\/\S*\/(?=[\w.-]+\.\w+js)/g, '')
      .replace(/RabbitMQ\/[\d.]+/g, 'RabbitMQ')
      .replace(', in quorum queues alone', '');
  const wrong = found
    .filter(({ status }) => status === 'fail' || status === 'warn')
    .map(({ status, step, detail = '', remedy }) =>
      plain(`${status} ${step}: ${detail}${remedy === undefined ? '' : ` -> ${remedy}`}`),
    );
  const steps = found.map(({ status, step }) => `${status} ${step}`);
  return { code, wrong, steps, stderr: running.stderr };
}

const server = 'check STOMP_SERVER_HOST, STOMP_SERVER_PORT and that the broker runs';
const named = 'change what the message names';

describe('check without a broker', () => {
  const setups: [what: string, args: string[], code: number, expected: RegExp][] = [
    [
      'a port where nothing listens',
      ['x', callback],
      4,
      /^fail TCP: cannot connect to BROKER: connect ECONNREFUSED BROKER \(nothing listens there.*\) -> check STOMP_SERVER_HOST/,
    ],
    [
      'a host that there is not',
      ['x', '--host', 'broker.invalid'],
      4,
      /^fail name: no address of broker\.invalid: getaddrinfo E.* -> check STOMP_SERVER_HOST/,
    ],
    [
      'settings that cannot be read',
      ['x', '--port', 'none', '--concurrency', '0'],
      2,
      /^fail settings: --port: .*\n--concurrency: .* -> correct every line listed$/,
    ],
    ['a destination that is none', ['/fanout/x'], 2, /^fail settings: cannot consume from "\/fanout\/x"/],
    [
      'a callback that there is not',
      ['x', fixture('nowhere.js')],
      3,
      /^fail callback: no module .* -> correct the path or install the package$/,
    ],
    [
      'a program that there is not',
      ['x', '--', './no-job.sh'],
      3,
      /^fail callback: there is no program \.\/no-job\.sh \(/,
    ],
    [
      'a program that may not be run',
      ['x', '--', join(packageRoot, 'package.json')],
      3,
      /^fail callback: .*package\.json is not executable: chmod \+x /,
    ],
    [
      'a callback that is no function',
      ['x', fixture('plain.js#version')],
      3,
      /^fail callback: .*is no function/,
    ],
  ];
  for (const [what, args, code, expected] of setups) {
    it(`tells of ${what} with ${code}`, async () => {
      const checked = await check(at(1), args);
      assert.equal(checked.code, code, checked.stderr);
      assert.match(checked.wrong[0] ?? '', expected);
      assert.match(checked.stderr, /^pubsub: error: check failed: /m);
    });
  }

  it('takes a program in the place of a callback, and not beside one', async () => {
    const found = await check(at(1), ['x', '--', 'cat', '-']);
    assert.deepEqual(found.steps.slice(0, 2), ['ok settings', 'ok callback']);
    const both = await check(at(1), ['x', callback, '--', 'cat']);
    assert.equal(both.code, 2);
    assert.match(both.stderr, /either the callback .* or the program cat, not both/);
  });

  it('runs setup() when asked to, and teardown() after it', async () => {
    const folder = temporaryFolder({
      'setup.mjs':
        'export const setup = () => { throw new Error("no database"); };\nexport const ack = () => undefined;\n',
    });
    const spec = `${folder}/setup.mjs#ack`;
    const loaded = await check(at(1), ['x', spec]);
    assert.deepEqual(loaded.steps.slice(0, 2), ['ok settings', 'ok callback']);
    const set = await check(at(1), ['x', spec, '--setup']);
    assert.equal(set.code, 3);
    assert.match(
      set.wrong[0]!,
      /^fail callback: setup\(\) of .* failed: no database.* -> mend what it says$/,
    );
  });

  it('tells of a certificate that ends soon', { skip: opensslMissing() ?? false }, async () => {
    const authority = new Authority();
    const { key, cert } = authority.sign('DNS:broker');
    const listening = createServer({ key, cert }, (socket) => socket.destroy()).listen(0, '127.0.0.1');
    after(() => listening.close());
    await once(listening, 'listening');
    const { port } = listening.address() as AddressInfo;
    const args = ['x', '--ssl', '--ssl-ca', authority.caFile, '--ssl-server-name', 'broker'];
    const { wrong } = await check(at(port), args);
    assert.match(
      wrong[0]!,
      /^warn TLS: TLSv1\.\d, the certificate of broker is valid for [12] days -> renew it/,
    );
  });

  it('tells of frames that are larger than the broker takes', async () => {
    const login = { user: 'app', password: 'secret' };
    const embedded = await startEmbeddedBroker({ ...login, maxFrameBytes: 4_000_000 });
    after(() => embedded.close());
    const { host, port } = embedded;
    const { env } = describeBroker({ name: 'embedded', version: 'limited', host, port, ...login });
    const checked = await check(env, ['x', callback]);
    assert.deepEqual(checked.wrong, [
      'warn frame limit: no frame of 4.3 MB is taken: such a message could be received, and neither copied nor retried -> raise the limit at the broker (RabbitMQ: stomp.max_frame_size), or lower STOMP_MAX_MESSAGE_BYTES below it',
    ]);
    const lower = await check(env, ['x', '--max-message-bytes', '3000000']);
    assert.deepEqual([checked.code, lower.wrong], [0, []]);
  });

  it('waits for a broker that starts later', async () => {
    const [port] = (await freePorts(1)) as [number];
    const checking = check(at(port), ['x', callback, '--wait', '60s']);
    startOperator({ env: {} }, ['broker', '--port', String(port)]);
    assert.equal((await checking).code, 0);
  });

  it('refuses a wait that is none', async () => {
    const { code, stderr } = await check(at(1), ['x', '--wait', 'long']);
    assert.equal(code, 2);
    assert.match(stderr, /--wait: a duration like 60s or 5m expected, not "long"/);
  });
});

const reaching = (broker: BrokerUnderTest, args: readonly string[], env: Record<string, string> = {}) =>
  check({ ...broker.env, ...env }, args);

const rabbitmq = brokerUnderTest('rabbitmq');
describe('check on RabbitMQ', rabbitmq?.ctl === undefined ? { skip: 'no RabbitMQ of our own' } : {}, () => {
  const ssl = 'no TLS handshake: check STOMP_USE_SSL and the port';
  const setups: [what: string, args: string[], code: number, expected: string[]][] = [
    ['nothing', [callback], 0, []],
    [
      'a wrong password',
      ['--password', 'wrong'],
      4,
      [
        `fail login: cannot connect to BROKER: the broker says "Bad CONNECT: Access refused for user 'app'" (check STOMP_SERVER_USER and STOMP_SERVER_PASSWORD) -> ${named}`,
      ],
    ],
    [
      'a virtual host that there is not',
      ['--vhost', '/nope'],
      4,
      [
        `fail virtual host: cannot connect to BROKER: the broker says "Bad CONNECT: Virtual host '/nope' access denied" (check STOMP_SERVER_VHOST, that the user may use it, and the max-connections of both (list_user_limits, list_vhost_limits)) -> ${named}`,
      ],
    ],
    [
      'TLS on its plain port',
      ['--ssl'],
      4,
      [
        `fail TLS: cannot connect to BROKER: Client network socket disconnected before secure TLS connection was established (${ssl}) -> ${server}`,
      ],
    ],
    [
      'a time limit beyond consumer_timeout',
      ['--timeout', '0', '--queue-type', 'quorum'],
      0,
      [
        'warn consumer_timeout: RabbitMQ waits 30 minutes for an ACK, unless it is set otherwise, and STOMP_MESSAGE_TIMEOUT is none -> raise consumer_timeout at the broker, or lower that below it',
      ],
    ],
    [
      'no heart-beats',
      ['--incoming-heartbeat', '0', '--strict'],
      2,
      [
        'warn heart-beats: from the broker none, to it every 10000 ms -> without them a connection that is cut is noticed late: set STOMP_INCOMING_HEARTBEAT and STOMP_OUTGOING_HEARTBEAT',
      ],
    ],
    [
      'retries in quorum queues',
      ['--queue-type', 'quorum', '--retries', '2'],
      0,
      [
        `warn retry policy: retries come back by RabbitMQ itself, at most once when a node dies; make that at least once -> rabbitmqctl set_policy --apply-to queues retries '\\.retry\\.\\d+$' '{"dead-letter-strategy":"at-least-once","overflow":"reject-publish"}'`,
      ],
    ],
    [
      'a standby that is down',
      ['--standby-host', '127.0.0.1', '--standby-port', '1'],
      0,
      [
        `warn TCP: cannot connect to BROKER: connect ECONNREFUSED BROKER (nothing listens there: is the broker up, with STOMP on this port?) -> ${server}`,
      ],
    ],
  ];
  for (const [what, args, code, expected] of setups) {
    it(`tells of ${what} with ${code}`, async () => {
      const checked = await reaching(rabbitmq!, [unique('check'), ...args]);
      assert.deepEqual(checked.wrong, expected);
      assert.equal(checked.code, code, checked.stderr);
    });
  }

  const isQuorumAlone = consumerTimeoutOf(`RabbitMQ/${rabbitmq?.version ?? ''}`)?.isOfQuorumQueues === true;
  const older = isQuorumAlone ? {} : { skip: 'RabbitMQ before 4.3 has it for all queues' };
  it(
    'does not tell of consumer_timeout where it is for quorum queues alone, but of queues of others',
    older,
    async () => {
      const queue = unique('check');
      const own = await reaching(rabbitmq!, [queue, '--timeout', '0']);
      assert.deepEqual(own.wrong, []);
      for (const name of [queue, `DLQ.${queue}`]) await put(rabbitmq!, `/queue/${name}`, {}, {});
      const { wrong } = await reaching(rabbitmq!, [queue, '--timeout', '0', '--no-declare']);
      assert.match(wrong.join(), /^warn consumer_timeout: /);
    },
  );

  it('tells of a variable that is no setting', async () => {
    const { wrong, code } = await reaching(rabbitmq!, ['x'], { STOMP_SERVER_HOSTS: 'a' });
    assert.deepEqual(
      [wrong, code],
      [['warn settings: STOMP_SERVER_HOSTS is no setting: did you mean STOMP_SERVER_HOST?'], 0],
    );
  });

  it('declares nothing unless asked to, and then what the start would', async () => {
    const queue = unique('check');
    const { steps } = await reaching(rabbitmq!, [queue, '--retries', '1']);
    assert.ok(steps.includes('not checked queues'), steps.join());
    const queues = () => rabbitmq!.ctl!('list_queues', '--no-table-headers', 'name');
    assert.doesNotMatch(await queues(), new RegExp(`${queue}|stomp-pubsub.check`));
    const declared = await reaching(rabbitmq!, [queue, '--retries', '1', '--declare']);
    assert.ok(declared.steps.includes('ok queues'), declared.steps.join());
    const lines = (await queues()).split('\n').filter((name) => name.includes(queue));
    assert.deepEqual(lines.toSorted(), [`DLQ.${queue}`, queue, `${queue}.retry.5000`].toSorted());
  });

  it('looks for a queue that others declared, and its dead-letter queue', async () => {
    const queue = unique('check');
    const missing = await reaching(rabbitmq!, [queue, callback, '--no-declare']);
    assert.equal(missing.code, 4, missing.stderr);
    assert.match(missing.wrong[0] ?? '', new RegExp(`^fail .*${queue}`));
    for (const name of [queue, `DLQ.${queue}`]) await put(rabbitmq!, `/queue/${name}`, {}, {});
    const there = await reaching(rabbitmq!, [queue, callback, '--no-declare']);
    assert.deepEqual([there.code, there.wrong], [0, []]);
  });

  it('tells of a queue that has other arguments with 4', async () => {
    const queue = unique('check');
    await put(rabbitmq!, `/queue/${queue}`, '1', { 'x-dead-letter-routing-key': 'other' });
    const { code, wrong } = await reaching(rabbitmq!, [queue, '--declare']);
    assert.equal(code, 4);
    assert.match(wrong[0]!, /^fail queues: cannot declare .*inequivalent arg 'x-dead-letter-routing-key'/);
  });

  it('tells of a permission that is missing with 4', async (t) => {
    const user = unique('limited');
    await rabbitmq!.ctl!('add_user', user, 'secret');
    t.after(() => rabbitmq!.ctl!('delete_user', user));
    await rabbitmq!.ctl!('set_permissions', user, '^$', '.*', '.*');
    const login = { STOMP_SERVER_USER: user, STOMP_SERVER_PASSWORD: 'secret' };
    const { code, wrong } = await reaching(rabbitmq!, ['x', '--declare'], login);
    assert.equal(code, 4);
    assert.match(
      wrong[0]!,
      /^fail queues: cannot declare .*ACCESS_REFUSED.*give the user the permission named/,
    );
  });

  it(
    'is a table on a terminal',
    findProgram('script') === undefined ? { skip: 'no "script" to make a terminal with' } : {},
    async () => {
      const screen = await onTerminal(rabbitmq!, 'check x --timeout 0 --queue-type quorum');
      assert.match(screen, /^ok {11}settings {14}x, dead letters in DLQ\.x\r$/m);
      assert.match(screen, /^not checked {2}callback {14}none is given\r$/m);
      assert.match(screen, /^warn {9}consumer_timeout .*\r\n {35}-> raise consumer_timeout/m);
      assertHarmless(screen);
    },
  );
});

const activemq = brokerUnderTest('activemq');
describe('check on ActiveMQ', skipWithout(activemq), () => {
  it('tells of a wrong password, and of TLS on its plain port, with 4', async () => {
    const login = await reaching(activemq!, ['x', '--password', 'wrong']);
    assert.deepEqual(login.wrong, [
      `fail login: cannot connect to BROKER: the broker says "User name [app] or password is invalid." (check STOMP_SERVER_USER and STOMP_SERVER_PASSWORD) -> ${named}`,
    ]);
    const tls = await reaching(activemq!, ['x', '--ssl', '--connect-timeout', '5']);
    assert.match(tls.wrong[0]!, /^fail TLS: .*no answer within 5 s .*check STOMP_USE_SSL/);
    assert.deepEqual([login.code, tls.code], [4, 4]);
  });

  it('finds the scheduler and the dead-letter strategy by a message of its own', async () => {
    const { code, wrong, steps } = await reaching(activemq!, [
      unique('check'),
      '--retries',
      '2',
      '--declare',
    ]);
    assert.deepEqual([code, wrong], [0, []]);
    for (const step of ['ok dead-letter strategy', 'ok scheduler', 'ok queues', 'ok frame limit'])
      assert.ok(steps.includes(step), steps.join());
  });

  it('tells that they are missing', async () => {
    const shared = '<deadLetterStrategy><sharedDeadLetterStrategy/></deadLetterStrategy>';
    const policies = `<policyEntry queue="stomp-pubsub.check">${shared}</policyEntry>`;
    await using broker = await startActivemq({ hasScheduler: false, policies });
    const bare = await reaching(broker, ['x']);
    assert.deepEqual(bare.wrong, [
      'warn dead-letter strategy: what cannot be copied is refused, and goes to ActiveMQ.DLQ, which all queues share -> set <individualDeadLetterStrategy queuePrefix="DLQ."/> in activemq.xml',
    ]);
    const retrying = await reaching(broker, ['x', '--retries', '1']);
    assert.match(retrying.wrong[1]!, /^fail scheduler: the broker has no scheduler/);
    const strict = await reaching(broker, ['x', '--strict']);
    assert.deepEqual([bare.code, retrying.code, strict.code], [0, 4, 4]);
  });
});
