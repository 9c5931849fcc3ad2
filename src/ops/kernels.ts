import type { Kernel } from '../tensor/index.js';
import * as memory from '../backend/memory/kernels.js';
import * as adamw from './adamw/kernels.js';
import * as causalConv1d from './causal-conv1d/kernels.js';
import * as crossEntropy from './cross-entropy/kernels.js';
import * as elementwise from './elementwise/kernels.js';
import * as embedding from './embedding/kernels.js';
import * as layerNorm from './layer-norm/kernels.js';
import * as matmul from './matmul/kernels.js';
import * as packed from './packed/kernels.js';
import * as reduction from './reduction/kernels.js';
import * as rmsNorm from './rms-norm/kernels.js';
import * as sampling from './sampling/kernels.js';
import * as selectiveScan from './selective-scan/kernels.js';
import * as softmax from './softmax/kernels.js';

/** In the order in which their sources are compiled: a later `cpu.cc` may use an earlier one's helpers. */
const byFolder: Readonly<Record<string, object>> = {
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
};

/** Folders of `src` that hold a `cpu.cc`. */
export const kernelFolders: readonly string[] = Object.keys(byFolder);

/** Every kernel, in the order of their C++ table. */
export const kernels: readonly Kernel[] = Object.values(byFolder).flatMap((module) => Object.values(module) as Kernel[]);
