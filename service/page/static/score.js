// Score: how surprising a picture, a drawing, a row, or many of them are, and where.

import {array, drawn, json, labelOf, path, rowsOf} from "./api.js";
import {convert, nested, pictureOf, pngOf} from "./convert.js";
import {download, field, h, number, reducedMotion, say, select, table, takeDrops} from "./dom.js";
import {cellsOf, columnsOf, draw, featuresOf, picture} from "./items.js";
import {bare, chooseKept, classField, command, curl, failure, flags, heading, keywords, lines, loading, python, sentence} from "./parts.js";
import {get, kept, lookUp, set} from "./state.js";
import {byColumn, canMap, drawMap, histogram, oddest, scaleOf, score} from "./surprise.js";
import {csvOf, rowOfRecord, rowsOfFile, typeOf} from "./tables.js";

const STATISTICS = {
  elbo: "the ELBO", importance_bound: "an importance-weighted bound", corrected: "the corrected ELBO", path: "its path through the networks",
  kernel_density: "its distance from training rows",
  residual: "the reconstruction's error", feature_distance: "a distance of features", f_anogan: "f-AnoGAN's distance",
};

/** Return the shortest number of a value in float32. */
const exactly = (value) => Number([6, 7, 8, 9].map((digits) => value.toPrecision(digits)).find((text) => Math.fround(Number(text)) === value) ?? value);

