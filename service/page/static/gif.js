// A small writer of animated GIFs: 256 colours, LZW. Source: GIF89a specification, W3C, 1990.

/** Return a looping GIF of frames of RGBA pixels, all of one size; `delay` is in hundredths of a second. */
export function gif(frames, delay = 8) {
  const {width, height} = frames[0];
  const bytes = [];
  const word = (value) => bytes.push(value & 255, value >> 8);
  bytes.push(..."GIF89a".split("").map((letter) => letter.charCodeAt()));
  word(width);
  word(height);
  bytes.push(0xf7, 0, 0);
  const isGrey = frames.every(({data}) => data.every((value, place) => place % 4 === 3 || place % 4 === 0 || value === data[place - 1]));
  for (let shade = 0; shade < 256; shade++) {
    if (isGrey) bytes.push(shade, shade, shade);
    else bytes.push(Math.round((shade >> 5) * 255 / 7), Math.round(((shade >> 2) & 7) * 255 / 7), Math.round((shade & 3) * 255 / 3));
  }
  bytes.push(0x21, 0xff, 11, ..."NETSCAPE2.0".split("").map((letter) => letter.charCodeAt()), 3, 1, 0, 0, 0);
  for (const {data} of frames) {
    const indices = Array.from({length: width * height}, (_, place) => {
      const [red, green, blue] = [data[4 * place], data[4 * place + 1], data[4 * place + 2]];
      return isGrey ? red : (Math.round(red / 255 * 7) << 5) | (Math.round(green / 255 * 7) << 2) | Math.round(blue / 255 * 3);
    });
    bytes.push(0x21, 0xf9, 4, 4);
    word(delay);
    bytes.push(0, 0, 0x2c, 0, 0, 0, 0);
    word(width);
    word(height);
    bytes.push(0, 8);
    const packed = lzw(indices);
    for (let start = 0; start < packed.length; start += 255) {
      const part = packed.slice(start, start + 255);
      bytes.push(part.length, ...part);
    }
    bytes.push(0);
  }
  bytes.push(0x3b);
  return new Blob([Uint8Array.from(bytes)], {type: "image/gif"});
}

function lzw(indices) {
  const clear = 256;
  const packed = [];
  let codes = new Map();
  let next = 258;
  let size = 9;
  let held = 0;
  let bits = 0;
  const put = (code) => {
    held |= code << bits;
    bits += size;
    while (bits >= 8) { packed.push(held & 255); held >>>= 8; bits -= 8; }
  };
  put(clear);
  let prefix = indices[0];
  for (const index of indices.slice(1)) {
    const key = prefix << 8 | index;
    if (codes.has(key)) { prefix = codes.get(key); continue; }
    put(prefix);
    if (next < 4096) {
      codes.set(key, next++);
      if (next > 1 << size && size < 12) size++;
    } else {
      put(clear);
      codes = new Map();
      next = 258;
      size = 9;
    }
    prefix = index;
  }
  put(prefix);
  put(257);
  if (bits) packed.push(held & 255);
  return packed;
}
