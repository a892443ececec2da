/**
 * All that `pubsub` has beside consuming, under names. To load it and set it up takes as long as all else about a command line, so
 * that this is done when one of them may be meant.
 */
import type { Command } from 'commander';
import { settings } from '../settings.js';
import { completionScript, shells } from './completion.js';
import { addFlags, addSettings, flagsOf } from './flags.js';
import { addHelp } from './help.js';
import { addOperators } from './operators.js';
import {
  callbackMeant,
  consumeExamples,
  createPublish,
  makeConsume,
  makePublish,
  publishExamples,
  type Typed,
} from './programs.js';

/** The settings that mean something to the embedded broker. */
const brokerSettings = ['port', 'user', 'password', 'logLevel', 'logFormat'] as const;

/** To be called once, before or after the program has read its arguments; with them comes its help. */
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
