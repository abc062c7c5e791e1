import { expect, it } from "vitest";
import { csvLine, parseDelimited, parseRows, readRows } from "./table";

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

it("says what a file of rows lacks", () => {
  const read = (name: string, text: string, columns = ["text"]) => readRows(name, new TextEncoder().encode(text).buffer, columns);
  expect(read("a.csv", "text,n\ntea,1\n")).toEqual([{ text: "tea", n: "1" }]);
  expect(() => read("a.csv", "txt,n\ntea,1\n")).toThrow('a.csv, row 1, has no column "text"; it has txt, n.');
  expect(() => read("a.jsonl", '{"text": "tea"}\n7\n')).toThrow("row 2, has no column");
  expect(() => read("a.json", "{}")).toThrow("a.json has no rows.");
  expect(() => read("a.csv", "text\n")).toThrow("a.csv has no rows.");
  expect(() => readRows("a.txt", new Uint8Array([0xff, 0xfe]).buffer, ["text"])).toThrow("no text in UTF-8");
});

it("writes what it reads, and nothing that a spreadsheet runs", () => {
  expect(csvLine(["a,b", 'say "x"', null, 0.5])).toBe('"a,b","say ""x""",,0.5');
  expect(csvLine(["=1+1", -1])).toBe("'=1+1,-1");
});
