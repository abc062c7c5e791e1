import { describe, expect, it } from "vitest";
import { counted, fixed, linear, logTicks, percent, short, ticks } from "./scale";

describe("axes", () => {
  it("has round ticks inside the range", () => {
    expect(ticks(0, 0.93)).toEqual([0, 0.2, 0.4, 0.6, 0.8]);
    expect(ticks(-6, 6)).toEqual([-6, -4, -2, 0, 2, 4, 6]);
    expect(ticks(0, 0.3)).not.toContain(0.30000000000000004);
    expect(ticks(2, 2)).toEqual([2]);
  });
  it("has powers of ten", () => expect(logTicks(0.001, 2)).toEqual([0.001, 0.01, 0.1, 1]));
  it("maps both ends", () => {
    const scale = linear(-1, 3, 10, 50);
    expect([scale(-1), scale(1), scale(3)]).toEqual([10, 30, 50]);
  });
});

describe("numbers", () => {
  it("are short", () => {
    expect([short(0.69526), short(-1234), short(3.2e-7), short(22026465), short(Infinity), short(NaN)]).toEqual(
      ["0.695", "−1230", "3.2·10⁻⁷", "2.2·10⁷", "∞", "NaN"],
    );
    expect([fixed(-0.001), fixed(-0.335), percent(0.9371, 1)]).toEqual(["0.00", "−0.34", "93.7 %"]);
  });
  it("are counted", () =>
    expect([counted(1, "row"), counted(2000, "class")]).toEqual(["1 row", "2,000 classes"]));
});
