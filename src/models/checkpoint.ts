import { PlanBackend } from '../backend/plan/plan-backend.js';
import { checksummedChunks, openCheckpoint, toFloat32, type Checkpoint, type CheckpointEntry, type CheckpointOptions, type SafetensorsSource } from '../io/index.js';
import { describeBeyond, findBeyond } from '../nn/finite.js';
import type { Packing, Parameter } from '../nn/index.js';
import { platform } from '#platform';
import type { StagedFile } from '../platform/platform.js';
import { formatShape, isPacked, sameShape, tensor, Tensor, withoutScope, type Backend, type MappingBackend, type PackedDType, type Shape } from '../tensor/index.js';
import { CheckpointError } from '../util/errors.js';
import { countLayers, entriesByKey, isFloat, locationOf, strangeKey } from './checkpoint-keys.js';
import { warnOnConsole, type OnWarning } from './config-keys.js';
import { withGenerationConfig } from './config-reading.js';
import { usualKeys, type BaseConfig } from './family.js';
import { rememberChecksum, rememberOrigin } from './fingerprint.js';
import { LanguageModel } from './language-model.js';
import { checkPackedEntry, packedMetadata, readPackedMetadata, type PackedTensors } from './packed-checkpoint.js';
import { checkWeightDType, inFormat, largestOf, weightFormat, type WeightDType } from './packing.js';
import { describedBy, type DescribedModel } from './registry.js';
import { float32Source } from './tensor-source.js';
import { resolveTiedHead } from './tied-head.js';

/** How `loadModel` loads. */
export interface LoadOptions extends CheckpointOptions {
  /**
   * Format of the large matrices: converted while they are read, one at a time. Default: as they are stored, packed
   * (`elapid quantize`) or 'f32'.
   */
  readonly dtype?: WeightDType | undefined;
  /** Told, a sentence each, of what the files say that has no effect here, or another than other programs may expect. Default: `console.warn`. */
  readonly onWarning?: OnWarning | undefined;
}

/** What a checkpoint holds, before its weights are read. */
export interface DescribedCheckpoint extends DescribedModel {
  /** What config.json and generation_config.json say; an untied head where one is stored that is not the embedding. */
  readonly config: BaseConfig;
  /** The format of the large matrices. */
  readonly dtype: WeightDType;
  /** Of every parameter its place in the file, by the model's key, and its shape in the model. */
  readonly parameters: ReadonlyMap<string, StoredParameter>;
}

export interface StoredParameter {
  readonly entry: CheckpointEntry;
  readonly shape: Shape;
  readonly packing: Packing;
  /** How it is packed, if it is. */
  readonly packed: PackedTensors[string] | undefined;
}

/**
 * Loads a language model of any family that is known from a folder: transformers' `config.json` + `model.safetensors`, or the
 * official `config.json` + `pytorch_model.bin` of Mamba; sharded files too; weights in f32, f16, bf16 or f64. Or from a GGUF file of the
 * architectures `mamba`, `mamba2`, `llama` and `gptneox`: its quantized weights become float32. Float32 weights
 * of files of 64 MiB and more are mapped, not copied, where the platform can (`mapped`). With `dtype`, or from a checkpoint with packed weights, the large matrices
 * are in a format for inference; small parameters and those of the dynamics stay in float32.
 * @throws CheckpointError naming file, key and byte offset of what is damaged, missing, unexpected or of another shape,
 *   packed in another format than `dtype`, or beyond the numbers of the format
 * @throws ArgumentError when dtype is unknown
 */
export async function loadModel(path: string, backend: Backend, options: LoadOptions = {}): Promise<LanguageModel> {
  if (options.dtype !== undefined) checkWeightDType('loadModel', options.dtype);
  const checkpoint = await openCheckpoint(path, options);
  try {
    const { family, config, parameters } = await readCheckpoint(checkpoint, options.onWarning);
    const tensors = await loadTensors(checkpoint, parameters, backend, options.dtype);
    const model = new LanguageModel(family, config, backend, (key) => tensors.get(key) as Tensor);
    rememberFiles(model, checkpoint, parameters);
    return model;
  } finally {
    await checkpoint.close();
  }
}

/**
 * Checks an open checkpoint against its config: keys, shapes and formats, in time and memory that follow from what the files hold.
 * @throws CheckpointError as `loadModel`
 */
export async function readCheckpoint(checkpoint: Checkpoint, onWarning: OnWarning = warnOnConsole): Promise<DescribedCheckpoint> {
  const { configName } = checkpoint;
  if (checkpoint.config === undefined) {
    throw new CheckpointError('no config.json beside the weights; expected one that says what the model is', { file: checkpoint.name });
  }
  const packed = readPackedMetadata(checkpoint);
  const { family, config: stated } = describedBy(checkpoint.config, configName, onWarning);
  const { keys = usualKeys } = family;
  const entries = entriesByKey(checkpoint, keys);
  const described = await withGenerationConfig(stated, configName, onWarning);
  expectLayers(checkpoint, described, countLayers(entries.keys(), keys));
  const config = await resolveTiedHead(checkpoint, described, entries, keys, onWarning);
  const planned = LanguageModel.initial(family, config, new PlanBackend(), 0);
  const lastMissing = `${keys.head}.weight`;
  const parameters = storedParameters(checkpoint, planned.parameters, entries, packed, (key) => key === lastMissing && planned.parameters.length === entries.size + 1);
  return { family, config, dtype: parameters.get(planned.embeddings.weight.key)?.packed?.dtype ?? 'f32', parameters };
}

