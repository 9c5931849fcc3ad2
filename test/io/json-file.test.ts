import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { finishReplacing } from '../../src/cli/folder-replacement.js';
import { readLengths } from '../../src/cli/lengths-file.js';
import { readRunFile, readTaskFile } from '../../src/cli/run-file.js';
import { openTokenShards } from '../../src/data/index.js';
import { readJsonFile } from '../../src/io/json-file.js';
import { openCheckpoint } from '../../src/io/index.js';
import { readConfigFile } from '../../src/models/index.js';
import { loadTokenizer } from '../../src/tokenizer/index.js';
import { CheckpointError } from '../../src/util/errors.js';
import { useFolder } from '../support/folders.js';

const path = useFolder();

async function caught(body: () => Promise<unknown>): Promise<unknown> {
  try {
    await body();
  } catch (error) {
    return error;
  }
  return undefined;
}

/** What reads a file of JSON, by the file's path in the folder. */
const readers: Readonly<Record<string, () => Promise<unknown>>> = {
  'config.json': () => readConfigFile(path('config.json')),
  'generation_config.json': () => {
    writeFileSync(path('config.json'), '{"model_type":"mamba","vocab_size":8,"hidden_size":8,"num_hidden_layers":1}');
    return readConfigFile(path('config.json'));
  },
  'model.safetensors.index.json': () => openCheckpoint(path()),
  'tokenizer.json': () => loadTokenizer(path()),
  'run.json': () => readRunFile(path()),
  'task.json': () => readTaskFile(path()),
  'lengths.json': () => readLengths(path()),
  'tokens.json': () => openTokenShards(path()),
  '.elapid-replacing/.list.json': () => finishReplacing(path()),
};

describe.each(Object.entries(readers))('%s', (name, read) => {
  test.each<[string, string | Uint8Array, Partial<CheckpointError>]>([
    ['is cut', '{"remove": [', { offset: 0, message: 'the text is not valid JSON' }],
    ['has a key twice', '{"a": 1, "a": 2}', { key: 'a', offset: 9, message: 'has this key twice' }],
    ['is not UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d), { offset: 0, message: 'not valid UTF-8' }],
    ['is a web page', '<!doctype html><html></html>', { message: 'is a web page' }],
    ['is empty', '', { message: 'is empty (0 bytes)' }],
    ['is no object, nor a list of what it should hold', '[3]', {}],
  ])('%s', async (_, content, { message = '', ...where }) => {
    const file = path(name);
    mkdirSync(file.replace(/[/\\][^/\\]*$/, ''), { recursive: true });
    writeFileSync(file, content);
    const error = await caught(read);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({ file, ...where });
    expect((error as Error).message).toContain(message);
  });
});

test.each<[string, Uint8Array, unknown]>([
  ['an object', new TextEncoder().encode('{"a":[1,"é"]}'), { a: [1, 'é'] }],
  ['a list', new TextEncoder().encode('[1,2]'), [1, 2]],
  ['an object after a byte order mark', Uint8Array.of(0xef, 0xbb, 0xbf, 0x7b, 0x7d), {}],
])('%s', async (_, bytes, value) => {
  writeFileSync(path('some.json'), bytes);
  expect((await readJsonFile(path('some.json'))).value).toEqual(value);
});

test('places count the byte order mark', async () => {
  writeFileSync(path('some.json'), '\uFEFF{"a":1,"b":2}');
  expect((await readJsonFile(path('some.json'))).offsetOf('b')).toBe(10);
});
