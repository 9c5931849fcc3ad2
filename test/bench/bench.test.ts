import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { gpuSection, section, withSection, type Results } from '../../bench/lib/report.mjs';
import { newestResults } from '../../bench/lib/results.mjs';
import { NotAvailable, runRow, type Row } from '../../bench/lib/row.mjs';
import { median, summarise } from '../../bench/lib/statistics.mjs';

const context = { threads: 1, quick: false };

/** A row that takes its figures from lists. */
const row = (better: 'more' | 'less', ours: number[], peer: number[]): Row => ({
  name: 'row',
  what: 'a row',
  unit: better === 'more' ? 'tok/s' : 'ms',
  better,
  runs: 3,
  prepare: () =>
    Promise.resolve({
      ours: () => Promise.resolve(ours.shift() ?? NaN),
      peer: { name: 'peer', source: 'measured', run: () => Promise.resolve(peer.shift() ?? NaN) },
      close: () => Promise.resolve(),
    }),
});

describe('bench', () => {
  test('median and spread', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(summarise([3, 1, 2])).toEqual({ median: 2, runs: 3, spread: [1, 3] });
  });

  test('a ratio says how many times better ours is, whichever way is better; the warm-up does not count', async () => {
    expect(await runRow(row('more', [999, 6, 4, 8], [999, 2, 3, 1]), context)).toMatchObject({
      ours: 6,
      runs: 3,
      spread: [4, 8],
      peer: 2,
      ratio: 3,
      limit: null,
    });
    expect(await runRow(row('less', [1, 6, 4, 8], [1, 2, 3, 1]), context)).toMatchObject({ ours: 6, peer: 2, ratio: 0.3333 });
  });

  test('a stated peer is compared with what ours gave on the same machine', async () => {
    const stated = { name: 'peer', source: 'stated', value: 50, ours: 200 } as const;
    const measurement = { ours: () => Promise.resolve(500), peer: stated, close: () => Promise.resolve() };
    const prepared = { ...row('more', [], []), prepare: () => Promise.resolve(measurement) };
    expect(await runRow(prepared, context)).toMatchObject({ ours: 500, peer: 50, peerOurs: 200, ratio: 4 });
  });

  test('a row that this build cannot run is listed with the reason', async () => {
    const missing = { ...row('more', [], []), prepare: () => Promise.reject(new NotAvailable('no such format')) };
    expect(await runRow(missing, context)).toEqual({ name: 'row', what: 'a row', unit: 'tok/s', better: 'more', skipped: 'no such format' });
  });

  test('the report shows rows that have figures', () => {
    const what = { name: 'decode-f32', what: 'decoding', unit: 'tok/s' };
    const results: Results = {
      machine: { processor: 'P', kernels: 'K', node: 'v20', date: '2026-01-01' },
      threads: 2,
      rows: [
        { ...what, ours: 60, runs: 5, spread: [50, 61], peer: 30, peerSpread: [29, 31.5], peerName: 'llama.cpp', peerSource: 'measured', ratio: 2, limitShare: 0.8 },
        { name: 'train-130m', what: 'training', unit: 'tok/s', ours: 500, runs: 3, spread: [400, 510], peer: 64, peerOurs: 380, peerName: 'mamba.py', peerSource: 'stated', ratio: 5.938, limitShare: null },
        { name: 'decode-int8', what: 'decoding in int8', unit: 'tok/s', skipped: 'no' },
      ],
    };
    const text = section(results, 'f.json');
    expect(text).toContain('| decoding | 60.0 tok/s (50.0–61.0, 5 runs) | llama.cpp: 30.0 (29.0–31.5) | 2.00× | 80 % |');
    expect(text).toContain('| training | 500 tok/s (400–510, 3 runs) | mamba.py: 64.0, ours 380 tok/s on the same cores, measured apart | 5.94× |  |');
    expect(text).not.toContain('int8');
    expect(withSection('a\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nb', 'new')).toBe(
      'a\n<!-- bench:begin -->\nnew\n<!-- bench:end -->\nb',
    );
  });

  test.each([
    { kind: 'cpu', write: section },
    { kind: 'gpu', write: gpuSection },
  ] as const)('README shows the newest committed results of the $kind (else: npm run bench:report)', ({ kind, write }) => {
    const readme = readFileSync(join(fileURLToPath(new URL('../..', import.meta.url)), 'README.md'), 'utf8');
    const newest = newestResults(kind);
    if (newest === undefined) throw new Error(`no results of the ${kind} are committed`);
    expect(withSection(readme, write(newest.results, newest.file), kind)).toBe(readme);
  });
});
