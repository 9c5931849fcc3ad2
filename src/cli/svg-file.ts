import { platform } from '#platform';
import { removeTemporaries } from '../train/run.js';
import { ArgumentError } from '../util/errors.js';

/**
 * Sees to it that a picture may be written to `out`.
 * @throws ArgumentError where the name is none of an SVG file, or something else is in its place
 */
export async function checkSvgFile(operation: string, out: string, overwrite: boolean): Promise<void> {
  if (!/[^/\\]\.svg$/i.test(out)) {
    const hint = 'browsers show and print SVG files';
    throw new ArgumentError(`${operation}: --out is ${out}; expected a name that ends in .svg, the only format it writes. Hint: ${hint}`);
  }
  if ((await platform.pathKind(out)) !== 'file' || overwrite) return;
  const file = await platform.openFile(out);
  try {
    const begin = new TextDecoder().decode(await file.read(0, Math.min(file.sizeBytes, 4096)));
    if (file.sizeBytes === 0 || begin.includes('<svg')) return;
  } finally {
    await file.close();
  }
  throw new ArgumentError(`${operation}: ${out} is a file that is no SVG. Hint: --overwrite replaces it; or name another file`);
}

/** Writes a picture, whole or not at all. */
export async function writeSvgFile(out: string, svg: string): Promise<void> {
  await removeTemporaries(platform.joinPath(out, '..'), out.replace(/^.*[/\\]/, ''));
  await platform.writeFileAtomically(out, [new TextEncoder().encode(svg)]);
}
