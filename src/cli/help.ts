/**
 * What --help shows: usage, examples and the options of every day on one screen; with the name of a group that group's, and
 * with --help-all everything. Hides where the texts come from: the settings table, the options of a command, its examples.
 */
import { CommanderError, Option, type Command } from 'commander';
import { exitStatuses } from '../errors.js';
import { briefs } from './flags.js';

const WIDTH = 80;
const INDENT = 2;
/** Of the column of options; a longer one has a line of its own. */
const WIDEST_TERM = 27;

/** Gives the command its help; `examples` are lines without the name of the program. To be called when it has its options. */
export function addHelp(command: Command, examples: readonly string[]): Command {
  const show = (topic: string | undefined) => {
    process.stdout.write(
      topic === undefined ? render(command, examples) : renderTopic(command, examples, topic),
    );
    throw new CommanderError(0, 'commander.help', '');
  };
  command
    .helpOption(false)
    .addOption(new Option('-h, --help [group]', 'this text; with a group, its options').helpGroup('Help'))
    .addOption(new Option('--help-all', 'everything: all options with their variables').helpGroup('Help'))
    .on('option:help', (group: string | null) => show(group ?? undefined))
    .on('option:help-all', () => show('all'))
    .configureHelp({ formatHelp: () => render(command, examples) });
  return command;
}

const titled = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : [`${title}:`, ...lines, ''];
const shown = ({ options }: Command): Option[] => options.filter(({ hidden }) => !hidden);
const isOwn = ({ helpGroupHeading }: Option): boolean => helpGroupHeading === undefined;
const groupsOf = (command: Command): string[] => {
  const groups = shown(command).map(({ helpGroupHeading }) => helpGroupHeading ?? 'Help');
  return [...new Set(groups)].filter((group) => group !== 'Help');
};

/** One screen. */
function render(command: Command, examples: readonly string[]): string {
  const options = shown(command).filter((option) => isOwn(option) || briefs.has(option));
  const groups = groupsOf(command).map((group) => group.toLowerCase());
  const name = nameOf(command);
  const names = command.commands.map((sub) => sub.name()).join(', ');
  const more = [
    ...(names === '' ? [] : [`${name} help <command>`]),
    `${name} --help-all`,
    ...(groups.length === 0 ? [] : [`--help <group>: ${groups.join(', ')}`]),
  ];
  return [
    ...usage(command),
    ...wrap(command.description(), 0),
    '',
    ...titled('Examples', lines(command, examples.slice(0, 5))),
    ...titled(
      'Options',
      items(options, (option) => briefs.get(option) ?? option.description),
    ),
    ...(names === '' ? [] : wrap(`Commands: ${names}`, 0)),
    ...wrap(`More: ${more.join(', ')}`, 0),
    '',
  ].join('\n');
}

/** A group of options, or everything; for what is neither the one screen. */
function renderTopic(command: Command, examples: readonly string[], topic: string): string {
  const group = groupsOf(command).find((name) => name.toLowerCase() === topic.toLowerCase());
  const section = (name: string | undefined) => {
    const options = shown(command).filter(({ helpGroupHeading }) => helpGroupHeading === name);
    return titled(
      name ?? 'Options',
      items(options, ({ description }) => description),
    );
  };
  if (group !== undefined) return section(group).join('\n');
  if (topic !== 'all') return render(command, examples);
  const statuses = { ...exitStatuses, '128+n': 'ended at once by a second signal n' };
  const operands = command.registeredArguments.map((one) => [one.name(), one.description] as const);
  return [
    ...usage(command),
    ...wrap(command.description(), 0),
    '',
    ...titled('Examples', lines(command, examples)),
    ...titled('Arguments', list(operands)),
    ...[undefined, ...groupsOf(command), 'Help'].flatMap(section),
    ...titled('Commands', list(command.commands.map((sub) => [sub.name(), sub.description()]))),
    ...titled('Exit status', list(Object.entries(statuses))),
    'Times take units, like 500ms, 90s, 5m or 1h.',
    '',
  ].join('\n');
}

const lines = (command: Command, examples: readonly string[]): string[] =>
  examples.map((example) => `  ${root(command)} ${example}`);
const root = (command: Command): string => command.parent?.name() ?? command.name();
const nameOf = (command: Command): string =>
  (command.parent === null ? '' : `${command.parent.name()} `) + command.name();

function usage(command: Command): string[] {
  const words = command.registeredArguments.map((one) =>
    one.required ? `<${one.name()}>` : `[${one.name()}]`,
  );
  const line = `Usage: ${[nameOf(command), ...words].join(' ')} [options]`;
  return [line, ...(command.commands.length > 0 ? [`       ${nameOf(command)} <command> ...`] : []), ''];
}

function items(options: readonly Option[], describe: (option: Option) => string): string[] {
  const term = ({ short, flags }: Option) => (short === undefined ? `    ${flags}` : flags);
  return list(options.map((option) => [term(option), describe(option)]));
}

function list(rows: readonly (readonly [term: string, text: string])[]): string[] {
  const fitting = rows.map(([{ length }]) => length).filter((length) => length <= WIDEST_TERM);
  const column = INDENT + Math.max(0, ...fitting) + 2;
  return rows.flatMap(([term, text]) => {
    const [first = '', ...rest] = wrap(text, column);
    const head = `${' '.repeat(INDENT)}${term}`;
    if (head.length + 2 > column) return [head, first, ...rest];
    return [`${head.padEnd(column)}${first.trimStart()}`.trimEnd(), ...rest];
  });
}

/** Lines of the text that fit, all of them indented. */
function wrap(text: string, indent: number): string[] {
  const wrapped: string[] = [];
  for (const word of text.split(' ')) {
    const last = wrapped.at(-1);
    if (last === undefined || last.length + 1 + word.length > WIDTH) wrapped.push(' '.repeat(indent) + word);
    else wrapped[wrapped.length - 1] = `${last} ${word}`;
  }
  return wrapped;
}
