/** Rows of weights, read 16 bytes at a time. */

/** How a matrix of floats is bound, and the numbers that are read at once. */
export const wide = (dtype: string | undefined): { readonly as: string; readonly lanes: 4 | 8 } =>
  dtype === 'f16' ? { as: 'vec4<u32>', lanes: 8 } : { as: 'vec4<f32>', lanes: 4 };

/** The product of what was read, `w`, and vectors of four: `values(i)` is the i-th of as many as there are. */
export function wideDot(dtype: string | undefined, w: string, values: (i: number) => string): string {
  if (dtype !== 'f16') return `dot(${w}, ${values(0)})`;
  const four = (a: string, b: string) => `vec4<f32>(unpack2x16float(${w}.${a}), unpack2x16float(${w}.${b}))`;
  return `(dot(${four('x', 'y')}, ${values(0)}) + dot(${four('z', 'w')}, ${values(1)}))`;
}
