import { Option, type Command } from 'commander';
import { openCheckpoint } from '../../io/index.js';
import { loadModel, saveModel } from '../../models/index.js';
import { expectFiniteWeights } from '../../nn/finite.js';
import { packedDTypes, type PackedDType } from '../../tensor/index.js';
import { byteSize } from '../format.js';
import { modelArgument, modelFolder } from '../model-argument.js';
import { overwriteOption, printWarning, verifyOption, withBackend, withBackendOptions, type ComputeOptions } from '../options.js';
import { makingFolder, withOutFolder } from '../out-folder.js';
import { copyCompanions, homeOf } from '../tokenizer-files.js';

interface Options extends ComputeOptions {
  readonly dtype: PackedDType;
  readonly out: string;
  readonly overwrite?: boolean;
  readonly verify?: true;
}

/** `elapid quantize MODEL --dtype FORMAT --out FOLDER` */
export function addQuantize(program: Command): void {
  withBackendOptions(
    program
      .command('quantize')
      .summary('make a model smaller and faster')
      .description(
        'Writes a model with its large weight matrices in a format for inference: bf16 (2 bytes a weight), int8 (1.06) or int4 ' +
          '(0.56). It loads and generates faster and predicts a little worse: elapid eval tells by how much.',
      )
      .argument('<model>', modelArgument)
      .addOption(new Option('--dtype <format>', 'of the large weight matrices').choices(packedDTypes).default('int8'))
      .requiredOption('-o, --out <folder>', 'where to write the model')
      .addOption(verifyOption())
      .addOption(overwriteOption()),
  )
    .addHelpText('after', '\nExample:\n  elapid quantize runs/austen --dtype int8 --out runs/austen-int8')
    .action(run);
}

async function run(model: string, options: Options): Promise<void> {
  const { dtype, out: folder, overwrite = false } = options;
  await makingFolder(folder, async (signal) => {
    const source = await modelFolder(model);
    const before = await weightBytes(source);
    await withOutFolder({ operation: 'quantize', folder, overwrite, aside: true }, async (out) => {
      await withBackend(options, async (backend) => {
        const loaded = await loadModel(source, backend, { dtype, verify: options.verify, onWarning: printWarning });
        try {
          signal.throwIfAborted();
          await expectFiniteWeights('quantize', loaded.parameters);
          await saveModel(loaded, out.working);
        } finally {
          loaded.dispose();
        }
      });
      await copyCompanions(await homeOf(source), out.working);
      signal.throwIfAborted();
      // Everything has been read: the model may be its own successor.
      await out.settle();
    });
    const after = await weightBytes(folder);
    process.stdout.write(
      `before  ${byteSize(before).padStart(8)}  ${model}\nafter   ${byteSize(after).padStart(8)}  ${folder}  (${((100 * after) / before).toFixed(1)} %)\n`,
    );
  });
}

/** Bytes of a checkpoint's tensors. */
async function weightBytes(path: string): Promise<number> {
  const checkpoint = await openCheckpoint(path);
  await checkpoint.close();
  return [...checkpoint.entries.values()].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}
