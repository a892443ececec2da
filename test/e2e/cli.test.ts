/** The commands' outside: help, usage, settings and where they come from, refusals, and what is printed where. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, it } from 'node:test';
import type { Frame } from '../../src/stomp/frames.js';
import { settingNames, settings } from '../../src/settings.js';
import { flagName, type Setting } from '../../src/settings/kinds.js';
import { drainQueue, put } from '../support/messages.js';
import { packageRoot, run, type Running } from '../support/process.js';
import { startProxy } from '../support/proxy.js';
import { findProgram, freePorts } from '../support/server-process.js';
import { until, within } from '../support/until.js';
import {
  anyBroker,
  at,
  DEADLINE_MS,
  fixture,
  publish,
  pubsub,
  realBrokers,
  skipWithout,
  startPubsub,
  stopPubsub,
  temporaryFolder,
  unique,
} from './commands.js';
import { startScriptedServer } from './scripted-server.js';

const bins = ['pubsub', 'publish'] as const;
const ack = fixture('plain.js#ack');

describe('usage', () => {
  for (const bin of bins) {
    it(`${bin} --help-all shows the flag, the variable and the default of every setting, on stdout`, async () => {
      const help = run(bin, ['--help-all']);
      assert.deepEqual(await help.exit(), { code: 0, signal: null });
      assert.equal(help.stderr, '');
      const shown = help.stdout.replace(/\s+/g, ' ');
      const rows = settingNames.map((name): Setting<unknown> => settings[name]);
      for (const row of rows.filter(({ commands, flag }) => flag !== undefined && commands.includes(bin))) {
        const isOn = row.isBoolean && row.default === true;
        assert.ok(shown.includes(isOn ? flagName(row)!.replace('--', '--no-') : row.flag!), row.flag);
        const hasDefault = row.default !== undefined && row.isList !== true;
        const fallback = !hasDefault ? '' : `, default ${row.default as string | number}`;
        const told = `[${row.variable}${fallback}]`;
        assert.ok(shown.includes(told), row.variable);
      }
      assert.match(shown, /Examples: (?:pubsub|publish) \/queue\//);
      assert.doesNotMatch(shown, /turn off/);
      for (const line of help.stdout.split('\n')) assert.ok(line.length <= 80, line);
      for (const status of [0, 1, 2, 3, 4, 5])
        assert.match(help.stdout, new RegExp(`^ +${status} +\\w`, 'm'));
    });

    it(`${bin} --version prints the version of the package`, async () => {
      const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
        version: string;
      };
      const running = run(bin, ['--version']);
      assert.deepEqual(await running.exit(), { code: 0, signal: null });
      assert.equal(running.stdout, `${version}\n`);
    });

    it(`${bin} ends with 2 for an unknown flag, a missing argument and one too many`, async () => {
      await using server = await startScriptedServer();
      const wrong = [
        [['/queue/x', '1', '--hosst', 'x'], /--hosst/],
        [['/queue/x', '1', '--host'], /--host <name>/],
        [[], /missing required argument/],
        [['/queue/x', '1', '2'], /too many arguments/],
      ] as const;
      for (const [args, expected] of wrong) {
        const running = run(bin, args, { env: server.env });
        assert.deepEqual(await running.exit(), { code: 2, signal: null }, running.stderr);
        assert.match(running.stderr, expected);
        assert.match(running.stderr, /--help/);
        assert.equal(running.stdout, '');
      }
      assert.equal(server.connections, 0);
    });
  }
});

describe('settings', () => {
  /** Runs publish; resolves with the heart-beat header of its CONNECT: outgoing, incoming. */
  async function heartbeat(flags: string[], env: Record<string, string>, dotenv = ''): Promise<string> {
    await using server = await startScriptedServer();
    const cwd = temporaryFolder({ '.env': `# comment\n${dotenv}\n` });
    const { code, stderr } = await publish(server, ['/queue/x', '1', ...flags], { env, cwd });
    assert.equal(code, 0, stderr);
    const [frame] = await server.received('CONNECT');
    return frame?.headers['heart-beat'] ?? '';
  }

  it('come from the flag before the environment before .env before the default', async () => {
    const flag = ['--outgoing-heartbeat', '3000'];
    const env = { STOMP_OUTGOING_HEARTBEAT: '2000' };
    const dotenv = 'STOMP_OUTGOING_HEARTBEAT=1000';
    assert.equal(await heartbeat(flag, env, dotenv), '3000,10000');
    assert.equal(await heartbeat([], env, dotenv), '2000,10000');
    assert.equal(await heartbeat([], {}, dotenv), '1000,10000');
    assert.equal(await heartbeat([], {}), '10000,10000');
  });

  it('that are empty count as unset', async () => {
    const env = { STOMP_OUTGOING_HEARTBEAT: '', STOMP_SERVER_VHOST: '', STOMP_LOG_LEVEL: '' };
    assert.equal(await heartbeat([], env, 'STOMP_INCOMING_HEARTBEAT='), '10000,10000');
  });

  it('that are wrong are all reported at once, with 2, and without the password', async () => {
    await using server = await startScriptedServer();
    const running = run('pubsub', ['/queue/x', ack, '--concurrency', '0', '--log-level', 'loud'], {
      env: {
        ...server.env,
        STOMP_SERVER_PORT: '61613x',
        STOMP_USE_SSL: 'maybe',
        STOMP_GRACEFUL_WAIT_SECONDS: '-1',
        STOMP_SERVER_PASSWORD: 'hunter2\nhunter3',
        STOMP_PROCESS_MSG_WORKERS: 'many',
      },
    });
    assert.deepEqual(await running.exit(), { code: 2, signal: null });
    const lines = running.stderr.trimEnd().split('\n');
    const expected = [
      /^pubsub: error: STOMP_SERVER_PORT: .*65535 expected, not "61613x"$/,
      /^pubsub: error: STOMP_SERVER_PASSWORD: /,
      /^pubsub: error: STOMP_USE_SSL: true or false expected, not "maybe"$/,
      /^pubsub: error: --concurrency: .* not "0"$/,
      /^pubsub: error: STOMP_GRACEFUL_WAIT_SECONDS: .* not "-1"$/,
      /^pubsub: error: STOMP_PROCESS_MSG_WORKERS: .* not "many"$/,
      /^pubsub: error: --log-level: one of trace, .* not "loud"$/,
    ];
    assert.equal(lines.length, expected.length, running.stderr);
    for (const pattern of expected)
      assert.ok(
        lines.some((line) => pattern.test(line)),
        String(pattern),
      );
    assert.doesNotMatch(running.stderr, /hunter/);
    assert.equal(server.connections, 0);
  });

  it('that contradict each other are reported with 2', async () => {
    const running = run('pubsub', ['/topic/x', ack, '--durable', '--standby-host', 'b'], { env: at(1) });
    assert.deepEqual(await running.exit(), { code: 2, signal: null });
    assert.match(running.stderr, /STOMP_SERVER_STANDBY_HOST and STOMP_SERVER_STANDBY_PORT/);
    assert.match(running.stderr, /STOMP_LISTENER_CLIENT_ID/);
  });

  it('that are true or false may be spelled in many ways, and flags win', async () => {
    const spellings: [env: string, flags: string[], isOn: boolean][] = [
      ['Yes', [], true],
      ['t', [], true],
      ['OFF', [], false],
      ['0', [], false],
      ['false', ['--exclusive'], true],
      ['true', ['--no-exclusive'], false],
    ];
    await Promise.all(
      spellings.map(async ([env, flags, isOn]) => {
        await using server = await startScriptedServer();
        const running = pubsub(server, 'x', ack, { flags, env: { STOMP_DEFAULT_EXCLUSIVE_QUEUE: env } });
        // Its dead-letter queue is declared by a SUBSCRIBE, too.
        const isOfQueue = ({ headers }: Frame) => headers.destination === '/queue/x';
        const { headers } = await until(
          () => server.frames.find((frame) => frame.command === 'SUBSCRIBE' && isOfQueue(frame)),
          DEADLINE_MS,
          () => `the subscription in ${running.stderr}`,
        );
        assert.equal(headers.exclusive, isOn ? 'true' : undefined, `${env} ${flags.join(' ')}`);
        await running.kill();
      }),
    );
  });

  it('that nobody knows are warned about', async () => {
    await using server = await startScriptedServer();
    const env = { STOMP_SERVER_HOTS: 'typo', SOMETHING_ELSE: '1' };
    const running = await startPubsub(server, 'x', ack, { env });
    const warnings = running.logLines.filter((line) => 'variable' in line);
    assert.deepEqual(
      warnings.map(({ level, variable }) => [level, variable]),
      [['warn', 'STOMP_SERVER_HOTS']],
    );
    await stopPubsub(running);
  });

  for (const [bin, ...args] of [
    ['pubsub', 'broker'],
    ['publish', 'x', '1'],
    ['pubsub', 'peek', 'x'],
  ] as const) {
    it(`that nobody knows are warned about by ${bin} ${args[0]}, too`, async () => {
      const [port = 0] = await freePorts(1);
      const running = run(bin, args, { env: { ...at(port), STOMP_RECEIPT_TIMEOUTS: 'typo' } });
      await until(
        () => running.logLines.some(({ variable }) => variable === 'STOMP_RECEIPT_TIMEOUTS'),
        DEADLINE_MS,
        () => `the variable in ${running.stderr}`,
      );
      await running.kill();
    });
  }

  for (const bin of bins) {
    it(`in a .env that cannot be read end ${bin} with 2 and one line`, async () => {
      await using server = await startScriptedServer();
      const cwd = temporaryFolder({ '.env/file': '' });
      const running = run(bin, ['/queue/x', bin === 'pubsub' ? ack : '1'], { cwd, env: server.env });
      assert.deepEqual(await running.exit(), { code: 2, signal: null });
      assert.match(running.stderr, new RegExp(`^${bin}: error: \\.env cannot be read: [^\\n]+\\n$`));
      assert.equal(server.connections, 0);
    });
  }
});

