/** What a person reads and types: the short help, suggestions, completions, and where a setting comes from. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { settingNames, settings } from '../../src/settings.js';
import { flagName, type Setting } from '../../src/settings/kinds.js';
import { join } from 'node:path';
import { run, runProgram, type Running } from '../support/process.js';
import { findProgram } from '../support/server-process.js';
import { temporaryFolder } from './commands.js';

async function typed(bin: 'pubsub' | 'publish', ...args: string[]): Promise<string> {
  const running = run(bin, args);
  assert.deepEqual(await running.exit(), { code: 0, signal: null }, running.stderr);
  return running.stdout;
}

async function refused(running: Running, code: number): Promise<string> {
  assert.equal((await running.exit()).code, code, running.stderr);
  return running.stderr;
}

describe('help', () => {
  it('of pubsub fits a screen, and its groups and commands have pages of their own', async () => {
    const lines = (await typed('pubsub', '--help')).trimEnd().split('\n');
    assert.ok(lines.length <= 30, String(lines.length));
    for (const line of lines) assert.ok(line.length <= 80, line);
    assert.match(await typed('pubsub', '--help', 'tls'), /^TLS:\n.*--ssl /s);
    const help = await typed('pubsub', 'help', 'peek');
    assert.equal(help, await typed('pubsub', 'peek', '--help'));
    assert.match(help, /^Usage: pubsub peek <destination>/);
    assert.match(await typed('publish', '-h'), /^Usage: publish <destination>/);
  });

  it('tells the version, and those of Node and STOMP as JSON', async () => {
    const version = (await typed('pubsub', '--version')).trim();
    const told = JSON.parse(await typed('publish', '--version', '--json')) as Record<string, unknown>;
    assert.deepEqual([told.version, told.node], [version, process.versions.node]);
  });
});

describe('a slip', () => {
  it('in the name of a command is told whatever else is typed', async () => {
    for (const args of [['peekk', 'orders'], ['redrve', 'x', '--dry-run'], ['mvoe-messages']]) {
      const stderr = await refused(run('pubsub', args), 2);
      assert.match(
        stderr,
        /^pubsub: error: there is no command \S+; did you mean pubsub (?:peek|redrive|move-messages)\?/,
      );
      assert.doesNotMatch(stderr, /install/);
    }
  });

  it('of somebody who comes from Django is told', async () => {
    const cwd = temporaryFolder({ 'callbacks/orders.mjs': 'export const ack = () => undefined;' });
    const stderr = await refused(run('pubsub', ['/queue/x', 'callbacks.orders.ack'], { cwd }), 3);
    assert.match(stderr, /did you mean \.\/callbacks\/orders#ack\?\n$/);
    assert.doesNotMatch(stderr, /install/);
  });

  it('of somebody who has no callback yet is answered with one, which works', async () => {
    const stderr = await refused(
      run('pubsub', ['/queue/x', './first#onOrder'], { cwd: temporaryFolder() }),
      3,
    );
    const [, file = '', code = ''] = /put this into (\S+):\n\n(.*)$/s.exec(stderr) ?? [];
    assert.equal(code.trimEnd().split('\n').length, 5);
    const cwd = temporaryFolder({ [file]: code });
    const check = runProgram(
      process.execPath,
      ['-e', `import('./${file}').then((m) => m.onOrder({ ack: () => 1 }))`],
      { cwd },
    );
    assert.equal((await check.exit()).code, 0, check.stderr);
  });
});

describe('config', () => {
  it('shows each setting, its value and where it comes from, and no secret', async () => {
    const cwd = temporaryFolder({ '.env': 'STOMP_RETRIES=3' });
    const env = { STOMP_SERVER_PASSWORD: 'hunter2', STOMP_SERVER_VHOST: '' };
    const running = run('pubsub', ['config', '--json', '--host', 'broker', '--timeout', '5m'], { cwd, env });
    assert.equal((await running.exit()).code, 0, running.stderr);
    const rows = running.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.equal(rows.length, settingNames.length);
    const told = (variable: string) => {
      const row = rows.find((one) => one.variable === variable);
      return [row?.value, row?.origin];
    };
    assert.deepEqual(told('STOMP_SERVER_HOST'), ['broker', 'flag']);
    assert.deepEqual(told('STOMP_MESSAGE_TIMEOUT'), [300, 'flag']);
    assert.deepEqual(told('STOMP_RETRIES'), [3, '.env']);
    assert.deepEqual(told('STOMP_SERVER_PASSWORD'), ['********', 'environment']);
    assert.deepEqual(told('STOMP_SERVER_VHOST'), ['/', 'default']);
    assert.doesNotMatch(running.stdout, /hunter2/);
  });

  it('names a variable that is no setting, and the file that a bad value is in', async () => {
    const misspelt = run('pubsub', ['config'], { env: { STOMP_CONCURENCY: '5' } });
    assert.equal((await misspelt.exit()).code, 0, misspelt.stderr);
    assert.equal(
      misspelt.stderr,
      'pubsub: STOMP_CONCURENCY is no setting; did you mean STOMP_CONCURRENCY?\n',
    );
    const bad = run('pubsub', ['config'], { cwd: temporaryFolder({ '.env': 'STOMP_RETRIES=many' }) });
    assert.equal((await bad.exit()).code, 2, bad.stderr);
    assert.match(bad.stderr, /STOMP_RETRIES \(in \.env\): .* not "many"/);
  });
});

describe('completion', () => {
  const bash = findProgram('bash');
  /** What bash offers for the last word. */
  async function offers(...words: string[]): Promise<string[]> {
    const script = await typed('pubsub', 'completion', 'bash');
    const complete = `${script}
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
_\${1}_completion; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const running = runProgram(bash!, ['-c', complete, 'bash', ...words]);
    assert.equal((await running.exit()).code, 0, running.stderr);
    return running.stdout.trimEnd().split('\n');
  }

  it(
    'of bash offers commands, their flags and the values of some',
    { skip: bash === undefined && 'no bash' },
    async () => {
      assert.ok((await offers('pubsub', 'pe')).includes('peek'));
      assert.deepEqual(await offers('pubsub', 'peek', '--al'), ['--all-headers']);
      assert.deepEqual(await offers('pubsub', '--queue-type', ''), ['classic', 'quorum']);
      for (const bin of ['pubsub', 'publish'] as const) {
        const offered = new Set(await offers(bin, '-'));
        const rows = settingNames.map((name): Setting<unknown> => settings[name]);
        for (const row of rows.filter(({ flag, commands }) => flag !== undefined && commands.includes(bin))) {
          const isOn = row.isBoolean && row.default === true;
          const flag = isOn ? flagName(row)!.replace('--', '--no-') : flagName(row)!;
          assert.ok(offered.has(flag), flag);
        }
      }
    },
  );

  for (const shell of ['zsh', 'fish']) {
    const program = findProgram(shell);
    it(
      `of ${shell} is a script that it takes`,
      { skip: program === undefined && `no ${shell}` },
      async () => {
        const script = await typed('pubsub', 'completion', shell);
        const setUp = shell === 'zsh' ? 'autoload -U compinit && compinit -D -u\n' : '';
        const ask =
          shell === 'zsh'
            ? 'print $_comps[pubsub] $_comps[publish]'
            : "complete -C 'pubsub pe'; complete -C 'publish --corr'";
        const folder = temporaryFolder({
          script: `${setUp}${script}
${ask}
`,
        });
        const running = runProgram(program!, [join(folder, 'script')]);
        assert.equal((await running.exit()).code, 0, running.stderr);
        assert.equal(running.stderr, '');
        assert.match(
          running.stdout,
          shell === 'zsh' ? /_pubsub_completion _publish_completion/ : /peek.*--correlation-id/s,
        );
      },
    );
  }

  it('of another shell is refused', async () => {
    assert.match(await refused(run('pubsub', ['completion', 'csh']), 2), /bash, zsh, fish/);
  });
});
