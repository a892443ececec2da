/** From the rows of the settings table to the flags of a command. Their texts go on as they are: settings.ts reads them. */
import { Option, type Command } from 'commander';
import { settingNames, settings } from '../settings.js';
import { flagName, type Setting } from '../settings/kinds.js';

/** The line of an option in the short --help, which has those alone. */
export const briefs = new WeakMap<Option, string>();

/** The flags of all settings that one of these users has. */
export function addSettings(program: Command, users: readonly string[]): void {
  for (const name of settingNames) {
    const row: Setting<unknown> = settings[name];
    if ((row.flag ?? row.offFlag) !== undefined && row.commands.some((user) => users.includes(user)))
      addFlags(program, name, row);
  }
}

/** The flag of a setting; a boolean gets `--x` and `--no-x`, and the one that changes the default is shown. */
export function addFlags(program: Command, name: string, row: Setting<unknown>): void {
  const flag = row.flag ?? '';
  const hasDefault = row.default !== undefined && row.isList !== true;
  const fallback = hasDefault ? `, default ${row.default as string | number | boolean}` : '';
  const { short, brief, offHelp, aliases = [] } = row;
  const help = `${row.help} [${row.variable}${fallback}]`;
  const long = flagName(row)?.slice(2) ?? '';
  const register = (text: string, told: string, isHidden: boolean, value?: unknown) => {
    const option = new Option(text, told).hideHelp(isHidden).helpGroup(row.group);
    // A command may have one of its own that asks for more: what is given is the setting all the same.
    const own = program.options.find((other) => other.long === option.long);
    if (own !== undefined) return own;
    // Values keep their text: settings.ts reads and checks them, like those of variables.
    if (row.choices !== undefined && value === undefined) option.argChoices = [...row.choices];
    program.addOption(option);
    program.on(`option:${option.name()}`, (given: unknown) => {
      const before = (program.getOptionValue(name) as string[] | undefined) ?? [];
      program.setOptionValue(name, row.isList === true ? [...before, given] : (value ?? given));
    });
    return option;
  };
  const off = `${offHelp ?? `not: ${row.help}`} [${row.variable}${fallback}]`;
  let shown: Option;
  if (row.offFlag !== undefined) {
    shown = register(row.offFlag, off, false, false);
  } else if (row.isBoolean) {
    const [on, no] = [
      register(`--${long}`, help, row.default === true, true),
      register(`--no-${long}`, off, row.default === false, false),
    ];
    shown = row.default === true ? no : on;
  } else {
    shown = register(short === undefined ? flag : `${short}, ${flag}`, help, false);
  }
  const isShort = fallback === '' || row.isBoolean;
  if (brief !== undefined) briefs.set(shown, `${brief}${isShort ? '' : ` [${String(row.default)}]`}`);
  for (const { flag: other, value, help: told, isCommon } of aliases) {
    const option = register(other, told, false, value);
    if (isCommon) briefs.set(option, told);
  }
}

/** For a flag that may be repeated: all its values. */
export const append = (value: string, all: readonly string[] = []): readonly string[] => [...all, value];

/** Flags may stand before a subcommand as well. */
export const flagsOf = (command: Command): Record<string, unknown> => ({
  ...command.parent?.opts(),
  ...command.opts(),
});
