/** Numbers compiled into code. */
import type { GpuWork } from '../../tensor/index.js';

/**
 * The same work by code that has the kernel's parameters and the dispatches' numbers as literals in place of reading them from `p`:
 * compilers know strides and the number of turns. Each set of values is a pipeline of its own.
 * @param parameters the kernel's, none of them floats, of which a launch knows the sign alone
 */
export function withConstants(work: GpuWork, parameters: Readonly<Record<string, number>>): GpuWork {
  return {
    ...work,
    dispatches: work.dispatches.map((dispatch) => {
      const values = new Map(Object.entries({ ...parameters, ...dispatch.numbers }));
      const literal = (read: string, name: string) => (values.has(name) ? `${String(values.get(name))}u` : read);
      return {
        ...dispatch,
        variant: `${dispatch.variant} ${[...values].map(([name, value]) => `${name}=${value}`).join(' ')}`,
        code: () => dispatch.code().replace(/\bp\.(\w+)/g, literal),
      };
    }),
  };
}
