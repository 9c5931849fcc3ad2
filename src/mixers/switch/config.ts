import { describeValue, type ArgumentProblem } from '../../util/errors.js';

/** What a layer of experts looks like. */
export interface SwitchConfig {
  /** D */
  readonly dModel: number;
  /** E: experts, of which each token goes through one. */
  readonly experts: number;
  /** F: width of an expert. */
  readonly expertSize: number;
  /** In training an expert takes at most ⌊capacityFactor·tokens/E⌋ tokens of a batch; the others pass by. */
  readonly capacityFactor: number;
  /** Weight of the loss that balances the experts; 0: none. */
  readonly balanceWeight: number;
  /** Weight of the loss that keeps the router's logits small; 0: none. */
  readonly zWeight: number;
}

/** The published choices: capacity for an even share, a balance loss of 0.01, no z-loss. */
export const switchDefaults = { experts: 8, capacityFactor: 1, balanceWeight: 0.01, zWeight: 0 } as const satisfies Partial<SwitchConfig>;

/** The largest sizes that there may be. */
export const largestSwitchSizes = { experts: 4096, expertSize: 2 ** 20 } as const;

/** What is wrong with a layer's config. */
export function switchProblem({ capacityFactor, balanceWeight, zWeight, ...sizes }: Omit<SwitchConfig, 'dModel'>): ArgumentProblem | undefined {
  for (const name of ['experts', 'expertSize'] as const) {
    const [value, largest] = [sizes[name], largestSwitchSizes[name]];
    if (Number.isInteger(value) && value >= 1 && value <= largest) continue;
    return { argument: name, expected: `an integer from 1 to ${largest}`, got: describeValue(value) };
  }
  if (!(Number.isFinite(capacityFactor) && capacityFactor > 0)) return { argument: 'capacityFactor', expected: 'a number above 0', got: describeValue(capacityFactor) };
  for (const [argument, value] of Object.entries({ balanceWeight, zWeight })) {
    if (!(Number.isFinite(value) && value >= 0)) return { argument, expected: 'a number from 0 on', got: describeValue(value) };
  }
  return undefined;
}

/** Numbers in the matrices of all experts, and in those that one token uses. */
export const switchMatrixSize = ({ dModel, experts, expertSize }: SwitchConfig): { readonly total: number; readonly active: number } => ({
  total: dModel * experts * (1 + 2 * expertSize),
  active: dModel * (experts + 2 * expertSize),
});
