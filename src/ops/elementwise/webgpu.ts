import type { GpuKernel, GpuLaunch, GpuWork } from '../../tensor/index.js';
import { wgslGelu, wgslMath } from '../../wgsl/math.js';
import { perElement } from '../../wgsl/per-element.js';
import { lanesOf, vectorOf } from '../../wgsl/vectors.js';
import { binaryFunctions, unaryFunctions, type BinaryFunction, type UnaryFunction } from './functions.js';

const unaryNames = Object.keys(unaryFunctions) as UnaryFunction[];
const binaryNames = Object.keys(binaryFunctions) as BinaryFunction[];

/** f(x) and f′(x), where y = f(x). */
const unaryCode: Readonly<Record<UnaryFunction, readonly [value: string, derivative: string]>> = {
  negate: ['-x', '-1.0'],
  exp: ['exp(x)', 'y'],
  log: ['log(x)', '1.0 / x'],
  square: ['x * x', '2.0 * x'],
  sqrt: ['sqrt(x)', '0.5 / y'],
  reciprocal: ['1.0 / x', '-y * y'],
  sigmoid: ['sigmoid(x)', 'y * (1.0 - y)'],
  silu: ['silu(x)', 'y + sigmoid(x) * (1.0 - y)'],
  softplus: ['softplus(x)', 'sigmoid(x)'],
  // tanh may overflow on some drivers; beyond 15 it is ±1 to the last bit.
  tanh: ['tanh(clamp(x, -15.0, 15.0))', '1.0 - y * y'],
  relu: ['max(x, 0.0)', 'select(0.0, 1.0, x > 0.0)'],
  gelu: ['x * normal_distribution(x)', 'normal_distribution(x) + select(x * normal_density(x), 0.0, abs(x) > 16.0)'],
  geluTanh: ['x * sigmoid(gelu_tanh_argument(x))', 'gelu_tanh_slope(x, y)'],
};

const functionsOfOne = wgslMath + wgslGelu;

const binaryCode: Readonly<Record<BinaryFunction, string>> = { add: '+', subtract: '-', multiply: '*', divide: '/' };

/**
 * An invocation for each element, or for four side by side where rows and pitches allow.
 * @param body of `row` and `column` (in loads); `read(name, index)` is a number or four as f32, `write(name, index, value)` stores
 *   them, `each(f, …values)` calls a function of numbers for each
 */
function perLanes<B extends string>(
  launch: GpuLaunch<B>,
  options: {
    variant: string;
    extents: { readonly rows: number; readonly columns: number };
    names: readonly B[];
    pitches: readonly number[];
    functions?: string;
    body: (lanes: Lanes<B>) => string;
  },
): GpuWork {
  const { variant, extents, names, pitches, functions = '', body } = options;
  const lanes = lanesOf(launch, [extents.columns, ...pitches], names);
  const element = (name: B) => vectorOf(lanes, launch.dtype(name) ?? 'f32');
  return {
    dispatches: [
      perElement({
        variant: `${variant}/${lanes}`,
        count: (extents.rows * extents.columns) / lanes,
        buffers: names.map((name) => ({ name, as: element(name) })),
        functions,
        body: `
          let columns = p.columns / ${lanes}u;
          let row = i / columns;
          let column = i % columns;
          ${body({
            of: (words) => `(${words} / ${lanes}u)`,
            read: (name, index) => `${vectorOf(lanes)}(${name}[p.${name}_at + ${index}])`,
            write: (name, index, value) => `${name}[p.${name}_at + ${index}] = ${element(name)}(${value});`,
            each: (f, ...values) =>
              lanes === 1
                ? `${f}(${values.join(', ')})`
                : `vec4<f32>(${['x', 'y', 'z', 'w'].map((lane) => `${f}(${values.map((value) => `${value}.${lane}`).join(', ')})`).join(', ')})`,
          })}`,
      }),
    ],
  };
}

interface Lanes<B extends string> {
  /** A pitch in loads. */
  readonly of: (pitch: string) => string;
  readonly read: (name: B, index: string) => string;
  readonly write: (name: B, index: string, value: string) => string;
  readonly each: (f: string, ...values: string[]) => string;
}

export const unaryGpu: GpuKernel<'x' | 'y', 'function' | 'rows' | 'columns' | 'xPitch'> = (launch) => {
  const { parameters } = launch;
  const name = unaryNames[parameters.function] ?? 'negate';
  return perLanes(launch, {
    variant: name,
    extents: parameters,
    names: ['x', 'y'],
    pitches: [parameters.xPitch],
    functions: `${functionsOfOne} fn f(x: f32) -> f32 { return ${unaryCode[name][0]}; }`,
    body: ({ of, read, write, each }) => `
      let own = ${read('x', `row * ${of('p.xPitch')} + column`)};
      ${write('y', 'i', each('f', 'own'))}`,
  });
};

