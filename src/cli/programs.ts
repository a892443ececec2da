/**
 * The two programs: `pubsub`, which has everything as subcommands and consumes when none of them is named, and `publish`,
 * which is one of them.
 */
import { Command } from 'commander';
import type { CallbackArgument } from '../commands/consume.js';
import { exitStatuses, PubsubError } from '../errors.js';
import { settings } from '../settings.js';
import { version } from '../version.js';
import { addFlags, addSettings, append, flagsOf } from './flags.js';
import { addOperators } from './operators.js';

const pubsubExamples = `
Examples:
  pubsub /queue/xpto ./callbacks#ack
  pubsub Consumer.app-A.VirtualTopic.xpto ./callbacks#ack
  pubsub /queue/orders ./dist/orders.js#onOrder --concurrency 20
  pubsub /queue/orders --timeout 60 -- ./job.sh --fast
  STOMP_SERVER_HOST=broker STOMP_USE_SSL=true pubsub /queue/xpto my-package#handlers.ack
`;

const publishExamples = `
Examples:
  publish /queue/xpto '{"key":"value"}'
  publish /topic/VirtualTopic.xpto '{"key":"value"}' --header tenant=7
  publish /queue/xpto --file order.json
  publish /queue/xpto --text 'some text'
  publish /queue/xpto --file scan.png --body bytes --content-type image/png
  publish /queue/xpto --lines < orders.ndjson
  publish /queue/xpto --lines --resume-from 12000 < orders.ndjson
  publish /queue/xpto --lines --transaction < orders.ndjson
`;

/** The settings that mean something to the embedded broker. */
const brokerSettings = ['port', 'user', 'password', 'logLevel', 'logFormat'] as const;

/** Consumes by itself, and by the subcommand `consume`; `words` stand behind `--`: a program with its arguments. */
export function createPubsub(name: string, words: readonly string[]): Command {
  const program = setUp(new Command(name), pubsubExamples).version(version);
  makeConsume(program, program, words);
  makeConsume(program.command('consume'), program, words);
  makePublish(program.command('publish'));
  const brokerCommand = program
    .command('broker')
    .description('run an in-memory broker: for development and tests, it keeps nothing')
    .option('--host <address>', 'address to listen on (default 127.0.0.1); others need --user and --password')
    .action(async (flags: Record<string, unknown>) => {
      const { broker } = await import('../commands/broker.js');
      await broker(flags);
    });
  for (const setting of brokerSettings) addFlags(brokerCommand, setting, settings[setting]);
  const runCommand = program
    .command('run')
    .description('all the consumers that a file defines, in one process')
    .argument('[file]', 'exports defineConsumers({ ... }); default: pubsub.config.ts, .mjs, .js or .json')
    .option('--only <names>', 'these consumers alone, with commas between')
    .option('--embedded', 'bring an in-memory broker along when none listens: for development and tests')
    .action(async (file: string | undefined) => {
      const { run } = await import('../commands/run.js');
      await run(file, flagsOf(runCommand));
    });
  addSettings(runCommand, ['operator']);
  program
    .command('demo')
    .description('walk through the first steps on an in-memory broker')
    .action(async () => {
      const { demo } = await import('../commands/demo.js');
      await demo();
    });
  addOperators(program);
  return program;
}

export function createPublish(): Command {
  return makePublish(setUp(new Command('publish'), publishExamples).version(version));
}

function makeConsume(command: Command, program: Command, words: readonly string[]): void {
  command
    .description('Take messages off a STOMP destination and hand each to a function, which acks or nacks it.')
    .argument('<destination>', '/queue/<name>, <name>, /topic/<name> or Consumer.<app>.VirtualTopic.<topic>')
    .argument(
      '[callback]',
      '<module>#<export>: a path, a package or a file: URL; without # the default export; or -- and a program with its arguments',
    )
    .option('--watch', 'load the callback anew when a file of its package changes: for development')
    .option('--embedded', 'bring an in-memory broker along when none listens: for development and tests')
    .action(async (destination: string, module: string | undefined) => {
      const { pubsub } = await import('../commands/consume.js');
      const callback = callbackMeant(module, words);
      await pubsub(destination, callback, flagsOf(command)).catch((error: unknown) => {
        throw withCommandMeant(error, destination, program);
      });
    });
  addSettings(command, ['pubsub']);
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

/** A subcommand that is misspelt is taken for a destination, and its destination for a module that there is not. */
function withCommandMeant(error: unknown, destination: string, { commands }: Command): unknown {
  if (!(error instanceof PubsubError && error.code === 'callback-not-found')) return error;
  const names = commands.flatMap((command) => [command.name(), ...command.aliases()]);
  const meant = names.find((name) => name.startsWith(destination.slice(0, 3)));
  if (meant === undefined || destination.length < 3) return error;
  const message = `${error.message}; or, if ${destination} is no queue, did you mean pubsub ${meant}?`;
  return new PubsubError(error.code, message, { cause: error });
}

function makePublish(command: Command): Command {
  command
    .description(
      'Send JSON, text or bytes to a STOMP destination; done when the broker has confirmed every message.',
    )
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

function setUp(program: Command, examples: string): Command {
  const name = program.name();
  program
    .exitOverride()
    .enablePositionalOptions()
    .showHelpAfterError(`(${name} --help shows all arguments and flags)`)
    .configureHelp({
      showGlobalOptions: false,
      sortOptions: false,
      // With aliases and arguments the column would be wider than a terminal.
      subcommandTerm: (command) => command.name(),
    });
  const statuses = Object.entries(exitStatuses).map(([status, meaning]) => `  ${status}  ${meaning}`);
  return program
    .addHelpText('before', examples.trimStart())
    .addHelpText(
      'after',
      `\nExit status:\n${statuses.join('\n')}\n  128+n  ended at once by a second signal n`,
    );
}
