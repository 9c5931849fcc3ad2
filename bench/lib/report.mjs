// README's figures, from a file that `npm run bench -- --json` wrote.

/**
 * @typedef {object} ResultRow
 * @property {string} name
 * @property {string} what
 * @property {string} unit
 * @property {string} [skipped]
 * @property {number} [ours]
 * @property {number | null} [peer]
 * @property {string} [peerName]
 * @property {string} [peerSource]
 * @property {number | null} [ratio]
 * @property {number | null} [limitShare]
 * @property {number | null} [published] mamba_ssm's figure
 * @property {number | null} [publishedRatio]
 */
/** @typedef {{processor: string, kernels: string, model?: string, gpu?: string, node: string, date: string}} Machine */
/** @typedef {{machine: Machine, threads: number, rows: readonly ResultRow[]}} Results */

/** Where the sections stand in README. */
const marks = { cpu: 'bench', gpu: 'bench-gpu' };

/** Rows that README shows, in its order; those of a results file that have no figure are left out. */
const shown = [
  'prefill-512-f32',
  'prefill-512-bf16',
  'decode-f32',
  'decode-bf16',
  'decode-int8',
  'decode-int4',
  'train-130m',
  'wasm-gemm-512',
  'scan-forward',
];

const figure = (/** @type {number} */ value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));

/**
 * The section between the markers.
 * @param {Results} results
 * @param {string} file their path, to be named
 */
export function section({ machine, threads, rows }, file) {
  const lines = shown.flatMap((name) => {
    const row = rows.find((candidate) => candidate.name === name);
    if (row?.ours === undefined) return [];
    const { what, unit, ours, peer, peerName, peerSource, ratio, limitShare } = row;
    const other = typeof peer === 'number' ? `${figure(peer)} (${peerName ?? ''}${peerSource === 'stated' ? ', measured apart' : ''})` : '';
    const times = typeof ratio === 'number' ? `${figure(ratio)}×` : '';
    const share = typeof limitShare === 'number' ? `${(100 * limitShare).toFixed(0)} %` : '';
    return [`| ${what} | ${figure(ours)} ${unit} | ${other} | ${times} | ${share} |`];
  });
  return [
    `Medians of one run on ${threads} threads of ${machine.processor} (${machine.kernels}; Node ${machine.node}; ${machine.date}),`,
    `ours and the peers in alternation on the same weights; the last column is the share of what the machine allows`,
    `([how](bench/README.md), [all rows](${file})):`,
    '',
    '| work | elapid | peer | ratio | of the limit |',
    '|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

/**
 * The section of the GPU's figures.
 * @param {Results} results
 * @param {string} file
 */
export function gpuSection({ machine, rows }, file) {
  const lines = rows
    .filter(({ name }) => !name.startsWith('roofline'))
    .map(({ what, unit, ours, peer, published, publishedRatio, limitShare }) => {
      const known = (/** @type {number | null | undefined} */ value) => (typeof value === 'number' ? figure(value) : '');
      const times = typeof publishedRatio === 'number' ? `${figure(publishedRatio)}×` : '';
      const share = typeof limitShare === 'number' ? `${(100 * limitShare).toFixed(0)} %` : '';
      return `| ${what} | ${known(ours)} ${unit} | ${known(published)} | ${times} | ${known(peer)} | ${share} |`;
    });
  return [
    `Medians of one run on an ${machine.model ?? 'unknown GPU'} (Vulkan, Node ${machine.node}; ${machine.date}), beside mamba_ssm's CUDA kernels in bf16 on an H100,`,
    'measured apart, and PyTorch on the same GPU in the same run, without those kernels; the last column is the share of what the GPU allows',
    `([how, and where the time goes](docs/webgpu.md), [all columns](${file})):`,
    '',
    '| work | elapid | mamba_ssm | ratio | PyTorch | of the limit |',
    '|---|---|---|---|---|---|',
    ...lines,
  ].join('\n');
}

/**
 * `readme` with the section between its markers replaced.
 * @param {string} readme
 * @param {string} text
 * @param {'cpu' | 'gpu'} [kind]
 */
export function withSection(readme, text, kind = 'cpu') {
  const begin = `<!-- ${marks[kind]}:begin -->`;
  const end = `<!-- ${marks[kind]}:end -->`;
  const [from, to] = [readme.indexOf(begin), readme.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`README.md has no ${begin} before an ${end}`);
  return `${readme.slice(0, from + begin.length)}\n${text}\n${readme.slice(to)}`;
}
