// The frame: the list of panels, the choice of the model, the theme, and the panel that the URL names.

import {catalogue, detail, hasKey} from "./api.js";
import {choice, field, h, say, select} from "./dom.js";
import {drawerOf, kindOf} from "./items.js";
import {empty, failure, loading, showKept} from "./parts.js";
import {get, go, linkTo, listeners, readUrl, set, state} from "./state.js";

const PANELS = {
  models: ["Models", () => import("./models.js"), () => true],
  samples: ["Samples", () => import("./samples.js"), () => true],
  latent: ["Latent space", () => import("./latent.js"), () => true],
  path: ["Interpolation", () => import("./path.js"), () => true],
  score: ["Score", () => import("./score.js"), (model) => model.operations.includes("score")],
  density: ["Density", () => import("./density.js"), (model) => model.item_shape && kindOf(model) === "point"],
  status: ["Status", () => import("./status.js"), () => true],
};
const FREE = ["models", "status"]; // panels of no single model
const AGAIN_MS = 5000;
const main = document.getElementById("content");
const tray = document.getElementById("kept");
let models = [];
let leave = null;
let turn = 0;
let waiting = 0; // for a model that is being loaded, or published

function applyTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

function summary() {
  return models.find((model) => model.name === get("model"));
}

function showFrame() {
  const chosen = summary();
  const list = document.getElementById("panels");
  list.replaceChildren(...Object.entries(PANELS)
    .filter(([, [, , fits]]) => !chosen || fits(chosen))
    .map(([panel, [title]]) => h("li", h("a", {href: linkTo(panel), "aria-current": panel === state.panel ? "page" : null}, title))));
  const ready = models.filter((model) => model.state === "ready");
  const picker = document.getElementById("picker");
  if (picker.dataset.model !== get("model") || !picker.firstChild) {
    picker.dataset.model = get("model");
    picker.replaceChildren(ready.length ? field("Model", select(ready.map(({name}) => [name, name]), get("model"), (name) => {
      const panel = PANELS[state.panel][2](models.find((model) => model.name === name)) ? state.panel : "samples";
      go(linkTo(panel, {model: name}));
    })) : "");
  }
}

async function show() {
  const mine = ++turn;
  clearTimeout(waiting);
  leave?.();
  leave = null;
  if (!PANELS[state.panel]) state.panel = "models";
  main.setAttribute("aria-busy", "true");
  try {
    models = await catalogue();
    const ready = models.filter((model) => model.state === "ready");
    const unknown = summary() ? "" : get("model");
    if (!summary() && ready.length) {
      const pictures = ready.filter(({item_shape: shape}) => shape?.length === 3 && shape[1] >= 16);
      const first = pictures.sort((a, b) => b.version - a.version)[0] || ready[0];
      set({model: first.name, keep: null});
    }
    showFrame();
    const [title, load, fits] = PANELS[state.panel];
    document.title = `${title} – Pushforward`;
    const panel = await load();
    let drawer = null;
    if (summary()?.state === "ready") drawer = await drawerOf(await detail(summary()));
    if (mine !== turn) return;
    const content = h("div.panel");
    main.replaceChildren(content);
    if (unknown) content.append(h("p.hint", {role: "status"}, `There is no model ${unknown} here; another one is chosen.`));
    if (!drawer && !FREE.includes(state.panel)) {
      const {name, reason} = summary() || {};
      content.append(h("h1", title), name ? empty(`${name} is not ready`, reason || "It is being loaded, and appears here then.")
        : empty("No model is ready", "Publish one into the models folder, or wait until it is loaded; the Models panel says why one is not."));
    } else if (!FREE.includes(state.panel) && !fits(summary())) {
      content.append(h("h1", title), empty(`${summary().name} has no such panel`, "The model does not offer what this panel shows. Choose another panel, or another model."));
    } else {
      leave = await panel.show(content, drawer, models) || null;
      if (mine !== turn) leave?.();
    }
    showKept(tray, FREE.includes(state.panel) ? null : drawer);
    trayDrawer = drawer;
    const isWaiting = !models.some((model) => model.state === "ready") || models.some((model) => model.state === "loading");
    if (isWaiting && (state.panel === "models" || (!drawer && !FREE.includes(state.panel)))) waiting = setTimeout(showIfChanged, AGAIN_MS);
  } catch (error) {
    if (mine === turn && error.name !== "AbortError") main.replaceChildren(failure(error, show));
  } finally {
    if (mine === turn) main.removeAttribute("aria-busy");
  }
}

/** Show the panel anew once the catalogue has changed; until then what is open on it stays open. */
async function showIfChanged() {
  const mine = turn;
  let isChanged = false;
  try { isChanged = JSON.stringify(await catalogue()) !== JSON.stringify(models); } catch { /* the next look may succeed */ }
  if (mine !== turn) return;
  if (isChanged) show();
  else waiting = setTimeout(showIfChanged, AGAIN_MS);
}

/** Show the panel anew if its canvases have colours of the theme; what was given to score would be lost. */
function repaint() {
  if (FREE.includes(state.panel) || (state.panel !== "score" && trayDrawer?.kind !== "picture")) show();
}

let trayDrawer = null;
const inTray = () => `${get("keep")} ${get("label")}`; // kept samples are shown in the chosen class
let shownTray = "";
listeners.add(() => {
  showFrame();
  if (inTray() !== shownTray) {
    shownTray = inTray();
    showKept(tray, FREE.includes(state.panel) ? null : trayDrawer);
  }
});

addEventListener("hashchange", () => {
  readUrl();
  shownTray = inTray();
  scrollTo(0, 0);
  show();
  say(PANELS[state.panel]?.[0] || "");
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the page's state
  main.focus();
});

const theme = localStorage.getItem("pushforward.theme") || "auto";
applyTheme(theme);
document.getElementById("foot").append(
  choice("Theme", [["auto", "Auto"], ["light", "Light"], ["dark", "Dark"]], theme, (value) => {
    localStorage.setItem("pushforward.theme", value);
    applyTheme(value);
    repaint();
  }),
  h("p", h("a", {href: "docs"}, "API reference")),
);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault()); // a file beside its place opens nothing
main.append(loading("Asking the service for its models …"));
readUrl();
shownTray = inTray();
show().then(() => { if (hasKey()) document.getElementById("foot").append(h("p", h("button.quiet", {type: "button", onclick: () => {
  sessionStorage.removeItem("pushforward.key");
  location.reload();
}}, "Forget the key"))); });
