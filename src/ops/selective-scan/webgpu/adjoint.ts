import type { GpuDispatch, GpuFeatures } from '../../../tensor/index.js';
import { gather, laneOf, repeat, vectorOf } from '../../../wgsl/vectors.js';
import type { Geometry } from './layout.js';
import { discretizationCode } from './math.js';
import {
  dotCode,
  eachPass,
  fetchCode,
  nextVariables,
  perLane,
  placeRows,
  rowVector,
  sharedBytes,
  sharedCode,
  startCode,
  stateVectors,
  transposingSums,
  whoCode,
  type WalkOptions,
} from './walk.js';

/** A step's index: a number where the loop over it is unrolled. */
type Index = number | string;
const plus = (index: Index, more: number): Index => (typeof index === 'number' ? index + more : `(${index} + ${String(more)})`);
/** `from − index·step`. */
const minus = (from: number, index: Index, step: number): Index =>
  typeof index === 'number' ? from - index * step : `(${String(from)} - ${index} * ${String(step)})`;
const sum = (a: Index, b: Index): Index => (typeof a === 'number' && typeof b === 'number' ? a + b : `(${String(a)} + ${String(b)})`);

/** Gradients of activations, which the walk itself stores. */
export const outputNames = ['du', 'dDelta', 'dz'] as const;

export interface AdjointGiven {
  readonly dy: boolean;
  readonly z: boolean;
  readonly outputs: readonly (typeof outputNames)[number][];
  /** Whether the parts of dB and dC are wanted, and the gradient of the initial state. */
  readonly sequence: boolean;
  readonly initial: boolean;
  /** Steps between two visits to workgroup memory for the sums. */
  readonly batch: number;
}

/** Elements from step to step of the sums over a channel's invocations: padded as the forward walk's are. */
const sumsPitch = ({ channels, sharers, folded }: Geometry): number => (channels * sharers) / folded + (folded > 1 ? 8 : 0);

/** Channels that dB and dC are summed over by shuffles: what is left of a subgroup, and no more than there are sums. */
function foldedChannels({ subgroups }: GpuFeatures, { sharers, channels, states }: Geometry): number {
  if (subgroups === null || subgroups.smallest < sharers) return 1;
  return Math.min(subgroups.smallest / sharers, channels, 2 * states);
}

/** Workgroup memory of a walk that keeps sums for `batch` steps. */
export function batchedBytes(gpu: GpuFeatures, geometry: Geometry, batch: number): number {
  const { tile, channels, paddedStates, folded } = geometry;
  const parts = channels / foldedChannels(gpu, geometry);
  const sums = Math.max(batch, folded) * (3 * sumsPitch(geometry) + 2 * paddedStates * parts);
  return sharedBytes(geometry) + 4 * (4 * tile * channels + sums);
}

/** The most steps, a divisor of the tile and whole turns of the shuffles, whose sums fit. */
export const batchFor = (gpu: GpuFeatures, geometry: Geometry): number =>
  [8, 4, 2].find((batch) => batch >= geometry.folded && batchedBytes(gpu, geometry, batch) <= gpu.workgroupBytes) ?? geometry.folded;

/**
 * The walk back over a segment, a chunk at a time: its states again from the kept one, all in registers, then their adjoint.
 * Stores du, dDelta and dz, and parts of what is summed over channels or steps.
 */
