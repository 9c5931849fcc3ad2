// `using` needs the types of this library, which programs for ES2022 do not have by themselves.
/// <reference lib="esnext.disposable" preserve="true" />

/** The symbols, which not every platform has yet. */
const { dispose, asyncDispose } = Symbol as { readonly dispose?: typeof Symbol.dispose; readonly asyncDispose?: typeof Symbol.asyncDispose };

/** The key of the method that `using` calls. Where the platform has no such symbol, the one that Babel and esbuild use. */
export const disposeSymbol: typeof Symbol.dispose = dispose ?? (Symbol.for('Symbol.dispose') as typeof Symbol.dispose);

/** The key of the method that `await using` calls; see `disposeSymbol`. */
export const asyncDisposeSymbol: typeof Symbol.asyncDispose = asyncDispose ?? (Symbol.for('Symbol.asyncDispose') as typeof Symbol.asyncDispose);

/** `resource` for `using`: its `dispose` under the name that `using` knows as well. */
export function disposable<T extends { dispose(): void }>(resource: T): T & Disposable {
  return {
    ...resource,
    [disposeSymbol]: () => {
      resource.dispose();
    },
  };
}
