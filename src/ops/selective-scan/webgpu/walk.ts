/** Pieces of WGSL of which the walks along a sequence are made. */
import type { DType } from '../../../tensor/index.js';
import { gather, laneOf, repeat, vectorOf } from '../../../wgsl/vectors.js';
import type { Geometry } from './layout.js';

/** What a walk's code depends on beside its geometry. */
export interface WalkOptions {
  readonly geometry: Geometry;
  readonly dtype: (name: string) => DType;
  readonly hasFirst: boolean;
  readonly hasStarts: boolean;
  readonly segmented: boolean;
  /** The buffer that holds, from its element `p.endsAt` on, what segments make of a state (`endsDispatch`). */
  readonly ends: 'ends' | 'parts';
  readonly hold: boolean;
}

/** Vectors of states of an invocation. */
export const stateVectors = ({ states, width }: Geometry): number => states / width;

/** Statements for each vector of an invocation's states. */
export const eachVector = (geometry: Geometry, statement: (i: number) => string): string => repeat(stateVectors(geometry), statement);

/** Statements for each of an invocation's states: `n`, WGSL of its number among the channel's, and its element of vectors h0, h1, … */
export const eachState = ({ states, width }: Geometry, statement: (n: string, of: (vectors: string) => string) => string): string =>
  repeat(states, (i) =>
    statement(`share * ${states} + ${i}`, (vectors) => laneOf(width, `${vectors}${Math.floor(i / width)}`, i % width)),
  );

/** Times that all invocations together load a tile's activations, and its vectors of B and C. */
export const activationPasses = ({ tile, sharers, lanes }: Geometry): number => Math.max(1, tile / (lanes * sharers));
const rowPasses = ({ tile, paddedStates, width, threads }: Geometry): number => Math.ceil((tile * 2 * paddedStates) / width / threads);

/** Statements for each pass `k`, with what they keep in arrays. */
export function eachPass(geometry: Geometry, statements: (k: string) => string): string {
  const passes = activationPasses(geometry);
  return passes === 1 || (geometry.unrolled && passes <= 4)
    ? repeat(passes, (k) => statements(`${k}u`))
    : `for (var k = 0u; k < ${passes}; k++) { ${statements('k')} }`;
}

/** Declares `coefficient(i)` and workgroup memory for B and C of a tile and its resets. */
export function sharedCode({ geometry, hasStarts }: WalkOptions): string {
  const { width, tile, paddedStates, direct } = geometry;
  return `
    fn coefficient(i: u32) -> f32 {
      return coefficients[p.coefficients_at + i / ${width}]${width === 1 ? '' : `[i % ${width}]`};
    }
    ${direct ? '' : `var<workgroup> rows: array<${vectorOf(width)}, ${(tile * 2 * paddedStates) / width}>;`}
    ${hasStarts ? `var<workgroup> resets: array<f32, ${tile}>;` : ''}`;
}

/** Bytes of what `sharedCode` declares. */
export const sharedBytes = ({ tile, paddedStates, direct }: Geometry): number => (direct ? 0 : tile * paddedStates * 8) + tile * 4;

/** Who an invocation is: workgroup, sequence, segment, channel, share; its decay rates a0, a1, …; and what it loads. */
export function whoCode({ geometry }: WalkOptions): string {
  const { states, width, sharers, channels, threads, paddedStates, tile, lanes } = geometry;
  const loadersOfRow = channels / lanes;
  return `
    let workgroup = flat_workgroup(id, count);
    if (workgroup >= p.workgroups) { return; }
    let group = workgroup % p.groups;
    let unit = p.firstUnit + workgroup / p.groups;
    let b = unit / p.unitsOfSequence;
    let segment = unit % p.unitsOfSequence + p.firstSegment;
    let segmentStart = segment * p.segmentLength;
    let segmentEnd = min(p.length, segmentStart + p.segmentLength);
    let channel = thread / ${sharers};
    let share = thread % ${sharers};
    let e = group * ${channels} + channel;
    let present = e < p.channels;
    let some = min(e, p.channels - 1);
    ${repeat(stateVectors(geometry), (q) => `let a${q} = coefficients[p.coefficients_at + (some * ${paddedStates} + share * ${states}) / ${width} + ${q}];`)}
    let loadRow = thread / ${loadersOfRow};
    let loadChannel = thread % ${loadersOfRow} * ${lanes};
    let loadE = group * ${channels} + loadChannel;
    let loads = loadE < p.channels${threads / loadersOfRow > tile ? ` && loadRow < ${tile}` : ''};
    let sequence = b * p.length;`;
}

