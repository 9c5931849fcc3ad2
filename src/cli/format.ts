/** `1234567` → `1,234,567` */
export const grouped = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 0 });

/** `1 shard`, `1,234 shards` */
export const counted = (count: number, unit: string): string => `${grouped(count)} ${unit}${count === 1 ? '' : 's'}`;

/** `2.1k`, `13.4M`: three significant digits and a decimal prefix. */
export function compact(value: number): string {
  const units = ['', 'k', 'M', 'G', 'T'];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1000 && unit < units.length - 1) {
    scaled /= 1000;
    unit++;
  }
  const digits = scaled >= 100 || Number.isInteger(scaled) ? 0 : scaled >= 10 ? 1 : 2;
  return `${scaled.toFixed(digits)}${units[unit] ?? ''}`;
}

/** `517 MB`: decimal bytes. */
export const byteSize = (bytes: number): string => compact(bytes).replace(/[kMGT]?$/, ' $&B');

/** `3m12s`, `1h05m`, `12s` */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const pad = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m${pad(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`;
}
