/**
 * The two programs: `pubsub`, which has everything as subcommands and consumes when none of them is named, and `publish`,
 * which is one of them.
 */
import { Command, CommanderError, Option } from 'commander';
import type { CallbackArgument } from '../commands/consuming.js';
import { PubsubError } from '../errors.js';
import { settings } from '../settings.js';
import { version } from '../version.js';
import { addFlags, addSettings, append, flagsOf } from './flags.js';
import { completionScript, shells } from './completion.js';
import { addHelp } from './help.js';
import { addOperators } from './operators.js';

const consumeExamples = [
  '/queue/orders ./orders#onOrder',
  '/queue/orders ./orders#onOrder -c 20 --retries 3 --retry-delay 5s,1m',
  'Consumer.billing.VirtualTopic.orders ./orders#onOrder',
  '/queue/orders --timeout 60 -- ./job.sh --fast',
  '--embedded /queue/orders ./orders#onOrder',
  '/queue/orders my-package#handlers.onOrder --once',
];

const publishExamples = [
  `/queue/xpto '{"key":"value"}'`,
  `/topic/VirtualTopic.xpto '{"key":"value"}' --header tenant=7`,
  '/queue/xpto --file order.json',
  '/queue/xpto --lines < orders.ndjson',
  '/queue/xpto --lines --transaction < orders.ndjson',
  '/queue/xpto --lines --resume-from 12000 < orders.ndjson',
  `/queue/xpto --text 'some text'`,
  '/queue/xpto --file scan.png --body bytes --content-type image/png',
];

/** The settings that mean something to the embedded broker. */
const brokerSettings = ['port', 'user', 'password', 'logLevel', 'logFormat'] as const;

/** What was typed: behind `--` stands a program with its arguments. */
export interface Typed {
  readonly own: readonly string[];
  readonly words: readonly string[];
}

/** Consumes by itself, and by the subcommand `consume`. To set the others up takes time, so that is done when they may be meant. */
export function createPubsub(name: string, typed: Typed): Command {
  const program = setUp(new Command(name), typed);
  makeConsume(program, typed);
  return isToConsume(typed) ? program : addCommands(program, typed);
}

/** Is the first word a destination beyond doubt, and is no help asked for? */
const isToConsume = ({ own: [, , first = '', ...others] }: Typed): boolean =>
  /^[^-].*[/.]/.test(first) && !others.some((word) => /^(-\w*h|--help)/.test(word));

/** All the subcommands, and help. */
export function addCommands(program: Command, typed: Typed): Command {
  addHelp(makeConsume(program.command('consume'), typed), prefixed('consume', consumeExamples));
  addHelp(makePublish(program.command('publish')), prefixed('publish', publishExamples));
  addOperators(program, (module) =>
    module === undefined && typed.words.length === 0 ? undefined : callbackMeant(module, typed.words),
  );
  addHelp(addBroker(program), ['broker', 'broker --port 61700 --user app --password secret --host 0.0.0.0']);
  addHelp(addRun(program), ['run', 'run consumers.mjs --only orders,invoices']);
  addHelp(addDemo(program), ['demo']);
  addHelp(addConfig(program), ['config', 'config --host broker --json']);
  addHelp(addCompletion(program, typed), ['completion bash > /etc/bash_completion.d/pubsub']);
  program.helpCommand('help [command]', 'what a command does, and its options');
  return addHelp(program, consumeExamples);
}

export function createPublish(typed: Typed): Command {
  return addHelp(makePublish(setUp(new Command('publish'), typed)), publishExamples);
}

const prefixed = (word: string, lines: readonly string[]): string[] => lines.map((line) => `${word} ${line}`);

function addBroker(program: Command): Command {
  const command = program
    .command('broker')
    .description('run an in-memory broker: for development and tests, it keeps nothing')
    .option('--host <address>', 'address to listen on (default 127.0.0.1); others need --user and --password')
    .action(async (flags: Record<string, unknown>) => {
      const { broker } = await import('../commands/broker.js');
      await broker(flags);
    });
  for (const setting of brokerSettings) addFlags(command, setting, settings[setting]);
  return command;
}

function addRun(program: Command): Command {
  const command = program
    .command('run')
    .description('all the consumers that a file defines, in one process')
    .argument('[file]', 'exports defineConsumers({ ... }); default: pubsub.config.ts, .mjs, .js or .json')
    .option('--only <names>', 'these consumers alone, with commas between')
    .option('--watch', 'load changed callbacks anew, for development')
    .option('--embedded', 'bring an in-memory broker along, for development')
    .action(async (file: string | undefined) => {
      const { run } = await import('../commands/run.js');
      await run(file, flagsOf(command));
    });
  addSettings(command, ['operator']);
  return command;
}

