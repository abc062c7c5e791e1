import { expect, it } from "vitest";
import { csvLine, parseDelimited, parseRows } from "./table";

it("reads quotes, commas and line ends within cells", () => {
  expect(parseDelimited('a,b\r\n"x, ""y""","1\n2"\r\n\r\nz,\n', ",")).toEqual([
    { a: 'x, "y"', b: "1\n2" },
    { a: "z", b: "" },
  ]);
});

it("reads files by their names", () => {
  expect(parseRows("a.csv", "\uFEFFtext;n\ntea;1\n", null)).toEqual([{ text: "tea", n: "1" }]);
  expect(parseRows("a.jsonl", '{"text": "tea"}\n\n{"text": "ink"}\n', null)).toEqual([{ text: "tea" }, { text: "ink" }]);
  expect(parseRows("a.txt", "tea\nink\n", "text")).toEqual([{ text: "tea" }, { text: "ink" }]);
  expect(() => parseRows("a.xls", "", null)).toThrow("no CSV");
});

it("writes what it reads, and nothing that a spreadsheet runs", () => {
  expect(csvLine(["a,b", 'say "x"', null, 0.5])).toBe('"a,b","say ""x""",,0.5');
  expect(csvLine(["=1+1", -1])).toBe("'=1+1,-1");
});
