// How surprising items and their values are, and the scales on which ordinary ones look calm.

import {array, drawn, json, labelOf, once, path, rowsOf} from "./api.js";
import {nested} from "./convert.js";
import {h, number, svg} from "./dom.js";
import {pixelsOf} from "./items.js";

export const canMap = (model) => Boolean(model.graphs?.map);
/** Return the option by which a score judges each column of a table by itself, if the model does. */
export const byColumn = (model) => (model.graphs?.columns ? {columns: true} : {});

/** Return {calm, hot, unit}: ordinary values stay below the first, and the second has full colour.
 *
 * They come from the version's `map_scale`. One without has ordinary items made of the model itself, with the noise of
 * its likelihood if there is one. */
export async function scaleOf(model) {
  const unit = model.family === "vae" ? "nats" : "squared difference";
  if (model.map_scale) return {calm: model.map_scale, hot: 3 * model.map_scale, unit};
  return once(`scale of ${model.name}/${model.version}/${labelOf(model)}`, async () => {
    const samples = await array(path(model, "sample", {seed: 0, count: 32, output: drawn(model)}));
    const inputs = rowsOf(samples).map((item) => nested(item, model.item_shape));
    const maps = rowsOf(await array(path(model, "score"), {body: {inputs, map: true, label: labelOf(model)}})).flatMap((map) => Array.from(addChannels(map, model)));
    maps.sort((a, b) => a - b);
    const at = (share) => maps[Math.min(maps.length - 1, Math.floor(share * maps.length))];
    const calm = Math.max(at(0.98), 0.1);
    return {calm, hot: Math.max(3 * at(0.999), calm + 2), unit};
  });
}

function addChannels(map, model) {
  if (model.item_shape.length !== 3 || model.item_shape[0] === 1) return map;
  const size = map.length / model.item_shape[0];
  return Float32Array.from({length: size}, (_, place) => {
    let sum = 0;
    for (let channel = 0; channel < model.item_shape[0]; channel++) sum += map[channel * size + place];
    return sum;
  });
}

/** Draw an item in grey, with its surprise over it in one warm colour. */
export function drawMap(canvas, item, map, scale, model) {
  const [, height, width] = model.item_shape;
  canvas.width = width;
  canvas.height = height;
  const image = pixelsOf(item, model.item_shape);
  const nats = addChannels(map, model);
  let hot = 0;
  for (let place = 0; place < width * height; place++) {
    const level = Math.max(0, Math.min(1, (nats[place] - scale.calm) / (scale.hot - scale.calm)));
    if (level > 0) hot++;
    const pixel = image.data.subarray(4 * place, 4 * place + 3);
    const grey = 0.35 * (pixel[0] + pixel[1] + pixel[2]) / 3 + 20;
    const share = level ? 0.25 + 0.75 * level : 0;
    [[255, 90, 31], [255, 214, 120]][level > 0.6 ? 1 : 0].forEach((value, channel) => { pixel[channel] = grey * (1 - share) + value * share; });
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return hot;
}

/** Return the name of the column with the least p-value of {column: p-value}, or nothing if all are missing. */
export function oddest(own) {
  const known = Object.entries(own).filter(([, p]) => p !== null);
  return known.length ? known.reduce((least, each) => (each[1] < least[1] ? each : least))[0] : "";
}

/** Score items: {inputs} as nested lists, in pieces that the service takes. */
export async function score(model, items, {map = false, signal, progress, ...options} = {}) {
  const size = Math.max(1, Math.min(map ? 64 : 256, model.limits.json_rows));
  let whole = null;
  for (let start = 0; start < items.length; start += size) {
    const inputs = items.slice(start, start + size).map((item) => nested(item, model.item_shape));
    const answer = await json(path(model, "score"), {body: {inputs, label: labelOf(model), ...(map ? {map: true} : {}), ...options}, signal});
    if (whole) {
      whole.scores.push(...answer.scores);
      whole.map?.push(...(answer.map || []));
    } else whole = answer;
    progress?.(Math.min(items.length, start + size));
  }
  return whole;
}

/** Return the histogram of the calibration items' surprise, with the place of one item in it. */
export function histogram(quantiles, surprise, threshold, unit) {
  const [low, high] = [quantiles[0], quantiles[100]];
  const margin = 0.06 * (high - low || 1);
  // the far tail is cut, so that the bulk can be seen; what lies beyond stands at the edge
  const right = Math.max(quantiles[99] + 2 * margin, Math.min(surprise, high) + margin, threshold === null ? -Infinity : threshold + margin);
  const left = Math.min(quantiles[0], Math.max(surprise, low)) - margin;
  const [width, height, bins] = [560, 130, 48];
  const x = (value) => Math.max(2, Math.min(width - 2, (value - left) / (right - left) * width));
  const share = (value) => { // of calibration items below it
    if (value <= low) return 0;
    if (value >= high) return 1;
    const place = quantiles.findIndex((each) => each > value);
    const [a, b] = [quantiles[place - 1], quantiles[place]];
    return (place - 1 + (value - a) / (b - a || 1)) / 100;
  };
  const counts = Array.from({length: bins}, (_, bin) => share(left + (bin + 1) * (right - left) / bins) - share(left + bin * (right - left) / bins));
  const most = Math.max(...counts);
  const step = width / bins;
  const beyond = surprise > right ? " →" : surprise < left ? "← " : "";
  const here = x(surprise);
  const picture = svg("svg.histogram", {viewBox: `0 0 ${width} ${height + 34}`, role: "img",
    "aria-label": `Histogram of the surprise of ordinary items, from ${number(low)} to ${number(high)} ${unit}; this item has ${number(surprise)}`},
  counts.map((count, bin) => svg("rect.count", {x: bin * step + 0.5, width: step - 1, y: height - count / most * (height - 14), height: count / most * (height - 14)})),
  threshold === null ? null : svg("line.threshold", {x1: x(threshold), x2: x(threshold), y1: 8, y2: height}),
  svg("line.base", {x1: 0, x2: width, y1: height, y2: height}),
  svg("line.here", {x1: here, x2: here, y1: 0, y2: height}),
  svg("circle.here", {cx: here, cy: 5, r: 5}),
  svg("text", {x: Math.max(50, Math.min(width - 60, here)), y: height + 24, "text-anchor": "middle"}, `this item${beyond}`));
  return h("figure.histo", picture, h("figcaption", `Surprise of held-out ordinary items, in ${unit}, from ${number(low)} to ${number(high)}. `,
    threshold === null ? "" : h("span", h("i.dash"), ` Items beyond ${number(threshold)} are flagged.`)));
}
