import { checksummedChunks, openCheckpoint, toFloat32, type Checkpoint, type CheckpointEntry, type CheckpointOptions, type SafetensorsSource } from '../../io/index.js';
import type { Parameter } from '../../nn/index.js';
import { PlanBackend } from '../../backend/plan/plan-backend.js';
import { platform } from '#platform';
import type { StagedFile } from '../../platform/platform.js';
import { CheckpointError } from '../../util/errors.js';
import { formatShape, isPacked, sameShape, tensor, Tensor, withoutScope, type Backend, type MappingBackend, type PackedDType, type Shape } from '../../tensor/index.js';
import { rememberChecksum, rememberOrigin } from '../fingerprint.js';
import { float32Source } from '../tensor-source.js';
import { parseMambaConfig, toTransformersConfig, type MambaConfig } from './config.js';
import { MambaLM } from './language-model.js';
import { checkPackedEntry, packedMetadata, readPackedMetadata } from './packed-checkpoint.js';
import { checkWeightDType, inFormat, weightFormat, type WeightDType } from './packing.js';

/** How `loadMamba` loads. */
export interface LoadOptions extends CheckpointOptions {
  /**
   * Format of the large matrices: converted while they are read, one at a time. Default: as they are stored, packed
   * (`elapid quantize`) or 'f32'.
   */
  readonly dtype?: WeightDType | undefined;
}

/**
 * Loads a Mamba language model from a folder of either dialect: the official `config.json` + `pytorch_model.bin`, or
 * transformers' `config.json` + `model.safetensors`; sharded files too; weights in f32, f16, bf16 or f64. Float32 weights
 * of files of 64 MiB and more are mapped, not copied, where the platform can (`mapped`). With `dtype`, or from a checkpoint with packed weights, the large matrices
 * are in a format for inference (`weightFormat` tells which).
 * @throws CheckpointError naming file, key and byte offset of what is damaged, missing, unexpected or of another shape, or
 *   packed in another format than `dtype`
 * @throws ArgumentError when dtype is unknown
 */
export async function loadMamba(path: string, backend: Backend, options: LoadOptions = {}): Promise<MambaLM> {
  if (options.dtype !== undefined) checkWeightDType('loadMamba', options.dtype);
  const checkpoint = await openCheckpoint(path, options);
  try {
    if (checkpoint.config === undefined) {
      throw new CheckpointError('no config.json beside the weights; expected one that says what the model is', { file: checkpoint.name });
    }
    const config = parseMambaConfig(checkpoint.config, checkpoint.configName);
    const tensors = await loadTensors(checkpoint, config, backend, options.dtype);
    const model = new MambaLM(config, backend, (key) => tensors.get(key) as Tensor);
    rememberFiles(model, checkpoint);
    return model;
  } finally {
    await checkpoint.close();
  }
}

/** Reads all parameters; on any fault frees those it has read. */
async function loadTensors(
  checkpoint: Checkpoint,
  config: MambaConfig,
  backend: Backend,
  dtype: WeightDType | undefined,
): Promise<Map<string, Tensor>> {
  const packed = readPackedMetadata(checkpoint);
  const shapes = new Map(
    MambaLM.initial(config, new PlanBackend(), 0).parameters.map(({ key, tensor: { shape } }) => [key, shape] as const),
  );
  const entries = new Map<string, CheckpointEntry>();
  for (const entry of checkpoint.entries.values()) {
    const key = entry.key.replace(/^backbone\.embedding\./, 'backbone.embeddings.');
    // A tied head may be stored twice, as torch.save does.
    if (key === 'lm_head.weight' && config.tiedHead) continue;
    if (!shapes.has(key)) {
      throw new CheckpointError('is no parameter of the model that config.json describes', {
        file: entry.file,
        key: entry.key,
        offset: entry.offset,
      });
    }
    entries.set(key, entry);
  }
  const tensors = new Map<string, Tensor>();
  try {
    for (const [key, shape] of shapes) {
      const entry = entries.get(key);
      if (entry === undefined) throw missingTensor(checkpoint, key);
      const wanted = dtype === undefined ? undefined : weightFormat(key, dtype);
      const stored = weightFormat(key, 'int8') === 'f32' ? undefined : packed[entry.key];
      if (stored !== undefined) {
        tensors.set(key, await loadPacked(checkpoint, entry, { ...stored, expected: shape, wanted }, backend));
        continue;
      }
      if (!sameShape(entry.shape, shape)) {
        throw new CheckpointError(`has shape ${formatShape(entry.shape)}; expected ${formatShape(shape)} from config.json`, {
          file: entry.file,
          key: entry.key,
          offset: entry.offset,
        });
      }
      if (!['F32', 'F16', 'BF16', 'F64'].includes(entry.dtype)) {
        throw new CheckpointError(`has dtype ${entry.dtype}; expected F32, F16, BF16 or F64`, {
          file: entry.file,
          key: entry.key,
          offset: entry.offset,
        });
      }
      const loaded = mapped(backend, entry, await checkpoint.descriptor(entry)) ?? toFloat32(await checkpoint.read(entry), entry.dtype);
      const whole = withoutScope(() => (loaded instanceof Tensor ? loaded : tensor(backend, loaded, shape)));
      tensors.set(key, whole);
      if (wanted === undefined || wanted === 'f32') continue;
      tensors.set(key, withoutScope(() => inFormat(whole, wanted)));
      whole.dispose();
      // One matrix at a time: its memory is free before the next is read.
      await backend.synchronize();
    }
    await checkpoint.expectUnchanged();
  } catch (error) {
    for (const loaded of tensors.values()) loaded.dispose();
    throw error;
  }
  return tensors;
}

