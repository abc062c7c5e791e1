import { expect, it, vi } from "vitest";

vi.stubGlobal("window", { addEventListener: () => undefined });
vi.stubGlobal("location", { hash: "#/predict?run=r&text=tea%20%26%20milk" });
vi.stubGlobal("history", { replaceState: vi.fn() });
const { format, parse, place } = await import("./place.svelte");

it("comes back from the address as it went in", () => {
  const settings = { logits: "-0.5,1.2", text: "a & b = c?" };
  expect(parse(format("playground", settings))).toEqual({ view: "playground", unknown: "", settings });
});

it("tells an unknown view from none", () => {
  expect([parse("#/nowhere?run=r").unknown, parse("").unknown, parse("#/?run=r").unknown]).toEqual(["nowhere", "", ""]);
});

it("keeps the run from view to view, and nothing else", () => {
  expect([place.text("text"), place.to("mistakes")]).toEqual(["tea & milk", "#/mistakes?run=r"]);
});

it("writes what is set into the address", () => {
  place.set({ text: null, k: 7, logits: [1, 2] });
  expect(history.replaceState).toHaveBeenLastCalledWith(null, "", "#/predict?run=r&k=7&logits=1%2C2");
  expect([place.number("k", 5), place.number("run", 5), place.numbers("logits", [])]).toEqual([7, 5, [1, 2]]);
});