describe('a destination that cannot be consumed ends with 2 and one line before anything is sent:', () => {
  const wrong: [destination: string, expected: RegExp, ...flags: string[]][] = [
    ['', /the name is empty/],
    ['/queue/', /the name is empty/],
    ['/topic/ ', /the name is empty/],
    ['/queue/#', /wildcard/],
    ['*.orders', /wildcard/],
    ['/queue/a/b', /"\/" is ambiguous.*%2F/],
    ['a/b', /"\/" is ambiguous/],
    ['queue/x', /the first slash is missing; write \/queue\/x/],
    ['topic/x', /the first slash is missing; write \/topic\/x/],
    ['/exchange/amq.topic', /\/exchange\/ is no kind of source/],
    ['/topic/Consumer.app.VirtualTopic.x', /leave \/topic\/ away: Consumer\.app\.VirtualTopic\.x/],
    ['Consumer.app.VirtualTopic', /Consumer\.<app>\.VirtualTopic\.<topic>/],
    ['Consumer.VirtualTopic.x', /Consumer\.<app>\.VirtualTopic\.<topic>/],
    ['Consumer.app.VirtualTopic.', /Consumer\.<app>\.VirtualTopic\.<topic>/],
    ['/queue/x', /--queue-name/, '--queue-name', 'mine'],
  ];
  for (const [destination, expected, ...flags] of wrong) {
    it(`"${destination}" ${flags.join(' ')}`.trimEnd(), async () => {
      await using server = await startScriptedServer();
      const running = pubsub(server, destination, ack, { flags });
      assert.deepEqual(await running.exit(), { code: 2, signal: null }, running.stderr);
      assert.match(running.stderr, /^pubsub: error: cannot consume from [^\n]+\n$/);
      assert.match(running.stderr, expected);
      assert.equal(server.connections, 0);
    });
  }
});

