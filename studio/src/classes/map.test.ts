import { expect, it } from "vitest";
import { frequency, nearest, paint, pointsOf, type Points } from "./map";

const POINTS: Points = pointsOf({
  x: new Float32Array([0, 1, -1]),
  y: new Float32Array([0, 1, 0]),
  ids: new Uint32Array([0, 1, 2]),
  counts: new Uint32Array([9, 0, 9]),
});
const VIEW = { x: 0, y: 0, scale: 10 };
const SIZE = { width: 40, height: 30 };

it("finds the point under the pointer", () => {
  expect(nearest(POINTS, VIEW, SIZE, { x: 29, y: 6 }, 8)).toBe(1);
  expect(nearest(POINTS, VIEW, SIZE, { x: 39, y: 29 }, 8)).toBeNull();
});

it("paints common classes in one color, rare ones in the other, upwards what is larger", () => {
  const data = new Uint8ClampedArray(4 * 40 * 30);
  const context = { createImageData: () => ({ data }), putImageData: () => undefined } as unknown as CanvasRenderingContext2D;
  paint(context, POINTS, VIEW, { ...SIZE, rare: [0, 0, 255], common: [255, 0, 0], ground: [9, 9, 9] });
  const at = (x: number, y: number) => [...data.slice(4 * (y * 40 + x), 4 * (y * 40 + x) + 3)];
  expect([at(20, 15), at(30, 5), at(10, 15), at(0, 0)]).toEqual([[255, 0, 0], [0, 0, 255], [255, 0, 0], [9, 9, 9]]);
});

it("counts frequency in logarithms", () => expect([frequency(0, 9), frequency(9, 9), frequency(3, 0)]).toEqual([0, 1, 0]));
