/** Transforms of columns of any length, forward: directly, or as a convolution (Bluestein's), as on the CPU. */
import type { GpuBinding, GpuDispatch, GpuKernel, GpuWork } from '../../../tensor/index.js';
import { perElement } from '../../../wgsl/per-element.js';
import { complexCode, entry, pairs, reversed, transforms } from './passes.js';

interface AnyColumns {
  readonly groups: number;
  readonly points: number;
  readonly size: number;
  readonly columns: number;
  readonly buffers: readonly (string | GpuBinding)[];
  /** WGSL function `input_at(group: u32, point: u32, column: u32) -> vec2<f32>`. */
  readonly read: string;
  /** Tells `read` from others of as many points. */
  readonly form: number;
}

/** What a result is read by. */
interface Result {
  /** WGSL function `result(group: u32, k: u32, column: u32) -> vec2<f32>`. */
  readonly functions: string;
  readonly buffers: readonly GpuBinding[];
}

function transformed({ groups, points, size, columns, buffers, read, form }: AnyColumns): { dispatches: GpuDispatch[]; scratch: NonNullable<GpuWork['scratch']>; result: Result } {
  const bits = Math.log2(size);
  const base = { buffer: 'z', groups, points: size, columns };
  const number = (place: string) => `z[(group * ${size}u + ${place}) * p.columns + column]`;
  const scratch = { z: { dtype: 'f32' as const, size: 2 * groups * size * columns } };
  if (points === size) {
    return {
      dispatches: transforms({ ...base, variant: `read ${points} ${form}`, buffers, functions: read, load: 'input_at(group, point, column)' }, false),
      scratch,
      result: {
        functions: `${complexCode} fn result(group: u32, k: u32, column: u32) -> vec2<f32> { return ${number(reversed('k', bits))}; }`,
        buffers: [pairs('z', 'read')],
      },
    };
  }
  const chirped = (value: string) => `multiplied(${value}, ${entry('chirp', 'point')})`;
  return {
    dispatches: [
      ...transforms(
        {
          ...{ variant: `filter ${points}`, buffer: 'filter_spectrum', groups: 1, points: size, columns: 1, buffers: [pairs('chirp')] },
          functions: `
            fn filter_at(point: u32) -> vec2<f32> {
              let k = min(point, ${size}u - point);
              if (k >= ${points}u) { return vec2<f32>(0.0); }
              return conjugate(${entry('chirp', 'k')}) * ${1 / size};
            }`,
          load: 'filter_at(point)',
        },
        false,
      ),
      ...transforms(
        {
          ...{ ...base, variant: `read ${points} ${form}`, buffers: [...buffers, pairs('chirp')] },
          functions: `
            ${read}
            fn chirped(group: u32, point: u32, column: u32) -> vec2<f32> {
              if (point >= ${points}u) { return vec2<f32>(0.0); }
              return ${chirped('input_at(group, point, column)')};
            }`,
          load: 'chirped(group, point, column)',
        },
        false,
      ),
      perElement({
        variant: `multiplied ${size}`,
        count: groups * size * columns,
        buffers: [pairs('z'), pairs('filter_spectrum', 'read')],
        numbers: { columns },
        functions: complexCode,
        body: `z[i] = multiplied(z[i], filter_spectrum[i / p.columns % ${size}u]);`,
      }),
      ...transforms({ ...base, variant: `chirped ${points}` }, true),
    ],
    scratch: { ...scratch, filter_spectrum: { dtype: 'f32', size: 2 * size } },
    result: {
      functions: `${complexCode}
        fn result(group: u32, k: u32, column: u32) -> vec2<f32> { return multiplied(${number('k')}, ${entry('chirp', 'k')}); }`,
      buffers: [pairs('z', 'read'), pairs('chirp')],
    },
  };
}

type RealParameters = 'rows' | 'length' | 'points' | 'size' | 'areas' | 'interior' | 'ends';
type Tables = 'table' | 'chirp' | 'half' | 'work';

/** WGSL of a frequency's weight. */
const weight = (k: string): string => `select(p.interior, p.ends, ${k} == 0u || 2u * ${k} == p.length)`;

