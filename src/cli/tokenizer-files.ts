import { platform } from '#platform';

/** Copies a model's tokenizer to another folder, where it has one. */
export async function copyTokenizer(from: string, to: string): Promise<void> {
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const source = platform.joinPath(from, name);
    if ((await platform.pathKind(source)) !== 'file') continue;
    await platform.writeFileAtomically(platform.joinPath(to, name), [await platform.readFile(source)]);
  }
}