export async function show(content, drawer) {
  const {model, kind} = drawer;
  const isNamed = Boolean(model.columns?.length);
  const result = h("section.result", {"aria-label": "Result"});
  let shown = null;
  let given = null; // the name of the file that rows came in
  const options = () => (get("alpha") ? {alpha: Number(get("alpha"))} : {});
  const box = lines(texts(null));
  let controller = new AbortController();
  let turn = 0; // counts what was given
  let last = null;
  let darkBorder = true;
  if (kind === "picture") {
    const samples = rowsOf(await array(path(model, "sample", {seed: 0, count: 16})));
    const [, height, width] = model.item_shape;
    let sum = 0;
    for (const item of samples) for (let x = 0; x < width; x++) sum += item[x] + item[(height - 1) * width + x];
    darkBorder = sum / (2 * width * samples.length) < 0.5;
  }

  const items = model.calibration?.statistics[model.defaults?.statistic]?.n ?? Infinity;
  const shares = [["0.01", "1 %"], ["0.05", "5 %"], ["0.1", "10 %"]].filter(([share]) => share >= 1 / (items + 1));
  const alpha = select([["", `the model's own, ${number(100 * (model.defaults?.alpha ?? 0.01))} %`], ...shares], get("alpha"), (value) => { set({alpha: value || null}); again(); });
  content.append(heading("Score", kind === "picture"
    ? `Show ${model.name} a picture, and it says how well the picture fits what it has learned, and where it does not.`
    : `Give ${model.name} a row, and it says how well the row fits what it has learned, and in which columns it does not.`));
  content.append(h("div.give", kind === "picture" ? pictureInput() : tableInput()),
    h("div.controls", classField(model, (value) => { set({label: value}); again(); }), field("Flag at most this share of ordinary items", alpha)), result, box);

  const again = () => last?.();

  /** Bring the result into sight, which on a phone stands far below. */
  function reveal() {
    if (result.getBoundingClientRect().top > innerHeight - 150) result.scrollIntoView({behavior: reducedMotion() ? "auto" : "smooth"});
  }

  /** An input of files behind a button; the same file can be chosen again once it is mended. */
  function chosen(attributes, take) {
    const input = h("input.unseen", {type: "file", tabindex: -1, ...attributes, onchange: () => {
      const files = [...input.files];
      input.value = "";
      take(files).then(reveal);
    }});
    return input;
  }

  function pictureInput() {
    const file = chosen({accept: "image/*", multiple: true, "aria-label": "Picture files"}, takeFiles);
    const zone = h("div.drop", {tabindex: -1}, h("p", h("strong", "Drop a picture here"), " or paste one, of any size and colour. Several make a table."),
      h("div.row", h("button.primary", {type: "button", onclick: () => file.click()}, "Choose pictures"), file,
        h("button", {type: "button", onclick: () => trySample().then(reveal)}, "Try a sample")),
      kept().length ? chooseKept(drawer, "Kept samples to score", "", scoreKept) : null);
    takeDrops(zone, takeFiles);
    return [zone, pad()];
  }

  async function trySample(seed) {
    const query = {seed: seed ?? Math.floor(Math.random() * 1e6), count: 1, output: drawn(model)};
    await guarded(async () => {
      const [item] = rowsOf(await array(path(model, "sample", query)));
      await one(item, [`a sample of the model itself, seed ${query.seed}${model.graphs?.draw ? ", drawn with the noise of its likelihood" : ""}`]);
    });
  }

  async function scoreKept(name) {
    await guarded(async () => one((await lookUp(model, name)).item, [`sample ${name} of the model itself; as the mean of the likelihood it is smoother than data`]));
  }

  /** A square to draw on. */
  function pad() {
    const size = 280;
    const canvas = h("canvas.pad", {width: size, height: size, "aria-label": "A field to draw on with the mouse, a pen or a finger", role: "img"});
    const context = canvas.getContext("2d");
    const clear = () => { context.fillStyle = darkBorder ? "#000" : "#fff"; context.fillRect(0, 0, size, size); };
    let from = null;
    const at = (event) => { const box_ = canvas.getBoundingClientRect(); return [(event.clientX - box_.left) * size / box_.width, (event.clientY - box_.top) * size / box_.height]; };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); from = at(event); stroke(from); });
    canvas.addEventListener("pointermove", (event) => { if (from) { const to = at(event); stroke(to); from = to; } });
    canvas.addEventListener("pointerup", () => { from = null; scoreDrawing(); });
    canvas.addEventListener("pointercancel", () => { from = null; });
    function stroke(to) {
      context.strokeStyle = darkBorder ? "#fff" : "#000";
      context.lineWidth = size / 11;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      context.moveTo(...from);
      context.lineTo(...to);
      context.stroke();
    }
    const scoreDrawing = () => guarded(() => {
      const {item, steps} = convert(canvas, model, {invert: false});
      one(item, ["your drawing", ...steps]);
    });
    clear();
    return h("div.drawing", h("p", h("strong", "Or draw one")), canvas, h("button", {type: "button", onclick: clear}, "Clear"));
  }

  function onPaste(event) {
    const files = [...(event.clipboardData?.files || [])];
    if (files.length && kind === "picture") takeFiles(files);
  }
  document.addEventListener("paste", onPaste);

  async function takeFiles(files) {
    if (!files.length) return;
    last = () => takeFiles(files);
    await guarded(async () => {
      if (files.length > 1) {
        const read = [];
        for (const file of files) read.push({name: file.name, ...(await pictureOf(file, model))({invert: "auto", darkBorder})});
        await many(read.map(({item}) => item), read.map(({name}) => name), [`${files.length} pictures, each made into ${model.item_shape[2]} × ${model.item_shape[1]} where it was not`]);
        return;
      }
      const made = await pictureOf(files[0], model);
      const useAs = (invert) => {
        const {item, steps, inverted} = made({invert, darkBorder});
        return one(item, [files[0].name || "the picture", ...steps], {inverted, reverse: () => useAs(!inverted)});
      };
      await useAs("auto");
    });
  }

  function tableInput() {
    const inputs = columnsOf(model).map((column) => {
      const missing = model.takes_missing ? [["", "missing"]] : [];
      const control = column.categories?.length ? select([...column.categories.map((each) => [each, each]), ...missing], column.categories[0], () => {}) : h("input", {type: isNamed ? "text" : "number", step: isNamed ? null : "any", inputmode: "decimal", required: !model.takes_missing, autocomplete: "off"});
      return [control, field(column.name, control)];
    });
    const fillIn = (item) => cellsOf(model, item).forEach((cell, column) => {
      inputs[column][0].value = typeof cell === "string" ? cell : Number(cell.toPrecision(6));
    });
    const file = chosen({accept: isNamed ? ".csv,.tsv,.txt,.parquet,text/csv" : ".npy", "aria-label": "File of rows"}, ([first]) => takeRows(first));
    const record = () => Object.fromEntries(model.columns.map(({name}, column) => [name, inputs[column][0].value]));
    const row = () => (isNamed ? rowOfRecord(model, record()) : Float32Array.from(inputs, ([control]) => (control.value === "" ? NaN : control.value)));
    const scoreForm = () => guarded(() => latest(row, (item) => {
      given = null;
      return one(item, ["the row of the form"]);
    }));
    const ordinary = () => guarded(() => {
      const seed = Math.floor(Math.random() * 1e6);
      const sample = array(path(model, "sample", {seed, count: 1, output: drawn(model)}));
      return latest(() => sample, (read) => {
        fillIn(rowsOf(read)[0]);
        return scoreForm();
      });
    });
    const zone = h("div.drop", isNamed ? h("p", h("strong", "Drop a CSV or Parquet file here"), ", with the names of the columns. Every row is scored.")
      : h("p", h("strong", "Drop an array (.npy) here"), ` of the shape (rows, ${model.item_shape.join(", ")}). Every row is scored.`),
      h("div.row", h("button.primary", {type: "button", onclick: () => file.click()}, "Choose a file"), file,
        h("button", {type: "button", onclick: ordinary}, "Fill in an ordinary row")));
    const id = h("input", {type: "text", value: get("id"), autocomplete: "off", spellcheck: "false",
      oninput: () => set({id: id.value.trim()}), onchange: () => given && again()});
    if (isNamed) zone.append(field("Column of names (id)", id, "If a column of the file tells its rows apart, such as a patient's number."));
    takeDrops(zone, ([dropped]) => takeRows(dropped));
    const form = h("form.columns", {"aria-label": "A row", onsubmit: (event) => { event.preventDefault(); scoreForm().then(reveal); }},
      h("div.cells", inputs.map(([, element]) => element)), h("button.primary", "Score this row"));
    ordinary();
    const most = matchMedia("(max-width: 52rem)").matches ? 8 : 40; // on a phone a long form hides the result
    return [zone, h("details.form", {open: inputs.length <= most}, h("summary", "Or type a row"), form)];
  }

  async function takeRows(file) {
    if (!file) return;
    given = file.name;
    last = () => takeRows(file);
    await guarded(() => latest(() => rowsOfFile(model, file, get("id")), ({rows, names, column}) => {
      if (rows.length === 1) return one(rows[0], [file.name]);
      const numbered = get("id") && column === "row" ? `, by their numbers, since names are shown of ${number(model.limits.json_samples)} rows at most` : "";
      return many(rows, names, [`${file.name}: ${number(rows.length)} rows${numbered}`], column);
    }));
  }

  /** Use what was read, unless something else was given meanwhile. */
  async function latest(work, use) {
    const mine = ++turn;
    controller.abort(); // what is being scored
    result.setAttribute("aria-busy", "true");
    try {
      const read = await work();
      if (mine === turn) await use(read);
    } catch (error) {
      if (mine === turn) throw error;
    } finally {
      if (mine === turn) result.removeAttribute("aria-busy");
    }
  }

  async function guarded(work) {
    try {
      await work();
    } catch (error) {
      if (error.name !== "AbortError") result.replaceChildren(failure(error, last));
    }
  }

  /** Score one item and show all that is known of it. */
  async function one(item, notes, picked = {}) {
    last = () => one(item, notes, picked);
    controller.abort();
    controller = new AbortController();
    const {signal} = controller;
    result.setAttribute("aria-busy", "true");
    if (!result.firstChild) result.append(loading("Scoring …"));
    await guarded(async () => {
      const isMapped = canMap(model);
      const [answer, again_, scale] = await Promise.all([
        score(model, [item], {map: isMapped, signal, ...byColumn(model), ...options()}),
        json(path(model, "reconstruct"), {body: {inputs: [nested(item, model.item_shape)], label: labelOf(model)}, signal}),
        isMapped ? scaleOf(model) : null,
      ]);
      if (signal.aborted) return;
      const found = answer.scores[0];
      const reconstruction = Float32Array.from(again_.reconstructions[0].flat(3));
      const map = answer.map ? Float32Array.from(answer.map[0].flat(3)) : null;
      const hadFocus = result.contains(document.activeElement);
      result.replaceChildren(
        picked.back ? h("p", h("button", {type: "button", onclick: picked.back}, "Back to the table")) : "",
        verdict(found, answer), done(notes, picked, item),
        kind === "picture" ? pictures(item, reconstruction, map, scale) : found.columns ? ranked(item, reconstruction, found.columns, answer.alpha) : map ? columns(item, reconstruction, map, scale) : "",
        place(found, answer), figures(found, answer));
      if (hadFocus) result.querySelector("button")?.focus(); // the one that was pressed is gone
      shown = item;
      box.set(texts(answer));
      say(result.querySelector(".verdict h2").textContent);
    });
    result.removeAttribute("aria-busy");
  }

  function verdict(found, answer) {
    if (found.p_value === null || found.p_value === undefined) {
      return h("div.verdict", h("h2", "No verdict"), h("p", "The model is not calibrated for these options, so it has a surprise but no p-value."));
    }
    const share = found.p_value;
    const odds = share < 0.0005 ? "fewer than 1 in 2,000" : share < 0.01 ? `about ${number(1000 * share, 2)} in 1,000` : `about ${number(100 * share, 2)} in 100`;
    const floor = model.calibration ? 1 / (model.calibration.statistics[answer.statistic].n + 1) : 0;
    const isLeast = share <= floor * 1.001;
    const text = isLeast ? "No ordinary, held-out item is as surprising as this one." : `Of ordinary, held-out items, ${odds} are at least as surprising.`;
    return h(`div.verdict.${found.anomaly ? "odd" : "fine"}`,
      h("h2", found.anomaly ? "Unusual" : "Ordinary"),
      h("p", text, ` The p-value is ${number(share, 2)}; at or below ${number(answer.alpha)} an item is flagged.`));
  }

  function done(notes, {reverse, inverted}, item) {
    const [what, ...steps] = notes;
    return h("p.done", h("strong", "Scored: "), what, steps.length ? `; ${steps.join("; ")}.` : kind === "picture" && reverse ? "; taken as it is." : ".",
      reverse ? h("button.quiet", {type: "button", onclick: reverse}, inverted ? "Do not invert it" : "Invert it") : null,
      kind === "picture" ? h("button.quiet", {type: "button", onclick: async () => download(`${model.name}-input.png`, await pngOf(item, model.item_shape))}, "Download what the model saw") : null);
  }

  function pictures(item, reconstruction, map, scale) {
    const third = h("canvas.item", {role: "img"});
    let caption = "";
    let legend = null;
    if (map) {
      const hot = drawMap(third, item, map, scale, model);
      const share = hot / (model.item_shape[1] * model.item_shape[2]);
      third.setAttribute("aria-label", `Surprise map: ${Math.round(100 * share)} per cent of the pixels stand out`);
      caption = "Where it surprises";
      legend = h("div.legend", h("span", `${number(scale.calm, 2)} ${scale.unit}`), h("i"), h("span", `${number(scale.hot, 2)} or more`));
    } else {
      draw(third, item.map((value, each) => Math.abs(value - reconstruction[each])), drawer);
      third.setAttribute("aria-label", "The difference between the picture and its reconstruction");
      caption = "Their difference";
    }
    return h("div.triptych",
      h("figure", picture(item, drawer, "The picture as the model sees it"), h("figcaption", "What the model saw")),
      h("figure", picture(reconstruction, drawer, "The reconstruction"), h("figcaption", "Its best reconstruction")),
      h("figure", third, h("figcaption", caption)), legend,
      map ? h("p.hint", "On the scale of the map ordinary items look calm: 98 or more of 100 of their pixels stay without colour.") : null);
  }

  /** Rank the columns of a row by their own p-values. */
  function ranked(item, reconstruction, pValues, alpha) {
    const text = (cell) => (typeof cell === "string" ? cell : Number.isNaN(cell) ? "missing" : number(cell));
    const [values, expected] = [item, reconstruction].map((each) => cellsOf(model, each));
    const order = model.columns.map(({name}, column) => ({name, p: pValues[name], cells: [values[column], expected[column]]}))
      .sort((a, b) => (a.p ?? 2) - (b.p ?? 2)).slice(0, 12);
    const rows = order.map(({name, p, cells}) => h("tr",
      h("th", {scope: "row"}, name), cells.map((cell) => h("td", text(cell))),
      h("td.meter", p === null ? "–" : bar(-Math.log(p), -Math.log(order[0].p) || 1, p <= alpha), p === null ? "" : number(p, 2))));
    return h("div.ranked", h("h2", "Columns, the oddest first"),
      table("Columns by p-value", ["Column", "Value", "Expected", "Its own p-value"], rows),
      h("p.hint", `Of ordinary, held-out rows such a share has at least as odd a value in this column. Coloured ones are at or below ${number(alpha)}.`));
  }

  function columns(item, reconstruction, map, scale) {
    const names = featuresOf(model);
    const order = Array.from(map.keys()).sort((a, b) => map[b] - map[a]);
    const most = Math.max(scale.hot, map[order[0]]);
    const rows = order.slice(0, 12).map((place_) => h("tr",
      h("th", {scope: "row"}, names[place_]), h("td", number(item[place_])), h("td", number(reconstruction[place_])),
      h("td.meter", bar(map[place_], most, map[place_] > scale.calm), `${number(map[place_], 2)} nats`)));
    return h("div.ranked", h("h2", "Columns, the most surprising first"),
      table("Columns by surprise", ["Column", "Value", "Expected", "Surprise"], rows),
      h("p.hint", `Coloured columns surprise more than ${number(scale.calm, 2)} nats, as 2 in 100 values of ordinary rows do.`));
  }

  function bar(value, most, isHot) {
    const element = h(`i.bar${isHot ? ".hot" : ""}`);
    element.style.width = `${Math.max(1, Math.min(100, 100 * Math.max(0, value) / most))}px`;
    return element;
  }

  function place(found, answer) {
    const quantiles = model.calibration_quantiles?.[answer.statistic];
    return quantiles && found.p_value !== null ? histogram(quantiles, found.surprise, answer.threshold, answer.unit) : "";
  }

  function figures(found, answer) {
    const figure = (label, value, note) => h("div", h("dt", label), h("dd", value, h("small", note)));
    const rows = [];
    if (found.p_value !== null && found.p_value !== undefined) rows.push(figure("p-value", number(found.p_value, 3), sentence("p")));
    rows.push(figure("Surprise", `${number(found.surprise)} ${answer.unit}`, `How badly the item fits, by ${STATISTICS[answer.statistic] || answer.statistic}. Larger is stranger.`));
    if (found.elbo !== undefined) {
      rows.push(figure("ELBO", `${number(found.elbo)}${found.standard_error ? ` ± ${number(found.standard_error, 2)}` : ""} nats`, sentence("elbo")));
      rows.push(figure("Reconstruction", `${number(found.expected_log_likelihood)} nats`, "The ELBO's first part: how well the item is made again from its latent."));
      rows.push(figure("KL", `${number(found.kl)} nats`, "The ELBO's second part, taken off: how far the item's latent lies from the prior."));
    }
    for (const name of ["residual", "feature_distance"]) if (found[name] !== undefined && found[name] !== null) rows.push(figure(name === "residual" ? "Residual" : "Feature distance", number(found[name]), name === "residual" ? "Mean square of the item minus its reconstruction." : "The same, of the discriminator's features."));
    if (answer.seed !== null) rows.push(figure("Seed", `${answer.seed}, ${answer.draws} draws`, "The ELBO is estimated by random draws; with the same seed it comes out the same."));
    return h("dl.figures.wide", rows);
  }

  /** Score many items into a table that sorts. */
  async function many(items, names, notes, column = "file") {
    const repeat = () => many(items, names, notes, column);
    last = repeat;
    controller.abort();
    controller = new AbortController();
    const {signal} = controller;
    const status = loading(`Scoring ${number(items.length)} …`);
    result.replaceChildren(status);
    await guarded(async () => {
      const answer = await score(model, items, {signal, ...byColumn(model), ...options(), progress: (count) => { status.textContent = `Scored ${number(count)} of ${number(items.length)} …`; }});
      const rows = answer.scores.map(({columns: own, ...found}, row) => ({...found, ...(own ? {odd_column: oddest(own)} : {}), name: names[row], row}));
      const flagged = rows.filter(({anomaly}) => anomaly).length;
      let sort = ["p_value", 1];
      const body = h("tbody");
      const heads = [["name", kind === "picture" ? "Picture" : "Row"], ["p_value", "p-value"], ["surprise", `Surprise, ${answer.unit}`], ["anomaly", "Verdict"], ...(rows[0].odd_column === undefined ? [] : [["odd_column", "Odd column"]])];
      const head = heads.map(([key, text]) => h("th", {scope: "col"}, h("button.sort", {type: "button", onclick: () => { sort = [key, sort[0] === key ? -sort[1] : key === "surprise" || key === "anomaly" ? -1 : 1]; order(); }}, text)));
      const order = () => {
        const [key, way] = sort;
        head.forEach((cell, place_) => cell.setAttribute("aria-sort", heads[place_][0] === key ? (way > 0 ? "ascending" : "descending") : "none"));
        rows.sort((a, b) => way * (key === "name" && kind !== "picture" ? a.row - b.row : a[key] > b[key] ? 1 : a[key] < b[key] ? -1 : a.row - b.row) || b.surprise - a.surprise);
        body.replaceChildren(...rows.slice(0, 300).map((each) => h(`tr${each.anomaly ? ".odd" : ""}`,
          h("th", {scope: "row"}, h("button.quiet", {type: "button", onclick: (event) => look(each, event.currentTarget)}, kind === "picture" ? picture(items[each.row], drawer) : "", each.name)),
          h("td", number(each.p_value, 3)), h("td", number(each.surprise)), h("td", each.anomaly === null ? "–" : each.anomaly ? "Unusual" : "Ordinary"), each.odd_column === undefined ? null : h("td", each.odd_column))));
      };
      order();
      const asked = [get("alpha"), get("label")].join();
      const look = ({name, row}, button) => one(items[row], [kind === "picture" ? name : `row ${name}`], {back: () => {
        if (asked !== [get("alpha"), get("label")].join()) return repeat();
        last = repeat;
        result.replaceChildren(...whole);
        box.set(texts(answer));
        button.focus();
      }});
      const keys = Object.keys(rows[0]).filter((key) => key !== "name" && key !== "row");
      const whole = [
        h("div.verdict", h("h2", `${number(flagged)} of ${number(rows.length)} are unusual`),
          h("p", `At ${number(100 * answer.alpha)} % one expects about ${number(answer.alpha * rows.length, 2)} ordinary ones among them. Choose one to look closer.`)),
        h("p.done", `${notes.join("; ")}.`),
        h("div.row", h("button", {type: "button", onclick: () => download(`${model.name}-scores.csv`, new Blob([csvOf([[column, ...keys], ...[...rows].sort((a, b) => a.row - b.row).map((each) => [each.name, ...keys.map((key) => each[key])])])], {type: "text/csv"}))}, "Download as CSV")),
        h("div.scroll", {tabindex: 0, role: "region", "aria-label": "Scores"}, h("table.scores", h("thead", h("tr", head)), body)),
        rows.length > 300 ? h("p.hint", "The first 300 are shown; the CSV file has all.") : ""];
      result.replaceChildren(...whole);
      box.set(texts(answer));
      say(whole[0].firstChild.textContent);
    });
  }

  function texts(answer) {
    const chosen = {...options(), label: labelOf(model)};
    const asked = {...chosen, id: (given && get("id")) || undefined};
    const file = kind === "picture" ? `${model.name}-input.png` : given;
    const rows = given || (isNamed ? "rows.csv" : "rows.npy");
    const reader = {"text/csv": "pandas.read_csv", "application/x-npy": "numpy.load"}[typeOf(rows)] || "pandas.read_parquet";
    const reading = `${reader}(${JSON.stringify(rows)})`;
    const item = nested(Float64Array.from(shown || new Float32Array(model.item_shape.reduce((product, size) => product * size)), exactly), model.item_shape);
    return {
      curl: file ? curl(path(model, "score", asked), {file, type: kind === "picture" ? "image/png" : typeOf(file)}) : curl(path(model, "score"), {json: {inputs: [item], ...chosen}}),
      python: kind === "picture" ? python("from PIL import Image", `scores = client.score("${model.name}", Image.open("${model.name}-input.png")${keywords(asked)})`, "print(scores.p_value, scores.anomaly)")
        : python(`import ${reader.split(".")[0]}`, `scores = client.score("${model.name}", ${reading}${keywords(asked)})`, isNamed ? "print(scores.to_pandas())" : "print(scores.p_value, scores.anomaly)"),
      command: command(`score ${model.name} ${bare(file || rows)}${flags(asked)}${answer?.map && kind === "picture" ? " --map heat.png" : ""}`),
    };
  }

  if (kind === "picture") {
    const name = get("item") || kept()[0];
    if (name) scoreKept(name);
    else trySample(7);
  }
  return () => { controller.abort(); document.removeEventListener("paste", onPaste); };
}
