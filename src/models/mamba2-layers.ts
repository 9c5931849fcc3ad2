/** What families share that hold Mamba-2 mixers, and attention in some layers. */
import { headsOf, type Mamba2MixerConfig } from '../mixers/mamba2/config.js';
import { describeValue, type ArgumentProblem } from '../util/errors.js';
import type { Fact } from './family.js';

/** What is wrong with the list of layers that hold attention. */
export function attentionLayersProblem(listed: readonly number[], layers: number): ArgumentProblem | undefined {
  const stranger = listed.findIndex((layer, i) => !(Number.isInteger(layer) && layer > (listed[i - 1] ?? -1) && layer < layers));
  if (stranger < 0) return undefined;
  return { argument: `attentionLayers[${stranger}]`, expected: `layers from 0 to ${layers - 1} in ascending order`, got: describeValue(listed[stranger]) };
}

/** What is wrong with settings of a part that are the model's too: config.json says them once. @param part by name: the part's, and the model's */
export function partProblem(part: Readonly<Record<string, readonly [own: number, model: number]>>): ArgumentProblem | undefined {
  const [argument, values] = Object.entries(part).find(([, [own, model]]) => own !== model) ?? [];
  return argument === undefined || values === undefined ? undefined : { argument, expected: `the model's, ${values[1]}`, got: String(values[0]) };
}

/** How many layers there are of each kind, as `elapid inspect` says it. */
export function mixersInWords(layers: number, attentionLayers: readonly number[]): string {
  const attending = attentionLayers.length;
  return attending === 0 ? `${layers} of Mamba-2` : `${layers - attending} of Mamba-2, ${attending} of attention (${attentionLayers.join(', ')})`;
}

/** The sizes of a mixer, as `elapid inspect` shows them. */
export function mixerFact(config: Mamba2MixerConfig): Fact {
  const { dModel, dInner, dSsm, dState, dConv, headSize, groups } = config;
  const inner = dSsm === dInner ? '' : `, ${dInner - dSsm} channels gated without a state`;
  return ['sizes', `d_model ${dModel}, d_inner ${dInner}, ${headsOf(config)} heads of ${headSize}, d_state ${dState}, groups ${groups}, d_conv ${dConv}${inner}`];
}
