import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runShell } from '../support/cli.js';
import { useFolder } from '../support/folders.js';

const path = useFolder();

/** The losses that a run prints. */
const lossesOf = (output: string): number[] => [...output.matchAll(/loss ([\d.]+)/g)].map(([, loss]) => Number(loss));

test('a family of one’s own is registered, trained, saved, loaded and generates', async () => {
  const { code, stdout, stderr } = await runShell('"$node" examples/own-model/train.mjs data/pride-and-prejudice.txt "$1" 40', path('own'));
  expect([code, stderr]).toEqual([0, '']);
  const [first = 0, last = 9, heldOut = 9] = lossesOf(stdout);
  expect(first).toBeGreaterThan(5);
  expect(last).toBeLessThan(3.2);
  expect(heldOut).toBeLessThan(3.2);
  expect(stdout).toMatch(/\nIt is a truth.{20,}\n$/s);
  expect(existsSync(path('own', 'config.json'))).toBe(true);
});

test('an objective of one’s own trains a head on a layer', async () => {
  const { code, stdout, stderr } = await runShell('"$node" examples/own-model/classify.mjs 120');
  expect([code, stderr]).toEqual([0, '']);
  const [first = 0, last = 9] = lossesOf(stdout);
  expect(first).toBeGreaterThan(1);
  expect(last).toBeLessThan(0.4);
  expect(stdout).toMatch(/\n1[3-6] of 16 waves are named rightly\nlive buffers 0\n$/);
});
