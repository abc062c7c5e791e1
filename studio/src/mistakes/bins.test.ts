import { expect, it } from "vitest";
import { above, calibrationError, columns, type Bin } from "./bins";

const BINS: Bin[] = [[10, 4, 1, 0.2], [99, 2, 1, 0.99], [100, 2, 2, 1.01], [199, 8, 8, 7.98]];

it("puts fine bins together", () => {
  const [low, middle, ...rest] = columns(BINS, 10);
  expect(low).toEqual({ low: 0, high: 0.1, rows: 4, accuracy: 0.25, confidence: 0.05 });
  expect([middle!.low, middle!.rows]).toEqual([0.4, 2]);
  expect(rest.map((column) => column.rows)).toEqual([2, 8]);
});

it("says what a threshold keeps", () => {
  expect(above(BINS, 0)).toEqual({ rows: 16, share: 1, accuracy: 12 / 16 });
  expect(above(BINS, 0.5)).toEqual({ rows: 10, share: 10 / 16, accuracy: 1 });
});

it("measures calibration", () => {
  expect(calibrationError([{ low: 0, high: 1, rows: 3, accuracy: 0.5, confidence: 0.75 }])).toBeCloseTo(0.25, 12);
});
