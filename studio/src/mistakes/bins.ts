/** Confidence against accuracy, from fine bins of rows. */

/** Its place among 200, its rows, those right, the sum of their confidence. */
export type Bin = [number, number, number, number];
export const FINE = 200;

export interface Column { low: number; high: number; rows: number; accuracy: number; confidence: number }

/** The bins put together into so many columns of equal width; columns without rows are left out. */
export function columns(bins: Bin[], number: number): Column[] {
  return Array.from({ length: number }, (_, at) => {
    const inside = bins.filter(([place]) => Math.floor((place * number) / FINE) === at);
    const [rows, right, sum] = [1, 2, 3].map((part) => inside.reduce((total, bin) => total + bin[part]!, 0)) as [number, number, number];
    return { low: at / number, high: (at + 1) / number, rows, accuracy: right / rows, confidence: sum / rows };
  }).filter((column) => column.rows > 0);
}

/** Of rows whose confidence reaches a threshold: how many, and the share of them that is right. */
export function above(bins: Bin[], threshold: number): { rows: number; share: number; accuracy: number } {
  const all = bins.reduce((total, bin) => total + bin[1], 0);
  const kept = bins.filter(([place]) => place >= Math.round(threshold * FINE));
  const rows = kept.reduce((total, bin) => total + bin[1], 0);
  const right = kept.reduce((total, bin) => total + bin[2], 0);
  return { rows, share: rows / all, accuracy: right / rows };
}

/** Σ rows |accuracy − confidence| / Σ rows over columns. */
export function calibrationError(of: Column[]): number {
  const all = of.reduce((total, column) => total + column.rows, 0);
  return of.reduce((total, column) => total + column.rows * Math.abs(column.accuracy - column.confidence), 0) / all;
}
