// Rows of a table, which the service reads as it does for everybody; and the text of a CSV file.

import {array, path, rowsOf} from "./api.js";

/** Return the media type of a file of rows, by its name. */
export const typeOf = (name) => (/\.(parquet|pq)$/i.test(name) ? "application/vnd.apache.parquet" : "text/csv");

/** Return the rows of a file, each the numbers that the model takes; a missing value is NaN. */
export const rowsOfFile = (model, file) => array(path(model, "read"), {body: file, type: typeOf(file.name)}).then(rowsOf);

/** Return the row of a record {column: text}. */
export const rowOfRecord = (model, record) => array(path(model, "read"), {body: {records: [record]}}).then((read) => rowsOf(read)[0]);

/** Return the text of a CSV file. */
export const csvOf = (rows) => rows.map((row) => row.map((cell) => /[",\n]/.test(String(cell)) ? `"${String(cell).replaceAll('"', '""')}"` : String(cell ?? "")).join(",")).join("\n") + "\n";
