/** The settings as texts for people: the tables of docs/settings.md and `.env.example`. */
import { settingNames, settings } from '../settings.js';
import { groupUsers, type Setting } from './kinds.js';

const isEmpty = (value: unknown): boolean =>
  value === undefined || (typeof value === 'object' && value !== null && Object.keys(value).length === 0);

const shown = (value: unknown): string =>
  isEmpty(value) ? '' : typeof value === 'string' ? value : JSON.stringify(value);

const rows = settingNames.map((name): Setting<unknown> => settings[name]);

/** The settings as tables in Markdown, one for each group. */
export function renderMarkdown(): string {
  const groups = [...new Set(rows.map(({ group }) => group))];
  const tables = groups.map((group) => {
    const lines = rows.filter((row) => row.group === group).map(markdownRow);
    return `**${group}**\n\n| Variable | Flag | Default | Meaning |\n|---|---|---|---|\n${lines.join('\n')}\n`;
  });
  return tables.join('\n');
}

function markdownRow({
  group,
  variable,
  flag,
  offFlag,
  isBoolean,
  help,
  commands,
  ...row
}: Setting<unknown>) {
  const only = commands.length === 1 && !(group in groupUsers) ? ` (\`${commands.join()}\` only)` : '';
  const usual = isBoolean && row.default === true ? flag?.replace('--', '--no-') : flag;
  const shownFlag = offFlag ?? usual;
  return `| \`${variable}\` | ${quoted(shownFlag)} | ${quoted(row.default)} | ${help}${only} |`;
}

const quoted = (value: unknown): string => (isEmpty(value) ? '' : `\`${shown(value)}\``);

/** The settings as .env.example: every variable commented out with its default. */
export function renderDotenv(): string {
  const lines = rows.map((row) => `# ${row.help}\n# ${row.variable}=${shown(row.default)}\n`);
  return `# Copy to .env and uncomment what differs. Flags and the environment win over this file.\n\n${lines.join('\n')}`;
}
