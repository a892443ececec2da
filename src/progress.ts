/**
 * One line at the bottom of a terminal that says how far a command is. Hides where it must not be shown (stderr is no
 * terminal: then nothing is loaded either) and that log lines printed meanwhile go above it.
 */
import { shareTerminal } from './log.js';

export interface ProgressState {
  readonly done: number;
  /** In the unit of `done`; undefined when nobody knows: then there is text and no bar. */
  readonly total: number | undefined;
  readonly text: string;
}

/**
 * Redrawn ten times a second with what `state` gives, until the function returned is called: that erases the line. Nothing
 * is shown without a `state`: of what is done in a moment.
 */
export async function showProgress(state: (() => ProgressState) | undefined): Promise<() => void> {
  if (state === undefined || !process.stderr.isTTY) return () => undefined;
  const { MultiBar } = (await import('cli-progress')).default;
  const { total } = state();
  const line = new MultiBar({
    format: total === undefined ? '{text}' : '[{bar}] {percentage} %  {text}  {eta_formatted} left',
    stream: process.stderr,
    barsize: 20,
    clearOnComplete: true,
    // What a log line has erased is drawn again.
    forceRedraw: true,
    // Cut at the terminal's width by the library, not by a mode of the terminal that a kill would leave behind.
    linewrap: true,
    gracefulExit: false,
  });
  const bar = line.create(total ?? 0, 0, { text: state().text });
  line.on('update-pre', () => {
    const { done, text } = state();
    bar.update(done, { text });
  });
  shareTerminal(true);
  return () => {
    line.stop();
    shareTerminal(false);
  };
}
