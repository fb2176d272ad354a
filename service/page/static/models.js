// Models: a card each, with a strip of samples and the figures of its model card in plain words.

import {array, detail, labelOf, path, rowsOf, send} from "./api.js";
import {h, number, table} from "./dom.js";
import {drawerOf, kindOf, picture} from "./items.js";
import {command, curl, empty, heading, lines, python} from "./parts.js";
import {linkTo} from "./state.js";

const FAMILIES = {vae: "Variational autoencoder", gan: "Generative adversarial network"};
/** The figures of a model card that people ask for first: its key, a label, and the value in words. */
const FIGURES = [
  ["bits_per_dimension", "Bits per value", "Held-out items cost this many bits per value to describe. Lower is better."],
  ["elbo", "ELBO", "How probable the model finds held-out items, in nats per item, at least. Higher is better."],
  ["active_units", "Latents in use", "Latent dimensions that carry information about the item."],
  ["modes_captured", "Modes found", "Clusters of the data in which samples land."],
  ["high_quality_share", "Samples near a mode", "Samples within three standard deviations of a cluster.", "share"],
  ["precision", "Precision", "Samples that look like real items.", "share"],
  ["recall", "Recall", "Real items whose like the model can make.", "share"],
  ["frechet_distance_fashion1", "Fréchet distance", "Between features of real and generated items; it is no Inception FID. Lower is better."],
  ["reconstruction_mse", "Reconstruction error", "Mean square between an item and its reconstruction. Lower is better."],
];

export async function show(content, _, models) {
  content.append(heading("Models", "Each of these turns plain noise into data. Pick one to look at what it makes, and how well."));
  if (!models.length) {
    content.append(empty("There is no model here yet", "Publish one into the models folder; it appears here within seconds.",
      h("p", h("a", {href: "docs"}, "The API's reference"))));
    return;
  }
  const cards = h("div.cards");
  content.append(cards);
  for (const summary of models) cards.append(card(summary));
  content.append(lines({
    curl: curl("v1/models"),
    python: python("print(client.models())"),
    command: command("models"),
  }));
}

function card(summary) {
  const link = linkTo("samples", {model: summary.name});
  const title = h("h2", summary.state === "ready" ? h("a", {href: link}, summary.name) : summary.name);
  const element = h("article.card", title);
  if (summary.state !== "ready") {
    element.append(h("p.badges", h("span.badge.bad", summary.state)), h("p", summary.reason || "Its version is being loaded; look again in a moment."));
    return element;
  }
  const strip = h("div.strip", {"aria-hidden": "true"});
  strip.dataset.kind = kindOf(summary);
  const figures = h("dl.figures");
  const text = h("p.about", "…");
  const badges = h("p.badges",
    h("span.badge", {title: FAMILIES[summary.family] || ""}, summary.family.toUpperCase()),
    h("span.badge", `version ${summary.versions.join(", ")}`),
    Object.entries(summary.aliases).map(([alias, version]) => h("span.badge", `${alias} → ${version}`)),
    h("span.badge", `on ${summary.provider === "cuda" ? "the GPU" : "the CPU"}`),
    summary.reason ? h("span.badge.bad", {title: summary.reason}, "newest version failed") : null);
  const actions = h("p.actions", h("a", {href: link}, "Samples"), h("a", {href: linkTo("latent", {model: summary.name})}, "Latent space"),
    summary.operations.includes("score") ? h("a", {href: linkTo("score", {model: summary.name})}, "Score") : null);
  element.append(strip, text, badges, figures, actions);
  fill(summary, {strip, figures, text, element}).catch((error) => { text.textContent = `${error.title || "Its figures cannot be shown"}: ${error.message}`; });
  return element;
}

async function fill(summary, {strip, figures, text, element}) {
  const model = await detail(summary);
  text.textContent = model.description;
  const kind = kindOf(model);
  const shape = kind === "picture" ? `${model.item_shape[2]} × ${model.item_shape[1]}${model.item_shape[0] === 3 ? " colour" : " grey"} pictures`
    : kind === "point" ? "points of a plane" : `rows of ${(model.columns || []).length || model.item_shape[0]} columns`;
  const classes = labelOf(model) === undefined ? "" : ` and one of ${model.class_names.length} classes`;
  const shown = [["Makes", `${shape} from ${model.latent_size} latent number${model.latent_size === 1 ? "" : "s"}${classes}`, ""]];
  for (const [key, label, note, unit] of FIGURES) {
    const metric = model.metrics?.[key];
    if (metric && shown.length < 3) {
      const error = metric.standard_error ? ` ± ${number(metric.standard_error * (unit === "share" ? 100 : 1), 2)}` : "";
      shown.push([label, unit === "share" ? `${number(100 * metric.value, 3)}${error} %` : `${number(metric.value)}${error}`, note]);
    }
  }
  figures.append(...shown.map(([label, value, note]) => h("div", h("dt", label), h("dd", value, note ? h("small", note) : null))));
  element.append(h("details", h("summary", `All ${Object.keys(model.metrics || {}).length} figures of its model card`), figuresOf(model)));
  const drawer = await drawerOf(model);
  if (kind === "point") {
    const image = await (await send(path(model, "sample", {seed: 1, label: null}), {accept: "image/png"})).blob();
    const density = h("img", {src: URL.createObjectURL(image), alt: ""});
    density.addEventListener("load", () => URL.revokeObjectURL(density.src));
    strip.append(density);
    return;
  }
  const asked = {seed: 1, count: kind === "picture" ? 16 : 5, label: null}; // classes, if any, in turn
  const samples = rowsOf(await array(path(model, "sample", asked)));
  strip.append(...samples.map((item) => picture(item, drawer)));
}

function figuresOf(model) {
  const rows = Object.entries(model.metrics || {}).map(([name, {value, standard_error: error, unit, note}]) => h("tr",
    h("th", {scope: "row"}, name.replaceAll("_", " "), note ? h("small", note) : null),
    h("td", `${number(value)}${error ? ` ± ${number(error, 2)}` : ""}`, h("small", unit))));
  return table(`Figures of ${model.name}`, null, rows);
}
