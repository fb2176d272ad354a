// CSV files and rows of a table: columns are matched by name, categories by theirs.

/** Return the rows of a CSV text as lists of cells; the separator is a comma, semicolon or tab. */
export function parseCsv(text) {
  const head = text.slice(0, text.search(/\r?\n|$/));
  const mark = [",", ";", "\t"].reduce((best, each) => head.split(each).length > head.split(best).length ? each : best, ",");
  const rows = [[]];
  let cell = "";
  let isQuoted = false;
  for (let place = 0; place < text.length; place++) {
    const letter = text[place];
    if (isQuoted) {
      if (letter !== '"') cell += letter;
      else if (text[place + 1] === '"') { cell += '"'; place++; } else isQuoted = false;
    } else if (letter === '"') isQuoted = true;
    else if (letter === mark) { rows.at(-1).push(cell); cell = ""; } else if (letter === "\n") { rows.at(-1).push(cell); cell = ""; rows.push([]); } else if (letter !== "\r") cell += letter;
  }
  rows.at(-1).push(cell);
  return rows.filter((row) => row.length > 1 || row[0].trim());
}

const complain = (title, text) => Object.assign(new Error(text), {title});
const some = (names) => names.slice(0, 4).map((name) => `“${name}”`).join(", ") + (names.length > 4 ? ` and ${names.length - 4} more` : "");

const DECIMAL_POINT = /^[+-]?\d*\.\d+(e[+-]?\d+)?$/i;
const DECIMAL_COMMA = /^[+-]?\d*,\d+(e[+-]?\d+)?$/i;

/** Return {items, notes} of a CSV text for a model's columns. */
export function itemsOfCsv(text, model) {
  const [head, ...rows] = parseCsv(text.replace(/^\uFEFF/, ""));
  if (!rows.length) throw complain("The file has no rows", "Its first line must be the names of the columns, and each other line a row.");
  const names = head.map((name) => name.trim());
  const missing = model.columns.map(({name}) => name).filter((name) => !names.includes(name));
  if (missing.length) throw complain("Columns are missing", `The model needs ${some(missing)}. Add them to the first line of the file.`);
  const doubled = model.columns.map(({name}) => name).filter((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (doubled.length) throw complain("Columns are there twice", `Keep one each of ${some(doubled)}.`);
  const others = names.filter((name) => name && !model.columns.some((column) => column.name === name));
  const places = model.columns.map(({name}) => names.indexOf(name));
  const cells = rows.flat().map((cell) => cell.trim());
  const withPoint = cells.some((cell) => DECIMAL_POINT.test(cell)) ? (cell) => cell : (cell) => (DECIMAL_COMMA.test(cell.trim()) ? cell.replace(",", ".") : cell);
  return {
    items: rows.map((row, number) => itemOf(model, places.map((place) => withPoint(row[place] ?? "")), `row ${number + 1}`)),
    notes: others.length ? [`left out ${some(others)}, which the model does not have`] : [],
  };
}

/** Return the item of a row's cells, in the order of the model's columns. */
export function itemOf(model, cells, place) {
  const values = model.columns.flatMap(({name, categories, unseen}, column) => {
    const given = String(cells[column]).trim();
    const text = given && unseen === "other" && !categories.includes(given) ? "other" : given;
    if (text === "" && model.takes_missing) return Array(categories?.length || 1).fill(NaN);
    if (categories?.length) {
      if (!categories.includes(text)) throw complain(`A category of ${place} is unknown`, `“${name}” has “${text}”; the model knows ${some(categories)}.`);
      return categories.map((category) => Number(category === text));
    }
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) throw complain(`A value of ${place} is no number`, `“${name}” has “${text}”; write a number, with a point.`);
    return [value];
  });
  return Float32Array.from(values);
}

/** Return the text of a CSV file. */
export const csvOf = (rows) => rows.map((row) => row.map((cell) => /[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell ?? "")).join(",")).join("\n") + "\n";
