/** The subcommands of `pubsub` that look after queues: their arguments, flags and examples. */
import type { CallbackArgument } from '../commands/consuming.js';
import type { Command } from 'commander';
import { addSettings, append, flagsOf } from './flags.js';
import { addHelp } from './help.js';

/** What is to be called: undefined when nothing is given. Throws `invalid-usage`. */
type CallbackMeant = (module: string | undefined) => CallbackArgument | undefined;

/** Adds all of the subcommands, under django-stomp's names too. */
export function addOperators(program: Command, meant: CallbackMeant): void {
  const takers = [addMove, addAckAll, addPeek, addRedrive, addDeadLetters].map((add) => add(program));
  for (const command of takers) {
    command.option(
      '--delivery-limit <number>',
      'deliveries after which a quorum queue drops a message, if a policy says so (default 20)',
    );
  }
  addCheck(program, meant);
  for (const command of [...takers, addRestore(program)]) {
    addSettings(command, ['operator', command.name()]);
    addHelp(command, examples[command.name()] ?? []);
  }
}

const examples: Readonly<Record<string, readonly string[]>> = {
  check: [
    'check /queue/xpto ./callbacks#ack',
    'check /queue/xpto ./callbacks#ack --declare --setup --strict --wait 60s',
    'check /queue/xpto --declare -- ./job.sh',
  ],
  'move-messages': ['move-messages DLQ.xpto xpto', 'move-messages xpto xpto old-broker 61613'],
  'ack-all-messages': ['ack-all-messages DLQ.xpto', 'ack-all-messages DLQ.xpto --yes --save removed.ndjson'],
  restore: ['restore removed.ndjson xpto', 'restore removed.ndjson xpto --resume-from 1200'],
  peek: ['peek DLQ.xpto', 'peek DLQ.xpto --all-headers', 'peek DLQ.xpto --count 100 | jq .headers'],
  'dead-letters': [
    'dead-letters xpto',
    'dead-letters xpto --list --reason callback-failed --since 1h',
    'dead-letters xpto --show 4f1c2e',
  ],
  redrive: [
    'redrive xpto --dry-run',
    'redrive xpto --match tenant=7 --count 100',
    'redrive --from graveyard --to xpto',
  ],
};

function operator(program: Command, name: string, description: string): Command {
  const command = program.command(name).description(description);
  if (name.includes('-')) command.alias(name.replaceAll('-', '_'));
  return command;
}

function addCheck(program: Command, meant: CallbackMeant): void {
  const command = operator(
    program,
    'check',
    'tell whether a consumer would start, step by step: for a deploy, before it',
  )
    .argument('<destination>', 'what the consumer consumes')
    .argument('[callback]', 'its callback: <module>#<export>; or -- and a program with its arguments')
    .option('--declare', 'declare the queues that the start would declare, and see whether the broker agrees')
    .option('--setup', 'run setup() and teardown() of the callback too')
    .option('--strict', 'a warning is a failure')
    .option('--wait <duration>', 'wait so long for a broker that does not answer yet, like 60s')
    .action(async (destination: string, callback?: string) => {
      const { check } = await import('../commands/check.js');
      await check(destination, meant(callback), flagsOf(command));
    });
  addSettings(command, ['pubsub']);
  addHelp(command, examples.check ?? []);
}

/** The flags by which messages are chosen. */
function addFilters(command: Command): Command {
  return command
    .option('--match <header=value>', 'only those with this header; may be repeated, all must match', append)
    .option('--reason <reason>', 'only those that died for this reason, like callback-failed or expired')
    .option('--error <class>', 'only those whose callback threw an error of this class')
    .option('--since <time>', 'only those that died in the last 1h, 30m, 2d, or since a time (ISO 8601)')
    .option('--until <time>', 'only those that died before that');
}

/** Those, and the flags of what does something to each. */
function addChoice(command: Command, done: string): Command {
  return addFilters(command)
    .option('--dry-run', `only tell what would be ${done}`)
    .option('--rate <number/s>', `so many at most a second (50/s), minute (600/m) or hour`);
}

