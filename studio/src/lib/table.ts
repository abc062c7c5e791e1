/** Files of rows, read and written in the browser. */

export type Row = Record<string, unknown>;

/** Rows of CSV or TSV with a header, quotes and line ends within them kept. */
export function parseDelimited(text: string, delimiter: string): Row[] {
  const table: string[][] = [[]];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[at + 1] === '"') cell += text[at++];
      else quoted = false;
    } else if (character === '"' && cell === "") quoted = true;
    else if (character === delimiter) {
      table.at(-1)!.push(cell);
      cell = "";
    } else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[at + 1] === "\n") at++;
      table.at(-1)!.push(cell);
      cell = "";
      table.push([]);
    } else cell += character;
  }
  table.at(-1)!.push(cell);
  const [header = [], ...rows] = table.filter((cells) => cells.length > 1 || cells[0] !== "");
  return rows.map((cells) => Object.fromEntries(header.map((name, column) => [name, cells[column] ?? ""])));
}

/** The rows of a file by the end of its name. */
export function parseRows(name: string, text: string, onlyColumn: string | null): Row[] {
  const plain = text.replace(/^\uFEFF/, "");
  const lines = () => plain.split(/\r?\n/).filter((line) => line.trim());
  if (/\.(jsonl|ndjson)$/i.test(name)) return lines().map((line) => JSON.parse(line) as Row);
  if (/\.json$/i.test(name)) return JSON.parse(plain) as Row[];
  if (/\.tsv$/i.test(name)) return parseDelimited(plain, "\t");
  if (/\.csv$/i.test(name)) {
    const first = plain.split("\n", 1)[0]!;
    const [delimiter] = [",", ";", "\t", "|"].sort((a, b) => first.split(b).length - first.split(a).length);
    return parseDelimited(plain, delimiter!);
  }
  if (onlyColumn !== null) return lines().map((line) => ({ [onlyColumn]: line }));
  throw new Error(`${name} is no CSV, TSV, JSON or JSON Lines, which this run needs for its columns.`);
}

/** The rows of a file, which all have the columns of a run, or an error that says what is wrong. */
export function readRows(name: string, bytes: ArrayBuffer, columns: string[]): Row[] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error(`${name} is no text in UTF-8. Save it as such.`);
  }
  const rows: unknown = parseRows(name, text, columns.length === 1 ? columns[0]! : null);
  if (!Array.isArray(rows) || !rows.length) throw new Error(`${name} has no rows.`);
  for (const [at, row] of rows.entries()) {
    const missing = typeof row === "object" && row ? columns.find((column) => !(column in row)) : columns[0];
    if (missing !== undefined) throw new Error(`${name}, row ${at + 1}, has no column "${missing}"; it has ${Object.keys(Object(row)).join(", ") || "none"}.`);
  }
  return rows as Row[];
}

/** Values as a line of CSV; what a spreadsheet would run gets an apostrophe. */
export function csvLine(values: unknown[]): string {
  return values
    .map((value) => {
      let text = value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value);
      if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    })
    .join(",");
}

/** Give a text to the reader as a file. */
export function download(name: string, text: string, type: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