function missingTensor(checkpoint: Checkpoint, key: string): CheckpointError {
  const listed = checkpoint.absent.get(key);
  const detail = listed === undefined ? '' : `: ${listed.index} places it in ${listed.shard}, which does not hold it`;
  return new CheckpointError(`is missing${detail}`, { file: checkpoint.name, key });
}

/** Tells what the files know of the fingerprint: the checksums of weights that are in memory as in the file, and which files they are. */
function rememberFiles({ parameters }: MambaLM, checkpoint: Checkpoint): void {
  const packed = readPackedMetadata(checkpoint);
  const asStored = parameters.every(({ key, tensor }) => tensor.dtype === (packed[key]?.dtype ?? 'f32'));
  if (asStored && checkpoint.stamp !== undefined) rememberOrigin(parameters, checkpoint.stamp);
  for (const parameter of parameters) {
    const entry = checkpoint.entries.get(parameter.key);
    const same = parameter.tensor.dtype === 'f32' ? entry?.dtype === 'F32' : packed[parameter.key]?.dtype === parameter.tensor.dtype;
    if (same && entry?.checksum?.algorithm === 'xxh128') rememberChecksum(parameter, entry.checksum.value);
  }
}

/** Reads a packed weight. */
async function loadPacked(
  checkpoint: Checkpoint,
  entry: CheckpointEntry,
  { dtype, shape, expected, wanted }: { dtype: PackedDType; shape: Shape; expected: Shape; wanted: WeightDType | undefined },
  backend: Backend,
): Promise<Tensor> {
  checkPackedEntry(entry, { dtype, shape }, expected);
  if (wanted !== undefined && wanted !== dtype) {
    const { file, key, offset } = entry;
    throw new CheckpointError(`is packed as ${dtype}; it cannot be loaded as ${wanted}. Hint: load the checkpoint it was made of`, { file, key, offset });
  }
  const bytes = await checkpoint.read(entry);
  return withoutScope(() => tensor(backend, bytes, shape, dtype));
}

function mapped(
  backend: Backend,
  { dtype, offset, shape, sizeBytes }: CheckpointEntry,
  descriptor: number | undefined,
): Tensor | undefined {
  if (dtype !== 'F32' || offset % 4 !== 0 || descriptor === undefined || !('mapFile' in backend)) return undefined;
  const buffer = (backend as MappingBackend).mapFile(descriptor, offset, 'f32', sizeBytes / 4);
  return buffer === undefined ? undefined : withoutScope(() => Tensor.over(backend, buffer, shape));
}

/**
 * Saves a model as transformers' `AutoModelForCausalLM` reads it: config.json and model.safetensors, in float32; packed weights
 * as the bytes they are, which `loadMamba` reads back. Both files are whole before either takes its place, and weights never stand
 * beside another model's config: what a kill leaves is the old model, the new one, or, for a moment, weights without a config, which
 * no loader takes.
 * @throws ArgumentError when the model is trained while its weights are read
 * @throws FileError naming the file that cannot be written; the folder's model is then as it was
 */
export async function saveMamba(model: MambaLM, folder: string): Promise<void> {
  const staged = await stageMamba(model, folder);
  await staged.place();
}

/** The files of `saveMamba`, whole beside their places: for who has more files that belong to them. */
export async function stageMamba(model: MambaLM, folder: string): Promise<StagedFile> {
  const configFile = platform.joinPath(folder, 'config.json');
  const text = new TextEncoder().encode(`${JSON.stringify(toTransformersConfig(model.config), null, 2)}\n`);
  await platform.makeFolder(folder);
  const { version } = model;
  const parameters = await readParameters(model.parameters);
  model.expectUnchanged('saveMamba', version);
  const chunks = await checksummedChunks(parameters, { format: 'pt', ...packedMetadata(model.parameters) });
  const weights = await platform.stageFile(platform.joinPath(folder, 'model.safetensors'), chunks);
  const config = await platform.stageFile(configFile, [text]).catch(async (error: unknown) => {
    await weights.discard();
    throw error;
  });
  const discard = async () => {
    await weights.discard();
    await config.discard();
  };
  return {
    async place() {
      const old = (await platform.pathKind(configFile)) === 'file' ? await platform.readFile(configFile) : undefined;
      const changes = old !== undefined && !sameBytes(old, text);
      try {
        if (changes) await platform.removeFile(configFile);
        await weights.place();
      } catch (error) {
        await discard();
        if (changes) await platform.writeFileAtomically(configFile, [old]);
        throw error;
      }
      await config.place();
    },
    discard,
  };
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Host copies of parameters, ready to be written: float32, of packed weights the bytes. */
export async function readParameters(parameters: readonly Parameter[]) {
  const sources: SafetensorsSource[] = [];
  for (const { key, tensor: value } of parameters) {
    if (!isPacked(value.dtype)) {
      sources.push(await float32Source(key, value));
      continue;
    }
    const packed = Uint8Array.from(await value.data());
    sources.push({ key, dtype: 'U8' as const, shape: [packed.length], sizeBytes: packed.length, bytes: () => packed });
  }
  return sources;
}
