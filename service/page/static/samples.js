// Samples: a grid that goes on as one scrolls, by offset; a click keeps one.

import {array, drawn, path, rowsOf, sampleLabelOf} from "./api.js";
import {field, h, say, select, settled, slider} from "./dom.js";
import {describe, picture} from "./items.js";
import {classField, command, curl, failure, flags, heading, keywords, lines, python, term} from "./parts.js";
import {get, getNumber, kept, listeners, sampleName, set, toggleKept} from "./state.js";

const METHODS = [["direct", "Direct: every sample"], ["rejection", "Rejection: the first that the judge accepts"],
  ["resample", "Resample: one of 16, by importance"], ["metropolis", "Metropolis: the end of a chain"]];
const MOST = 3000;

export function show(content, drawer) {
  const {model, kind} = drawer;
  const options = () => ({
    seed: getNumber("seed", 7), count: getNumber("count", 48),
    temperature: get("method") && get("method") !== "direct" ? 1 : getNumber("temperature", 1),
    method: get("method", "direct"), output: get("output", "mean"),
  });
  const grid = h("ul.grid", {"aria-label": "Samples"});
  grid.dataset.kind = kind;
  const more = h("button.more", {type: "button", onclick: () => load()}, "More samples");
  const state = h("div");
  const box = lines({});
  const timing = h("p.hint", {role: "status"});
  let controller = new AbortController();
  let offset = 0;
  let busy = false;

  const seed = h("input", {type: "number", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, value: options().seed, onchange: () => change({seed: Math.max(0, Math.floor(+seed.value || 0))})});
  const fresh = h("button", {type: "button", onclick: () => { seed.value = Math.floor(Math.random() * 1e6); change({seed: seed.value}); }}, "New seed");
  const soon = settled(150, change);
  const temperature = slider("Temperature", {min: 0, max: 2, step: 0.05, value: options().temperature, text: (value) => value.toFixed(2), oninput: (value) => soon({temperature: value === 1 ? null : value})});
  const judged = model.operations.includes("discriminate");
  const method = model.graphs?.generate_scored ? field("Method", select(METHODS, options().method, (value) => change({method: value === "direct" ? null : value}))) : null;
  const outputs = model.family === "vae" ? [["mean", "Mean: what the model expects"], ["draw", "Draw: with its own noise"]]
    : [["mean", "As the generator makes them"], ["draw", "As rows: with the digits and the ranges of the columns"]];
  const output = drawn(model) ? field("Output", select(outputs, options().output, (value) => change({output: value === "mean" ? null : value}))) : null;
  const label = classField(model, (value) => change({label: value}), "All in turn");
  const count = field("At a time", select([24, 48, 96, 192].map((each) => [String(each), String(each)]), String(options().count), (value) => change({count: value})));

  content.append(
    heading("Samples", `What ${model.name} makes of pure noise. Click one to keep it: kept samples go with you to the other panels${label ? ", where you choose their class" : ""}.`),
    h("form.controls", {onsubmit: (event) => event.preventDefault()}, h("div.pair", field("Seed", seed), fresh), label, temperature, method, output, count),
    h("div.terms", term("seed"), term("temperature"), judged ? term("discriminator") : null),
    box, grid, state, h("div.after", more, timing)); // what stands below an endless grid moves away

  function change(changes) {
    set(changes);
    controller.abort();
    controller = new AbortController();
    offset = 0;
    busy = false;
    grid.replaceChildren();
    const isDirect = options().method === "direct";
    temperature.querySelector("input").disabled = !isDirect;
    load();
  }

  async function load() {
    if (busy || offset >= MOST) return;
    busy = true;
    const {signal} = controller;
    const {seed: number_, count: most, temperature: heat, method: way, output: out} = options();
    const query = {seed: number_, count: most, offset: offset || undefined, temperature: heat === 1 ? undefined : heat,
      method: way === "direct" ? undefined : way, output: out === "mean" ? undefined : out, label: sampleLabelOf(model)};
    if (!offset) grid.setAttribute("aria-busy", "true");
    const started = performance.now();
    try {
      const samples = rowsOf(await array(path(model, "sample", query), {signal}));
      if (signal.aborted) return;
      const first = offset;
      grid.append(...samples.map((item, place) => cell(item, first + place)));
      press();
      offset += samples.length;
      state.replaceChildren();
      timing.textContent = `${offset} samples. The last ${samples.length} took ${Math.round(performance.now() - started)} ms.`;
      more.hidden = offset >= MOST;
      box.set(texts({...query, offset: undefined}));
      busy = false;
      watcher.unobserve(more); // observed anew, it says whether the end is still in sight
      watcher.observe(more);
    } catch (error) {
      if (error.name === "AbortError") return;
      busy = false;
      state.replaceChildren(failure(error, () => change({})));
    } finally {
      grid.removeAttribute("aria-busy");
    }
  }

  /** Show which samples are kept; they can be let go of elsewhere, too. */
  function press() {
    const names = kept();
    for (const {firstChild: button} of grid.children) button.setAttribute("aria-pressed", String(names.includes(button.dataset.name)));
  }

  function cell(item, index) {
    const {seed: number_, temperature: heat, method: way} = options();
    const name = sampleName(number_, index, heat, way);
    const of = label && model.class_names[sampleLabelOf(model) ?? index % model.class_names.length];
    const text = of ? [of, describe(item, drawer)].filter(Boolean).join(", ") : describe(item, drawer);
    const button = h("button", {type: "button", title: `Sample ${name}${text && `: ${text}`}`, "aria-label": `Keep sample ${index} of seed ${number_}${text && `: ${text}`}`, "data-name": name,
      onclick: () => say(`Sample ${name} is ${toggleKept(name) ? "kept" : "let go"}`)}, picture(item, drawer));
    return h("li", button);
  }

  function texts({seed: number_, count: most, offset: from, temperature: heat, method: way, output: out, label: of}) {
    const asked = {seed: number_, count: most, temperature: heat, method: way, output: out, offset: from, label: of};
    const isPicture = kind === "picture";
    const scale = isPicture ? Math.max(1, Math.round(56 / model.item_shape[2])) : undefined;
    return {
      curl: curl(path(model, "sample", {...asked, scale}), {accept: isPicture ? "image/png" : "application/json", out: isPicture ? "samples.png" : undefined}),
      python: python(`samples = client.sample("${model.name}"${keywords(asked)})`, "print(samples.shape)"),
      command: command(`sample ${model.name}${flags(asked)} --out samples.${isPicture ? "png" : "csv"}`),
    };
  }

  const watcher = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && offset) load(); }, {rootMargin: "200px"});
  watcher.observe(more);
  listeners.add(press);
  change({});
  return () => { soon.cancel(); controller.abort(); watcher.disconnect(); listeners.delete(press); };
}
