import * as v from 'valibot';
import { openCheckpoint, type Checkpoint, type CheckpointEntry, type CheckpointOptions } from '../../io/index.js';
import { tensor, withoutScope, type Backend, type Tensor } from '../../tensor/index.js';
import { PlanBackend } from '../../backend/plan/plan-backend.js';
import { ArgumentError, CheckpointError } from '../../util/errors.js';
import { checked } from '../../util/schema.js';
import { loadTensors, stageCheckpoint, storedParameters } from '../checkpoint.js';
import { kinds, patchesAlong, visionMambaConfig, type VisionMambaConfig } from './config.js';
import { VisionMamba } from './model.js';
import { resizeGrid } from './positions.js';

const modelType = 'elapid-vision-mamba';
const positionsKey = 'pos_embed';

/** Numbers are checked with the config. */
const count = v.optional(v.number());
const schema = v.object({
  model_type: v.literal(modelType),
  ...{ imageSize: count, channels: count, patch: count, stride: count, classes: count, dModel: count, layers: count, dState: count, dConv: count, expand: count },
  ...{ directions: v.optional(v.picklist(kinds.directions)), mean: v.optional(v.boolean()), layerScale: count },
  ...{ classToken: v.optional(v.picklist(kinds.classToken)), norm: v.optional(v.picklist(kinds.norm)), normEpsilon: count },
});

/** How `loadVisionMamba` loads: what the file does not say, and another resolution. */
export interface LoadVisionMambaOptions extends CheckpointOptions {
  /**
   * The size of images. Default: the config's, or 224 for a published file. With another than the weights are of, or another stride, the
   * positions are stretched (bicubic), for fine-tuning.
   */
  readonly imageSize?: number;
  /** Pixels from one patch to the next. Default: the config's, or the largest that the number of positions allows. */
  readonly stride?: number;
  /** Of a published file, which does not say. Default 'middle', or 'none' where the file has none. */
  readonly classToken?: 'middle' | 'first';
  /** Of a published file, which does not say. Default: true for two whole directions. */
  readonly mean?: boolean;
}

/**
 * Loads a Vision Mamba from a folder of `saveVisionMamba`, or from a published file (`.pth`, its weights under `model`), whose config follows
 * from its tensors' shapes.
 * @throws CheckpointError naming what is damaged, missing, unexpected or of another shape
 * @throws ArgumentError when an option cannot be
 */
export async function loadVisionMamba(path: string, backend: Backend, options: LoadVisionMambaOptions = {}): Promise<VisionMamba> {
  const checkpoint = await openCheckpoint(path, options);
  try {
    const entries = new Map([...checkpoint.entries.values()].map((entry) => [entry.key.replace(/^module\./, ''), entry]));
    const stored = configOf(checkpoint, entries, options);
    const { imageSize = stored.imageSize, stride = stored.stride } = options;
    const config = visionMambaConfig({ ...stored, imageSize, stride });
    const planned = VisionMamba.initial(stored, new PlanBackend(), 0);
    const tensors = await loadTensors(checkpoint, storedParameters(checkpoint, planned.parameters, entries), backend);
    if (patchesAlong(config) !== patchesAlong(stored)) {
      const old = tensors.get(positionsKey) as Tensor;
      tensors.set(positionsKey, await stretched(old, stored, config));
      old.dispose();
    }
    return new VisionMamba(config, backend, (key) => tensors.get(key) as Tensor);
  } finally {
    await checkpoint.close();
  }
}

/**
 * Saves a model as config.json and model.safetensors, in float32 and under the published keys, both whole before either takes its place.
 * @throws FileError naming the file that cannot be written
 */
export async function saveVisionMamba(model: VisionMamba, folder: string): Promise<void> {
  model.expectLive('saveVisionMamba');
  const versions = () => model.parameters.reduce((sum, { tensor: { version } }) => sum + version, 0);
  const before = versions();
  const staged = await stageCheckpoint(folder, { model_type: modelType, ...model.config }, model.parameters, () => {
    if (versions() === before) return;
    throw new ArgumentError({ operation: 'saveVisionMamba', argument: 'model', expected: 'weights that stay as they are meanwhile', got: 'changed by a training step' });
  });
  await staged.place();
}

