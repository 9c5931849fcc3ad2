/** Checkpoints of `../shared/cases` that once failed to load: their logits are those of a float64 model in numpy. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadModel } from '../../src/models/index.js';
import { absenceNote, sharedCase } from '../fixtures.js';
import { useBackend } from '../support/backends.js';
import { idTensor, read } from '../support/models.js';

interface Expected {
  readonly ids: number[];
  readonly argmax_each: number[];
  readonly last_logits_first16: number[];
}

describe('a checkpoint that once failed', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });

  describe.each(['base', 'metadata-null', 'index-lists-tied-head', 'bin-legacy-format'])('%s', (name) => {
    const folder = sharedCase(name);
    test.skipIf(folder === undefined)(`gives the logits of numpy${absenceNote(`../cases/${name}`)}`, () => expectLogits(folder as string));
  });

  async function expectLogits(folder: string): Promise<void> {
    const { ids, argmax_each: best, last_logits_first16: last } = JSON.parse(readFileSync(`${folder}/expected.json`, 'utf8')) as Expected;
    const model = await loadModel(folder, backend());
    const logits = await read(() => model.forward(idTensor(backend(), ids, [1, ids.length])));
    model.dispose();
    const rows = ids.map((_, i) => [...logits.slice(256 * i, 256 * (i + 1))]);
    expect(rows.map((row) => row.indexOf(Math.max(...row)))).toEqual(best);
    last.forEach((value, i) => expect(rows.at(-1)?.[i]).toBeCloseTo(value, 5));
  }
});
