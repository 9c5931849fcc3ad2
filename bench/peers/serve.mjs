// Answers the calls of bench/lib/peer.mjs, one after another.

/** @param {Record<string, (...parameters: any[]) => Promise<unknown>>} functions */
export function serve(functions) {
  process.on('message', async (/** @type {{name: string, parameters: unknown[]}} */ { name, parameters }) => {
    try {
      process.send?.({ result: await functions[name]?.(...parameters) });
    } catch (error) {
      process.send?.({ error: error instanceof Error ? error.message : String(error) });
    }
  });
  process.on('disconnect', () => process.exit());
}
