/** From the rows of the settings table to the flags of a command. Their texts go on as they are: settings.ts reads them. */
import { Option, type Command } from 'commander';
import { settingNames, settings } from '../settings.js';
import { flagName, type Setting } from '../settings/kinds.js';

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
  const off = row.default === true ? 'turn off: ' : '';
  const help = `${off}${row.help} [${row.variable}${fallback}]`;
  const long = flagName(row)?.slice(2) ?? '';
  const register = (text: string, isHidden: boolean, value: unknown) => {
    const option = new Option(text, help).hideHelp(isHidden);
    // Values keep their text: settings.ts reads and checks them, like those of variables.
    program.addOption(option);
    program.on(`option:${option.name()}`, (given: unknown) => {
      const before = (program.getOptionValue(name) as string[] | undefined) ?? [];
      program.setOptionValue(name, row.isList === true ? [...before, given] : (value ?? given));
    });
  };
  if (row.offFlag !== undefined) {
    register(row.offFlag, false, false);
  } else if (row.isBoolean) {
    register(`--${long}`, row.default === true, true);
    register(`--no-${long}`, row.default === false, false);
  } else {
    register(flag, false, undefined);
  }
}

/** For a flag that may be repeated: all its values. */
export const append = (value: string, all: readonly string[] = []): readonly string[] => [...all, value];
