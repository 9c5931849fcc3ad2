import type { Division, Kernel } from '../../tensor/index.js';
import { accumulate } from './kernels.js';

/** Outputs of a division that are sums over what is divided. */
export const added = <B extends string>(...names: readonly B[]): Pick<Division<B>, 'sums'> => ({
  sums: { names, add: accumulate as unknown as Kernel },
});
