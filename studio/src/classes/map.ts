/** Many points painted pixel by pixel, so that hundreds of thousands move at ease. */

interface Given { x: Float32Array; y: Float32Array; ids: Uint32Array; counts: Uint32Array }
/** Places, class ids, training rows, and on which of 33 levels from rare to common each class is. */
export interface Points extends Given { levels: Uint8Array }
/** The place at the middle of the picture, and pixels a unit. */
export interface Window { x: number; y: number; scale: number }
export interface Size { width: number; height: number }
type Color = [number, number, number];

interface Look extends Size { rare: Color; common: Color; ground: Color }

/** How far a number of training rows is on the way from rare to the most, logarithmically. */
export function frequency(count: number, most: number): number {
  return most < 1 ? 0 : Math.log1p(count) / Math.log1p(most);
}

/** The points with their levels. */
export function pointsOf(given: Given): Points {
  const most = given.counts.reduce((largest, count) => Math.max(largest, count), 0);
  return { ...given, levels: Uint8Array.from(given.counts, (count) => Math.round(32 * frequency(count, most))) };
}

/** Paint the points, those with more training rows last, in colors from rare to common. */
export function paint(context: CanvasRenderingContext2D, points: Points, view: Window, look: Look): void {
  const { width, height } = look;
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const pack = (color: Color) => (255 << 24) | (Math.round(color[2]) << 16) | (Math.round(color[1]) << 8) | Math.round(color[0]);
  pixels.fill(pack(look.ground));
  const ramp = Array.from({ length: 33 }, (_, at) => {
    const mixed = look.rare.map((part, channel) => part + ((look.common[channel]! - part) * at) / 32) as Color;
    return pack(mixed);
  });
  const { x: xs, y: ys, levels } = points;
  const { x: middleX, y: middleY, scale } = view;
  const [right, low] = [width / 2, height / 2];
  // What is in sight is looked for first: few points are large, many are small.
  const sight: number[] = [];
  for (let i = xs.length - 1; i >= 0; i--) {
    const x = Math.round((xs[i]! - middleX) * scale + right);
    const y = Math.round(low - (ys[i]! - middleY) * scale);
    if (x >= 0 && y >= 0 && x < width && y < height) sight.push(i, x, y);
  }
  const room = (width * height) / (sight.length / 3); // pixels a point
  const radius = room < 20 ? 0 : room < 150 ? 1 : room < 750 ? 2 : 3;
  for (let at = 0; at < sight.length; at += 3) {
    const color = ramp[levels[sight[at]!]!]!;
    const [x, y] = [sight[at + 1]!, sight[at + 2]!];
    if (radius === 0) {
      pixels[y * width + x] = color;
      continue;
    }
    for (let dy = -radius; dy <= radius; dy++) {
      for (let dx = -radius; dx <= radius; dx++) {
        if (dx * dx + dy * dy > radius * radius + 1) continue;
        if (x + dx >= 0 && x + dx < width && y + dy >= 0 && y + dy < height) pixels[(y + dy) * width + x + dx] = color;
      }
    }
  }
  context.putImageData(image, 0, 0);
}

/** The number of the point nearest to a pixel, if one is within reach. */
export function nearest(points: Points, view: Window, size: Size, at: { x: number; y: number }, reach: number): number | null {
  const x = view.x + (at.x - size.width / 2) / view.scale;
  const y = view.y - (at.y - size.height / 2) / view.scale;
  let best = (reach / view.scale) ** 2;
  let found: number | null = null;
  for (let i = 0; i < points.x.length; i++) {
    const distance = (points.x[i]! - x) ** 2 + (points.y[i]! - y) ** 2;
    if (distance < best) {
      best = distance;
      found = i;
    }
  }
  return found;
}
