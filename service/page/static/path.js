// Interpolation: between two kept samples or two pictures, as a strip and as an animation.

import {json, labelOf, path} from "./api.js";
import {nested, pictureOf} from "./convert.js";
import {choice, download, field, h, reducedMotion, settled, slider, takeDrops} from "./dom.js";
import {draw, picture, pixelsOf} from "./items.js";
import {gif} from "./gif.js";
import {chooseKept, classField, command, curl, failure, flags, heading, keywords, lines, python, term} from "./parts.js";
import {get, getNumber, kept, lookUp, partsOf, set} from "./state.js";

export function show(content, drawer) {
  const {model, kind} = drawer;
  const dropped = {};
  const ends = {
    from: get("from") || kept()[0] || "7:0",
    to: get("to") || kept()[1] || "7:8",
  };
  let frames = [];
  let controller = new AbortController();
  let playing = 0;
  let place = 0;
  let direction = 1;

  const strip = h("ol.path", {"aria-label": "The items on the path"});
  const stage = h("canvas.stage.item", {role: "img", "aria-label": "The item at the point of the path"});
  const state = h("div");
  const box = lines({});
  const scrub = slider("Point of the path", {min: 0, max: 11, step: 1, value: 0, text: (value) => `${value + 1} of ${frames.length || "…"}`, oninput: (value) => { stop(); at(value); }});
  const play = h("button.primary", {type: "button", onclick: () => (playing ? stop() : start())}, "Play");
  const downloads = h("div.row");

  const refreshers = [];
  const canDrop = model.operations.includes("encode") && kind === "picture";
  const end = (name, title) => {
    const element = h("fieldset.end", h("legend", title));
    const refresh = () => {
      const input = h("input", {type: "text", value: dropped[name] ? "" : ends[name], pattern: "\\d+:\\d+.*", title: "A seed and the number of a sample, such as 7:3", placeholder: dropped[name] ? "a picture" : "7:0", spellcheck: "false",
        onchange: () => { if (/^\d+:\d+(@[\d.]+)?(~\w+)?$/.test(input.value.trim())) { delete dropped[name]; pick(name, input.value.trim()); } else input.setCustomValidity("SEED:INDEX, as 7:0"); input.reportValidity(); input.setCustomValidity(""); }});
      const tray = chooseKept(drawer, `Kept samples for ${title.toLowerCase()}`, dropped[name] ? "" : ends[name], (chosen) => { delete dropped[name]; pick(name, chosen); refresh(); });
      const file = canDrop ? h("input.unseen", {type: "file", tabindex: -1, accept: "image/*", "aria-label": `Picture for ${title.toLowerCase()}`, onchange: () => file.files[0] && take(file.files[0])}) : null;
      element.replaceChildren(h("legend", title), field("Sample, as SEED:INDEX", input), kept().length ? tray : h("p.hint", "Samples that you keep can be chosen here."),
        canDrop ? h("button", {type: "button", onclick: () => file.click()}, dropped[name] ? "Another picture" : "Choose a picture") : "", file || "");
    };
    const take = async (file) => {
      try {
        dropped[name] = (await pictureOf(file, model))().item;
        refresh();
        load();
      } catch (error) { state.replaceChildren(failure(error)); }
    };
    takeDrops(element, ([dropped_]) => { if (dropped_ && canDrop) take(dropped_); });
    refresh();
    refreshers.push(refresh);
    return element;
  };

  content.append(
    heading("Interpolation", "Walk from one item to another through the latent space. What lies between should look like data, too."),
    h("div.ends", end("from", "From"), end("to", "To")),
    h("form.controls", {onsubmit: (event) => event.preventDefault()},
      classField(model, (label) => { set({label}); for (const refresh of refreshers) refresh(); load(); }),
      slider("Steps", {min: 4, max: 48, step: 1, value: getNumber("steps", 12), oninput: (value) => { set({steps: value}); later(); }}),
      h("div.field", h("span.label", "Path"), choice("Path", [["spherical", "Great circle"], ["linear", "Straight line"]], get("path", "spherical"), (value) => { set({path: value === "spherical" ? null : value}); load(); }))),
    h("div.terms", term("latent")),
    state, h("div.walk", h("figure", stage, h("figcaption", h("div.row", play, scrub))), strip), downloads, box);

  const later = settled(150, load);

  function pick(name, chosen) {
    ends[name] = chosen;
    set({[name]: chosen});
    load();
  }

  async function point(name) {
    if (dropped[name]) return {input: nested(dropped[name], model.item_shape)};
    const {seed, offset, temperature, method} = partsOf(ends[name]);
    if (temperature === undefined && !method) return {seed, index: offset};
    return {latent: (await lookUp(model, ends[name])).latent};
  }

  async function load() {
    controller.abort();
    controller = new AbortController();
    const {signal} = controller;
    strip.setAttribute("aria-busy", "true");
    try {
      const body = {from: await point("from"), to: await point("to"), steps: getNumber("steps", 12)};
      if (get("path")) body.path = get("path");
      if (labelOf(model) !== undefined) body.label = labelOf(model);
      const answer = await json(path(model, "interpolate"), {body, signal});
      frames = answer.samples.map((sample) => Float32Array.from(sample.flat(3)));
      state.replaceChildren();
      strip.replaceChildren(...frames.map((item, number) => h("li", h("button", {type: "button", "aria-label": `Point ${number + 1}`, onclick: () => { stop(); at(number); }}, picture(item, drawer)))));
      scrub.querySelector("input").max = frames.length - 1;
      at(Math.min(place, frames.length - 1));
      box.set(texts(body));
    } catch (error) {
      if (error.name !== "AbortError") state.replaceChildren(failure(error, load));
    } finally {
      strip.removeAttribute("aria-busy");
    }
  }

  function at(number) {
    place = number;
    if (!frames[place]) return;
    draw(stage, frames[place], drawer);
    scrub.set(place);
    [...strip.children].forEach((each, number_) => each.firstChild.setAttribute("aria-current", String(number_ === place)));
  }

  function start() {
    play.textContent = "Pause";
    playing = setInterval(() => {
      if (place + direction < 0 || place + direction >= frames.length) direction = -direction;
      at(Math.max(0, Math.min(frames.length - 1, place + direction)));
    }, 110);
  }

  function stop() {
    clearInterval(playing);
    playing = 0;
    play.textContent = "Play";
  }

  const image = (scale) => {
    const probe = h("canvas");
    draw(probe, frames[0], drawer);
    const [width, height] = [probe.width * scale, probe.height * scale];
    const canvas = h("canvas");
    canvas.width = width * frames.length;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    frames.forEach((item, number) => { draw(probe, item, drawer); context.drawImage(probe, number * width, 0, width, height); });
    return canvas;
  };
  const name = () => `${model.name}-path`;
  downloads.append(h("button", {type: "button", onclick: () => frames.length && image(kind === "picture" ? 4 : 1).toBlob((blob) => download(`${name()}.png`, blob))}, "Download the strip as PNG"));
  if (kind === "picture") {
    downloads.append(h("button", {type: "button", onclick: () => {
      if (!frames.length) return;
      const scale = Math.max(1, Math.round(224 / model.item_shape[2]));
      const back = frames.slice(1, -1).reverse();
      download(`${name()}.gif`, gif([...frames, ...back].map((item) => enlarged(pixelsOf(item, model.item_shape), scale)), 8));
    }}, "Download the animation as GIF"));
  }

  function texts(body) {
    const isPlain = (name_) => /^\d+:\d+$/.test(ends[name_]);
    const short = (name_) => dropped[name_] ? `${name_}.png` : isPlain(name_) ? ends[name_] : `${name_}-latent.npy`;
    const shown = JSON.stringify(body).length > 400 ? {...body, from: body.from.input ? {input: "…"} : body.from, to: body.to.input ? {input: "…"} : body.to} : body;
    const code = (name_) => dropped[name_] ? `Image.open("${name_}.png")` : isPlain(name_) ? `(${ends[name_].replace(":", ", ")})` : `np.load("${name_}-latent.npy")`;
    const how = {steps: body.steps, path: body.path, label: body.label};
    const imports = [["from PIL import Image", dropped.from || dropped.to], ["import numpy as np", ["from", "to"].some((each) => !dropped[each] && !isPlain(each))]];
    return {
      curl: curl(path(model, "interpolate"), {json: shown}),
      python: python(...imports.filter(([, isNeeded]) => isNeeded).map(([line]) => line), `walk = client.interpolate("${model.name}", ${code("from")}, ${code("to")}${keywords(how)})`, "print(walk.samples.shape)"),
      command: command(`interpolate ${model.name} --from ${short("from")} --to ${short("to")}${flags(how)} --out path.${kind === "picture" ? "png" : "csv"}`),
    };
  }

  load().then(() => { if (!reducedMotion() && frames.length && content.isConnected) start(); });
  return () => { stop(); controller.abort(); later.cancel(); };
}

function enlarged({data, width, height}, scale) {
  const next = new ImageData(width * scale, height * scale);
  for (let y = 0; y < height * scale; y++) {
    for (let x = 0; x < width * scale; x++) {
      const source = 4 * (Math.floor(y / scale) * width + Math.floor(x / scale));
      next.data.set(data.subarray(source, source + 4), 4 * (y * width * scale + x));
    }
  }
  return next;
}