for (const broker of realBrokers()) {
  describe(`refusals by ${broker.name} end with 4 and one line that says what to change:`, () => {
    const refused = async (env: Record<string, string>, expected: RegExp) => {
      const queue = `/queue/${unique('cli')}`;
      for (const running of [
        pubsub(broker, queue, ack, { env }),
        await publish(broker, [queue, '1'], { env }),
      ]) {
        assert.deepEqual(await running.exit(), { code: 4, signal: null }, running.stderr);
        assert.match(running.stderr, /^(?:pubsub|publish): [^\n]+\n$/);
        assert.match(running.stderr, expected);
        assert.equal(running.stdout, '');
        assert.doesNotMatch(running.stderr, /hunter2/);
      }
    };

    it('a wrong password', () =>
      refused({ STOMP_SERVER_PASSWORD: 'hunter2' }, /STOMP_SERVER_USER and STOMP_SERVER_PASSWORD/));

    it('a wrong vhost', broker.name === 'rabbitmq' ? {} : { skip: 'it has no virtual hosts' }, () =>
      refused({ STOMP_SERVER_VHOST: 'nope' }, /STOMP_SERVER_VHOST/),
    );

    const { queueArguments } = broker.capabilities;
    it(
      'a queue that is there with other arguments',
      queueArguments ? {} : { skip: 'queues have no arguments' },
      async () => {
        const plain = { 'x-dead-letter-exchange': undefined, 'x-dead-letter-routing-key': undefined };
        const name = unique('cli');
        await put(broker, `/queue/${name}`, 1, plain);
        for (const running of [
          pubsub(broker, `/queue/${name}`, ack),
          await publish(broker, [`/queue/${name}`, '1']),
        ]) {
          assert.deepEqual(await running.exit(), { code: 4, signal: null }, running.stderr);
          const line = running.stderr.trimEnd().split('\n').at(-1);
          assert.match(line ?? '', /^(?:pubsub|publish): .*inequivalent arg.*use it as it is: --no-declare/);
        }
      },
    );
  });
}

