import { openCheckpoint, safetensorsChunks, toFloat32, type Checkpoint, type CheckpointEntry } from '../../io/index.js';
import type { Parameter } from '../../nn/index.js';
import { PlanBackend } from '../../backend/plan/plan-backend.js';
import { platform } from '#platform';
import { CheckpointError } from '../../util/errors.js';
import { formatShape, sameShape, tensor, Tensor, withoutScope, type Backend, type MappingBackend } from '../../tensor/index.js';
import { parseMambaConfig, toTransformersConfig, type MambaConfig } from './config.js';
import { MambaLM } from './language-model.js';

/**
 * Loads a Mamba language model from a folder of either dialect: the official `config.json` + `pytorch_model.bin`, or
 * transformers' `config.json` + `model.safetensors`; sharded files too; weights in f32, f16, bf16 or f64. Float32 weights
 * are mapped, not copied, where the platform can.
 * @throws CheckpointError naming file, key and byte offset of what is damaged, missing, unexpected or of another shape
 */
export async function loadMamba(path: string, backend: Backend): Promise<MambaLM> {
  const checkpoint = await openCheckpoint(path);
  try {
    if (checkpoint.config === undefined) {
      throw new CheckpointError('no config.json beside the weights; expected one that says what the model is', { file: checkpoint.name });
    }
    const config = parseMambaConfig(checkpoint.config, checkpoint.configName);
    const tensors = await loadTensors(checkpoint, config, backend);
    return new MambaLM(config, backend, (key) => tensors.get(key) as Tensor);
  } finally {
    await checkpoint.close();
  }
}

/** Reads all parameters; on any fault frees those it has read. */
async function loadTensors(checkpoint: Checkpoint, config: MambaConfig, backend: Backend): Promise<Map<string, Tensor>> {
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
      if (entry === undefined) throw new CheckpointError('is missing', { file: checkpoint.name, key });
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
      const loaded = mapped(backend, entry, checkpoint.descriptor(entry)) ?? toFloat32(await checkpoint.read(entry), entry.dtype);
      tensors.set(
        key,
        withoutScope(() => (loaded instanceof Tensor ? loaded : tensor(backend, loaded, shape))),
      );
    }
  } catch (error) {
    for (const loaded of tensors.values()) loaded.dispose();
    throw error;
  }
  return tensors;
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
 * Saves a model as transformers' `AutoModelForCausalLM` reads it: config.json and model.safetensors, in float32. Each file
 * is replaced at once or not at all.
 */
export async function saveMamba(model: MambaLM, folder: string): Promise<void> {
  const config = JSON.stringify(toTransformersConfig(model.config), null, 2);
  await platform.makeFolder(folder);
  const weights = await readParameters(model.parameters);
  await platform.writeFileAtomically(platform.joinPath(folder, 'model.safetensors'), safetensorsChunks(weights, { format: 'pt' }));
  await platform.writeFileAtomically(platform.joinPath(folder, 'config.json'), [new TextEncoder().encode(`${config}\n`)]);
}

/** Host copies of parameters, ready to be written. */
export async function readParameters(parameters: readonly Parameter[]) {
  const sources = [];
  for (const { key, tensor: value } of parameters) {
    const data = Float32Array.from(await value.data());
    const bytes = () => new Uint8Array(data.buffer);
    sources.push({ key, dtype: 'F32' as const, shape: value.shape, sizeBytes: data.byteLength, bytes });
  }
  return sources;
}
