/**
 * The two programs: `pubsub`, which consumes when none of its subcommands is named, and `publish`, which is one of them.
 */
import { Command, CommanderError, Option } from 'commander';
import type { CallbackArgument } from '../commands/consuming.js';
import { PubsubError } from '../errors.js';
import { readAhead } from '../read-ahead.js';
import { version } from '../version.js';
import { addSettings, append, flagsOf } from './flags.js';
import { addHelp } from './help.js';

export const consumeExamples = [
  '/queue/orders ./orders#onOrder',
  '/queue/orders ./orders#onOrder -c 20 --retries 3 --retry-delay 5s,1m',
  'Consumer.billing.VirtualTopic.orders ./orders#onOrder',
  '/queue/orders --timeout 60 -- ./job.sh --fast',
  '--embedded /queue/orders ./orders#onOrder',
  '/queue/orders my-package#handlers.onOrder --once',
];

export const publishExamples = [
  `/queue/xpto '{"key":"value"}'`,
  `/topic/VirtualTopic.xpto '{"key":"value"}' --header tenant=7`,
  '/queue/xpto --file order.json',
  '/queue/xpto --lines < orders.ndjson',
  '/queue/xpto --lines --transaction < orders.ndjson',
  '/queue/xpto --lines --resume-from 12000 < orders.ndjson',
  `/queue/xpto --text 'some text'`,
  '/queue/xpto --file scan.png --body bytes --content-type image/png',
];

/** What was typed: behind `--` stands a program with its arguments. */
export interface Typed {
  readonly own: readonly string[];
  readonly words: readonly string[];
}

/** Consumes by itself; its subcommands are in subcommands.ts. */
export function createPubsub(name: string, typed: Typed): Command {
  return makeConsume(setUp(new Command(name), typed), typed);
}

/** Is the first word a destination beyond doubt, so that no subcommand can be meant, and is no help asked for? */
export const isToConsume = ({ own: [, , first = '', ...others] }: Typed): boolean =>
  /^[^-].*[/.]/.test(first) && !others.some((word) => /^(-\w*h|--help)/.test(word));

export function createPublish(typed: Typed): Command {
  return addHelp(makePublish(setUp(new Command('publish'), typed)), publishExamples);
}

export function makeConsume(command: Command, { words }: Typed): Command {
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
      readAhead(import.meta.url, '../commands/consume.js');
      const { pubsub } = await import('../commands/consume.js');
      const callback = callbackMeant(module, words);
      await pubsub(destination, callback, flagsOf(command));
    });
  addSettings(command, ['pubsub']);
  return command;
}

export function callbackMeant(
  module: string | undefined,
  [program, ...args]: readonly string[],
): CallbackArgument {
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

export function makePublish(command: Command): Command {
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
      readAhead(import.meta.url, '../commands/publish.js');
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
    .configureOutput({ outputError: () => undefined, writeErr: () => undefined })
    .addOption(new Option('-V, --version', 'the version; with --json, that of Node too').helpGroup('Help'))
    .addOption(new Option('--json', 'with --version: as JSON').hideHelp())
    .on('option:version', () => {
      const all = { version, node: process.versions.node, stomp: ['1.2', '1.1', '1.0'] };
      process.stdout.write(`${own.includes('--json') ? JSON.stringify(all) : version}\n`);
      throw new CommanderError(0, 'commander.version', version);
    });
}
