/** Paths for legends and tables: as many of their last parts as tell them apart. */
export function shortNames(paths: readonly string[]): string[] {
  const parts = paths.map((path) => path.split(/[/\\]+/).filter((part) => part !== '' && part !== '.'));
  return parts.map((own, i) => {
    for (let count = 1; count < own.length; count++) {
      const name = own.slice(-count).join('/');
      if (parts.every((other, k) => k === i || other.slice(-count).join('/') !== name)) return name;
    }
    return paths[i] as string;
  });
}
