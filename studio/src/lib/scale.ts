/** Round numbers for axes and values in few characters, as in `widemax.charts`. */

/** A linear map from a range of values to pixels. */
export function linear(low: number, high: number, start: number, end: number): (value: number) => number {
  const slope = (end - start) / (high - low || 1);
  return (value) => start + (value - low) * slope;
}

/** Round numbers, 1, 2 or 5 times a power of ten apart, within [low, high]. */
export function ticks(low: number, high: number, most = 6): number[] {
  if (!(high > low)) return [low];
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10, 20].map((factor) => factor * power).find((each) => (high - low) / each <= most)!;
  const first = Math.ceil(round(low / step));
  const last = Math.floor(round(high / step));
  return Array.from({ length: last - first + 1 }, (_, place) => round((first + place) * step));
}

/** Powers of ten within [low, high]. */
export function logTicks(low: number, high: number): number[] {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, place) => 10 ** (first + place));
}

/** Without the last digits, which are rounding errors. */
function round(value: number): number {
  return Number(value.toPrecision(12));
}

/** A number with so many significant digits, and a true minus. */
export function short(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e6)) {
    const [factor, power] = value.toExponential(Math.max(0, digits - 1)).split("e") as [string, string];
    return minus(`${Number(factor)}·10${superscript(Number(power))}`);
  }
  return minus(String(Number(value.toPrecision(digits))));
}

/** A number with so many decimals, and a true minus; a dash for none. */
export function fixed(value: number | null, decimals = 2): string {
  if (value === null) return "–";
  const text = value.toFixed(decimals);
  return minus(Number(text) === 0 ? text.replace("-", "") : text);
}

/** A share in percent. */
export function percent(share: number, decimals = 0): string {
  return `${fixed(100 * share, decimals)} %`;
}

/** A count with separators. */
export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** A number of things, in words. */
export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : noun.endsWith("s") ? "es" : "s"}`;
}

function minus(text: string): string {
  return text.replace(/-/g, "−");
}

function superscript(power: number): string {
  return String(power).replace(/./g, (digit) => (digit === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]!));
}
