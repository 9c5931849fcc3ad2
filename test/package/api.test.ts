import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { exports: Record<string, string> };

/** The source of what is imported by a path of the package: `./io` → src/io/index.ts. */
const sourceOf = (path: string): string => join(root, (exports[path] ?? '').replace('./dist/', 'src/').replace(/js$/, 'ts'));

/** The names that a module exports, types too, as its text says. */
function exportedNames(file: string): string[] {
  const { statements } = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022);
  return statements.flatMap((statement): string[] => {
    if (ts.isExportDeclaration(statement)) {
      const { exportClause, moduleSpecifier } = statement;
      if (exportClause === undefined) return exportedNames(moduleOf(moduleSpecifier, file));
      return ts.isNamespaceExport(exportClause) ? [exportClause.name.text] : exportClause.elements.map(({ name }) => name.text);
    }
    const exported = ts.canHaveModifiers(statement) && ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) === true;
    if (!exported) return [];
    if (ts.isVariableStatement(statement)) return statement.declarationList.declarations.map(({ name }) => (name as ts.Identifier).text);
    return [(statement as ts.DeclarationStatement & { readonly name: ts.Identifier }).name.text];
  });
}

function moduleOf(specifier: ts.Expression | undefined, from: string): string {
  const file = join(dirname(from), (specifier as ts.StringLiteral).text.replace(/js$/, 'ts'));
  if (!existsSync(file)) throw new Error(`${from} exports from ${file}, which is not there`);
  return file;
}

/** The names in docs/api.md by the heading they are under; `nn.Block` is under `nn`, as Block. */
function documentedNames(): Map<string, string[]> {
  const names = new Map<string, string[]>();
  let part: string[] = [];
  // A list item goes on in lines that are indented.
  const lines = readFileSync(join(root, 'docs/api.md'), 'utf8').replaceAll('\n  ', ' ').split('\n');
  for (const line of lines) {
    const [, heading] = /^##+ `(.*)`$/.exec(line) ?? [];
    if (heading !== undefined) names.set(heading, (part = []));
    // What stands after the dash explains the names before it.
    if (line.startsWith('- ')) part.push(...[...(line.split(' — ')[0] ?? '').matchAll(/`(?:nn\.)?(\w+)`/g)].map(([, name]) => name ?? ''));
  }
  return names;
}

const documented = documentedNames();
const paths = Object.keys(exports).filter((path) => path !== './package.json');
const parts = [
  ...paths.map((path) => ({ name: path.replace('.', 'elapid'), file: sourceOf(path) })),
  { name: 'nn', file: join(root, 'src/nn/index.ts') },
];

describe('docs/api.md', () => {
  test('has a heading for every path of the package', () => {
    expect([...documented.keys()].sort()).toEqual(parts.map(({ name }) => name).sort());
  });

  test.each(parts)('names what $name exports, all of it, once, and nothing else', async ({ name, file }) => {
    const exported = exportedNames(file);
    // The text was understood: every value that the module has is among the names.
    const values = Object.keys((await import(pathToFileURL(file).href)) as object);
    expect(values.filter((value) => !exported.includes(value))).toEqual([]);
    expect((documented.get(name) ?? []).sort()).toEqual(exported.sort());
  });
});