export function adjointDispatch(
  gpu: GpuFeatures,
  options: WalkOptions,
  given: AdjointGiven,
  numbers: Readonly<Record<string, number>>,
  workgroups: readonly [number, number],
): GpuDispatch {
  const { geometry, dtype, hasFirst, hasStarts, segmented, hold } = options;
  const { width, lanes, channels, threads, tile, states, sharers, folded, paddedStates } = geometry;
  const activations = ['u', 'delta', ...(given.dy ? ['dy'] : []), ...(given.z ? ['z'] : [])];
  const rowsAtOnce = (threads * lanes) / channels;
  const loaders = Math.min(rowsAtOnce, tile);
  const loaded = vectorOf(lanes);
  const type = vectorOf(width);
  const surplus = rowsAtOnce > tile;
  const parts = sharers / folded;
  const pitch = sumsPitch(geometry);
  const { batch } = given;
  const across = foldedChannels(gpu, geometry);
  const channelParts = channels / across;
  const own = (2 * states) / across;
  const vectors = Array.from({ length: stateVectors(geometry) }, (_, q) => q);
  const q = (code: (q: number) => string) => vectors.map(code).join('\n');
  const element = (i: number) => laneOf(width, String(Math.floor(i / width)), i % width);
  const zero = `${type}(0.0)`;

  const loop = (name: string, count: number, body: (at: Index) => string) =>
    geometry.unrolled
      ? repeat(count, body)
      : `for (var ${name} = 0u; ${name} < ${String(count)}; ${name}++) { ${body(name)} }`;

  /** Stores what a batch of steps gives. */
  const flush = `
    workgroupBarrier();
    ${loop('k', Math.max(1, Math.ceil(batch / rowsAtOnce)), (at) => {
      const k = String(at);
      const total = (kind: number, lane: number) =>
        Array.from({ length: parts }, (_, part) => `sums[${String(kind * batch * pitch)} + r * ${String(pitch)} + (loadChannel + ${String(lane)}) * ${String(parts)} + ${String(part)}]`).join(' + ');
      const store = (name: (typeof outputNames)[number], value: string) =>
        given.outputs.includes(name)
          ? `${name}[p.${name}_at + (row * p.channels + loadE) / ${String(lanes)}] = ${vectorOf(lanes, dtype(name))}(${value});`
          : '';
      return `{
        let r = loadRow + ${k} * ${String(rowsAtOnce)};
        let step = start + first + r;
        if (r < ${String(batch)} && loads && step < segmentEnd) {
          var gradientU = ${loaded}(0.0); var gradientDelta = ${loaded}(0.0); var gradientZ = ${loaded}(0.0);
          let at = (first + r) * ${String(channels)} + loadChannel;
          ${perLane(lanes, (lane, of) => `{
            let d = tile[at + ${String(lane)}];
            ${of('gradientU')} = ${of('skip')} * d.z + ${total(1, lane)};
            var slope = 1.0;
            if (p.softplus == 1) { slope = softplus_slope(d.x); }
            ${of('gradientDelta')} = (${total(2, lane)}) * slope;
            ${of('gradientZ')} = d.w * (${of('skip')} * d.y + ${total(0, lane)});
            ${of('dSkip')} += d.z * d.y;
          }`)}
          dBias += gradientDelta;
          let row = sequence + select(step, p.length - 1 - step, p.reverse == 1);
          ${store('du', 'gradientU')}
          ${store('dDelta', 'gradientDelta')}
          ${store('dz', 'gradientZ')}
        }
      }`;
    })}
    ${
      given.sequence
        ? `for (var i = thread; i < ${String(batch * 2 * paddedStates)}; i += ${String(threads)}) {
             let r = i / ${String(2 * paddedStates)};
             let column = i % ${String(2 * paddedStates)};
             var total = 0.0;
             ${repeat(channelParts, (part) => `total += rowSums[(r * ${String(channelParts)} + ${String(part)}) * ${String(2 * paddedStates)} + column];`)}
             let step = start + first + r;
             if (step < segmentEnd) {
               parts[p.parts_at + (group * p.roundRows + sequence + step - p.firstRow) * ${String(2 * paddedStates)} + column] = total;
             }
           }`
        : ''
    }
    workgroupBarrier();`;

  /**
   * Vector q of the states before step t of the tile, in variables of their own where loops are unrolled: compilers put an array
   * of that size into memory.
   */
  const state = (i: number, t: Index) => (geometry.unrolled ? `h${String(i)}_${String(t)}` : `h${String(i)}[${String(t)}]`);
  const declareStates = (i: number) =>
    geometry.unrolled
      ? Array.from({ length: tile + 1 }, (_, t) => `var ${state(i, t)} = ${zero};`).join(' ')
      : `var h${String(i)}: array<${type}, ${String(tile + 1)}>;`;

  /** The states after step t of the tile, from those before it. */
  const forwardStep = (t: string, before: (i: number) => string, after: (i: number) => string) => `{
    let t = u32(${t});
    let d = tile[t * ${String(channels)} + channel];
    ${q((i) => {
      const past = hasStarts ? `select(${before(i)}, ${zero}, resets[t] != 0.0)` : before(i);
      const x2 = `a${String(i)} * d.x`;
      const gain = hold ? `(gain(${x2}, d.x) * d.y)` : '(d.x * d.y)';
      return `${after(i)} = decay(${x2}) * ${past} + ${gain} * ${rowVector(options, 'B', 't', i)};`;
    })}
  }`;

  /**
   * Step t back. y{j}, e{j} (for du), f{j} (for dDelta): this invocation's share of the sums over states. dB and dC are summed
   * over channels. `r` is the step within the batch.
   */
  const backwardStep = (first: Index, j: number) => {
    const name = (letter: string, i: number) => `${letter}_${String(i)}`;
    const sums = Array.from({ length: 2 * states }, (_, i) => `${i < states ? 'db' : 'dc'}_${element(i % states)}`);
    const { code, sums: totals } = transposingSums(sums, across, sharers, 'channel', 'r');
    return `
      var y${String(j)} = 0.0; var e${String(j)} = 0.0; var f${String(j)} = 0.0;
      {
        let t = first + r + ${String(j)};
        let d = tile[t * ${String(channels)} + channel];
        ${hasStarts ? 'let reset = resets[t] != 0.0;' : ''}
        ${q(
          (i) => `
            let ${name('b', i)} = ${rowVector(options, 'B', 't', i)};
            let ${name('c', i)} = ${rowVector(options, 'C', 't', i)};
            let ${name('v', i)} = ${state(i, plus(first, j + 1))};
            let ${name('x', i)} = a${String(i)} * d.x;
            let ${name('k', i)} = decay(${name('x', i)});
            let ${name('l', i)} = ${name('c', i)} * d.z + carry${String(i)};
            let ${name('g', i)} = ${hold ? `gain(${name('x', i)}, d.x) * ${name('l', i)}` : `d.x * ${name('l', i)}`};
            let ${name('m', i)} = ${name('k', i)} * ${name('l', i)};
            let ${name('w', i)} = ${name('m', i)} * ${hasStarts ? `select(${state(i, plus(first, j))}, ${zero}, reset)` : state(i, plus(first, j))};
            carry${String(i)} = ${hasStarts ? `select(${name('m', i)}, ${zero}, reset)` : name('m', i)};
            dA${String(i)} += d.x * ${name('w', i)}${hold ? ` + gain_slope(${name('x', i)}, d.x) * ${name('l', i)} * ${name('b', i)} * d.y` : ''};
            let db_${String(i)} = ${name('g', i)} * d.y;
            let dc_${String(i)} = d.z * ${name('v', i)};`,
        )}
        y${String(j)} = ${dotCode(geometry, (i) => name('c', i), (i) => name('v', i))};
        e${String(j)} = ${dotCode(geometry, (i) => name('g', i), (i) => name('b', i))};
        f${String(j)} = ${dotCode(geometry, (i) => name('w', i), (i) => `rate${String(i)}`)}
          + d.y * (${dotCode(geometry, (i) => name(hold ? 'm' : 'l', i), (i) => name('b', i))});
        ${
          given.sequence
            ? `${code}
               ${totals
                 .map((total, i) => {
                   const value = across === 1 ? String(i) : `(channel % ${String(across)} * ${String(own)} + ${String(i)})`;
                   const column = `select(${String(paddedStates - states)} + share * ${String(states)} + ${value}, share * ${String(states)} + ${value}, ${value} < ${String(states)})`;
                   return `rowSums[((r + ${String(j)}) * ${String(channelParts)} + channel / ${String(across)}) * ${String(2 * paddedStates)} + ${column}] = ${total};`;
                 })
                 .join('\n')}`
            : ''
        }
      }`;
  };

  /** The shares of y, e and f of neighbouring steps into workgroup memory, summed over neighbours where they fit a subgroup. */
  const keepSums = ['y', 'e', 'f']
    .map((letter, kind) => {
      const { code, sums } = transposingSums(Array.from({ length: folded }, (_, j) => `${letter}${String(j)}`), folded, 1, 'share', `s${letter}`);
      const step = folded === 1 ? 'r' : `(r + share % ${String(folded)})`;
      return `${code}
        sums[${String(kind * batch * pitch)} + ${step} * ${String(pitch)} + channel * ${String(parts)} + share / ${String(folded)}] = ${sums[0] ?? ''};`;
    })
    .join('\n');

  const backwardBatch = (n: Index) => {
    const first = minus(tile - batch, n, batch);
    return `{
      let first = u32(${String(first)});
      ${loop('m', batch / folded, (m) => {
        const r = minus(batch - folded, m, folded);
        return `{
          let r = u32(${String(r)});
          ${Array.from({ length: folded }, (_, j) => backwardStep(sum(first, r), folded - 1 - j)).join('\n')}
          ${keepSums}
        }`;
      })}
      ${flush}
    }`;
  };

  const fetchKept = (start: string) => `
    if (present) {
      let kept = p.states_at + (b * ((p.length + p.chunk - 1) / p.chunk) + (${start}) / p.chunk) * p.stateSize * p.channels + e;
      ${q((i) =>
        repeat(width, (lane) => {
          const n = `share * ${String(states)} + ${String(i * width + lane)}`;
          return `if (${n} < p.stateSize) { ${laneOf(width, `nextKept${String(i)}`, lane)} = states[kept + (${n}) * p.channels]; }`;
        }),
      )}
    }`;

  return {
    variant: `adjoint ${JSON.stringify([geometry, hasFirst, hasStarts, segmented, hold, given])}`,
    buffers: [
      ...activations.map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      { name: 'coefficients', as: type, access: 'read' as const },
      'states',
      ...given.outputs.map((name) => ({ name, as: vectorOf(lanes, dtype(name)) })),
      'parts',
    ],
    numbers,
    workgroups,
    code: () => `
      ${discretizationCode(width, hold)}
      // The slope of softplus where it is y: 1 − exp(−y).
      fn softplus_slope(y: f32) -> f32 {
        return select(1.0 - exp(-y), y * (1.0 - y * (0.5 - y * (0.16666667 - y * (0.041666668 - y * 0.008333334)))), y < 0.1);
      }
      ${sharedCode(options)}
      // Δ, u, dy·silu(z), dy·silu′(z).
      var<workgroup> tile: array<vec4<f32>, ${String(tile * channels)}>;
      var<workgroup> sums: array<f32, ${String(3 * batch * pitch)}>;
      ${given.sequence ? `var<workgroup> rowSums: array<f32, ${String(batch * channelParts * 2 * paddedStates)}>;` : ''}
      @compute @workgroup_size(${String(threads)})
      fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
              @builtin(local_invocation_index) thread: u32) {
        ${whoCode(options)}
        let bias = ${gather(lanes, (lane) => `coefficient(p.channelAt + min(loadE + ${String(lane)}, p.channels - 1) * 2 + 1)`)};
        let skip = ${gather(lanes, (lane) => `coefficient(p.channelAt + min(loadE + ${String(lane)}, p.channels - 1) * 2)`)};
        var dSkip = ${loaded}(0.0);
        var dBias = ${loaded}(0.0);
        ${startCode(options, 'carry', 'backward')}
        ${q((i) => `let rate${String(i)} = a${String(i)} * ${String(Math.LN2)}; var dA${String(i)} = ${zero}; var nextKept${String(i)} = ${zero};`)}
        ${nextVariables(options, activations)}
        let tiles = (segmentEnd - segmentStart + ${String(tile - 1)}) / ${String(tile)};
        ${fetchCode(options, activations, `(segmentStart + (tiles - 1) * ${String(tile)})`)}
        ${fetchKept(`segmentStart + (tiles - 1) * ${String(tile)}`)}
        for (var i = tiles; i > 0; i--) {
          let start = segmentStart + (i - 1) * ${String(tile)};
          ${placeRows(options)}
          ${surplus ? `if (loadRow < ${String(tile)})` : ''} {
            ${eachPass(geometry, (k) => {
              const next = (name: string) => `${loaded}(next_${name}[${k}])`;
              return `{
                let rawDelta = ${next('delta')} + bias;
                let inputs = ${next('u')};
                let dys = ${given.dy ? next('dy') : `${loaded}(0.0)`};
                ${given.z ? `let gates = ${next('z')};` : ''}
                let at = (loadRow + ${k} * ${String(rowsAtOnce)}) * ${String(channels)} + loadChannel;
                ${perLane(lanes, (lane, of) => `{
                  var delta_t = ${of('rawDelta')};
                  if (p.softplus == 1) { delta_t = softplus(delta_t); }
                  ${
                    given.z
                      ? `let s = sigmoid(${of('gates')});
                         let value = vec4<f32>(delta_t, ${of('inputs')}, ${of('dys')} * ${of('gates')} * s, ${of('dys')} * s * (1.0 + ${of('gates')} * (1.0 - s)));`
                      : `let value = vec4<f32>(delta_t, ${of('inputs')}, ${of('dys')}, 0.0);`
                  }
                  tile[at + ${String(lane)}] = select(vec4<f32>(0.0), value, loaded[${k}]);
                }`)}
              }`;
            })}
          }
          ${q((i) => `let kept${String(i)} = nextKept${String(i)};`)}
          if (i > 1) {
            let next = start - ${String(tile)};
            ${fetchCode(options, activations, 'next')}
            ${fetchKept('next')}
          }
          workgroupBarrier();
          ${q((i) => `${declareStates(i)} ${state(i, 0)} = kept${String(i)};`)}
          ${loop('t1', tile, (t) => forwardStep(String(t), (i) => state(i, t), (i) => state(i, plus(t, 1))))}
          ${loop('n', tile / batch, backwardBatch)}
        }
        ${surplus ? `if (loadRow < ${String(tile)})` : ''} {
          ${perLane(lanes, (lane, of) => `tile[loadRow * ${String(channels)} + loadChannel + ${String(lane)}] = vec4<f32>(${of('dSkip')}, ${of('dBias')}, 0.0, 0.0);`)}
        }
        workgroupBarrier();
        let to = p.parts_at + p.channelPartsAt + unit * ${String(paddedStates + 2)} * p.channels;
        if (present) {
          ${q((i) => repeat(width, (lane) => `parts[to + (share * ${String(states)} + ${String(i * width + lane)}) * p.channels + e] = ${laneOf(width, `dA${String(i)}`, lane)};`))}
          ${
            given.initial
              ? `if (segment == 0) {
                   let first = p.parts_at + p.initialAt + b * ${String(paddedStates)} * p.channels + e;
                   ${q((i) => repeat(width, (lane) => `parts[first + (share * ${String(states)} + ${String(i * width + lane)}) * p.channels] = ${laneOf(width, `carry${String(i)}`, lane)};`))}
                 }`
              : ''
          }
        }
        let last = group * ${String(channels)} + thread;
        if (thread < ${String(channels)} && last < p.channels) {
          var total = vec4<f32>(0.0);
          for (var r = 0u; r < ${String(loaders)}; r++) { total += tile[r * ${String(channels)} + thread]; }
          parts[to + ${String(paddedStates)} * p.channels + last] = total.x;
          parts[to + ${String(paddedStates + 1)} * p.channels + last] = total.y;
        }
      }`,
  };
}