/** D, or the bias of Δ, of the channels that an invocation loads. */
export const channelCoefficients = ({ lanes }: Geometry, which: 'skip' | 'bias'): string =>
  gather(lanes, (lane) => `coefficient(p.channelAt + min(loadE + ${lane}, p.channels - 1) * 2${which === 'bias' ? ' + 1' : ''})`);

/** The segment's first state h0, h1, …: from `first`, and the ends of the segments before it in the walk's direction. */
export function startCode({ geometry, hasFirst, segmented, ends }: WalkOptions, name: string, direction: 'forward' | 'backward'): string {
  const { states, width, paddedStates } = geometry;
  const vectors = stateVectors(geometry);
  const start = `(p.firstAt + (b * p.channels + some) * ${paddedStates} + share * ${states}) / ${width}`;
  const loop =
    direction === 'forward'
      ? 'for (var s = 0u; s < segment; s++)'
      : 'for (var s = p.segmentCount - 1; s > segment; s--)';
  return `
    ${repeat(vectors, (q) => `var ${name}${q} = ${hasFirst ? `coefficients[p.coefficients_at + ${start} + ${q}]` : `${vectorOf(width)}(0.0)`};`)}
    ${
      segmented
        ? `${loop} {
             let end = p.${ends}_at + p.endsAt + (b * p.segmentCount + s) * ${paddedStates + 2} * p.channels + some;
             let total = ${ends}[end + ${paddedStates} * p.channels];
             let dropped = ${ends}[end + ${paddedStates + 1} * p.channels] != 0.0;
             ${repeat(vectors, (q) => {
               const own = gather(width, (lane) => `${ends}[end + (share * ${states} + ${q * width + lane}) * p.channels]`);
               return `${name}${q} = select(exp2(a${q} * total) * ${name}${q}, ${vectorOf(width)}(0.0), dropped) + ${own};`;
             })}
           }`
        : ''
    }`;
}

/** Variables that hold what the next tile will need. */
export function nextVariables({ geometry, dtype, hasStarts }: WalkOptions, activations: readonly string[]): string {
  const { width, lanes, direct } = geometry;
  const passes = String(activationPasses(geometry));
  return `
    var loaded: array<bool, ${passes}>;
    ${activations.map((name) => `var next_${name}: array<${vectorOf(lanes, dtype(name))}, ${passes}>;`).join('\n')}
    ${direct ? '' : repeat(rowPasses(geometry), (k) => `var next_row${k} = ${vectorOf(width)}(0.0);`)}
    ${hasStarts ? 'var next_reset = 0.0;' : ''}`;
}

/** Asks for the tile that begins at step `start`: activations in registers, a row of the tile's channels after the other. */
export function fetchCode({ geometry, hasStarts }: WalkOptions, activations: readonly string[], start: string): string {
  const { width, lanes, channels, threads, tile, paddedStates, direct } = geometry;
  const rowsAtOnce = (threads * lanes) / channels;
  const vectors = (2 * paddedStates) / width;
  return `
    ${eachPass(
      geometry,
      (k) => `{
        let step = ${start} + loadRow + ${k} * ${rowsAtOnce};
        loaded[${k}] = loads && step < segmentEnd;
        if (loaded[${k}]) {
          let row = sequence + select(step, p.length - 1 - step, p.reverse == 1);
          ${activations.map((name) => `next_${name}[${k}] = ${name}[p.${name}_at + (row * p.${name}Pitch + loadE) / ${lanes}];`).join('\n')}
        }
      }`,
    )}
    ${
      direct
        ? ''
        : repeat(rowPasses(geometry), (k) => {
            const at = `thread + ${k * threads}`;
            const within = (k + 1) * threads > tile * vectors ? ` && ${at} < ${tile * vectors}` : '';
            return `next_row${k} = ${vectorOf(width)}(0.0);
              if (${start} + (${at}) / ${vectors} < segmentEnd${within}) {
                next_row${k} = coefficients[p.coefficients_at + p.rowsAt / ${width} + (sequence + ${start}) * ${vectors} + ${at}];
              }`;
          })
    }
    ${
      hasStarts
        ? `next_reset = 0.0;
           if (thread < ${tile} && ${start} + thread < segmentEnd) { next_reset = coefficient(p.resetsAt + sequence + ${start} + thread); }`
        : ''
    }`;
}

