/** What the ways into a block's step have in common: what they read, and the convolution. */
import type { GpuBinding, GpuLaunch } from '../../../tensor/index.js';
import { repeat } from '../../../wgsl/vectors.js';
import type { BlockLaunch } from './extents.js';
import { wide } from './wide.js';

/** What norm, first projection and convolution read: x and the residual in vectors of four, weights by 16 bytes. */
export const normedBuffers = ({ dtype, has }: Pick<GpuLaunch<'x' | 'residual' | 'sum' | 'inProj' | 'convBias'>, 'dtype' | 'has'>): (string | GpuBinding)[] => [
  { name: 'x', as: `vec4<${dtype('x') ?? 'f32'}>` },
  ...(has('residual') ? [{ name: 'residual', as: `vec4<${dtype('residual') ?? 'f32'}>` }] : []),
  ...(has('sum') ? [{ name: 'sum', as: 'vec4<f32>' }] : []),
  { name: 'normWeight', as: 'vec4<f32>' },
  { name: 'inProj', as: wide(dtype('inProj')).as },
  'convState',
  'convWeight',
  ...(has('convBias') ? ['convBias'] : []),
];

export const enterBuffers = (launch: BlockLaunch): (string | GpuBinding)[] => [...normedBuffers(launch), { name: 'xProj', as: wide(launch.dtype('xProj')).as }, 'inner'];

/** WGSL that makes `value`, u of channel `e` of sequence `b`, from `newest`; `move` puts that into the state, the oldest out. */
export const convolution = ({ parameters: { taps }, has }: BlockLaunch): { readonly value: string; readonly move: string } => ({
  value: `
          var pre = newest * convWeight[p.convWeight_at + e * ${taps}u + ${taps - 1}u];
          ${has('convBias') ? 'pre += convBias[p.convBias_at + e];' : ''}
          ${repeat(
            taps - 1,
            (tap) => `
          let state${tap} = p.convState_at + (b * ${taps - 1}u + ${tap}u) * p.channels + e;
          let x${tap} = convState[state${tap}];
          pre += x${tap} * convWeight[p.convWeight_at + e * ${taps}u + ${tap}u];`,
          )}
          let value = silu(pre);`,
  move: repeat(taps - 1, (tap) => `convState[state${tap}] = ${tap + 2 < taps ? `x${tap + 1}` : 'newest'};`),
});
