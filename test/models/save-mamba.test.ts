import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { saveModel } from '../../src/models/index.js';
import { FileError } from '../../src/util/errors.js';
import { useBackend } from '../support/backends.js';
import { arm, disarm } from '../support/faults.mjs';
import { useFolder } from '../support/folders.js';
import { smallModel } from '../support/models.js';

describe('saveModel over another model', () => {
  const backend = useBackend('cpu', { kernels: 'auto', threads: 1 });
  const path = useFolder();
  const stateOf = (folder: string) => ['config.json', 'model.safetensors'].map((file) => (existsSync(path(folder, file)) ? readFileSync(path(folder, file), 'latin1') : '')).join('|');

  // The shapes are the same: weights beside the other's config would load, and be another model.
  test.each([
    { what: 'of another config', other: { normEpsilon: 1e-3 } },
    { what: 'of the same config', other: { initialisation: { embeddingDeviation: 0.1 } } },
  ])('$what is stopped anywhere', async ({ what, other }) => {
    const [first, second] = [smallModel(backend()), smallModel(backend(), other)];
    await saveModel(first, path('first'));
    arm(null);
    await saveModel(second, path('second'));
    const operations = disarm() + 1;
    const whole = [stateOf('first'), stateOf('second')];
    expect(whole[0]).not.toBe(whole[1]);
    for (const kind of ['ENOSPC', 'crash']) {
      for (let at = 1; at <= operations; at++) {
        const folder = `${what} ${kind} ${at}`;
        mkdirSync(path(folder));
        await saveModel(first, path(folder));
        arm({ kind, at });
        const error = await saveModel(second, path(folder)).then(() => null, (thrown: unknown) => thrown);
        disarm();
        if (existsSync(path(folder, 'config.json'))) expect(whole, folder).toContain(stateOf(folder));
        if (kind === 'crash') continue;
        expect(whole, folder).toContain(stateOf(folder));
        if (error !== null) expect(error).toBeInstanceOf(FileError);
        expect(readdirSync(path(folder)).sort()).toEqual(['config.json', 'model.safetensors']);
      }
    }
    first.dispose();
    second.dispose();
  });
});