export const unaryBackwardGpu: GpuKernel<'x' | 'dy' | 'dx', 'function' | 'rows' | 'columns' | 'xPitch' | 'dyPitch'> = (launch) => {
  const { parameters } = launch;
  const name = unaryNames[parameters.function] ?? 'negate';
  return perLanes(launch, {
    variant: name,
    extents: parameters,
    names: ['x', 'dy', 'dx'],
    pitches: [parameters.xPitch, parameters.dyPitch],
    functions: `${functionsOfOne}
      fn slope(x: f32) -> f32 { let y = ${unaryCode[name][0]}; return ${unaryCode[name][1]}; }`,
    body: ({ of, read, write, each }) => `
      let own = ${read('x', `row * ${of('p.xPitch')} + column`)};
      let d = ${read('dy', `row * ${of('p.dyPitch')} + column`)};
      ${write('dx', 'i', `d * ${each('slope', 'own')}`)}`,
  });
};

export const binaryGpu: GpuKernel<'a' | 'b' | 'y', 'function' | 'rows' | 'columns' | 'aRow' | 'aColumn' | 'bRow' | 'bColumn'> = (
  launch,
) => {
  const { parameters } = launch;
  const { aRow, aColumn, bRow, bColumn } = parameters;
  const name = binaryNames[parameters.function] ?? 'add';
  // A pitch that no vector fits keeps broadcasts over columns to one number at a time.
  const sideBySide = aColumn === 1 && bColumn === 1;
  return perLanes(launch, {
    variant: name,
    extents: parameters,
    names: ['a', 'b', 'y'],
    pitches: sideBySide ? [aRow, bRow] : [1],
    body: ({ of, read, write }) => `
      let a_own = ${read('a', `row * ${of('p.aRow')} + column * p.aColumn`)};
      let b_own = ${read('b', `row * ${of('p.bRow')} + column * p.bColumn`)};
      ${write('y', 'i', `a_own ${binaryCode[name]} b_own`)}`,
  });
};

export const gatedGpu: GpuKernel<'gate' | 'up' | 'y', 'function' | 'rows' | 'columns' | 'gatePitch' | 'upPitch'> = (launch) => {
  const { parameters } = launch;
  const name = unaryNames[parameters.function] ?? 'silu';
  return perLanes(launch, {
    variant: name,
    extents: parameters,
    names: ['gate', 'up', 'y'],
    pitches: [parameters.gatePitch, parameters.upPitch],
    functions: `${functionsOfOne} fn f(x: f32) -> f32 { return ${unaryCode[name][0]}; }`,
    body: ({ of, read, write, each }) => `
      let own = ${read('gate', `row * ${of('p.gatePitch')} + column`)};
      ${write('y', 'i', `${each('f', 'own')} * ${read('up', `row * ${of('p.upPitch')} + column`)}`)}`,
  });
};

export const gatedBackwardGpu: GpuKernel<
  'gate' | 'up' | 'dy' | 'dgate' | 'dup',
  'function' | 'rows' | 'columns' | 'gatePitch' | 'upPitch' | 'dyPitch'
> = (launch) => {
  const { parameters } = launch;
  const name = unaryNames[parameters.function] ?? 'silu';
  return perLanes(launch, {
    variant: name,
    extents: parameters,
    names: ['gate', 'up', 'dy', 'dgate', 'dup'],
    pitches: [parameters.gatePitch, parameters.upPitch, parameters.dyPitch],
    functions: `${functionsOfOne}
      fn f(x: f32) -> f32 { return ${unaryCode[name][0]}; }
      fn slope(x: f32, y: f32) -> f32 { return ${unaryCode[name][1]}; }`,
    body: ({ of, read, write, each }) => `
      let own = ${read('gate', `row * ${of('p.gatePitch')} + column`)};
      let d = ${read('dy', `row * ${of('p.dyPitch')} + column`)};
      let value = ${each('f', 'own')};
      ${write('dgate', 'i', `d * ${read('up', `row * ${of('p.upPitch')} + column`)} * ${each('slope', 'own', 'value')}`)}
      ${write('dup', 'i', 'd * value')}`,
  });
};

export const affineGpu: GpuKernel<'x' | 'y', 'scale' | 'shift' | 'rows' | 'columns' | 'xPitch'> = (launch) =>
  perLanes(launch, {
    variant: 'affine',
    extents: launch.parameters,
    names: ['x', 'y'],
    pitches: [launch.parameters.xPitch],
    body: ({ of, read, write }) => write('y', 'i', `p.scale * ${read('x', `row * ${of('p.xPitch')} + column`)} + p.shift`),
  });

export const accumulateGpu: GpuKernel<'x' | 'y', 'rows' | 'columns' | 'xPitch' | 'yPitch'> = (launch) =>
  perLanes(launch, {
    variant: 'accumulate',
    extents: launch.parameters,
    names: ['x', 'y'],
    pitches: [launch.parameters.xPitch, launch.parameters.yPitch],
    body: ({ of, read, write }) => `
      let at = row * ${of('p.yPitch')} + column;
      ${write('y', 'at', `${read('y', 'at')} + ${read('x', `row * ${of('p.xPitch')} + column`)}`)}`,
  });
