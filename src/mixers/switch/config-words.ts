/** Switch layers in a config.json, and in what `elapid inspect` says. */
import * as v from 'valibot';
import { size } from '../../util/schema.js';
import { largestSwitchSizes as largest, type SwitchConfig } from './config.js';

const number = (least: number) => v.optional(v.pipe(v.number(), v.minValue(least), v.finite()));

/** The keys that describe them. */
export const switchSchema = {
  n_experts: size(largest.experts),
  expert_size: v.nonOptional(size(largest.expertSize)),
  capacity_factor: v.optional(v.pipe(v.number(), v.gtValue(0), v.finite())),
  balance_weight: number(0),
  z_weight: number(0),
  activation: v.optional(v.literal('relu')),
};

/** The keys and values that describe these layers. */
export const switchWords = ({ experts, expertSize, capacityFactor, balanceWeight, zWeight }: SwitchConfig): Record<string, unknown> => ({
  ...{ n_experts: experts, expert_size: expertSize, capacity_factor: capacityFactor, balance_weight: balanceWeight, z_weight: zWeight, activation: 'relu' },
});

/** What `elapid inspect` says of them. */
export const expertsFact = ({ experts, expertSize, capacityFactor }: SwitchConfig): readonly [string, string] => [
  'experts',
  `${experts} of width ${expertSize} in each layer, one of them for a token; in training a capacity of ${capacityFactor} times an even share`,
];
