// The public API: requests, keys, problems in plain words, and arrays as npy.

import {h} from "./dom.js";
import {get, state} from "./state.js";

export const base = new URL(".", location.href.split(/[?#]/)[0]).href.replace(/\/$/, "");
const KEY = "pushforward.key";

/** An error that says what to do. */
export class Problem extends Error {
  constructor(title, detail, code = "") {
    super(detail);
    this.title = title;
    this.code = code;
  }
}

export const hasKey = () => sessionStorage.getItem(KEY) !== null;

/** Send a request and return its response; ask for a key where one is needed. */
export async function send(path, {body, accept = "application/json", type = "application/json", signal} = {}) {
  const headers = {accept};
  if (hasKey()) headers.authorization = `Bearer ${sessionStorage.getItem(KEY)}`;
  if (body !== undefined) headers["content-type"] = type;
  const payload = body === undefined || type !== "application/json" ? body : JSON.stringify(body);
  let response;
  try {
    response = await fetch(`${base}/${path}`, {method: body === undefined ? "GET" : "POST", headers, body: payload, signal});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The service does not answer", "It may be stopped, or the connection broken. Start it again, then try once more.");
  }
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (!["key_missing", "key_unknown"].includes(problem.code)) throw problem;
  await askForKey(problem.code === "key_unknown");
  return send(path, {body, accept, type, signal});
}

async function problemOf(response) {
  let told = {};
  try { told = await response.json(); } catch { /* a proxy's own page */ }
  const seconds = response.headers.get("retry-after");
  const said = told.detail || `The answer was HTTP ${response.status}`;
  const flaws = (told.errors || []).slice(1, 4).map(({row, message}) => (row === null ? message : `row ${row}: ${message}`));
  const detail = [[said, ...flaws].join("; ").replace(/\.?$/, "."), seconds && `Try again in ${seconds} s.`].filter(Boolean).join(" ");
  return new Problem(told.title || "The request failed", detail, told.code);
}

let asking = null;

function askForKey(isWrong) {
  asking ||= new Promise((resolve) => {
    const input = h("input", {type: "password", id: "key", autocomplete: "current-password", required: true, "aria-describedby": "key-note"});
    const note = isWrong ? "That key is not, or no longer, taken. Try another one." : "Whoever runs the service gives keys out. It is kept in this tab alone.";
    const dialog = h("dialog.key", {"aria-labelledby": "key-title"},
      h("form", {method: "dialog", onsubmit: (event) => {
        event.preventDefault();
        sessionStorage.setItem(KEY, input.value.trim());
        dialog.close();
        dialog.remove();
        asking = null;
        resolve();
      }},
      h("h2", {id: "key-title"}, "This service asks for a key"),
      h("p", {id: "key-note", role: isWrong ? "alert" : null}, note),
      h("input", {type: "text", autocomplete: "username", hidden: true}), // which browsers want beside a password
      h("div.field", h("label", {for: "key"}, "Key"), input),
      h("button.primary", "Use this key")));
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}

export const json = async (path, options) => (await send(path, options)).json();

/** Return {shape, values} of an answer as npy. */
export async function array(path, options) {
  return parseNpy(await (await send(path, {...options, accept: "application/x-npy"})).arrayBuffer());
}

function parseNpy(buffer) {
  const start = 10 + new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, start - 10));
  const shape = header.match(/'shape': \(([^)]*)\)/)[1].split(",").filter((text) => text.trim()).map(Number);
  return {shape, values: new Float32Array(buffer.slice(start))};
}

/** Return the npy bytes of float32 rows. */
export function npy(shape, values) {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64 - 10;
  const head = new Uint8Array(10 + length).fill(32);
  head.set([0x93, 78, 85, 77, 80, 89, 1, 0, length & 255, length >> 8]);
  head.set(new TextEncoder().encode(text), 10);
  head[head.length - 1] = 10;
  return new Blob([head, values]);
}

/** Split an array into its rows. */
export function rowsOf({shape, values}) {
  const size = shape.slice(1).reduce((product, each) => product * each, 1);
  return Array.from({length: shape[0]}, (_, row) => values.subarray(row * size, (row + 1) * size));
}

/** Return the path of an operation of a version, with its options as a query. */
export function path(model, operation, query = {}) {
  const label = {sample: sampleLabelOf, decode: labelOf, discriminate: labelOf}[operation]?.(model);
  const asked = {label, ...query};
  const given = new URLSearchParams(Object.entries(asked).filter(([, value]) => value !== undefined && value !== null));
  const text = String(given);
  return `v1/models/${model.name}/versions/${model.version}/${operation}${text ? `?${text}` : ""}`;
}

/** Return the number of the class that is chosen, for a model with a class condition; else undefined. */
export function labelOf(model) {
  if (!model.graphs?.decode?.inputs.some((each) => each.name === "labels")) return undefined;
  const label = Number(get("label", "0"));
  return label < model.class_names.length ? label : 0;
}

/** Return the same for samples, which are of all classes in turn on their panel until one is chosen: undefined. */
export const sampleLabelOf = (model) => (get("label") || state.panel !== "samples" ? labelOf(model) : undefined);

/** Return the option by which samples come as data do, not as they are expected, if the model offers it. */
export function drawn(model) {
  const generatesRows = model.family === "gan" && model.columns?.some((column) => column.value_range);
  return model.graphs?.draw || generatesRows ? "draw" : undefined;
}

const answers = new Map();

/** Return what `read` promises, under a name by which it is asked once; what failed is asked again. */
export function once(name, read) {
  if (!answers.has(name)) {
    const reading = read();
    reading.catch(() => answers.delete(name));
    answers.set(name, reading);
  }
  return answers.get(name);
}

export const catalogue = () => json("v1/models").then((answer) => answer.models);

/** Return the manifest of a model, read once for each version. */
export function detail({name, version, operations}) {
  const path_ = `v1/models/${name}/versions/${version}`;
  return once(path_, () => json(path_).then((model) => ({...model, operations})));
}

export const decode = (model, latents, signal, query = {}) =>
  array(path(model, "decode", query), {body: npy([latents.length, model.latent_size], Float32Array.from(latents.flat())), type: "application/x-npy", signal}).then(rowsOf);

/** Keep one request in flight, begun no sooner than `pause` milliseconds after the one before, so that many pages leave
 * the service time for others; a newer one waits for it, and cancels it after `patience` milliseconds. */
export class Latest {
  constructor(pause = 40, patience = 250) {
    this.pause = pause;
    this.patience = patience;
    this.controller = null;
    this.waiting = null;
  }

  async run(work, use, fail) {
    if (this.controller) {
      this.waiting = [work, use, fail];
      if (performance.now() - this.since > this.patience) this.controller.abort();
      return;
    }
    const controller = this.controller = new AbortController();
    this.since = performance.now();
    try {
      const result = await work(controller.signal);
      if (!controller.signal.aborted) use(result);
    } catch (error) {
      if (error.name !== "AbortError") fail(error);
    }
    if (!controller.signal.aborted) await new Promise((resolve) => setTimeout(resolve, this.pause - (performance.now() - this.since)));
    this.controller = null;
    if (this.waiting) {
      const [next, ...rest] = this.waiting;
      this.waiting = null;
      await this.run(next, ...rest);
    }
  }

  cancel() {
    this.waiting = null;
    this.controller?.abort();
  }
}
