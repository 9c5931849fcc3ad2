import { Option, type Command } from 'commander';
import { openCheckpoint } from '../../io/index.js';
import { loadMamba, saveMamba } from '../../models/index.js';
import { packedDTypes, type PackedDType } from '../../tensor/index.js';
import { byteSize } from '../format.js';
import { verifyOption, withBackend, withComputeOptions, type ComputeOptions } from '../options.js';
import { copyTokenizer } from '../tokenizer-files.js';

interface Options extends ComputeOptions {
  readonly dtype: PackedDType;
  readonly out: string;
  readonly verify?: true;
}

/** `elapid quantize MODEL --dtype FORMAT --out FOLDER` */
export function addQuantize(program: Command): void {
  withComputeOptions(
    program
      .command('quantize')
      .summary('make a model smaller and faster')
      .description(
        'Writes a model with its large weight matrices in a format for inference: bf16 (2 bytes a weight), int8 (1.06) or int4\n' +
          '(0.56). It loads and generates faster and predicts a little worse: elapid eval tells by how much.',
      )
      .argument('<model>', 'folder of a Mamba checkpoint (official or transformers), or of a training run')
      .addOption(new Option('--dtype <format>', 'of the large weight matrices').choices(packedDTypes).default('int8'))
      .requiredOption('-o, --out <folder>', 'where to write the model')
      .addOption(verifyOption()),
  )
    .addHelpText('after', '\nExample:\n  elapid quantize runs/austen --dtype int8 --out runs/austen-int8')
    .action(run);
}

async function run(model: string, options: Options): Promise<void> {
  const { dtype, out } = options;
  const before = await weightBytes(model);
  await withBackend(options, async (backend) => {
    const loaded = await loadMamba(model, backend, { dtype, verify: options.verify });
    try {
      await saveMamba(loaded, out);
    } finally {
      loaded.dispose();
    }
  });
  await copyTokenizer(model, out);
  const after = await weightBytes(out);
  process.stdout.write(
    `before  ${byteSize(before).padStart(8)}  ${model}\nafter   ${byteSize(after).padStart(8)}  ${out}  (${((100 * after) / before).toFixed(1)} %)\n`,
  );
}

/** Bytes of a checkpoint's tensors. */
async function weightBytes(path: string): Promise<number> {
  const checkpoint = await openCheckpoint(path);
  await checkpoint.close();
  return [...checkpoint.entries.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