describe('a broker that cannot be reached', () => {
  it('is waited for by pubsub, which says so and consumes when it appears', async () => {
    await using server = await startScriptedServer({ bodies: [{ n: 1 }] });
    await using proxy = await startProxy({ host: '127.0.0.1', port: server.port });
    await proxy.refuse();
    const consumer = pubsub({ env: at(proxy.port) }, 'x', ack, { env: { STOMP_WAIT_TO_CONNECT: '0.2' } });
    await consumer.says('no connection');
    const waiting = consumer.said('no connection')[0];
    assert.equal(waiting?.level, 'warn');
    assert.match(String(waiting.reason), new RegExp(`127\\.0\\.0\\.1:${proxy.port}.*ECONNREFUSED`));
    assert.ok(typeof waiting.retryInMs === 'number' && waiting.retryInMs <= 200);
    await proxy.accept();
    await consumer.waitFor(/"msg":"plain\.js"/);
    const { acked } = await stopPubsub(consumer);
    assert.equal(acked, 1);
  });

  for (const broker of realBrokers()) {
    it(`because its port speaks no TLS: ${broker.name}, and the error says what to look at`, async () => {
      const env = { STOMP_USE_SSL: 'true', STOMP_CONNECT_TIMEOUT: '5' };
      const { code, stderr } = await publish(broker, ['/queue/x', '1'], { env });
      assert.equal(code, 4, stderr);
      assert.match(stderr, /^publish: error: cannot connect to .*check STOMP_USE_SSL(?: and|,) the port/m);
    });
  }

  it('because nothing listens there ends publish, and the error says what to look at', async () => {
    const [port] = await freePorts(1);
    const { code, stderr } = await publish({ env: at(port!) }, ['/queue/x', '1']);
    assert.equal(code, 4, stderr);
    assert.match(stderr, /ECONNREFUSED 127\.0\.0\.1:\d+ \(nothing listens there: is the broker up/);
  });

  it('is left for the standby server', async () => {
    await using server = await startScriptedServer();
    const [port] = await freePorts(1);
    const env = {
      ...at(port!),
      STOMP_SERVER_STANDBY_HOST: '127.0.0.1',
      STOMP_SERVER_STANDBY_PORT: String(server.port),
    };
    const { code, stderr } = await publish({ env }, ['/queue/x', '1']);
    assert.equal(code, 0, stderr);
    assert.equal(server.connections, 1);
  });
});

describe('what changes nothing', () => {
  for (const [flags, setting] of [
    [['--inline', '--workers', '4'], 'STOMP_PROCESS_MSG_WORKERS without worker processes'],
    [['--retry-delay', '1s'], 'STOMP_RETRY_DELAY without STOMP_RETRIES'],
  ] as const) {
    it(`is told: ${flags.join(' ')}`, async () => {
      await using server = await startScriptedServer();
      const consumer = await startPubsub(server, 'x', ack, { flags });
      await stopPubsub(consumer);
      const told = consumer.logLines.find((line) => 'setting' in line);
      assert.ok(String(told?.setting).startsWith(setting), consumer.stderr);
    });
  }
});

describe('a command that was meant otherwise', () => {
  const refused = async (running: Running, status: number) => {
    assert.deepEqual(await running.exit(), { code: status, signal: null });
    return running.stderr;
  };

  it('a misspelt subcommand is named', async () => {
    const stderr = await refused(pubsub({ env: at(1) }, 'peekk', 'orders'), 2);
    assert.match(stderr, /there is no command peekk; did you mean pubsub peek\?/);
  });

  it('help for a command that there is not says so, and no more', async () => {
    const running = pubsub({ env: at(1) }, 'help', 'peekk');
    assert.equal(await refused(running, 2), 'pubsub: error: there is no command peekk; did you mean peek?\n');
    assert.equal(running.stdout, '');
    assert.equal(
      await refused(pubsub({ env: at(1) }, 'help', 'nothing-like-it'), 2),
      'pubsub: error: there is no command nothing-like-it; pubsub --help shows what there is\n',
    );
  });

  it('a wrong word of a subcommand is explained by its own help', async () => {
    for (const [words, command] of [
      [['run', '--concurrency', '3'], 'run'],
      [['peek'], 'peek'],
      [['move_messages', 'a', 'b', '--bogus'], 'move-messages'],
    ] as const) {
      const stderr = await refused(run('pubsub', words, { env: at(1) }), 2);
      assert.ok(stderr.endsWith(` (pubsub ${command} --help shows what there is)\n`), stderr);
    }
  });

  it('a body without a destination is told what is missing', async () => {
    const stderr = await refused(await publish({ env: at(1) }, [`{"it's":1}`]), 2);
    assert.equal(
      stderr,
      `publish: error: {"it's":1} looks like the body: write publish <destination> '{"it'\\''s":1}'\n`,
    );
  });
});

describe('what is printed', () => {
  const secret = 'hunter2:\\secret';

  it('never holds the passcode, at any level; stdout stays empty', async () => {
    await using server = await startScriptedServer({ bodies: [{ n: 1 }] });
    await using refusing = await startScriptedServer({
      answer: ({ headers }, socket) => {
        socket.write(`ERROR\nmessage:Bad CONNECT\n\nAccess refused for user '${headers.login ?? ''}'\n\0`);
        return true;
      },
    });
    const env = { STOMP_SERVER_USER: 'user', STOMP_SERVER_PASSWORD: secret, STOMP_LOG_LEVEL: 'trace' };
    const consumer = await startPubsub(server, 'x', ack, { env });
    await server.received('ACK');
    await stopPubsub(consumer);
    const published = await publish(server, ['/queue/x', '1'], { env });
    assert.equal(published.code, 0, published.stderr);
    const refused = await publish(refusing, ['/queue/x', '1', '--password', secret], {
      env: { ...env, STOMP_SERVER_PASSWORD: '' },
    });
    assert.equal(refused.code, 4, refused.stderr);
    const [connect] = await server.received('CONNECT');
    assert.equal(connect?.headers.passcode, secret);
    for (const { stdout, stderr } of [consumer, published, refused]) {
      assert.doesNotMatch(stdout + stderr, /hunter2/);
      assert.equal(stdout, '');
    }
  });

  it('is JSON lines when nobody watches, each with level, time and constant text', async () => {
    await using server = await startScriptedServer({ bodies: [{ n: 1 }] });
    const consumer = await startPubsub(server, 'x', ack, { flags: ['--log-level', 'debug'] });
    await server.received('ACK');
    await stopPubsub(consumer);
    const lines = consumer.stderr.trimEnd().split('\n');
    for (const line of lines) {
      const { level, time, msg } = JSON.parse(line) as Record<string, unknown>;
      assert.match(String(level), /^(?:debug|info|warn|error)$/);
      assert.ok(!Number.isNaN(Date.parse(String(time))), line);
      assert.ok(typeof msg === 'string' && msg !== '', line);
    }
    const processed = consumer.said('settled')[0];
    assert.deepEqual(
      [processed?.messageId, processed?.correlationId, processed?.redelivered, processed?.outcome],
      ['m-0', 'c-0', false, 'acked'],
    );
    assert.ok(typeof processed?.durationMs === 'number');
  });

  it('is readable text with --log-format pretty, without colours in a pipe unless FORCE_COLOR says so', async () => {
    for (const [env, flags, isColoured] of [
      [{}, [], false],
      [{ FORCE_COLOR: '1' }, [], true],
      [{ FORCE_COLOR: '1' }, ['--no-color'], false],
      [{ NO_COLOR: '1', FORCE_COLOR: '1' }, [], false],
      [{ NO_COLOR: '1' }, ['--color'], true],
    ] as const) {
      await using server = await startScriptedServer({ bodies: [{ n: 1 }] });
      const consumer = pubsub(server, 'x', ack, {
        flags: ['--log-format', 'pretty', ...flags],
        env,
      });
      await consumer.waitFor(/INFO.*consuming/);
      await consumer.waitFor(/INFO.*plain\.js.*c-0/s);
      consumer.signal('SIGTERM');
      assert.deepEqual(await consumer.exit(), { code: 0, signal: null });
      assert.equal(consumer.logLines.length, 0);
      assert.equal(consumer.stderr.includes('\x1b['), isColoured, consumer.stderr);
      assert.equal(consumer.stdout, '');
    }
  });

  const script = findProgram('script');
  it(
    'has colours on a terminal, unless NO_COLOR says no',
    script === undefined ? { skip: 'no "script" to make a terminal with' } : {},
    async () => {
      for (const env of [{}, { NO_COLOR: '1' }]) {
        await using server = await startScriptedServer();
        const command = `'${process.execPath}' '${join(packageRoot, 'bin/publish.js')}' /queue/x 1 -l debug`;
        const { PATH, HOME } = process.env;
        const terminal = spawn(script!, ['-qec', command, '/dev/null'], {
          env: { PATH, HOME, TERM: 'xterm-256color', ...server.env, ...env },
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        const shown = await within(text(terminal.stdout), DEADLINE_MS, 'the end of publish on a terminal');
        assert.match(shown, /DEBUG.*connected/);
        assert.equal(shown.includes('\x1b['), !('NO_COLOR' in env), JSON.stringify(shown));
      }
    },
  );

  it(
    'by a callback goes to the log with the correlation id of its message, and so does what it publishes',
    skipWithout(anyBroker()),
    async () => {
      const broker = anyBroker()!;
      const [from, to] = [`/queue/${unique('cli')}`, `/queue/${unique('cli')}`];
      const flags = ['--concurrency', '5'];
      const consumer = await startPubsub(broker, from, fixture('context.mjs#forward'), { flags });
      const ids = ['a', 'b', 'c', 'd', 'e:\n'];
      await Promise.all(ids.map((each) => put(broker, from, { to }, { 'correlation-id': each })));
      const lines = () => consumer.logLines.filter(({ source }) => source === 'console');
      await until(
        () => lines().length === 3 * ids.length,
        DEADLINE_MS,
        () => consumer.stderr,
      );
      await stopPubsub(consumer);
      assert.equal(consumer.stdout, '');
      for (const each of ids) {
        const printed = lines().filter(({ correlationId }) => correlationId === each);
        assert.deepEqual(
          printed.map(({ level, msg }) => [level, String(msg).split('\n    at ')[0]]),
          [
            ['info', `forwarded to ${to} { n: 1 }`],
            ['warn', 'two\nlines'],
            ['error', 'Error: printed'],
          ],
        );
      }
      const forwarded = await drainQueue(broker, to, { atLeast: ids.length });
      assert.deepEqual(forwarded.map(({ headers }) => headers['correlation-id']).sort(), [...ids].sort());
    },
  );
});