/** Puts B, C and resets of the tile asked for into workgroup memory. */
export function placeRows({ geometry, hasStarts }: WalkOptions): string {
  const { width, threads, tile, paddedStates, direct } = geometry;
  const vectors = (tile * 2 * paddedStates) / width;
  return `
    ${
      direct
        ? ''
        : repeat(rowPasses(geometry), (k) => {
            const at = `thread + ${k * threads}`;
            return `${(k + 1) * threads > vectors ? `if (${at} < ${vectors}) ` : ''}{ rows[${at}] = next_row${k}; }`;
          })
    }
    ${hasStarts ? `if (thread < ${tile}) { resets[thread] = next_reset; }` : ''}`;
}

/** Vector q of B (or C) at step `t` of the tile that begins at `start`. */
export function rowVector({ geometry }: WalkOptions, kind: 'B' | 'C', t: string, q: number): string {
  const { states, width, paddedStates, direct } = geometry;
  const own = `${((kind === 'C' ? paddedStates : 0) / width) + q} + share * ${states / width}`;
  const vectors = String((2 * paddedStates) / width);
  return direct
    ? `coefficients[p.coefficients_at + p.rowsAt / ${width} + (sequence + min(start + ${t}, segmentEnd - 1)) * ${vectors} + ${own}]`
    : `rows[(${t}) * ${vectors} + ${own}]`;
}

/**
 * Adds each of `values` over `over` neighbouring invocations (both powers of two, no more invocations than values) whose numbers
 * differ by multiples of `stride`: invocation k of them ends with the sums of the values from k·(values/over) on. Every shuffle
 * carries half of what is left.
 * @param index WGSL expression of the invocation's number among them
 * @returns statements, and the names of the sums
 */
export function transposingSums(
  values: readonly string[],
  over: number,
  stride: number,
  index: string,
  prefix: string,
): { code: string; sums: readonly string[] } {
  let code = '';
  let current = [...values];
  for (let bit = over / 2; bit >= 1; bit /= 2) {
    const half = current.length / 2;
    const upper = `(${index} & ${bit}u) != 0u`;
    current = Array.from({ length: half }, (_, i) => {
      const [low, high] = [current[i] ?? '', current[i + half] ?? ''];
      const name = `${prefix}${bit}_${i}`;
      code += `let ${name} = select(${low}, ${high}, ${upper}) + subgroupShuffleXor(select(${high}, ${low}, ${upper}), ${bit * stride}u);\n`;
      return name;
    });
  }
  return { code, sums: current };
}

/** Σ of the elements of a dot product over the state vectors. */
export const dotCode = (geometry: Geometry, left: (q: number) => string, right: (q: number) => string): string =>
  Array.from({ length: stateVectors(geometry) }, (_, q) =>
    geometry.width === 1 ? `${left(q)} * ${right(q)}` : `dot(${left(q)}, ${right(q)})`,
  ).join(' + ');

/** `name`, a vector of `lanes`, with element by element `expression`. */
export const perLane = (lanes: number, statement: (lane: number, of: (name: string) => string) => string): string =>
  repeat(lanes, (lane) => statement(lane, (name) => laneOf(lanes, name, lane)));
