import { statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packagedModel } from '../../src/models/index.js';
import { runHere } from '../support/run-here.js';
import { useFolder } from '../support/folders.js';

describe('the model of the package', () => {
  const path = useFolder();

  test('is small enough to come along', () => {
    expect(statSync(join(packagedModel('stories'), 'model.safetensors')).size).toBeLessThan(25e6);
  });

  test('tells a story in words, the same on every kernel', async () => {
    const tell = async (...args: readonly string[]) => {
      const { code, stdout, stderr } = await runHere('generate', 'stories', 'Once upon a time', '-t', '0', '-n', '120', ...args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return stdout;
    };
    const story = await tell();
    expect(story).toMatch(/^Once upon a time [ -~\n]+\n$/);
    expect(story.split(/\s+/).filter((word) => ['the', 'and', 'a', 'was', 'in', 'there', 'who', 'of', 'to'].includes(word)).length).toBeGreaterThan(6);
    expect(await tell('--kernels', 'wasm')).toBe(story);
  });

  test('predicts plain English in less than 2 bits a byte', async () => {
    writeFileSync(
      path('tale.txt'),
      'There was once a miller who had three sons and a donkey. When he was old he said to the eldest, "You shall have the mill, for you ' +
        'have worked in it since you were a boy." To the second he gave the donkey. "And what is left for me?" asked the youngest. ' +
        'The old man looked about the room. On the hearth lay the cat, asleep, with her tail round her feet.\n',
    );
    const { code, stdout, stderr } = await runHere('eval', 'stories', path('tale.txt'), '--json');
    expect(code, stderr).toBe(0);
    const { bitsPerByte, bytes } = JSON.parse(stdout) as { bitsPerByte: number; bytes: number };
    expect(bytes).toBeGreaterThan(300);
    expect(bitsPerByte).toBeLessThan(2);
  });

  test('inspect knows it by name', async () => {
    const { code, stdout, stderr } = await runHere('inspect', 'stories', '--json');
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ dtype: 'int8', parameters: { total: 17_083_904 } });
  });
});
