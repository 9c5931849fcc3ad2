import { platform } from '#platform';
import { Option, type Command } from 'commander';
import { loadModel, saveGguf } from '../../models/index.js';
import { ggufTypes, type GgufOptions } from '../../models/gguf.js';
import { ArgumentError } from '../../util/errors.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { overwriteOption, printWarning, verifyOption, withBackend, withBackendOptions, type ComputeOptions } from '../options.js';
import { homeOf, tokenizerFiles } from '../tokenizer-files.js';

interface Options extends ComputeOptions {
  readonly type: NonNullable<GgufOptions['type']>;
  readonly out: string;
  readonly overwrite?: boolean;
  readonly verify?: true;
}

/** `elapid export MODEL --out FILE.gguf` */
export function addExport(program: Command): void {
  withBackendOptions(
    program
      .command('export')
      .summary('write a model as GGUF, for llama.cpp')
      .description('Writes a model and its tokenizer as one GGUF file, which llama.cpp and programs built on it read.')
      .argument('<model>', modelArgument)
      .addOption(new Option('--type <type>', 'of the matrices').choices([...ggufTypes]).default('f16'))
      .requiredOption('-o, --out <file>', 'the file to write; its name ends in .gguf')
      .addOption(verifyOption())
      .addOption(overwriteOption()),
  )
    .addHelpText('after', '\nExample:\n  elapid export runs/austen --type q8_0 --out austen.gguf')
    .action(run);
}

async function run(model: string, options: Options): Promise<void> {
  const { type, out, overwrite = false } = options;
  if (!out.endsWith('.gguf')) throw new ArgumentError({ operation: 'export', argument: '--out', expected: 'a name that ends in .gguf', got: out });
  if (!overwrite && (await platform.pathKind(out)) !== undefined) {
    throw new ArgumentError(`export: ${out} is there already. Hint: --overwrite replaces it; or name another file`);
  }
  const source = await modelFolder(model);
  await withBackend(options, async (backend) => {
    const loaded = await loadModel(source, backend, { verify: options.verify, onWarning: printWarning });
    try {
      const tokenizer = await tokenizerFiles(await homeOf(source), loaded.config.vocabularySize);
      await saveGguf(loaded, out, { type, tokenizer });
    } finally {
      loaded.dispose();
    }
  });
  process.stdout.write(`wrote ${out}\n`);
}
