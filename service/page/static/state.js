// The state of the page, which lives in the URL: #panel?model=...&seed=...&keep=7:3,7:9

import {json, once, path} from "./api.js";

const SHARED = ["model", "keep", "label"];
const memory = new Map(); // kept samples by model, for the way back
export const state = {panel: "models", params: new URLSearchParams()};
export const listeners = new Set();

export function readUrl() {
  const [panel, query = ""] = decodeURI(location.hash.slice(1)).split("?");
  state.panel = panel || "models";
  state.params = new URLSearchParams(query);
}

/** Return the link to a panel that keeps the model and the kept samples. */
export function linkTo(panel, changes = {}) {
  const params = new URLSearchParams();
  for (const name of SHARED) if (state.params.get(name)) params.set(name, state.params.get(name));
  for (const [name, value] of Object.entries(changes)) params.set(name, value);
  if (changes.model && changes.model !== state.params.get("model")) {
    params.delete("keep");
    params.delete("label");
    if (memory.get(changes.model)) params.set("keep", memory.get(changes.model));
  }
  return hash(panel, params);
}

const hash = (panel, params) => {
  const text = String(params).replaceAll("%3A", ":").replaceAll("%2C", ",").replaceAll("%40", "@").replaceAll("%7E", "~");
  return `#${panel}${text ? `?${text}` : ""}`;
};

export const get = (name, otherwise = "") => state.params.get(name) ?? otherwise;
export const getNumber = (name, otherwise) => {
  const value = Number(state.params.get(name));
  return state.params.has(name) && Number.isFinite(value) ? value : otherwise;
};

/** Change parameters in place: the panel stays as it is. */
export function set(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "" || value === undefined) state.params.delete(name);
    else state.params.set(name, value);
  }
  history.replaceState(null, "", hash(state.panel, state.params));
  for (const listener of listeners) listener();
}

export const go = (link) => { location.hash = link; };

export const kept = () => get("keep").split(",").filter((name) => /^\d+:\d+/.test(name));

/** Keep a sample, or let go of it. */
export function toggleKept(name) {
  const names = kept();
  const next = names.includes(name) ? names.filter((each) => each !== name) : [...names, name].slice(-12);
  memory.set(get("model"), next.join(","));
  set({keep: next.join(",")});
  return next.includes(name);
}

/** Return the short name of a sample: SEED:INDEX, with @temperature and ~method unless they are the usual ones. */
export const sampleName = (seed, index, temperature = 1, method = "direct") =>
  `${seed}:${index}${temperature === 1 ? "" : `@${temperature}`}${method === "direct" ? "" : `~${method}`}`;

export function partsOf(name) {
  const [, seed, index, temperature, method] = name.match(/^(\d+):(\d+)(?:@([\d.]+))?(?:~(\w+))?$/) || [];
  return {seed: Number(seed), offset: Number(index), temperature: temperature ? Number(temperature) : undefined, method};
}

/** Return {item, latent} of a kept sample. */
export function lookUp(model, name) {
  const place = path(model, "sample", {...partsOf(name), return_latents: true});
  return once(place, () => json(place).then(({samples, latents}) => ({item: Float32Array.from(samples[0].flat(3)), latent: latents[0]})));
}
