// Latent space: sliders ordered by how much they change the item, and a plane to move on.

import {Latest, decode, json, labelOf, path} from "./api.js";
import {choice, field, h, select, settled, slider} from "./dom.js";
import {describe, draw} from "./items.js";
import {classField, command, curl, failure, flags, heading, keywords, lines, loading, python, term} from "./parts.js";
import {get, kept, lookUp, set} from "./state.js";

const SHOWN = 8;
const TILES = 9;
const REACH = 2.5; // standard deviations from the middle of the plane to its edge

export async function show(content, drawer) {
  const {model} = drawer;
  const latest = new Latest();
  const mosaic = new AbortController();
  const state = h("div");
  const box = lines({});
  content.append(
    heading("Latent space", `${model.name} makes every item from ${model.latent_size === 1 ? "one number. Move it, and watch what it means" : `${model.latent_size} numbers. Move them, and watch what they mean`}.`),
    h("div.terms", term("latent")), state);
  const wait = loading("Looking for the numbers that matter most …");
  content.append(wait);

  const prior = await json(path(model, "sample", {seed: 0, count: 256, return_latents: true}));
  const moments = Array.from({length: model.latent_size}, (_, place) => {
    const values = prior.latents.map((latent) => latent[place]);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    return {mean, spread: Math.sqrt(variance) || 1};
  });
  const origins = await Promise.all(kept().map(async (name) => [name, (await lookUp(model, name)).latent]));
  origins.push(["prior", prior.latents[0]]);
  const first = origins.find(([name]) => name === get("start")) || origins[0];
  let start = first[1];
  const order = await ordered();
  let latent = [...start];
  const given = get("z").split(",").map(Number);
  if (get("z") && given.length === model.latent_size && given.every(Number.isFinite)) latent = given;
  let corner = null; // the plane: {middle, right, up}
  let at = [0, 0];

  /** Return the dimensions, the most active first: by the mean change of the item over one deviation each way. */
  async function ordered() {
    const latents = moments.flatMap(({spread}, place) => [-1, 1].map((way) => start.map((value, each) => value + (each === place ? way * spread : 0))));
    const items = await decode(model, latents);
    const change = moments.map((_, place) => {
      const [low, high] = [items[2 * place], items[2 * place + 1]];
      return low.reduce((sum, value, each) => sum + Math.abs(value - high[each]), 0);
    });
    const most = Math.max(...change) || 1;
    return moments.map((_, place) => ({place, share: change[place] / most})).sort((a, b) => b.share - a.share);
  }

  const stage = h("canvas.stage.item", {role: "img", "aria-label": "The item at this latent"});
  const said = h("p.hint", {role: "status"});
  const tiles = h("canvas", {"aria-hidden": "true"});
  const mark = h("i.mark");
  const plane = h("div.plane", {tabindex: 0, role: "application", "aria-roledescription": "plane", "aria-label": "Plane of latents: move with the arrow keys, the mouse or a finger"}, tiles, mark);
  const sliders = new Map();
  const few = h("div.dims");
  const rest = h("div.dims");
  const remember = settled(250, () => { set({z: latent.map((value) => Number(value.toFixed(3))).join(",")}); box.set(texts()); });

  for (const [rank, {place, share}] of order.entries()) {
    const {mean, spread} = moments[place];
    const [low, high] = [Math.min(mean - 3.5 * spread, start[place] - REACH * spread), Math.max(mean + 3.5 * spread, start[place] + REACH * spread)];
    const control = slider(`Latent ${place + 1}`, {min: low.toFixed(3), max: high.toFixed(3), step: (spread / 20).toPrecision(2), value: latent[place], text: (value) => value.toFixed(2), oninput: (value) => { latent[place] = value; moved(); }});
    control.title = `Changes the item ${Math.round(100 * share)} % as much as the most active one`;
    sliders.set(place, control);
    (rank < SHOWN ? few : rest).append(control);
  }

  const kinds = [["active", "Two most active numbers"]];
  const corners = kept().length >= 3 ? origins.slice(0, 3).map(([, each]) => each) : null;
  if (corners) kinds.push(["kept", "Three kept samples"]);
  const origin = select(origins.map(([name]) => [name, name === "prior" ? "a sample of the prior" : `kept sample ${name}`]), first[0], (name) => {
    start = origins.find(([each]) => each === name)[1];
    set({start: name});
    reset();
  });
  wait.replaceWith(
    h("div.space",
      h("div.plane-side", plane, h("div.row.plane-foot", kinds.length > 1 ? choice("Plane", kinds, get("plane", "active"), (kind) => { set({plane: kind === "active" ? null : kind}); reset(); }) : h("p.hint", `Across: latent ${order[0].place + 1}. ${order[1] ? `Up: latent ${order[1].place + 1}. ` : ""}With three kept samples the plane can go through them.`))),
      h("div.here-item", stage, said, h("div.row", classField(model, ofClass), field("Start from", origin), h("button", {type: "button", onclick: reset}, "Reset"),
        h("button", {type: "button", onclick: surprise}, "Somewhere else")))),
    h("section", {"aria-label": "Sliders"}, h("h2", "The most active numbers first"), few,
      rest.childElementCount ? h("details", h("summary", `The other ${rest.childElementCount}`), rest) : ""),
    box);

  function ofClass(label) {
    set({label});
    paint();
    moved();
  }

  async function surprise() {
    const {latents} = await json(path(model, "sample", {seed: Math.floor(Math.random() * 1e6), count: 1, return_latents: true}));
    start = latents[0];
    origin.value = "prior";
    latent = [...start];
    if (get("plane") !== "kept") setPlane("active");
    everything();
  }

  function setPlane(kind) {
    origin.disabled = kind === "kept" && Boolean(corners); // that plane starts in the middle of the three
    if (origin.disabled) {
      const [a, b, c] = corners;
      const middle = a.map((value, each) => (value + b[each] + c[each]) / 3);
      // the samples stand at (-1, -0.6), (1, -0.6) and (0, 1.2)
      corner = {middle, right: a.map((value, each) => (b[each] - value) / 2 * REACH / 1.6), up: a.map((value, each) => (c[each] - (value + b[each]) / 2) / 1.8 * REACH / 1.6)};
    } else {
      const [x, y] = order; // of a single number there is no y
      const along = (way) => moments.map(({spread}, each) => each === way?.place ? spread * REACH : 0);
      corner = {middle: [...start], right: along(x), up: along(y)};
    }
    paint();
  }

  function reset() {
    setPlane(get("plane", "active"));
    latent = [...corner.middle];
    everything();
  }

  const pointAt = ([x, y]) => corner.middle.map((value, each) => value + x * corner.right[each] + y * corner.up[each]);

  /** Return the place of the plane that is nearest to the latent. */
  function nearest() {
    const product = (a, b) => a.reduce((sum, value, each) => sum + value * b[each], 0);
    const {middle, right, up} = corner;
    const away = latent.map((value, each) => value - middle[each]);
    const [rr, ru, uu, ar, au] = [product(right, right), product(right, up), product(up, up), product(away, right), product(away, up)];
    const area = rr * uu - ru * ru;
    return (area ? [(ar * uu - au * ru) / area, (au * rr - ar * ru) / area] : [ar / rr, 0]).map((value) => Math.max(-1, Math.min(1, value)));
  }

  async function paint() {
    const {middle} = corner;
    const places = Array.from({length: TILES * TILES}, (_, each) => [2 * ((each % TILES) + 0.5) / TILES - 1, 1 - 2 * (Math.floor(each / TILES) + 0.5) / TILES]);
    try {
      const items = await decode(model, places.map(pointAt), mosaic.signal);
      if (corner.middle !== middle) return;
      const probe = h("canvas");
      draw(probe, items[0], drawer);
      tiles.width = probe.width * TILES;
      tiles.height = probe.height * TILES;
      const context = tiles.getContext("2d");
      items.forEach((item, each) => {
        draw(probe, item, drawer);
        context.drawImage(probe, (each % TILES) * probe.width, Math.floor(each / TILES) * probe.height);
      });
    } catch (error) {
      if (error.name !== "AbortError") state.replaceChildren(failure(error, paint));
    }
  }

  function moveTo(x, y) {
    at = [Math.max(-1, Math.min(1, x)), Math.max(-1, Math.min(1, y))];
    if (get("plane") === "kept" && corners) latent = pointAt(at);
    else for (const [axis, {place}] of order.slice(0, 2).entries()) latent[place] = start[place] + at[axis] * REACH * moments[place].spread;
    for (const [place, control] of sliders) control.set(latent[place]);
    moved(true);
  }

  function moved(isPlane = false) {
    if (!isPlane) at = nearest();
    mark.style.left = `${50 + 50 * at[0]}%`;
    mark.style.top = `${50 - 50 * at[1]}%`;
    plane.setAttribute("aria-description", `At ${at[0].toFixed(2)} across and ${at[1].toFixed(2)} up`);
    const wanted = [...latent];
    const started = performance.now();
    stage.setAttribute("aria-busy", "true");
    latest.run((signal) => decode(model, [wanted], signal), ([item]) => {
      draw(stage, item, drawer);
      if (wanted.every((value, each) => value === latent[each])) stage.removeAttribute("aria-busy");
      const text = describe(item, drawer);
      stage.setAttribute("aria-label", `The item at this latent${text && `: ${text}`}`);
      said.textContent = `${text && `${text}. `}Decoded in ${Math.round(performance.now() - started)} ms.`;
      state.replaceChildren();
    }, (error) => state.replaceChildren(failure(error, () => moved())));
    remember();
  }

  function everything() {
    for (const [place, control] of sliders) control.set(latent[place]);
    moved();
  }

  const toPlane = (event) => {
    const edge = plane.getBoundingClientRect();
    moveTo(2 * (event.clientX - edge.left) / edge.width - 1, 1 - 2 * (event.clientY - edge.top) / edge.height);
  };
  plane.addEventListener("pointerdown", (event) => { plane.setPointerCapture(event.pointerId); toPlane(event); });
  plane.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" || event.buttons) toPlane(event); });
  plane.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.2 : 0.04;
    const way = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step], Home: [-at[0], -at[1]]}[event.key];
    if (!way) return;
    event.preventDefault();
    moveTo(at[0] + way[0], at[1] + way[1]);
  });

  function texts() {
    const short = latent.map((value) => Number(value.toFixed(3)));
    const label = labelOf(model);
    return {
      curl: curl(path(model, "decode", {label: null}), {json: {latents: [short], label}, accept: drawer.kind === "picture" ? "image/png" : undefined, out: drawer.kind === "picture" ? "item.png" : undefined}),
      python: python(`items = client.decode("${model.name}", [${JSON.stringify(short)}]${keywords({label})})`, "print(items.shape)"),
      command: `echo '${JSON.stringify([short])}' | ${command(`decode ${model.name} -${flags({label})} --format json --out item.${drawer.kind === "picture" ? "png" : "csv"}`)}`,
    };
  }

  if (latent.every((value, each) => value === start[each])) reset();
  else {
    setPlane(get("plane", "active"));
    everything();
  }
  return () => { remember.cancel(); latest.cancel(); mosaic.abort(); };
}

