/** Factors in f32, converted to halves for a large product, which reads them many times. */
import type { GpuDispatch, GpuWork } from '../../tensor/index.js';
import { perElement } from '../per-element.js';
import { matrixFactor, type Factor } from './factor.js';
import type { Product } from './product.js';

const lanes = 8;

interface Side {
  readonly factor: Factor;
  readonly outer: 'm' | 'n';
  readonly extent: number;
  /** Matrices: one for each group, dense and one after another. */
  readonly count: number;
}

/** Whether the factor is f32, and a dense matrix of its halves could be read in vectors of 8. */
const converts = ({ factor, extent }: Side, k: number) => factor.binding.as === 'vec4<f32>' && (factor.along === 'depth' ? k : extent) % lanes === 0;

/** How a product reads the halves that `halve` writes to scratch `name`. */
const halvedFactor = (name: string, { factor, outer }: Side): Factor => {
  const names = { name, outer: `p.${outer}`, depth: 'p.k', pitch: factor.along === 'depth' ? 'p.k' : `p.${outer}`, stride: `(p.${outer} * p.k)` };
  const read = matrixFactor({ ...names, dtype: 'f16', along: factor.along, lanes, halves: false });
  return { ...read, binding: { ...read.binding, access: 'read' } };
};

/** The dispatch that fills scratch `name`, dense, rows along the index along which the factor lies. */
function halve(name: string, { factor, outer, extent, count }: Side, k: number): GpuDispatch {
  const [row, rows, column, columns] = factor.along === 'depth' ? ['outer', `p.${outer}`, 'depth', 'p.k'] : ['depth', 'p.k', 'outer', `p.${outer}`];
  return perElement({
    variant: `halve ${factor.variant}`,
    count: (count * extent * k) / lanes,
    buffers: [factor.binding, { name, as: 'vec4<u32>' }],
    functions: factor.eight,
    body: `
        let vectors = ${columns} / ${lanes}u;
        let batch = i / vectors / ${rows};
        let ${row} = i / vectors % ${rows};
        let ${column} = i % vectors * ${lanes}u;
        ${name}[p.${name}_at + i] = ${factor.binding.name}_eight(batch, outer, depth);`,
  });
}

/**
 * The work of a product whose factors are converted first, if they can be: those for which `worth` says so, given how often the product
 * reads each and the bytes of the halves. `work` makes the product's of what is then to be read. The product is a single one, or has its rows in groups.
 */
export function afterHalving(product: Product, worth: (times: number, bytes: number) => boolean, work: (read: Product) => GpuWork): GpuWork {
  const { m, n, k, a, b, groups } = product;
  const count = groups?.count ?? 1;
  const sides = { a: { factor: a, outer: 'm', extent: m, count: 1 }, b: { factor: b, outer: 'n', extent: n, count } } as const;
  // Where groups of rows end is known to the product's code alone.
  const halved = (groups === undefined ? (['a', 'b'] as const) : (['b'] as const)).filter((name) => {
    const side = sides[name];
    return converts(side, k) && worth((m * n) / side.extent / side.count, 2 * side.count * side.extent * k);
  });
  const factors = Object.fromEntries(halved.map((name) => [name, halvedFactor(`halves_${name}`, sides[name])]));
  const scratch = Object.fromEntries(halved.map((name) => [`halves_${name}`, { dtype: 'f16', size: sides[name].count * sides[name].extent * k } as const]));
  const made = work({ ...product, ...factors });
  return {
    dispatches: [...halved.map((name) => halve(`halves_${name}`, sides[name], k)), ...made.dispatches],
    scratch: { ...made.scratch, ...scratch },
  };
}
