/**
 * What tests need and this machine has no package for, fetched once: a folder for each, under `.cache/` of the checkout or
 * where TEST_CACHE says. Hides that a half-made one is never seen: it is made under another name, and renamed.
 */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { packageRoot } from './process.js';

/** Where it is, or will be. Names carry a version: another version is another folder. */
export function cachePath(name: string): string {
  return join(resolve(packageRoot, process.env.TEST_CACHE ?? '.cache'), name);
}

export function isCached(name: string): boolean {
  return existsSync(cachePath(name));
}

/** Resolves with the folder of that name, which `make` fills when there is none yet. Nothing is left when it rejects. */
export async function cached(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const path = cachePath(name);
  if (isCached(name)) return path;
  await mkdir(resolve(path, '..'), { recursive: true });
  const folder = await mkdtemp(`${path}.making-`);
  try {
    await make(folder);
    await rename(folder, path);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    // Another run was faster.
    if (!isCached(name)) throw error;
  }
  return path;
}
