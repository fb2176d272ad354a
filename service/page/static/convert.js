// Pictures for a model: the service reads files; those of sizes that it refuses, and drawings, are made to fit here.

import {Problem, json, path} from "./api.js";
import {pixelsOf} from "./items.js";

const READ = /^image\/(png|jpeg|webp|tiff|bmp)$/;
const UNSEEN = "image/tiff"; // which browsers do not decode

/** Return a function that makes {item, steps, inverted} of a file, as `convert` does. The service reads it, by the rule of
 * training, unless the version takes one size alone and the picture has another. */
export async function pictureOf(file, model) {
  const [, height, width] = model.item_shape;
  if (!model.picture?.fit && file.type !== UNSEEN) {
    const image = await imageOf(file);
    const isRead = READ.test(file.type) && image.naturalWidth === width && image.naturalHeight === height;
    if (!isRead) return (options) => convert(image, model, options);
  }
  const {inputs, conversions} = await json(path(model, "read"), {body: file, type: file.type});
  const item = Float32Array.from(inputs.flat(Infinity));
  const steps = conversions?.[0] ?? [];
  return ({invert = false, darkBorder = true} = {}) => (invert === true
    ? {item: inverse(item), steps: [...steps, inversion(darkBorder)], inverted: true} : {item, steps, inverted: false});
}

const inverse = (item) => item.map((value) => 1 - value);
const inversion = (darkBorder) => `it was inverted, since this model's items stand on ${darkBorder ? "black" : "white"}`;

/** Return {item, steps, inverted} of an image or canvas for a model; `invert` is true, false, or "auto". */
export function convert(source, model, {invert = "auto", darkBorder = true} = {}) {
  const [channels, height, width] = model.item_shape;
  const from = {width: source.naturalWidth || source.width, height: source.naturalHeight || source.height};
  const steps = [];
  const fits = from.width === width && from.height === height;
  let work = canvasOf(from.width, from.height);
  let context = work.getContext("2d", {willReadFrequently: true});
  context.drawImage(source, 0, 0);
  const before = context.getImageData(0, 0, from.width, from.height).data;
  let isColour = false;
  let isClear = false;
  for (let place = 0; place < before.length; place += 4) {
    isColour ||= Math.abs(before[place] - before[place + 1]) > 2 || Math.abs(before[place + 1] - before[place + 2]) > 2;
    isClear ||= before[place + 3] < 250;
  }
  if (isClear) {
    steps.push("its transparent parts were put on white");
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, from.width, from.height);
    context.globalCompositeOperation = "source-over";
  }
  if (!fits) {
    const pixels = context.getImageData(0, 0, from.width, from.height);
    const border = borderOf(pixels);
    const part = contentOf(pixels, border);
    const isCut = part.width < 0.95 * from.width || part.height < 0.95 * from.height;
    if (!isCut) Object.assign(part, {left: 0, top: 0, width: from.width, height: from.height});
    const side = Math.max(part.width / width, part.height / height);
    const whole = canvasOf(Math.max(1, Math.round(width * side)), Math.max(1, Math.round(height * side)));
    const room = whole.getContext("2d", {willReadFrequently: true});
    room.fillStyle = `rgb(${border.join(",")})`;
    room.fillRect(0, 0, whole.width, whole.height);
    room.drawImage(work, part.left, part.top, part.width, part.height,
      Math.round((whole.width - part.width) / 2), Math.round((whole.height - part.height) / 2), part.width, part.height);
    if (isCut) steps.push("its empty margins were cut off");
    if (Math.abs(part.width / part.height - width / height) > 0.02) steps.push("its sides were filled up with the colour of its border");
    work = shrink(whole, width, height);
    context = work.getContext("2d", {willReadFrequently: true});
    steps.push(`it was scaled from ${from.width} × ${from.height} to ${width} × ${height} pixels`);
  }
  const image = context.getImageData(0, 0, width, height);
  const size = width * height;
  let item = new Float32Array(channels * size);
  for (let place = 0; place < size; place++) {
    const [red, green, blue] = image.data.subarray(4 * place, 4 * place + 3);
    if (channels === 1) item[place] = (red === green && green === blue ? red : Math.round(0.299 * red + 0.587 * green + 0.114 * blue)) / 255;
    else [red, green, blue].forEach((value, channel) => { item[channel * size + place] = value / 255; });
  }
  if (channels === 1 && isColour) steps.push("its colours were turned into grey");
  const isLight = borderOf(image).reduce((sum, value) => sum + value, 0) / 3 > 127;
  const inverted = invert === "auto" ? !fits && isLight === darkBorder : invert;
  if (inverted) {
    item = inverse(item);
    steps.push(inversion(darkBorder));
  }
  if (model.support === "binary") {
    item.forEach((value, place) => { item[place] = value >= 0.5 ? 1 : 0; });
    steps.push("each pixel became 0 or 1");
  }
  return {item, steps, inverted};
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** Shrink by halves and a last step, so that no pixel of a large picture is skipped. */
function shrink(canvas, width, height) {
  let current = canvas;
  while (current.width >= 2 * width && current.height >= 2 * height) {
    current = scaled(current, Math.max(width, current.width >> 1), Math.max(height, current.height >> 1));
    if (current.width === width && current.height === height) return current;
  }
  return scaled(current, width, height);
}

function scaled(canvas, width, height) {
  const next = canvasOf(width, height);
  const context = next.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, width, height);
  return next;
}

/** Return the box of what differs from the border's colour, with a margin of a twelfth. */
function contentOf({data, width, height}, border) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const place = 4 * (y * width + x);
      if (border.some((value, channel) => Math.abs(data[place + channel] - value) > 40)) {
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        if (y > bottom) bottom = y;
      }
    }
  }
  if (right < left) return {left: 0, top: 0, width, height};
  const margin = Math.max(right - left, bottom - top) / 12;
  left = Math.max(0, Math.floor(left - margin));
  top = Math.max(0, Math.floor(top - margin));
  return {left, top, width: Math.min(width, Math.ceil(right + margin) + 1) - left, height: Math.min(height, Math.ceil(bottom + margin) + 1) - top};
}

/** Return the median colour of a picture's border. */
function borderOf({data, width, height}) {
  return [0, 1, 2].map((channel) => {
    const values = [];
    for (let x = 0; x < width; x++) values.push(data[4 * x + channel], data[4 * ((height - 1) * width + x) + channel]);
    for (let y = 0; y < height; y++) values.push(data[4 * y * width + channel], data[4 * (y * width + width - 1) + channel]);
    return values.sort((a, b) => a - b)[values.length >> 1];
  });
}

/** Return the nested lists of an item, as JSON has them; eight-bit values keep their exact levels. */
export function nested(item, shape) {
  if (shape.length === 1) return Array.from(item, Number);
  const size = item.length / shape[0];
  return Array.from({length: shape[0]}, (_, place) => nested(item.subarray(place * size, (place + 1) * size), shape.slice(1)));
}

/** Return an image element of a file, or raise an error in plain words. */
async function imageOf(file) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
    return image;
  } catch {
    throw new Problem(`${file.name || "The file"} is no picture`, "Your browser cannot read it. Take a PNG, JPEG, WebP or GIF.");
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

/** Return the PNG of an item of pictures. */
export function pngOf(item, shape) {
  const canvas = canvasOf(shape[2], shape[1]);
  canvas.getContext("2d").putImageData(pixelsOf(item, shape), 0, 0);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}