/**
 * Finds each parameter of a model among the tensors of a checkpoint, which may hold no others.
 * @param entries by the model's keys
 * @param untied whether a key that is missing is that of the head, and all else is there
 * @throws CheckpointError naming the key that is missing, unexpected, or of another shape or dtype
 */
export function storedParameters(
  checkpoint: Checkpoint,
  planned: readonly Parameter[],
  entries: ReadonlyMap<string, CheckpointEntry>,
  packed: PackedTensors = {},
  untied: (key: string) => boolean = () => false,
): Map<string, StoredParameter> {
  const expected = new Map(planned.map(({ key, packing, tensor: { shape } }) => [key, { shape, packing }] as const));
  for (const [key, entry] of entries) if (!expected.has(key)) throw strangeKey(key, entry, expected.keys());
  const parameters = new Map<string, StoredParameter>();
  for (const [key, { shape, packing }] of expected) {
    const entry = entries.get(key);
    if (entry === undefined) throw missing(checkpoint, key, untied(key));
    const own = packing === 'never' ? undefined : packed[entry.key];
    if (own === undefined) checkEntry(key, entry, shape);
    else checkPackedEntry(entry, own, shape);
    parameters.set(key, { entry, shape, packing, packed: own });
  }
  return parameters;
}

/** The file has the layers it has. */
function expectLayers({ config, configName }: Checkpoint, { layers }: BaseConfig, stored: number): void {
  // Files without a layer are of another kind of model, and their keys say more.
  if (stored === layers || stored === 0) return;
  const key = 'num_hidden_layers' in (config as object) ? 'num_hidden_layers' : 'n_layer';
  throw new CheckpointError(`is ${layers}; expected ${stored}, the layers that the weights have`, { file: configName, key });
}

/** @param untied whether it is the head, and all else is there */
function missing(checkpoint: Checkpoint, key: string, untied: boolean): CheckpointError {
  const hint = untied ? '. Hint: config.json says that the head is not the embedding (tie_word_embeddings); is it?' : '';
  const listed = checkpoint.absent.get(key);
  const detail = listed === undefined ? '' : `: ${listed.index} places it in ${listed.shard}, which does not hold it`;
  return new CheckpointError(`is missing${detail}${hint}`, { file: checkpoint.name, key });
}

function checkEntry(key: string, entry: CheckpointEntry, shape: Shape): void {
  if (!fits(key, entry.shape, shape)) {
    throw new CheckpointError(`has shape ${formatShape(entry.shape)}; expected ${formatShape(shape)} from config.json`, locationOf(entry));
  }
  if (!isFloat(entry)) throw new CheckpointError(`has dtype ${entry.dtype}; expected F32, F16, BF16 or F64`, locationOf(entry));
}

/** Whether numbers of a stored shape lie as those of the parameter: a filter [E,1,K] may be [E,K], or MLX's [E,K,1]. */
function fits(key: string, stored: Shape, shape: Shape): boolean {
  if (sameShape(stored, shape)) return true;
  const [channels = 0, , width = 0] = shape;
  return key.endsWith('.conv1d.weight') && [[channels, width], [channels, width, 1]].some((other) => sameShape(stored, other));
}

/**
 * Sees to it that weights can be loaded in a format.
 * @throws CheckpointError naming one that is packed in another
 */
export function expectFormat({ parameters }: DescribedCheckpoint, dtype: WeightDType): void {
  for (const { entry, packing, packed } of parameters.values()) if (packed !== undefined) expectPackedAs(entry, packed.dtype, weightFormat(packing, dtype));
}

function expectPackedAs(entry: CheckpointEntry, dtype: PackedDType, wanted: WeightDType | undefined): void {
  if (wanted === undefined || wanted === dtype) return;
  throw new CheckpointError(`is packed as ${dtype}; it cannot be loaded as ${wanted}. Hint: load the checkpoint it was made of`, locationOf(entry));
}