export const rfftGpu: GpuKernel<Tables | 'x' | 'spectrum', RealParameters | 'xPitch'> = ({ parameters, has }) => {
  const { rows, length, points, size } = parameters;
  const x = (t: string) => `x[p.x_at + column * p.xPitch + ${t}]`;
  const even = has('half');
  const { dispatches, scratch, result } = transformed({
    ...{ groups: 1, points, size, columns: rows, buffers: ['x'], form: Number(even) },
    read: `fn input_at(group: u32, point: u32, column: u32) -> vec2<f32> {
      return vec2<f32>(${even ? `${x('2u * point')}, ${x('2u * point + 1u')}` : `${x('point')}, 0.0`});
    }`,
  });
  const frequencies = Math.floor(length / 2) + 1;
  return {
    dispatches: [
      ...dispatches,
      perElement({
        variant: `spectrum ${size} ${points} ${Number(even)}`,
        count: rows * frequencies,
        buffers: [...result.buffers, ...(even ? [pairs('half')] : []), pairs('spectrum')],
        numbers: { frequencies, columns: rows },
        functions: result.functions,
        body: `
          let k = i % p.frequencies;
          let row = i / p.frequencies;
          ${
            even
              ? `let a = result(0u, k % p.points, row);
                 let b = conjugate(result(0u, (p.points - k) % p.points, row));
                 let odd = times_i(b - a);
                 let value = 0.5 * (a + b + multiplied(odd, ${entry('half', 'k')}));`
              : 'let value = result(0u, k, row);'
          }
          spectrum[p.spectrum_at / 2u + i] = ${weight('k')} * value;`,
      }),
    ],
    scratch,
  };
};

export const irfftGpu: GpuKernel<Tables | 'spectrum' | 'y', RealParameters> = ({ parameters, has }) => {
  const { rows, length, points, size } = parameters;
  const even = has('half');
  const { dispatches, scratch, result } = transformed({
    ...{ groups: 1, points, size, columns: rows, form: Number(even) },
    buffers: [pairs('spectrum'), ...(even ? [pairs('half')] : [])],
    // With real and imaginary parts swapped before and after, a transform is the inverse one.
    read: `
      fn weighted(k: u32, column: u32) -> vec2<f32> {
        let value = spectrum[p.spectrum_at / 2u + column * (p.length / 2u + 1u) + k];
        if (k == 0u || 2u * k == p.length) { return vec2<f32>(p.ends * value.x, 0.0); }
        return 0.5 * p.interior * value;
      }
      fn input_at(group: u32, point: u32, column: u32) -> vec2<f32> {
        ${
          even
            ? `let a = weighted(point, column);
               let b = conjugate(weighted(p.points - point, column));
               return swapped(a + b + times_i(multiplied(a - b, conjugate(${entry('half', 'point')}))));`
            : `if (2u * point < p.length) { return swapped(weighted(point, column)); }
               return swapped(conjugate(weighted(p.points - point, column)));`
        }
      }`,
  });
  return {
    dispatches: [
      ...dispatches,
      perElement({
        variant: `real ${size} ${points} ${Number(even)}`,
        count: rows * length,
        buffers: [...result.buffers, 'y'],
        numbers: { columns: rows },
        functions: result.functions,
        body: `
          let t = i % p.length;
          let row = i / p.length;
          ${even ? 'y[p.y_at + i] = result(0u, t / 2u, row)[1u - t % 2u];' : 'y[p.y_at + i] = result(0u, t, row).y;'}`,
      }),
    ],
    scratch,
  };
};

export const fftGpu: GpuKernel<
  'real' | 'imaginary' | 'table' | 'chirp' | 'realOut' | 'imaginaryOut' | 'work',
  'batch' | 'length' | 'features' | 'size' | 'areas' | 'realPitch' | 'imaginaryPitch' | 'inverse' | 'scale'
> = ({ parameters }) => {
  const { batch, length, features, size, inverse } = parameters;
  const turned = (value: string) => (inverse ? `swapped(${value})` : value);
  const { dispatches, scratch, result } = transformed({
    ...{ groups: batch, points: length, size, columns: features, buffers: ['real', 'imaginary'], form: inverse },
    read: `fn input_at(group: u32, point: u32, column: u32) -> vec2<f32> {
      let row = group * p.length + point;
      return ${turned('vec2<f32>(real[p.real_at + row * p.realPitch + column], imaginary[p.imaginary_at + row * p.imaginaryPitch + column])')};
    }`,
  });
  return {
    dispatches: [
      ...dispatches,
      perElement({
        variant: `complex ${size} ${length} ${inverse}`,
        count: batch * length * features,
        buffers: [...result.buffers, 'realOut', 'imaginaryOut'],
        numbers: { columns: features },
        functions: result.functions,
        body: `
          let column = i % p.features;
          let k = i / p.features % p.length;
          let value = p.scale * ${turned('result(i / p.features / p.length, k, column)')};
          realOut[p.realOut_at + i] = value.x;
          imaginaryOut[p.imaginaryOut_at + i] = value.y;`,
      }),
    ],
    scratch,
  };
};
