import type { Kernel } from '../tensor/index.js';
import * as memory from '../backend/memory/kernels.js';
import * as adamw from './adamw/kernels.js';
import * as blockStep from './block-step/kernels.js';
import * as causalConv1d from './causal-conv1d/kernels.js';
import * as crossEntropy from './cross-entropy/kernels.js';
import * as elementwise from './elementwise/kernels.js';
import * as embedding from './embedding/kernels.js';
import * as layerNorm from './layer-norm/kernels.js';
import * as matmul from './matmul/kernels.js';
import * as normLinear from './norm-linear/kernels.js';
import * as packed from './packed/kernels.js';
import * as reduction from './reduction/kernels.js';
import * as rmsNorm from './rms-norm/kernels.js';
import * as sampling from './sampling/kernels.js';
import * as selectiveScan from './selective-scan/kernels.js';
import * as softmax from './softmax/kernels.js';

/** In the order in which their sources are compiled: a later `cpu.cc` may use an earlier one's helpers. */
const byFolder: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'backend/memory': memory,
  'ops/elementwise': elementwise,
  'ops/reduction': reduction,
  'ops/matmul': matmul,
  'ops/packed': packed,
  'ops/embedding': embedding,
  'ops/rms-norm': rmsNorm,
  'ops/layer-norm': layerNorm,
  'ops/causal-conv1d': causalConv1d,
  'ops/selective-scan': selectiveScan,
  'ops/softmax': softmax,
  'ops/cross-entropy': crossEntropy,
  'ops/adamw': adamw,
  'ops/sampling': sampling,
  'ops/norm-linear': normLinear,
  'ops/block-step': blockStep,
};

const kernelsOf = (folder: string): readonly Kernel[] => Object.values(byFolder[folder] ?? {}) as Kernel[];

const folders = Object.keys(byFolder);

/** Every kernel. */
export const kernels: readonly Kernel[] = folders.flatMap(kernelsOf);

/** The kernels that are compiled from C++, in the order of their table: all but the optional ones. */
export const compiledKernels: readonly Kernel[] = kernels.filter(({ optional }) => !optional);

/** Folders of `src` that hold a `cpu.cc`. */
export const compiledFolders: readonly string[] = folders.filter((folder) => kernelsOf(folder).some((kernel) => compiledKernels.includes(kernel)));
