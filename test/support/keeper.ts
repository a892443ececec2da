/**
 * Leaves nothing behind: process groups and directories entrusted to the keeper are killed and removed when this
 * process ends, in whatever way, SIGKILL included. Hides how: one small shell, in a session of its own, reads the list
 * from a pipe that only this process holds; the end of the pipe is the end of this process.
 */
import { spawn } from 'node:child_process';
import type { Writable } from 'node:stream';

/** Keeps the last word on each name; a group is killed before any directory is removed. */
const script = `
groups= directories=
while read -r verb what; do
  case $verb in
    group) groups="$groups $what" ;;
    released) kept=; for group in $groups; do [ "$group" = "$what" ] || kept="$kept $group"; done; groups=$kept ;;
    directory) directories="$directories $what" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group" 2>/dev/null; done
for directory in $directories; do
  for attempt in 1 2 3 4 5; do rm -rf "$directory" 2>/dev/null && break; done
done
`;

let pipe: Writable | undefined;

function tell(verb: 'group' | 'released' | 'directory', what: string | number): void {
  if (pipe === undefined) {
    const keeper = spawn('/bin/sh', ['-c', script], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    keeper.unref();
    pipe = keeper.stdin;
    (keeper.stdin as Writable & { unref(): void }).unref();
  }
  pipe.write(`${verb} ${what}\n`);
}

/** The process group `pid` (of a child spawned `detached`) is killed when this process ends before `released`. */
export function keepGroup(pid: number): void {
  tell('group', pid);
}

/** The group is gone: its number may belong to others from now on. */
export function releaseGroup(pid: number): void {
  tell('released', pid);
}

/** The directory, whose name has no spaces, is removed when this process ends. */
export function keepDirectory(path: string): void {
  tell('directory', path);
}
