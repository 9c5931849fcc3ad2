import { mambaMixerConfig, sizeProblem } from '../../mixers/mamba/config.js';
import type { BidirectionalMambaConfig } from '../../mixers/mamba/bidirectional.js';
import { ArgumentError, describeValue, type ArgumentProblem } from '../../util/errors.js';

/** What a Vision Mamba looks like. */
export interface VisionMambaConfig {
  /** Pixels along each side of an image. */
  readonly imageSize: number;
  /** Colours of a pixel. */
  readonly channels: number;
  /** P: pixels along each side of a patch. */
  readonly patch: number;
  /** Pixels from one patch to the next; below P patches overlap. */
  readonly stride: number;
  readonly classes: number;
  /** D */
  readonly dModel: number;
  readonly layers: number;
  /** N: states per channel. */
  readonly dState: number;
  /** K: width of the convolutions. */
  readonly dConv: number;
  /** E / D */
  readonly expand: number;
  /**
   * How layers look both ways: each with a backward direction of its own ('both', Vim's bimamba v2), each with a backward A alone
   * ('sharedSelection', v1), or in pairs of one layer forwards and one backwards that read the same stream ('pairs', Vim's if_bidirectional).
   */
  readonly directions: 'both' | 'sharedSelection' | 'pairs';
  /** Whether a layer's directions are averaged instead of added. */
  readonly mean: boolean;
  /** Start of a factor for each result of a layer; none: no factors. */
  readonly layerScale?: number;
  /** Where the class token is, whose last state is classified; 'none': the mean over all patches is. */
  readonly classToken: 'middle' | 'first' | 'none';
  readonly norm: 'rms' | 'layer';
  readonly normEpsilon: number;
}

/** Published sizes: the widths of Vim-Ti, Vim-S and Vim-B. */
const widths = { tiny: 192, small: 384, base: 768 } as const;
export type VisionMambaSize = keyof typeof widths;
export const visionMambaSizes = Object.keys(widths) as readonly VisionMambaSize[];

const largest = { imageSize: 2 ** 14, channels: 2 ** 10, patch: 2 ** 12, stride: 2 ** 12, classes: 2 ** 24, dModel: 2 ** 16, layers: 1024, dState: 256, dConv: 64, expand: 64 } as const;

/** M: patches of an image along each side. */
export const patchesAlong = ({ imageSize, patch, stride }: Pick<VisionMambaConfig, 'imageSize' | 'patch' | 'stride'>): number =>
  Math.floor((imageSize - patch) / stride) + 1;

/**
 * A config; what is left out is as in the published models: 224 × 224 pixels of 3 colours, patches of 16 side by side, 1000 classes, 24 layers, N = 16, a class token in the middle.
 * @param options a published size, or sizes by name
 * @throws ArgumentError when a size cannot be
 */
export function visionMambaConfig(options: VisionMambaSize | (Partial<VisionMambaConfig> & { readonly size?: VisionMambaSize })): VisionMambaConfig {
  const { size = 'tiny', ...rest } = typeof options === 'string' ? { size: options } : options;
  if (!visionMambaSizes.includes(size)) {
    throw new ArgumentError({ operation: 'visionMambaConfig', argument: 'size', expected: `one of ${visionMambaSizes.join(', ')}`, got: describeValue(size) });
  }
  const config: VisionMambaConfig = {
    ...{ imageSize: 224, channels: 3, patch: 16, stride: rest.patch ?? 16, classes: 1000, dModel: widths[size], layers: 24 },
    ...{ dState: 16, dConv: 4, expand: 2, directions: 'both', mean: true, classToken: 'middle', norm: 'rms', normEpsilon: 1e-5 },
    ...rest,
  };
  const problem = problemOf(config);
  if (problem !== undefined) throw new ArgumentError({ operation: 'visionMambaConfig', ...problem });
  return config;
}

/** The kinds that a config chooses among, by name. */
export const kinds = { directions: ['both', 'sharedSelection', 'pairs'], classToken: ['middle', 'first', 'none'], norm: ['rms', 'layer'] } as const;

/** What is wrong with a config. */
export function problemOf(config: VisionMambaConfig): ArgumentProblem | undefined {
  const problem = sizeProblem(config, largest);
  if (problem !== undefined) return problem;
  for (const [argument, known] of Object.entries(kinds)) {
    const given = config[argument as keyof typeof kinds];
    if (!known.some((kind) => kind === given)) return { argument, expected: `one of ${known.join(', ')}`, got: describeValue(given) };
  }
  if (config.patch > config.imageSize) return { argument: 'patch', expected: `at most the image's ${config.imageSize} pixels`, got: String(config.patch) };
  if (config.directions !== 'pairs' || config.layers % 2 === 0) return undefined;
  return { argument: 'layers', expected: 'an even number, for pairs of directions', got: String(config.layers) };
}

/** A layer's mixer. */
export function mixerConfigOf({ dModel, layers, dState, dConv, expand, directions, mean, layerScale }: VisionMambaConfig): BidirectionalMambaConfig {
  const mixer = mambaMixerConfig({ dModel, layers, dState, dConv, expand });
  return { ...mixer, backward: directions === 'sharedSelection' ? 'A' : 'all', mean, ...(layerScale === undefined ? {} : { layerScale }) };
}
