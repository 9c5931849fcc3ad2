// README's figures, from a file that `npm run bench -- --json` wrote.

/**
 * @typedef {object} ResultRow
 * @property {string} name
 * @property {string} what
 * @property {string} unit
 * @property {string} [skipped]
 * @property {number} [ours]
 * @property {number} [runs]
 * @property {readonly number[]} [spread] the lowest and the highest
 * @property {number | null} [peer]
 * @property {readonly number[]} [peerSpread]
 * @property {number} [peerOurs] ours where and when a stated peer was measured
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
  'mamba2-prefill-512-f32',
  'mamba2-prefill-512-bf16',
  'mamba2-decode-f32',
  'mamba2-decode-bf16',
  'mamba2-decode-int8',
  'train-130m',
  'wasm-gemm-512',
  'scan-forward',
  'switch-train',
];

const figure = (/** @type {number} */ value) => (value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3));

/** `5.97 (5.8–6.1, 5 runs)` */
const measured = (/** @type {ResultRow} */ { ours = NaN, unit, spread, runs }) =>
  `${figure(ours)} ${unit}${spread === undefined ? '' : ` (${spread.map(figure).join('–')}, ${runs ?? 0} runs)`}`;

const percent = (/** @type {number | null | undefined} */ share) => (typeof share === 'number' ? `${(100 * share).toFixed(0)} %` : '');
const times = (/** @type {number | null | undefined} */ ratio) => (typeof ratio === 'number' ? `${ratio.toPrecision(ratio < 1 ? 2 : 3)}×` : '');

/** The other side of a row of the CPU's. @param {ResultRow} row */
function other({ peer, peerName = '', peerSource, peerSpread, peerOurs, unit }) {
  if (typeof peer !== 'number') return '';
  if (peerSource === 'stated') return `${peerName}: ${figure(peer)}, ours ${figure(peerOurs ?? NaN)} ${unit} on the same cores, measured apart`;
  return `${peerName}: ${figure(peer)}${peerSpread === undefined ? '' : ` (${peerSpread.map(figure).join('–')})`}`;
}

/**
 * The section between the markers.
 * @param {Results} results
 * @param {string} file their path, to be named
 */
export function section({ machine, threads, rows }, file) {
  const lines = shown.flatMap((name) => {
    const row = rows.find((candidate) => candidate.name === name);
    if (row?.ours === undefined) return [];
    return [`| ${row.what} | ${measured(row)} | ${other(row)} | ${times(row.ratio)} | ${percent(row.limitShare)} |`];
  });
  return [
    `One run on ${threads} threads of ${machine.processor} (${machine.kernels}; Node ${machine.node}; ${machine.date}). Elapid and its peers ran in`,
    'alternation on the same weights. Each figure is a median, with the lowest and the highest in brackets. The last column is the share of the',
    `hardware peak, measured in the same run ([how](bench/README.md), [all rows](${file}), [another machine](docs/cpu.md)).`,
    '',
    '| work | elapid | peer | ratio | of the hardware peak |',
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
    .map((row) => {
      const { what, peer, peerName = '', ratio, published, publishedRatio, limitShare } = row;
      const [name, theirs, ours] = typeof published === 'number' ? ['mamba_ssm', published, publishedRatio] : [peerName, peer, ratio];
      const side = typeof theirs === 'number' ? `${name}: ${figure(theirs)}` : '';
      return `| ${what} | ${measured(row)} | ${side} | ${times(ours)} | ${percent(limitShare)} |`;
    });
  return [
    `One run on one ${machine.model ?? 'unknown GPU'} (Vulkan, Node ${machine.node}; ${machine.date}). mamba_ssm 2.3.2, with its CUDA kernels in 16 bits and CUDA`,
    'graphs for decoding, was measured apart, on another machine with the same kind of GPU. PyTorch (cuBLAS, and its fused attention) ran in the same run. The rows of attention, and those of',
    'Mamba-2 (SSD), of the expert layers and of 128 sequences, are of a run of their own each. The',
    `last column is the share of the hardware peak ([how, and where the time goes](docs/webgpu.md), [all columns](${file})).`,
    '',
    '| work | elapid | peer | ratio | of the hardware peak |',
    '|---|---|---|---|---|',
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
