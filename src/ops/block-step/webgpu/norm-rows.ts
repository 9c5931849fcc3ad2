/** The norm of whole rows, of up to 4 sequences, and products of some rows of the weight after it, which a workgroup makes by itself. */
import type { GpuLaunch } from '../../../tensor/index.js';
import { laneOf, repeat } from '../../../wgsl/vectors.js';
import { threads } from './extents.js';
import { wide, wideDot } from './wide.js';

/** What the norm and the first projection read. */
export type NormLaunch = GpuLaunch<'x' | 'residual' | 'inProj' | 'sum', 'batch' | 'width' | 'xParts'> & {
  /** Whether the parts of x are to be multiplied by one factor a sequence, which they bring with them (`ssd_block_leave`). */
  readonly scaled?: boolean;
};

/** Weights that a thread asks for at once, 16 bytes each. */
const ahead = 16;

/** Sequences that a workgroup with `outputs` results takes at once, with what sums without subgroups take. */
export function sequencesOf({ parameters: { batch, width } }: NormLaunch, outputs: number, workgroupBytes: number): number {
  const memoryOf = (sequences: number) => 4 * sequences * (width + outputs / 2) + (sequences === 1 ? 4 : 16) * (outputs + 2 * threads);
  return [4, 3, 2].find((count) => count <= batch && memoryOf(count) <= workgroupBytes) ?? 1;
}

/** WGSL's type of a number for each sequence. */
export const typeOf = (sequences: number): string => (sequences === 1 ? 'f32' : 'vec4<f32>');

/** `product`, a thread's share of an output of in_proj for each sequence, and the weights for it that are asked for first. */
export function projection({ parameters: { width }, dtype }: NormLaunch, shares: number, sequences: number): { ahead: string; product: string } {
  const weight = dtype('inProj');
  const { lanes } = wide(weight);
  const quads = width / 4;
  const loads = Math.ceil(width / lanes / shares);
  const chunks = Math.ceil(loads / ahead);
  const chunk = Math.ceil(loads / chunks);
  /** Index of the vector that is load i of a row. */
  const vector = (i: number) => `share + ${i * shares}u`;
  const exact = width % (lanes * shares) === 0;
  const last = `${width / lanes - 1}u`;
  const chunkOf = (k: number) => Array.from({ length: Math.min(chunk, loads - k * chunk) }, (_, i) => k * chunk + i);
  const load = (k: number) =>
    chunkOf(k).map((i) => `let w${i} = inProj[at + ${exact ? vector(i) : `min(${vector(i)}, ${last})`}];`).join('\n');
  const multiply = (k: number) =>
    chunkOf(k)
      .map((i) => {
        const values = (s: number) => (j: number) => `normed[${s * quads + (j * width) / lanes}u + ${vector(i)}]`;
        const terms = repeat(sequences, (s) => `${laneOf(sequences, 'product', s)} += ${wideDot(weight, `w${i}`, values(s))};`);
        return exact ? terms : `if (${vector(i)} <= ${last}) { ${terms} }`;
      })
      .join('\n');
  return {
    ahead: load(0),
    product: `var product = ${typeOf(sequences)}();
        ${Array.from({ length: chunks }, (_, k) => `${k === 0 ? '' : load(k)}\n${multiply(k)}`).join('\n')}`,
  };
}

/** Puts the normed rows into workgroup memory: x in all its parts and the residual, which one workgroup stores, by their norm. */
export function normCode({ parameters: { width, xParts }, has, scaled = false }: NormLaunch, sequences: number, lanes: 4 | 8): string {
  const quads = width / 4;
  const turns = Math.ceil(quads / threads);
  /** Vectors of a row of a part. */
  const pitch = quads + (scaled ? 1 : 0);
  const of = (name: string, s: number) => laneOf(sequences, name, s);
  const add = (s: number, t: number) => `
        var n${s}_${t} = vec4<f32>();
        {
          let quad = thread + ${t * threads}u;
          let b = min(first + ${s}u, last_sequence);
          if (quad < ${quads}u) {
            ${repeat(xParts, (part) => `let part${part} = vec4<f32>(x[p.x_at + (${part}u * p.batch + b) * ${pitch}u + quad]);`)}
            ${has('residual') ? `let before = vec4<f32>(residual[p.residual_at + b * ${quads}u + quad]);` : ''}
            var added = part0;
            ${repeat(xParts - 1, (part) => `added += part${part + 1};`)}
            ${scaled ? partsScale(xParts, quads, 'added') : ''}
            ${has('residual') ? 'added += before;' : ''}
            ${has('sum') ? `if (id.x == 0u && first + ${s}u <= last_sequence) { sum[p.sum_at + b * ${quads}u + quad] = added; }` : ''}
            n${s}_${t} = added;
            ${of('squares', s)} += dot(added, added);
          }
        }`;
  return `var squares = ${typeOf(sequences)}();
        ${repeat(sequences, (s) => repeat(turns, (t) => add(s, t)))}
        let scale = inverseSqrt(total(thread, squares) / ${width}.0 + p.epsilon);
        ${repeat(
          turns,
          (t) => `
        if (thread + ${t * threads}u < ${quads}u) {
          let quad = thread + ${t * threads}u;
          let gain = normWeight[p.normWeight_at + quad];
          let place = ${lanes === 4 ? 'quad' : `quad / 2u + quad % 2u * ${quads / 2}u`};
          ${repeat(sequences, (s) => `normed[${s * quads}u + place] = n${s}_${t} * ${of('scale', s)} * gain;`)}
        }`,
        )}`;
}


/** WGSL that multiplies `names` by the factor of sequence `b`, whose inverse square is the sum of what its parts have behind their `quads` vectors. */
export const partsScale = (xParts: number, quads: number, ...names: readonly string[]): string => `
            var inverse_square = 0.0;
            ${repeat(xParts, (part) => `inverse_square += f32(x[p.x_at + (${part}u * p.batch + b) * ${quads + 1}u + ${quads}u].x);`)}
            ${names.map((name) => `${name} *= inverseSqrt(inverse_square);`).join(' ')}`;
