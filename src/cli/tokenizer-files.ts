import { platform } from '#platform';

/** Copies a model's tokenizer to another folder, where it has one. */
export const copyTokenizer = (from: string, to: string): Promise<void> => copyFiles(from, to, ['tokenizer.json', 'tokenizer_config.json']);

/** Copies what stands beside a model's weights and says how it is used: its tokenizer, and where its texts end. */
export async function copyCompanions(from: string, to: string): Promise<void> {
  await copyTokenizer(from, to);
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
