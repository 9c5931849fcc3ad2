import type { Backend, BufferView, DeviceBuffer } from './backend.js';
import type { Kernel } from './kernel.js';

/**
 * A way in which a launch can be two, one after the other: what a parameter counts is cut in two. Where a backend limits what a
 * launch may use of a buffer, it divides launches until they fit.
 */
export interface Division<B extends string = string, P extends string = string> {
  /** The parameter that counts what is divided. */
  readonly along: P;
  /** Elements from one to the next, of each buffer that has something for each; both parts are given the other buffers whole. */
  readonly strides: Partial<Readonly<Record<B, number>>>;
  /** How many stay together because buffers have whole blocks of them, the last one filled up. */
  readonly blocks?: { readonly of: number; readonly buffers: readonly B[] };
  /**
   * Outputs that are sums over what is divided: the second part's go to memory of their own and are added by `add`, a kernel
   * for y[r, c] += x[r, c] of buffers x and y and parameters rows, columns, and the pitches of x and y.
   */
  readonly sums?: { readonly names: readonly B[]; readonly add: Kernel };
  /** Parameters of the second part that differ besides, when the first part has `count`. */
  readonly second?: (count: number) => Partial<Readonly<Record<P, number>>>;
  /** Optional buffers that the second part goes without. */
  readonly onlyFirst?: readonly B[];
}

/**
 * Divisions of kernels whose elements do not depend on one another: of the rows, or of a single row's columns.
 * @param pitches elements from row to row
 * @param steps elements from column to column; default 1
 */
export function dividedElements<B extends string>(
  { rows }: { readonly rows: number },
  pitches: Readonly<Record<B, number>>,
  steps: Partial<Readonly<Record<B, number>>> = {},
): Division<B, 'rows' | 'columns'>[] {
  if (rows > 1) return [{ along: 'rows', strides: pitches }];
  const ones = Object.fromEntries(Object.keys(pitches).map((name) => [name, 1])) as Record<B, number>;
  return [{ along: 'columns', strides: { ...ones, ...steps } }];
}

/** Parts begin at multiples of this where they are long enough: vectors and tiles then begin where a whole launch has them. */
const alignment = 256;

/** How many of `count` the first part gets, about half; 0 where there is nothing to divide. */
export function firstHalf(count: number, { blocks }: Pick<Division, 'blocks'>): number {
  const block = blocks?.of ?? 1;
  const whole = Math.ceil(count / block);
  if (whole < 2) return 0;
  const unit = Math.min(alignment, 2 ** Math.floor(Math.log2(whole / 2)));
  return block * unit * Math.max(1, Math.round(whole / 2 / unit));
}

/** Elements of a part's share of a view of `size` elements: `left` of what is divided are in the other part. */
export function partSize(size: number, name: string, left: number, { strides, blocks }: Pick<Division, 'strides' | 'blocks'>): number {
  const block = blocks?.buffers.includes(name) === true ? blocks.of : 1;
  return size - (strides[name] ?? 0) * block * Math.ceil(left / block);
}

/** Launches a kernel in two parts. `firstHalf` of what is divided must not be 0. */
export function launchHalves(
  backend: Pick<Backend, 'allocate' | 'launch' | 'release'>,
  kernel: Kernel,
  division: Division,
  views: readonly (BufferView | null)[],
  parameters: readonly number[],
): void {
  const { along, strides, sums, second, onlyFirst = [] } = division;
  const bufferNames = Object.keys(kernel.buffers);
  const parameterNames = Object.keys(kernel.parameters);
  const count = parameters[parameterNames.indexOf(along)] ?? 0;
  const cut = firstHalf(count, division);
  const partOf = ({ buffer, offset, size }: BufferView, name: string, start: number, end: number): BufferView => ({
    buffer,
    offset: offset + start * (strides[name] ?? 0),
    size: partSize(size, name, count - (end - start), division),
  });
  const launchPart = (
    [start, end]: readonly [number, number],
    changed: Partial<Record<string, number>>,
    given: (view: BufferView, name: string) => BufferView | null,
  ) => {
    backend.launch(
      kernel,
      views.map((view, i) => {
        const name = bufferNames[i] ?? '';
        const own = view && given(view, name);
        return own && partOf(own, name, start, end);
      }),
      parameters.map((value, i) => changed[parameterNames[i] ?? ''] ?? value),
    );
  };
  const temporaries: DeviceBuffer[] = [];
  const added: [from: BufferView, to: BufferView][] = [];
  const elsewhere = (view: BufferView): BufferView => {
    const buffer = backend.allocate(view.buffer.dtype, view.size);
    temporaries.push(buffer);
    const own = { buffer, offset: 0, size: view.size };
    added.push([own, view]);
    return own;
  };
  try {
    launchPart([0, cut], { [along]: cut }, (view) => view);
    launchPart([cut, count], { [along]: count - cut, ...second?.(cut) }, (view, name) => {
      if (onlyFirst.includes(name)) return null;
      return sums?.names.includes(name) === true ? elsewhere(view) : view;
    });
    for (const [from, to] of added) backend.launch(sums?.add as Kernel, [from, to], [1, to.size, to.size, to.size]);
  } finally {
    for (const buffer of temporaries) backend.release(buffer);
  }
}