/** What a config.json says, or the tensors' shapes do. */
function configOf(checkpoint: Checkpoint, entries: ReadonlyMap<string, CheckpointEntry>, options: LoadVisionMambaOptions): VisionMambaConfig {
  const { config: json, configName: file } = checkpoint;
  const stated = (json as { model_type?: unknown } | undefined)?.model_type === modelType ? checked(schema, json, { file }) : undefined;
  try {
    if (stated === undefined) return shapedConfig(checkpoint, entries, options);
    return visionMambaConfig(Object.fromEntries(Object.entries(stated).filter(([key, value]) => key !== 'model_type' && value !== undefined)));
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new CheckpointError(cause.message.replace(/^\w+: /, ''), { file: stated === undefined ? checkpoint.name : file }, { cause });
  }
}

function shapedConfig(checkpoint: Checkpoint, entries: ReadonlyMap<string, CheckpointEntry>, options: LoadVisionMambaOptions): VisionMambaConfig {
  const shapeOf = (key: string): readonly number[] => {
    const entry = entries.get(key);
    if (entry !== undefined) return entry.shape;
    throw new CheckpointError('is missing; expected the weights of a Vision Mamba', { file: checkpoint.name, key });
  };
  const [dModel = 0, channels = 0, patch = 0] = shapeOf('patch_embed.proj.weight');
  const [dInner = 0, dState = 0] = shapeOf('layers.0.mixer.A_log');
  const [classes = 0] = shapeOf('head.weight');
  const has = (name: string) => entries.has(`layers.0.mixer.${name}`);
  const directions = has('conv1d_b.weight') ? 'both' : has('A_b_log') ? 'sharedSelection' : 'pairs';
  const layers = 1 + Math.max(-1, ...[...entries.keys()].map((key) => Number(/^layers\.(\d+)\./.exec(key)?.[1] ?? -1)));
  const classToken = entries.has('cls_token') ? (options.classToken ?? 'middle') : 'none';
  const [, positions = 0] = shapeOf(positionsKey);
  const along = Math.sqrt(positions - (classToken === 'none' ? 0 : 1));
  const imageSize = 224;
  const stride = Array.from({ length: patch }, (_, i) => patch - i).find((pixels) => patchesAlong({ imageSize, patch, stride: pixels }) === along);
  if (stride === undefined) {
    const expected = `a number that patches of ${patch} pixels in an image of ${imageSize} give, with${classToken === 'none' ? 'out' : ''} a class token`;
    throw new CheckpointError(`has ${positions} positions; expected ${expected}. Hint: save the model with saveVisionMamba, which writes a config.json`, { file: checkpoint.name, key: positionsKey });
  }
  return visionMambaConfig({
    ...{ imageSize, channels, patch, stride, classes, dModel, layers, dState, dConv: shapeOf('layers.0.mixer.conv1d.weight').at(-1) ?? 0, expand: dInner / dModel },
    ...{ directions, mean: options.mean ?? directions === 'both', classToken, norm: entries.has('norm_f.bias') ? 'layer' : 'rms' },
  });
}

/** The positions of another grid; the class token keeps its own. */
async function stretched(positions: Tensor, from: VisionMambaConfig, to: VisionMambaConfig): Promise<Tensor> {
  const { dModel } = from;
  const [old, now] = [patchesAlong(from), patchesAlong(to)];
  const place = (along: number) => (from.classToken === 'middle' ? Math.floor((along * along) / 2) : 0) * dModel;
  const values = Float32Array.from(await positions.data());
  const token = from.classToken === 'none' ? [] : [values.subarray(place(old), place(old) + dModel)];
  const grid = new Float32Array(old * old * dModel);
  grid.set(values.subarray(0, token.length === 0 ? grid.length : place(old)));
  if (token.length > 0) grid.set(values.subarray(place(old) + dModel), place(old));
  const patches = resizeGrid(grid, old, now, dModel);
  const result = new Float32Array(patches.length + token.length * dModel);
  const before = token.length === 0 ? 0 : place(now);
  result.set(patches.subarray(0, before));
  for (const own of token) result.set(own, before);
  result.set(patches.subarray(before), before + token.length * dModel);
  return withoutScope(() => tensor(positions.backend, result, [1, result.length / dModel, dModel]));
}
