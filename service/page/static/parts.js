// Parts that several panels share: headings, explanations, lines to copy, errors, kept samples.

import {base, hasKey, labelOf} from "./api.js";
import {field, h, say, select} from "./dom.js";
import {picture} from "./items.js";
import {get, kept, lookUp, toggleKept} from "./state.js";

const TERMS = {
  elbo: ["ELBO", "The evidence lower bound: how probable the model finds an item, in nats, at least. Higher is more ordinary. It is estimated by random draws, hence the ±."],
  p: ["p-value", "The share of ordinary, held-out items that are at least as surprising as this one. A small p-value means that the item is unusual."],
  seed: ["Seed", "A number that fixes all randomness: sample 5 of seed 7 is the same today, tomorrow and on every machine."],
  latent: ["Latent", "The few numbers from which the model makes an item. Nearby latents make similar items."],
  temperature: ["Temperature", "Scales the spread of the latents: below 1 samples are typical, above 1 unusual."],
  surprise: ["Surprise", "How badly an item fits the model, by the statistic named beside it. Larger is stranger."],
  kl: ["KL", "The nats that an item's latent needs, beyond what the prior gives for free."],
  discriminator: ["Discriminator", "The GAN's judge: it was trained to tell real items from generated ones."],
};

/** Return a one-sentence explanation of a term. */
export const term = (name) => h("p.term", h("dfn", TERMS[name][0]), " ", TERMS[name][1]);
export const sentence = (name) => TERMS[name][1];

export const heading = (title, lede) => h("header.head", h("h1", title), h("p.lede", lede));

export const empty = (title, text, ...actions) => h("div.empty", h("h2", title), h("p", text), ...actions);
export const loading = (text) => h("p.loading", {role: "status"}, text);

/** Return what went wrong and what to do, with a button that tries again. */
export function failure(error, again) {
  if (!(error.title)) console.error(error);
  return h("div.failure", {role: "alert"},
    h("strong", error.title || "Something on this page failed"), h("p", error.message),
    again && h("button", {type: "button", onclick: again}, "Try again"));
}

const quote = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
/** Return a word of a shell's line, quoted where it has to be. */
export const bare = (text) => (/^[\w@.\/-]+$/.test(text) ? text : quote(text));
const auth = () => hasKey() ? ' -H "Authorization: Bearer $PUSHFORWARD_KEY"' : "";

/** Return a curl line for a path of the API. */
export function curl(path, {accept, json, file, type, out} = {}) {
  const parts = ["curl -s"];
  if (accept) parts.push(`-H ${quote(`Accept: ${accept}`)}`);
  if (json !== undefined) parts.push(`--json ${quote(JSON.stringify(json))}`);
  if (file) parts.push(`-H ${quote(`Content-Type: ${type}`)} --data-binary ${bare(`@${file}`)}`);
  parts.push(quote(`${base}/${path}`));
  if (out) parts.push(`-o ${out}`);
  return parts.join(" ").replace("curl -s", `curl -s${auth()}`);
}

/** Return Python that makes a client and runs the lines; imports among them come first. */
export function python(...lines) {
  const isImport = (line) => /^(from|import) /.test(line);
  return ["import pushforward", ...lines.filter(isImport), "", `client = pushforward.Client("${base}")`, ...lines.filter((line) => !isImport(line))].join("\n");
}
export const command = (text) => `pushforward ${text} --url ${base}`;

const given = (options, write) => Object.entries(options).filter(([, value]) => value !== undefined).map(write).join("");
/** Return those options that have a value as further arguments in Python, and as further options of the command. */
export const keywords = (options) => given(options, ([name, value]) => `, ${name}=${JSON.stringify(value)}`);
export const flags = (options) => given(options, ([name, value]) => ` --${name} ${bare(value)}`);

/** Return a box with the lines that do the same elsewhere; `set` changes them. */
export function lines(first) {
  let texts = first;
  let shown = sessionStorage.getItem("pushforward.lines") || "curl";
  const names = [["curl", "curl"], ["python", "Python"], ["command", "Command"]];
  const code = h("code");
  const pre = h("pre", {tabindex: 0, role: "region", "aria-label": "The same request as a line to copy"}, code);
  const copy = h("button.copy", {type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    say("Copied");
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  }}, "Copy");
  const tabs = names.map(([name, text]) => h("button", {type: "button", onclick: () => {
    shown = name;
    sessionStorage.setItem("pushforward.lines", name);
    show();
  }}, text));
  const show = () => {
    code.textContent = texts[shown] || "";
    pre.hidden = !code.textContent; // else the Tab key reaches an empty strip
    tabs.forEach((tab, place) => tab.setAttribute("aria-pressed", String(names[place][0] === shown)));
  };
  const box = h("section.lines", {"aria-label": "The same elsewhere"},
    h("div.lines-head", h("h2", "The same elsewhere"), h("div.choice", {role: "group", "aria-label": "Language"}, tabs), copy), pre);
  box.set = (next) => { texts = next; show(); };
  show();
  return box;
}

/** Fill the tray of kept samples. */
export async function showKept(tray, drawer) {
  const names = kept();
  tray.replaceChildren();
  if (!drawer || !names.length) return;
  const list = h("ul.tray");
  tray.append(h("h2", "Kept samples"), list);
  for (const name of names) {
    const place = h("li");
    list.append(place);
    lookUp(drawer.model, name).then(({item}) => place.append(
      h("button", {type: "button", "aria-label": `Let go of sample ${name}`, title: `${name} – click to let go`, onclick: () => letGo(tray, name)},
        picture(item, drawer))), () => { place.remove(); });
  }
}

/** Let go of a kept sample; who came by the keyboard stays among the others. */
function letGo(tray, name) {
  toggleKept(name);
  say(`Sample ${name} is let go`);
  setTimeout(() => (tray.querySelector("button") || document.getElementById("content")).focus());
}

/** The choice of a class, for a model with a class condition; else null. `use` gets its number as text, or nothing for the choice of `none`, if that is given. */
export function classField(model, use, none) {
  if (labelOf(model) === undefined) return null;
  const classes = [...(none ? [["", none]] : []), ...model.class_names.map((each, number_) => [String(number_), each])];
  return field("Class", select(classes, none && !get("label") ? "" : String(labelOf(model)), use));
}

/** A row of kept samples to choose one from; `use` gets the name. */
export function chooseKept(drawer, label, chosen, use) {
  const list = h("div.tray", {role: "group", "aria-label": label});
  for (const name of kept()) {
    const button = h("button", {type: "button", "aria-pressed": String(name === chosen), "aria-label": `Sample ${name}`, onclick: () => use(name)});
    lookUp(drawer.model, name).then(({item}) => button.append(picture(item, drawer)), () => button.remove());
    list.append(button);
  }
  return list;
}
