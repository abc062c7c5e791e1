import { expect, it } from "vitest";
import { around, mean, spread, type Point } from "./cloud";

it("knows mean and spread", () => {
  const points: Point[] = [[0, 0], [2, 0], [0, 2], [2, 2]];
  expect(mean(points)).toEqual([1, 1]);
  expect(spread(points)).toBeCloseTo(Math.sqrt(8 / 3), 12);
});

it("draws a square around points", () => {
  const [[left, right], [bottom, top]] = around([[0, 0], [4, 2]]);
  expect(right - left).toBeCloseTo(top - bottom, 12);
  expect(right - left).toBeGreaterThan(4);
  expect([(left + right) / 2, (bottom + top) / 2]).toEqual([2, 1]);
});
