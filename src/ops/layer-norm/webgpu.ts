import { normBackwardGpu, normGpu } from '../../wgsl/norm.js';

export const layerNormGpu = (launch: Parameters<typeof normGpu>[0]) => normGpu(launch, true);

export const layerNormBackwardGpu = (launch: Parameters<typeof normBackwardGpu>[0]) => normBackwardGpu(launch, true);
