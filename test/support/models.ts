import type { MambaMixer } from '../../src/mixers/index.js';
import { LanguageModel, mambaConfig, mambaFamily, type MambaConfig, type MambaConfigOptions, type State } from '../../src/models/index.js';
import type { MixerStepState } from '../../src/ops/block-step/mixer-step.js';
import { copyInto } from '../../src/ops/view/view.js';
import { empty, scope, tensor, type Backend, type Tensor } from '../../src/tensor/index.js';
import { Random } from '../../src/util/random.js';

/** Odd sizes everywhere, so that nothing fits the kernels' widths by luck. */
export function smallConfig(options: Partial<MambaConfigOptions> = {}): MambaConfig {
  return mambaConfig({ vocabularySize: 23, dModel: 20, layers: 2, dState: 5, dConv: 3, dtRank: 3, ...options });
}

export const smallModel = (backend: Backend, options: Partial<MambaConfigOptions> = {}): LanguageModel<MambaConfig> =>
  LanguageModel.initial(mambaFamily, smallConfig({ initialisation: { embeddingDeviation: 0.5 }, ...options }), backend, 3);

/** A Mamba model's mixer. */
export const mixerOf = (model: LanguageModel, block: number): MambaMixer => model.mixers[block] as MambaMixer;

/** What a Mamba model's mixers remember. */
export const memoryOf = (state: State | null): readonly MixerStepState[] => (state?.layers ?? []) as unknown as readonly MixerStepState[];

export function randomIds(count: number, vocabularySize: number, seed = 5): Int32Array {
  const random = new Random(seed);
  return Int32Array.from({ length: count }, () => random.integer(vocabularySize));
}

export const idTensor = (backend: Backend, ids: ArrayLike<number>, shape: readonly number[]): Tensor<'i32'> =>
  tensor(backend, ids, shape, 'i32');

/** Ids that a kernel writes, as those that a model draws: the host does not know them and cannot check them. */
export function idsOfDevice(backend: Backend, ids: ArrayLike<number>, shape: readonly number[]): Tensor<'i32'> {
  return scope(() => {
    const made = empty(backend, shape, 'i32');
    copyInto(idTensor(backend, ids, shape), made);
    return made;
  });
}

/** Runs `body` in a scope and reads the tensor it makes. */
export async function read(body: () => Tensor): Promise<Float64Array> {
  const result = scope(body);
  try {
    return await result.exactData();
  } finally {
    result.dispose();
  }
}
