/** `completion bash|zsh|fish`: scripts for shells, made from the commands and options there are. */
import type { Command, Option } from 'commander';
import { PubsubError } from '../errors.js';
import { briefs } from './flags.js';

/** A command's name with its aliases, empty for what stands without one, and its options. */
interface Offer {
  readonly names: readonly string[];
  readonly description: string;
  readonly options: readonly Option[];
}

/** What can be typed behind the name of a program. */
interface Offers {
  readonly programs: readonly string[];
  readonly commands: readonly Offer[];
}

const scripts = { bash, zsh, fish };
export const shells = Object.keys(scripts);

/** The script for a shell, to be sourced by it. Throws `invalid-usage` for another. */
export function completionScript(shell: string, pubsub: Command, publish: Command): string {
  const make = scripts[shell as keyof typeof scripts] as ((offers: Offers) => string) | undefined;
  if (make === undefined)
    throw new PubsubError(
      'invalid-usage',
      `there are completions for ${shells.join(', ')}, not for "${shell}"`,
    );
  const all = [pubsub, ...pubsub.commands].map((command): Offer => ({
    names: command === pubsub ? [] : [command.name(), ...command.aliases()],
    description: command.description(),
    options: visible(command),
  }));
  const publishing = { names: [], description: '', options: visible(publish) };
  return [
    make({ programs: ['pubsub', 'stomp-pubsub'], commands: all }),
    make({ programs: ['publish'], commands: [publishing] }),
  ].join('\n');
}

const visible = ({ options }: Command): Option[] => options.filter(({ hidden }) => !hidden);
const flagsOf = ({ short, long }: Option): string[] => [long, short].filter((flag) => flag !== undefined);
const textOf = (option: Option): string =>
  (briefs.get(option) ?? option.description).replace(/['"`$\\[\]:]/g, ' ');
const takesValue = ({ required, optional }: Option): boolean => required || optional;
const functionOf = ([program = '']: readonly string[]): string => `_${program.replace('-', '_')}_completion`;

/** The cases of a shell's `case`, for each command: what may be typed, and which options want a value. */
function cases(commands: readonly Offer[], line: (offer: Offer) => string): string {
  return commands.map((offer) => `    ${offer.names.join('|') || "''"}) ${line(offer)} ;;`).join('\n');
}

/** For options with a fixed set of values: `--log-level|-l) ... ;;`. */
function choices(commands: readonly Offer[], line: (values: readonly string[]) => string): string {
  const all = new Map<string, readonly string[]>();
  for (const { options } of commands)
    for (const option of options)
      if (option.argChoices) all.set(flagsOf(option).join('|'), option.argChoices);
  return [...all].map(([flags, values]) => `    ${flags}) ${line(values)} ;;`).join('\n');
}

const namesOf = (commands: readonly Offer[]): string[] => commands.flatMap(({ names }) => names);

function bash({ programs, commands }: Offers): string {
  const words = ({ names, options }: Offer) =>
    [...options.flatMap(flagsOf), ...(names.length === 0 ? namesOf(commands) : [])].join(' ');
  return `${functionOf(programs)}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}" command='' word words=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in ${namesOf(commands).join('|') || "''"}) command="$word"; break ;; esac
  done
  case "$command" in
${cases(commands, (offer) => `words='${words(offer)}'`)}
  esac
  case "$previous" in
${choices(commands, (values) => `words='${values.join(' ')}'`)}
    *) : ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F ${functionOf(programs)} ${programs.join(' ')}
`;
}

function zsh({ programs, commands }: Offers): string {
  const described = ({ names, options }: Offer) =>
    [
      ...options.flatMap((option) => flagsOf(option).map((flag) => `'${flag}:${textOf(option)}'`)),
      ...(names.length > 0
        ? []
        : commands.flatMap((one) =>
            one.names.map((name) => `'${name}:${one.description.replaceAll("'", ' ')}'`),
          )),
    ].join(' ');
  return `${functionOf(programs)}() {
  local command='' word
  local -a offers
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$word" in ${namesOf(commands).join('|') || "''"}) command="$word"; break ;; esac
  done
  case "$command" in
${cases(commands, (offer) => `offers=(${described(offer)})`)}
  esac
  case "\${words[CURRENT-1]}" in
${choices(commands, (values) => `offers=(${values.join(' ')})`)}
    *) : ;;
  esac
  _describe '${programs[0] ?? ''}' offers || _files
}
compdef ${functionOf(programs)} ${programs.join(' ')}
`;
}

function fish({ programs, commands }: Offers): string {
  const names = namesOf(commands).join(' ');
  const lines = programs.flatMap((program) =>
    commands.flatMap((offer) => {
      const isPlain = offer.names.length === 0;
      const seen = `__fish_seen_subcommand_from ${isPlain ? names : offer.names.join(' ')}`;
      const when = names === '' ? '' : ` -n '${isPlain ? 'not ' : ''}${seen}'`;
      const options = offer.options.map((option) => {
        const long = option.long === undefined ? '' : ` -l ${option.long.slice(2)}`;
        const short = option.short === undefined ? '' : ` -s ${option.short.slice(1)}`;
        const values = option.argChoices === undefined ? '' : ` -xa '${option.argChoices.join(' ')}'`;
        return `complete -c ${program}${when}${long}${short}${takesValue(option) ? ' -r' : ''}${values} -d '${textOf(option)}'`;
      });
      const description = offer.description.replaceAll("'", ' ');
      const named = offer.names.map(
        (name) =>
          `complete -c ${program} -n 'not __fish_seen_subcommand_from ${names}' -a ${name} -d '${description}'`,
      );
      return [...named, ...options];
    }),
  );
  return `${lines.join('\n')}\n`;
}