/** Reads all parameters; on any fault frees those it has read. */
export async function loadTensors(
  checkpoint: Checkpoint,
  parameters: DescribedCheckpoint['parameters'],
  backend: Backend,
  dtype?: WeightDType,
): Promise<Map<string, Tensor>> {
  const tensors = new Map<string, Tensor>();
  try {
    for (const [key, { entry, shape, packing, packed }] of parameters) {
      const wanted = dtype === undefined ? undefined : weightFormat(packing, dtype);
      if (packed !== undefined) {
        tensors.set(key, await loadPacked(checkpoint, entry, { ...packed, wanted }, backend));
        continue;
      }
      const loaded = mapped(backend, entry, shape, await checkpoint.descriptor(entry)) ?? (await readFloats(checkpoint, entry));
      const whole = withoutScope(() => (loaded instanceof Tensor ? loaded : tensor(backend, loaded, shape)));
      tensors.set(key, whole);
      if (wanted === undefined || wanted === 'f32') continue;
      const problem = await findBeyond(whole, largestOf(wanted));
      if (problem !== undefined) throw new CheckpointError(`holds ${problem}; it cannot become ${wanted}`, locationOf(entry));
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

/** Tells what the files know of the fingerprint: the checksums of weights that are in memory as in the file, and which files they are. */
function rememberFiles(model: LanguageModel, { stamp }: Checkpoint, stored: DescribedCheckpoint['parameters']): void {
  const asStored = model.parameters.every(({ key, tensor }) => tensor.dtype === (stored.get(key)?.packed?.dtype ?? 'f32'));
  if (asStored && stamp !== undefined) rememberOrigin(model.parameters, stamp);
  for (const parameter of model.parameters) {
    const { entry, packed } = stored.get(parameter.key) ?? {};
    const same = parameter.tensor.dtype === 'f32' ? entry?.dtype === 'F32' : packed?.dtype === parameter.tensor.dtype;
    if (same && entry?.checksum?.algorithm === 'xxh128') rememberChecksum(parameter, entry.checksum.value);
  }
}

/** @throws CheckpointError when a double is too large for a float */
async function readFloats(checkpoint: Checkpoint, entry: CheckpointEntry): Promise<Float32Array> {
  const bytes = await checkpoint.read(entry);
  const floats = toFloat32(bytes, entry.dtype);
  if (entry.dtype !== 'F64') return floats;
  // What is infinite already is no fault of the conversion.
  const doubles = new Float64Array(new Uint8Array(bytes).buffer).map((value) => (Number.isFinite(value) ? value : 0));
  const problem = describeBeyond(doubles, entry.shape, firstBeyondFloat32);
  if (problem !== undefined) throw new CheckpointError(`holds ${problem}; it cannot become f32`, locationOf(entry));
  return floats;
}

/** The first number that becomes an infinite float. */
const firstBeyondFloat32 = 2 ** 128 - 2 ** 103;

/** Reads a packed weight. */
async function loadPacked(
  checkpoint: Checkpoint,
  entry: CheckpointEntry,
  { dtype, shape, wanted }: { dtype: PackedDType; shape: Shape; wanted: WeightDType | undefined },
  backend: Backend,
): Promise<Tensor> {
  expectPackedAs(entry, dtype, wanted);
  const bytes = await checkpoint.read(entry);
  return withoutScope(() => tensor(backend, bytes, shape, dtype));
}

function mapped(backend: Backend, { dtype, offset, sizeBytes }: CheckpointEntry, shape: Shape, descriptor: number | undefined): Tensor | undefined {
  if (dtype !== 'F32' || offset % 4 !== 0 || descriptor === undefined || !('mapFile' in backend)) return undefined;
  const buffer = (backend as MappingBackend).mapFile(descriptor, offset, 'f32', sizeBytes / 4);
  return buffer === undefined ? undefined : withoutScope(() => Tensor.over(backend, buffer, shape));
}

/**
 * Saves a model as transformers' `AutoModelForCausalLM` reads it: config.json and model.safetensors, in float32; packed weights
 * as the bytes they are, which `loadModel` reads back. Both files are whole before either takes its place, and weights never stand
 * beside another model's config: what a kill leaves is the old model, the new one, or, for a moment, weights without a config, which
 * no loader takes.
 * @throws ArgumentError when the model is trained while its weights are read
 * @throws FileError naming the file that cannot be written; the folder's model is then as it was
 */
export async function saveModel(model: LanguageModel, folder: string): Promise<void> {
  const staged = await stageModel(model, folder);
  await staged.place();
}

/** The files of `saveModel`, whole beside their places: for who has more files that belong to them. */
export async function stageModel(model: LanguageModel, folder: string): Promise<StagedFile> {
  const { version } = model;
  return stageCheckpoint(folder, model.family.write(model.config), model.parameters, () => {
    model.expectUnchanged('saveModel', version);
  });
}

/**
 * A config.json and a model.safetensors, whole beside their places.
 * @param unchanged asked when the parameters have been read: throws where they were trained meanwhile
 */
export async function stageCheckpoint(folder: string, config: object, of: readonly Parameter[], unchanged: () => void): Promise<StagedFile> {
  const configFile = platform.joinPath(folder, 'config.json');
  const text = new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`);
  await platform.makeFolder(folder);
  const parameters = await readParameters(of);
  unchanged();
  const chunks = await checksummedChunks(parameters, { format: 'pt', ...packedMetadata(of) });
  const weights = await platform.stageFile(platform.joinPath(folder, 'model.safetensors'), chunks);
  const stated = await platform.stageFile(configFile, [text]).catch(async (error: unknown) => {
    await weights.discard();
    throw error;
  });
  const discard = async () => {
    await weights.discard();
    await stated.discard();
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
      await stated.place();
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