function addDemo(program: Command): Command {
  const command = program
    .command('demo')
    .description('walk through the first steps on an in-memory broker')
    .action(async () => {
      const { demo } = await import('../commands/demo.js');
      await demo(flagsOf(command).color as boolean | undefined);
    });
  addFlags(command, 'color', settings.color);
  return command;
}

function addConfig(program: Command): Command {
  const command = program
    .command('config')
    .description('show each setting, its value and where that comes from; secrets are masked')
    .option('--json', 'as JSON, a setting a line')
    .action(async () => {
      const { config } = await import('../commands/config.js');
      const { json, ...flags } = flagsOf(command);
      await config(json === true, flags);
    });
  addSettings(command, ['pubsub', 'publish', 'operator', 'move-messages']);
  return command;
}

function addCompletion(program: Command, typed: Typed): Command {
  return program
    .command('completion')
    .description(`print what makes a shell complete commands and options: ${shells.join(', ')}`)
    .argument('<shell>', shells.join(', '))
    .action(async (shell: string) => {
      const { print } = await import('../commands/operating.js');
      await print(completionScript(shell, program, createPublish(typed)));
    });
}

function makeConsume(command: Command, { words }: Typed): Command {
  command
    .description('Hand each message of a STOMP destination to a function, which acks or nacks it.')
    .argument('<destination>', '/queue/<name>, <name>, /topic/<name> or Consumer.<app>.VirtualTopic.<topic>')
    .argument(
      '[callback]',
      '<module>#<export>: a path, a package or a file: URL; without # the default export; or -- and a program with its arguments',
    )
    .option('--watch', 'load a changed callback anew, for development')
    .option('--embedded', 'bring an in-memory broker along, for development')
    .action(async (destination: string, module: string | undefined) => {
      const { pubsub } = await import('../commands/consume.js');
      const callback = callbackMeant(module, words);
      await pubsub(destination, callback, flagsOf(command));
    });
  addSettings(command, ['pubsub']);
  return command;
}

function callbackMeant(module: string | undefined, [program, ...args]: readonly string[]): CallbackArgument {
  if (module !== undefined && program !== undefined)
    throw new PubsubError(
      'invalid-usage',
      `either the callback ${module} or the program ${program}, not both`,
    );
  if (program !== undefined) return [program, ...args];
  if (module !== undefined) return module;
  throw new PubsubError(
    'invalid-usage',
    'which callback? Write <module>#<export>, like ./callbacks#ack, or -- and a program, like -- ./job.sh',
  );
}

function makePublish(command: Command): Command {
  command
    .description('Send JSON, text or bytes; done when the broker has confirmed every message.')
    .argument('<destination>', '/queue/<name>, /topic/<name> or any destination the broker knows')
    .argument('[json]', 'the body; without it, or with -, it is read from standard input')
    .option('--file <path>', 'read the body from a file')
    .option('--text', 'the body is text, sent as it stands: --body text')
    .option(
      '--body <kind>',
      'what the body is: json (default, unless the content type says otherwise), text or bytes',
    )
    .option('--content-type <type>', 'content type of the message (default: that of the kind of its body)')
    .option('--content-encoding <coding>', 'how the bytes of the body are packed: gzip, deflate or br')
    .option('--lines', 'the input is one JSON document, or text, a line, each a message')
    .option('--resume-from <line>', 'with --lines: leave out the lines up to this one')
    .option(
      '--skip-invalid',
      'with --lines: leave out lines that are not JSON, and name them; else the first one ends it',
    )
    .option('--transaction', 'all messages or none')
    .option(
      '--transaction-size <number>',
      'with --lines: so many messages in each transaction, all or none of them',
    )
    .option('--header <name=value>', 'add a header; may be repeated', append)
    .option('--correlation-id <id>', 'correlation id (default: a new one for each message)')
    .option('--no-persistent', 'the messages need not survive a restart of the broker')
    .action(async (destination: string, json: string | undefined) => {
      const { publish } = await import('../commands/publish.js');
      await publish(destination, json, flagsOf(command));
    });
  addSettings(command, ['publish']);
  return command;
}

function setUp(program: Command, { own }: Typed): Command {
  return program
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({ outputError: () => undefined })
    .addOption(new Option('-V, --version', 'the version; with --json, that of Node too').helpGroup('Help'))
    .addOption(new Option('--json', 'with --version: as JSON').hideHelp())
    .on('option:version', () => {
      const all = { version, node: process.versions.node, stomp: ['1.2', '1.1', '1.0'] };
      process.stdout.write(`${own.includes('--json') ? JSON.stringify(all) : version}\n`);
      throw new CommanderError(0, 'commander.version', version);
    });
}
