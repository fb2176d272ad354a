// Drawing items: pictures without blur, points in their plane, rows of a table as profiles.

import {array, once, path, rowsOf} from "./api.js";
import {colour, h} from "./dom.js";

export function kindOf(model) {
  const shape = model.item_shape;
  if (shape.length === 3) return "picture";
  return shape.length === 1 && shape[0] === 2 ? "point" : "table";
}

/** Return the columns of a table; of an array without names, one for each value. */
export const columnsOf = (model) => (model.columns?.length ? model.columns
  : Array.from({length: model.item_shape.reduce((product, size) => product * size)}, (_, place) => ({name: `value ${place}`})));

/** Return the names of the features of a table's rows, one for each value. */
export const featuresOf = (model) => columnsOf(model).flatMap((column) =>
  column.categories?.length ? column.categories.map((category) => `${column.name} = ${category}`) : [column.name]);

/** Return the values of a row by column: a number, NaN if it is missing, or the most probable category. */
export function cellsOf(model, item) {
  let stop = 0;
  return columnsOf(model).map(({categories}) => {
    const start = stop;
    stop += categories?.length || 1;
    const values = Array.from(item.slice(start, stop));
    return categories?.length && !Number.isNaN(values[0]) ? categories[values.indexOf(Math.max(...values))] : values[0];
  });
}

/** Return the typical range [low, high] of every value, from 128 samples. */
const typicalRanges = (model) => once(`ranges of ${model.name}/${model.version}`, async () => {
  const rows = rowsOf(await array(path(model, "sample", {seed: 0, count: 128})));
  return Array.from(rows[0], (_, place) => {
    const values = rows.map((row) => row[place]).sort((a, b) => a - b);
    return [values[2], values[values.length - 3]];
  });
});

/** Return what `draw` needs to know of a model, once. */
export async function drawerOf(model) {
  const kind = kindOf(model);
  const known = kind === "table" || (kind === "point" && !model.view) ? await typicalRanges(model) : null;
  const cloud = kind === "point" ? rowsOf(await array(path(model, "sample", {seed: 0, count: 128}))) : null;
  return {model, kind, ranges: model.view || known, cloud};
}

/** Return the RGBA pixels of a picture (C, H, W) in [0, 1]. */
export function pixelsOf(item, [channels, height, width]) {
  const pixels = new Uint8ClampedArray(height * width * 4);
  const size = height * width;
  for (let place = 0; place < size; place++) {
    for (let channel = 0; channel < 3; channel++) {
      pixels[4 * place + channel] = Math.round(255 * item[place + size * Math.min(channel, channels - 1)]);
    }
    pixels[4 * place + 3] = 255;
  }
  return new ImageData(pixels, width, height);
}

/** Draw an item into a canvas. */
export function draw(canvas, item, {model, kind, ranges: known, cloud}) {
  canvas.classList.toggle("smooth", kind !== "picture");
  const context = canvas.getContext("2d");
  if (kind === "picture") {
    const [, height, width] = model.item_shape;
    canvas.width = width;
    canvas.height = height;
    context.putImageData(pixelsOf(item, model.item_shape), 0, 0);
    return;
  }
  const size = canvas.width = canvas.height = 192;
  context.clearRect(0, 0, size, size);
  if (kind === "point") {
    const [[left, right], [low, high]] = known;
    const dot = ([x, y], radius) => {
      context.beginPath();
      context.arc((x - left) / (right - left) * size, (1 - (y - low) / (high - low)) * size, radius, 0, 7);
      context.fill();
    };
    context.fillStyle = colour("line");
    for (const point of cloud) dot(point, 5);
    context.fillStyle = colour("accent");
    dot(item, 12);
    return;
  }
  const step = size / item.length;
  context.fillStyle = colour("line");
  context.fillRect(0, size / 2, size, 1);
  context.fillStyle = colour("accent");
  item.forEach((value, place) => {
    const [low, high] = known[place];
    const level = Math.max(-1, Math.min(1, high > low ? 2 * (value - low) / (high - low) - 1 : 0));
    context.fillRect(place * step, size / 2 - Math.max(level, 0) * size * 0.46, Math.max(1, step - 1.2), Math.max(2, Math.abs(level) * size * 0.46));
  });
}

/** Return a canvas that shows an item; `label` is its text for those who do not see it. */
export function picture(item, drawer, label) {
  const canvas = h("canvas.item", label ? {role: "img", "aria-label": label} : {"aria-hidden": "true"});
  draw(canvas, item, drawer);
  return canvas;
}

/** Return a row's values in words, for titles and screen readers. */
export function describe(item, {model, kind}) {
  if (kind === "point") return `(${item[0].toFixed(2)}, ${item[1].toFixed(2)})`;
  if (kind !== "table") return "";
  const words = featuresOf(model).map((name, place) => `${name} ${Number(item[place].toPrecision(3))}`);
  return words.slice(0, 4).join(", ") + (words.length > 4 ? `, and ${words.length - 4} more` : "");
}