function addMove(program: Command): Command {
  const command = operator(
    program,
    'move-messages',
    'move messages to another queue, here or on another broker, each removed when its copy is confirmed',
  )
    .argument('<source>', 'the queue to take from')
    .argument('<target>', 'the destination to send to, on the broker of the settings')
    .argument('[source-host]', 'broker to take from, when it is another one')
    .argument('[source-port]', 'its STOMP port')
    .option('--count <number>', 'move so many at most')
    .option('--idle <seconds>', 'end when the source has been quiet for so long (default 2)')
    .option('--follow', 'do not end: move what comes, too');
  return addChoice(command, 'moved').action(
    async (source: string, target: string, host?: string, port?: string) => {
      const { moveMessages } = await import('../commands/move.js');
      await moveMessages(source, target, host, port, flagsOf(command));
    },
  );
}

function addAckAll(program: Command): Command {
  const command = operator(program, 'ack-all-messages', 'remove the messages of a queue')
    .argument('<destination>', 'the queue')
    .option('--yes', 'do not ask')
    .option(
      '--save <file>',
      'write each message to this new file before it is removed, one line of JSON each',
    )
    .option('--count <number>', 'remove so many at most')
    .option('--idle <seconds>', 'end when the queue has been quiet for so long (default 2)')
    .option('--follow', 'do not end: remove what comes, too');
  return addChoice(command, 'removed').action(async (destination: string) => {
    const { ackAllMessages } = await import('../commands/ack-all.js');
    await ackAllMessages(destination, flagsOf(command));
  });
}

function addDeadLetters(program: Command): Command {
  const command = operator(
    program,
    'dead-letters',
    'tell what lies in a dead-letter queue: by reason, error and age, as a list, or one message whole',
  )
    .argument('[queue]', 'the queue or its dead-letter queue')
    .option('--from <queue>', 'in place of that: a dead-letter queue of any name')
    .option('--list', 'a line for each message')
    .option('--show <id>', 'headers and body of the message with this correlation-id or message-id')
    .option('--count <number>', 'so many at most (default: all)')
    .option('--idle <seconds>', 'end when no more has come for so long (default 2)');
  return addFilters(command).action(async (queue?: string) => {
    const { deadLetters } = await import('../commands/dead-letters.js');
    await deadLetters(queue, flagsOf(command));
  });
}

function addRestore(program: Command): Command {
  const command = operator(
    program,
    'restore',
    'send the messages that ack-all-messages --save or peek wrote to a file',
  )
    .argument('<file>', 'one message a line')
    .argument('<destination>', 'where to send them')
    .option('--resume-from <line>', 'leave out the lines up to this one')
    .action(async (file: string, destination: string) => {
      const { restore } = await import('../commands/restore.js');
      await restore(file, destination, flagsOf(command));
    });
  return command;
}

function addPeek(program: Command): Command {
  const command = operator(program, 'peek', 'show the first messages of a queue and leave them there')
    .argument('<destination>', 'the queue')
    .option('--count <number>', 'show so many at most (default 10)')
    .option('--all-headers', 'on a terminal: show the headers of the delivery, too')
    .option('--idle <seconds>', 'end when no more has come for so long (default 2)')
    .option(
      '--subscribe-header <name=value>',
      'selector (ActiveMQ), or x-stream-offset=first to look at a stream; may be repeated',
      append,
    )
    .action(async (destination: string) => {
      const { peek } = await import('../commands/peek.js');
      await peek(destination, flagsOf(command));
    });
  return command;
}

function addRedrive(program: Command): Command {
  const command = operator(
    program,
    'redrive',
    'send the dead letters of a queue back to where they came from',
  )
    .argument('[destination]', 'the queue or its dead-letter queue')
    .option('--from <queue>', 'with --to, in place of a destination: a dead-letter queue of any name')
    .option('--to <queue>', 'where everything in it goes, whatever the messages say')
    .option('--count <number>', 'send so many back at most')
    .option('--idle <seconds>', 'end when the dead-letter queue has been quiet for so long (default 2)');
  return addChoice(command, 'sent back where').action(async (destination?: string) => {
    const { redrive } = await import('../commands/redrive.js');
    await redrive(destination, flagsOf(command));
  });
}
