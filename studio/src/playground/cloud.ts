/** Points of the plane. */

export type Point = [number, number];

export function mean(points: Point[]): Point {
  const [x, y] = points.reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0] as Point);
  return [x / points.length, y / points.length];
}

/** The root of the variance, summed over both numbers. */
export function spread(points: Point[]): number {
  const [x, y] = mean(points);
  const squares = points.reduce((sum, [a, b]) => sum + (a - x) ** 2 + (b - y) ** 2, 0);
  return Math.sqrt(squares / (points.length - 1));
}

/** The square around points, with a margin: its ranges of x and y. */
export function around(points: Point[]): [Point, Point] {
  const sides = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]!);
    return [Math.min(...values), Math.max(...values)] as Point;
  }) as [Point, Point];
  const half = Math.max(...sides.map(([low, high]) => high - low), 1e-9) * 0.56;
  return sides.map(([low, high]) => [(low + high) / 2 - half, (low + high) / 2 + half]) as [Point, Point];
}
