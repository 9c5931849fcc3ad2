import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
};

/** What a bundler would resolve: the package's names and its dependencies, for a page without one. */
const importMap = {
  imports: {
    '#platform': '/dist/platform/browser.js',
    elapid: '/dist/index.js',
    'elapid/generate': '/dist/generate/index.js',
    'elapid/data': '/dist/data/index.js',
    'elapid/train': '/dist/train/index.js',
    'hash-wasm': '/node_modules/hash-wasm/dist/index.esm.js',
    valibot: '/node_modules/valibot/dist/index.mjs',
    '@huggingface/tokenizers': '/node_modules/@huggingface/tokenizers/dist/tokenizers.mjs',
  },
};

const page = (script: string) => `<!doctype html><script type="importmap">${JSON.stringify(importMap)}</script>
<script type="module" src="/test/browser/${script}.js"></script>`;

/**
 * Serves the repository on a local port, and pages that run a script of this folder: `/model` and `/agreement`.
 * @param isolated whether pages may share memory with workers (the two cross-origin headers)
 */
export async function serve(isolated: boolean): Promise<{ url: string; server: Server }> {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    if (isolated) {
      response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
      response.setHeader('Cross-Origin-Embedder-Policy', 'require-corp');
    }
    const file = join(root, path);
    if (path === '/model' || path === '/agreement') {
      response.setHeader('Content-Type', 'text/html').end(page(path.slice(1)));
    } else if (existsSync(file) && statSync(file).isFile()) {
      response.setHeader('Content-Type', types[extname(file)] ?? 'application/octet-stream');
      createReadStream(file).pipe(response);
    } else {
      response.writeHead(404).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, server };
}
