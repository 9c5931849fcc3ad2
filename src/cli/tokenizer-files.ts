import { platform } from '#platform';
import { isGguf } from '../io/checkpoint.js';
import { readGgufTokenizer, type TokenizerFilesContent } from '../io/gguf/gguf-tokenizer.js';
import { readJsonObject } from '../io/json-file.js';
import { byteDefinition } from '../tokenizer/byte-characters.js';

const names = { definition: 'tokenizer.json', config: 'tokenizer_config.json' } as const;

/** Copies a model's tokenizer to another folder, where it has one; out of a GGUF file as the files of a folder. */
export async function copyTokenizer(from: string, to: string): Promise<void> {
  if (!isGguf(from)) return copyFiles(from, to, Object.values(names));
  const inside = await readGgufTokenizer(from);
  if (inside === undefined) return;
  const write = (name: string, json: object) => platform.writeFileAtomically(platform.joinPath(to, name), [new TextEncoder().encode(`${JSON.stringify(json)}\n`)]);
  await write(names.definition, inside.definition);
  await write(names.config, inside.config);
}

/** The parsed tokenizer of a model's folder or GGUF file; of a model of 256 ids without one, bytes; else undefined where there is none. */
export async function tokenizerFiles(from: string, vocabularySize: number): Promise<TokenizerFilesContent | undefined> {
  const own = isGguf(from) ? await readGgufTokenizer(from) : await ofFolder(from);
  return own ?? (vocabularySize === 256 ? { definition: byteDefinition(), config: {} } : undefined);
}

async function ofFolder(from: string): Promise<TokenizerFilesContent | undefined> {
  const [definition, config] = [platform.joinPath(from, names.definition), platform.joinPath(from, names.config)];
  if ((await platform.pathKind(definition)) !== 'file') return undefined;
  const stated = (await platform.pathKind(config)) === 'file' ? (await readJsonObject(config)).value : {};
  return { definition: (await readJsonObject(definition)).value, config: stated };
}

/** Copies what stands beside a model's weights and says how it is used: its tokenizer, and where its texts end. */
export async function copyCompanions(from: string, to: string): Promise<void> {
  await copyTokenizer(from, to);
  if (isGguf(from)) return;
  await copyFiles(from, to, ['generation_config.json']);
}

async function copyFiles(from: string, to: string, names: readonly string[]): Promise<void> {
  if (platform.absolutePath(from) === platform.absolutePath(to)) return;
  for (const name of names) {
    const source = platform.joinPath(from, name);
    if ((await platform.pathKind(source)) !== 'file') continue;
    await platform.writeFileAtomically(platform.joinPath(to, name), [await platform.readFile(source)]);
  }
}

/** Where a model's companions are: its folder, or its GGUF file, which holds them. */
export async function homeOf(model: string): Promise<string> {
  return !isGguf(model) && (await platform.pathKind(model)) === 'file' ? platform.joinPath(model, '..') : model;
}
