// Density of a model of points: where samples land, what the discriminator thinks, and how it chooses.

import {array, json, labelOf, npy, path, rowsOf} from "./api.js";
import {colour, field, h, number, select} from "./dom.js";
import {classField, curl, command, failure, flags, heading, keywords, lines, loading, python, term} from "./parts.js";
import {getNumber, set} from "./state.js";

const SIZE = 480;
const CELLS = 96; // a divisor of the size
const LEVEL = 3; // nats
const METHODS = [["direct", "Direct", "Every sample that the generator makes."],
  ["rejection", "Rejection", "Of 16 proposals each, the first that the discriminator accepts."],
  ["metropolis", "Metropolis", "A chain of 16 proposals that starts at a real item; its last state."]];

export async function show(content, {model, ranges}) {
  const state = h("div");
  const judged = model.operations.includes("discriminate");
  const chooses = Boolean(model.graphs?.generate_scored);
  const sheets = METHODS.slice(0, chooses ? 3 : 1).map(([method, title, note]) => {
    const canvas = h("canvas", {width: SIZE, height: SIZE, role: "img", "aria-label": `${title}: samples in the plane`});
    const said = h("p.hint", note);
    return {method, title, canvas, said, element: h("figure", h("h2", title), canvas, h("figcaption", said))};
  });
  const controller = new AbortController();
  const {signal} = controller;
  const count = () => getNumber("points", 4000);
  const seed = h("input", {type: "number", min: 0, step: 1, value: getNumber("seed", 7), onchange: () => { set({seed: Math.max(0, Math.floor(+seed.value || 0))}); load(); }});
  const box = lines({});
  content.append(
    heading("Density", `Where ${model.name} puts its samples${judged ? ", and what its discriminator makes of the plane: tinted where it finds it real, with a line where its logit is −3 nats, real to generated as 1 to 20" : ""}.`),
    h("form.controls", {onsubmit: (event) => event.preventDefault()}, field("Seed", seed),
      classField(model, (label) => { set({label}); levels = null; load(); }),
      field("Points", select([1000, 4000, 16000].map((each) => [String(each), number(each)]), String(count()), (value) => { set({points: value}); load(); }))),
    h("div.terms", term("seed"), judged ? term("discriminator") : null), state, h("div.trio", sheets.map(({element}) => element)), box);

  let levels = null;

  async function load() {
    state.replaceChildren(loading("Drawing …"));
    try {
      levels ||= judged ? await logits() : null;
      await Promise.all(sheets.map(async (sheet) => {
        const query = {seed: getNumber("seed", 7), count: count(), method: sheet.method === "direct" ? undefined : sheet.method};
        paint(sheet.canvas, rowsOf(await array(path(model, "sample", query), {signal})));
        if (sheet.method !== "direct") {
          const answer = await json(path(model, "sample", {...query, count: 500}), {signal});
          sheet.said.textContent = `${METHODS.find(([name]) => name === sheet.method)[2]} ${number(100 * answer.acceptance_rate, 3)} % of the proposals are accepted.`;
        }
      }));
      state.replaceChildren();
    } catch (error) {
      if (error.name !== "AbortError") state.replaceChildren(failure(error, load));
    }
    const asked = {seed: getNumber("seed", 7), count: count(), method: chooses ? "rejection" : undefined, label: labelOf(model)};
    box.set({
      curl: curl(path(model, "sample", {seed: getNumber("seed", 7), count: Math.min(count(), model.limits.json_samples)}), {accept: "image/png", out: "density.png"}),
      python: python(`points = client.sample("${model.name}"${keywords(asked)})`, "print(points.shape)"),
      command: command(`sample ${model.name}${flags(asked)} --out points.csv`),
    });
  }

  /** Return the discriminator's logits at the corners of a grid of cells, row by row from the top. */
  async function logits() {
    const [[left, right], [low, high]] = ranges;
    const points = new Float32Array(2 * (CELLS + 1) ** 2);
    for (let row = 0; row <= CELLS; row++) {
      for (let column = 0; column <= CELLS; column++) {
        const place = 2 * (row * (CELLS + 1) + column);
        points[place] = left + column / CELLS * (right - left);
        points[place + 1] = high - row / CELLS * (high - low);
      }
    }
    const answer = await json(path(model, "discriminate"), {body: npy([points.length / 2, 2], points), type: "application/x-npy", signal});
    return answer.scores.map(({logit}) => logit);
  }

  function paint(canvas, points) {
    const context = canvas.getContext("2d");
    const [[left, right], [low, high]] = ranges;
    context.clearRect(0, 0, SIZE, SIZE);
    if (levels) {
      shade(context);
      context.strokeStyle = colour("soft");
      contour(context, -LEVEL);
    }
    context.fillStyle = colour("odd");
    context.globalAlpha = points.length > 5000 ? 0.25 : 0.5;
    for (const [x, y] of points) context.fillRect((x - left) / (right - left) * SIZE - 1, (high - y) / (high - low) * SIZE - 1, 2.4, 2.4);
    context.globalAlpha = 1;
  }

  /** Tint the plane: the more, the more real the discriminator finds it. */
  function shade(context) {
    const step = SIZE / CELLS;
    context.fillStyle = colour("accent");
    for (let row = 0; row < CELLS; row++) {
      for (let column = 0; column < CELLS; column++) {
        context.globalAlpha = 0.22 / (1 + Math.exp(-(levels[row * (CELLS + 1) + column] + LEVEL) / LEVEL));
        context.fillRect(column * step, row * step, step, step);
      }
    }
    context.globalAlpha = 1;
  }

  /** Draw one level set by marching squares. */
  function contour(context, level) {
    const step = SIZE / CELLS;
    const value = (row, column) => levels[row * (CELLS + 1) + column];
    context.beginPath();
    for (let row = 0; row < CELLS; row++) {
      for (let column = 0; column < CELLS; column++) {
        const corners = [[row, column], [row, column + 1], [row + 1, column + 1], [row + 1, column]];
        const crossings = [];
        corners.forEach(([r, c], place) => {
          const [r2, c2] = corners[(place + 1) % 4];
          const [a, b] = [value(r, c) - level, value(r2, c2) - level];
          if (a < 0 !== b < 0) crossings.push([(c + (c2 - c) * a / (a - b)) * step, (r + (r2 - r) * a / (a - b)) * step]);
        });
        for (let place = 0; place + 1 < crossings.length; place += 2) {
          context.moveTo(...crossings[place]);
          context.lineTo(...crossings[place + 1]);
        }
      }
    }
    context.stroke();
  }

  load();
  return () => controller.abort();
}
