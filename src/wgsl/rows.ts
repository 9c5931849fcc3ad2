/** WGSL for kernels that go through rows, a team of invocations a row. All orders are fixed. */
import { fold, subgroupSize, type GpuBinding, type GpuDispatch, type GpuFeatures } from '../tensor/index.js';

/** The sum of a vector's lanes. */
export const across = (value: string, lanes: number): string => (lanes === 1 ? value : `dot(${value}, vec4<f32>(1.0))`);

/** How invocations share rows. */
interface Teams {
  /** Invocations of a row, a power of two. */
  readonly size: number;
  /** Invocations of a workgroup, which has threads / size rows. */
  readonly threads: number;
  /** Invocations that reduce by subgroup operations, the rest by workgroup memory; 1 where the size of subgroups varies. */
  readonly subgroup: number;
}

/** Items of a row that an invocation keeps in registers from one pass to the next. */
const mostHeld = 8;
/** Invocations that fill a GPU. */
export const enough = 2 ** 16;

function teamsFor(gpu: GpuFeatures, rows: number, items: number): Teams {
  const most = Math.min(1024, 2 ** Math.floor(Math.log2(gpu.workgroupSize)));
  let size = 1;
  while (size < most && (size * mostHeld < items || (size < items && rows * size < enough))) size *= 2;
  return { size, threads: Math.max(size, Math.min(256, most)), subgroup: subgroupSize(gpu) ?? 1 };
}

/** A value that a row's invocations reduce together. */
export interface Reduction {
  /** Name of the function: name(thread, value), to be called by all invocations; all of a team get the result. */
  readonly name: string;
  readonly type: string;
  /** A WGSL expression of `a` and `b`, commutative to the bit. */
  readonly combine: string;
}

export const sumOf = (name: string, type = 'f32'): Reduction => ({ name, type, combine: 'a + b' });

function reductionCode({ name, type, combine }: Reduction, { size, threads, subgroup }: Teams): string {
  const within = Math.min(size, subgroup);
  const parts = size / within;
  const shuffles: string[] = [];
  // Both partners add the same two numbers, so that all end with the same bits.
  for (let mask = within / 2; mask >= 1; mask /= 2) {
    shuffles.push(`value = ${name}_of(value, subgroupShuffleXor(value, ${mask}u));`);
  }
  const memory = `
      if (thread % ${within}u == 0u) { ${name}_parts[thread / ${within}u] = value; }
      workgroupBarrier();
      let part = thread / ${within}u;
      for (var stride = ${parts / 2}u; stride > 0u; stride /= 2u) {
        if (thread % ${within}u == 0u && part % ${parts}u < stride) {
          ${name}_parts[part] = ${name}_of(${name}_parts[part], ${name}_parts[part + stride]);
        }
        workgroupBarrier();
      }
      value = ${name}_parts[part - part % ${parts}u];
      workgroupBarrier();`;
  return `
    fn ${name}_of(a: ${type}, b: ${type}) -> ${type} { return ${combine}; }
    ${parts > 1 ? `var<workgroup> ${name}_parts: array<${type}, ${threads / within}>;` : ''}
    fn ${name}(thread: u32, own: ${type}) -> ${type} {
      var value = own;
      ${shuffles.join('\n      ')}
      ${parts > 1 ? memory : ''}
      return value;
    }`;
}

/** WGSL for `name(thread, value)`, the sum over each `size` (a power of two) neighbouring invocations of a workgroup of `threads`. */
export const teamSum = (gpu: GpuFeatures, name: string, size: number, threads: number, type = 'f32'): string =>
  reductionCode(sumOf(name, type), { size, threads, subgroup: subgroupSize(gpu) ?? 1 });

/**
 * A dispatch with a team of invocations for each row. In `body` there are `row`, `team` (invocations), `member` (of the team), `live` (whether
 * there is such a row), and `thread` for the reductions, which all invocations must call.
 */
export function perRow(options: {
  variant: string;
  gpu: GpuFeatures;
  rows: number;
  /** Items of a row: its elements, or vectors of them. */
  items: number;
  buffers: readonly (string | GpuBinding)[];
  reductions?: readonly Reduction[];
  /** Values that passes see by name: type and WGSL expression of `row` and the item `c`. */
  values: Readonly<Record<string, readonly [type: string, load: string]>>;
  /** Items that an invocation may hold. */
  hold?: number;
  functions?: string;
  numbers?: Readonly<Record<string, number>>;
  /**
   * WGSL statements. `pass(statements)` runs them for each item `c` that is the invocation's; what the first pass loaded,
   * later ones find in registers or load again.
   */
  body: (pass: (statements: string) => string) => string;
}): GpuDispatch {
  const { variant, gpu, rows, items, buffers, reductions = [], values, hold = mostHeld, functions = '', numbers = {}, body } = options;
  const teams = teamsFor(gpu, rows, items);
  const perGroup = teams.threads / teams.size;
  const workgroups = Math.ceil(rows / perGroup);
  const turns = Math.ceil(items / teams.size);
  const held = turns <= hold;
  // Without bounds to check, all of an invocation's loads can be on their way at once.
  const exact = items % teams.size === 0 && rows % perGroup === 0 && workgroups <= 65535;
  const names = Object.entries(values);
  const loads = names.map(([name, [type, load]]) => `let ${name}: ${type} = ${load};`).join(' ');
  const code = () => {
    let first = true;
    const pass = (statements: string) => {
      if (!held) return `for (var c = member; c < end; c += team) { ${loads} ${statements} }`;
      // Written out, so that what is held lies in registers and not in an array; all loads before the first use, so that they
      // are on their way at once.
      const each = (inner: (turn: string) => string) =>
        Array.from({ length: turns }, (_, turn) => {
          const own = inner(String(turn));
          return `{ let c = member + ${turn}u * team; ${exact ? own : `if (c < end) { ${own} }`} }`;
        }).join('\n');
      const load = first ? each((turn) => names.map(([name, [, from]]) => `held_${name}_${turn} = ${from};`).join(' ')) : '';
      first = false;
      return `${load}\n${each((turn) => `${names.map(([name]) => `let ${name} = held_${name}_${turn};`).join(' ')} ${statements}`)}`;
    };
    const variables = names.flatMap(([name, [type]]) =>
      Array.from({ length: held ? turns : 0 }, (_, turn) => `var held_${name}_${turn}: ${type};`),
    );
    return `
      ${functions}
      ${reductions.map((reduction) => reductionCode(reduction, teams)).join('')}
      const team = ${teams.size}u;
      @compute @workgroup_size(${teams.threads})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        let member = thread % team;
        let row = flat_workgroup(id, count) * ${perGroup}u + thread / team;
        let live = row < p.team_rows;
        let end = select(0u, p.team_items, live);
        ${variables.join(' ')}
        ${body(pass)}
      }`;
  };
  return {
    variant: `${variant}/${teams.size}/${held ? turns : 0}${exact ? '/exact' : ''}`,
    buffers,
    numbers: { ...numbers, team_rows: rows, team_items: items },
    workgroups: rows === 0 ? [0] : fold(workgroups),
    code,
  };
}
