// Rows of a table, which the service reads as it does for everybody; and the text of a CSV file.

import {array, json, path, rowsOf} from "./api.js";

/** Return the media type of a file of rows, by its name. */
export const typeOf = (name) => (/\.npy$/i.test(name) ? "application/x-npy" : /\.(parquet|pq)$/i.test(name) ? "application/vnd.apache.parquet" : "text/csv");

/** Return {rows, names, column} of a file: each row the numbers that the model takes, a missing value as NaN; its name, from
 * the column `id` where there are not too many; and that column, or "row" where the names are the rows' numbers. */
export async function rowsOfFile(model, file, id) {
  const sent = {body: file, type: typeOf(file.name)};
  const rows = rowsOf(await array(path(model, "read", {id: id || undefined}), sent));
  if (!id || rows.length > model.limits.json_samples) return {rows, names: rows.map((_, row) => String(row)), column: "row"};
  const {ids} = await json(path(model, "read", {id, as: "arrays"}), sent);
  return {rows, names: ids.map(String), column: id};
}

/** Return the row of a record {column: text}. */
export const rowOfRecord = (model, record) => array(path(model, "read"), {body: {records: [record]}}).then((read) => rowsOf(read)[0]);

/** Return the text of a CSV file. */
export const csvOf = (rows) => rows.map((row) => row.map((cell) => /[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell ?? "")).join(",")).join("\n") + "\n";
