/** Files that are not what their names say, and names that lead nowhere: each error says what it is, and what to do. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { openCheckpoint, safetensorsChunks } from '../../src/io/index.js';
import { loadTokenizer } from '../../src/tokenizer/index.js';
import { absenceNote, sharedCase } from '../fixtures.js';
import { useFolder } from '../support/folders.js';
import { checkpointErrorOf, concat } from './build.js';

const folder = useFolder();
const sound = concat(...safetensorsChunks([{ key: 'w', dtype: 'F32', shape: [1], sizeBytes: 4, bytes: () => new Uint8Array(4) }]));
const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 516567560\n';

describe('a file of another content than its name says', () => {
  const names = ['model.safetensors', 'pytorch_model.bin', 'weights.pth', 'config.json', 'tokenizer.json', 'tokenizer_config.json', 'model.safetensors.index.json'];
  it.each<[string, string | Uint8Array, RegExp]>([
    ['a pointer of Git LFS', pointer, /: is a pointer of Git LFS: the file itself was not downloaded\. Hint: .*git lfs pull/],
    ['a web page', '<!DOCTYPE html>\n<html><title>Sign in</title></html>', /: is a web page, .* Hint: download or copy the file again/],
    ['a page of XML', '  <?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', /: is a web page/],
    ['nothing', '', /: is empty \(0 bytes\)\. Hint: download or copy the file again/],
    ['a gzip archive', gzipSync(sound), /: is compressed with gzip\. Hint: unpack it first/],
    ['GGUF', concat('GGUF', [3, 0, 0, 0]), /: is in GGUF, llama\.cpp's format\. Hint: give it a name that ends in \.gguf/],
    ['HDF5', concat([0x89], 'HDF\r\n', [0x1a, 0x0a]), /: is in HDF5/],
    ['a server’s answer', 'Entry not found', /: is an error message of a server \(Entry not found\)/],
    ['a server’s answer in JSON', '{"error":"Repository not found"}', /: is an error message of a server \(\{"error"/],
  ])('that is %s', async (kind, content, message) => {
    for (const name of names) {
      const place = folder(`${kind}-${name}`);
      mkdirSync(place);
      if (/^(config|token)/.test(name)) writeFileSync(`${place}/model.safetensors`, sound);
      if (name === 'tokenizer_config.json') writeFileSync(`${place}/tokenizer.json`, '{}');
      writeFileSync(`${place}/${name}`, content);
      const path = name === 'weights.pth' ? `${place}/${name}` : place;
      const error = await checkpointErrorOf(() => (name.startsWith('tokenizer') ? loadTokenizer(path, 300) : openCheckpoint(path)));
      expect(error.message, name).toMatch(message);
      expect(error.file).toBe(`${place}/${name}`);
    }
  });

  it('but not a config that speaks of errors', async () => {
    mkdirSync(folder('config'));
    writeFileSync(folder('config', 'model.safetensors'), sound);
    writeFileSync(folder('config', 'config.json'), '{\n"error_tolerance": 1}');
    await (await openCheckpoint(folder('config'))).close();
  });

  const shared = sharedCase('git-lfs-pointer.safetensors');
  it.skipIf(shared === undefined)(`as the shared pointer${absenceNote('../cases/git-lfs-pointer.safetensors')}`, async () => {
    writeFileSync(folder('lfs.safetensors'), readFileSync(shared as string));
    expect((await checkpointErrorOf(() => openCheckpoint(folder('lfs.safetensors')))).message).toMatch(/git lfs pull/);
  });
});

describe('a name that leads nowhere', () => {
  it.each<[string, string]>([
    ['mamba-130m', 'models/mamba-130m-hf'],
    ['mamba-130m-h', 'models/mamba-130m-hf'],
    ['Mamba-130M-HF', 'models/mamba-130m-hf'],
    ['mamba-130m-hf/model.safetensor', 'models/mamba-130m-hf/model.safetensors'],
    ['mamba-130m-hf/modle.safetensors', 'models/mamba-130m-hf/model.safetensors'],
    ['mamba-130m-fh/model.safetensors', 'models/mamba-130m-hf'],
  ])('%s is near %s', async (given, near) => {
    mkdirSync(folder('models/mamba-130m-hf'), { recursive: true });
    writeFileSync(folder('models/mamba-130m-hf/model.safetensors'), sound);
    const error = await checkpointErrorOf(() => openCheckpoint(folder('models', given)));
    expect(error.message).toMatch(/: no such file or folder/);
    expect(error.message).toContain(`Hint: did you mean ${folder(near)}?`);
  });

  it.each<[string, RegExp]>([
    ['state-spaces/mamba-130m-hf', /huggingface-cli download state-spaces\/mamba-130m-hf --local-dir mamba-130m-hf$/],
    ['state-spaces/mamba-370m', /download state-spaces\/mamba-370m --local-dir mamba-370m$/],
    ['https://huggingface.co/state-spaces/mamba-130m-hf', /web address.* download state-spaces\/mamba-130m-hf --local-dir mamba-130m-hf$/],
    ['https://example.org/model.safetensors', /web address.* Download it first\.$/],
    ['./nowhere/at/all', /no such file or folder: its folder \.\/nowhere\/at does not exist either$/],
    ['xyzzy', /xyzzy: no such file or folder$/],
  ])('%s says how to go on', async (given, message) => {
    expect((await checkpointErrorOf(() => openCheckpoint(given))).message).toMatch(message);
  });

  it.each<[string, string[], RegExp]>([
    ['of other weights', ['adapter_model.safetensors', 'notes.txt'], /has no weights; expected model\.safetensors or .*\. Hint: it has adapter_model\.safetensors; rename the file/],
    ['of a misspelt name', ['model.safetensor'], /Hint: it has model\.safetensor;/],
    ['of nothing', ['notes.txt'], /pytorch_model\.bin, or either with \.index\.json and its shards$/],
    ['of the cache', ['snapshots', 'refs', 'blobs'], /Hint: this is a folder of the hub’s cache; the model is in snapshots\/<revision>/],
  ])('a folder %s says what it has', async (name, files, message) => {
    mkdirSync(folder(name));
    for (const file of files) writeFileSync(folder(name, file), '');
    expect((await checkpointErrorOf(() => openCheckpoint(folder(name)))).message).toMatch(message);
  });
});
