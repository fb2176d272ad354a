// Status: what the service does now and did in the last minutes, from /metrics.

import {base, detail, send} from "./api.js";
import {h, number, svg, table} from "./dom.js";
import {failure, heading, lines} from "./parts.js";

const EVERY = 5000;
const MOST = 120; // ten minutes
const history = []; // of all visits to the panel

/** Return the samples of a text in Prometheus' format by name: [{labels, value}]. */
function parseMetrics(text) {
  const found = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels, value] = line.match(/^pushforward_(\w+?)(?:\{(.*)\})? (\S+)$/) || [];
    if (!name) continue;
    const pairs = Object.fromEntries([...(labels || "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text_]) => [key, text_]));
    if (!found.has(name)) found.set(name, []);
    found.get(name).push({labels: pairs, value: Number(value)});
  }
  return found;
}

const sum = (metrics, name, fits = () => true) => (metrics.get(name) || []).filter(({labels}) => fits(labels)).reduce((total, {value}) => total + value, 0);
/** Return what the distance of 1,000 p-values of ordinary items from uniform exceeds once in 1,500 times, or null. */
async function ordinaryDistance(name, models) {
  const model = models.find((each) => each.name === name);
  const known = model && await detail(model).catch(() => null); // the version may have gone since
  const statistics = Object.values(known?.calibration?.statistics || {});
  return statistics.length ? 2 * Math.sqrt(1 / 1000 + 1 / Math.min(...statistics.map(({n}) => n))) : null;
}

const isWork = ({route}) => route.startsWith("/v1/") || route.startsWith("/v2/");

function reading(metrics) {
  const buckets = {};
  for (const {labels, value} of metrics.get("request_duration_seconds_bucket") || []) buckets[labels.le] = (buckets[labels.le] || 0) + value;
  const distances = (metrics.get("p_value_distance") || []).map(({labels, value}) => ({model: labels.model, value})).filter(({value}) => value > 0);
  return {
    time: performance.now(),
    requests: sum(metrics, "http_requests_total", isWork),
    errors: sum(metrics, "http_requests_total", (labels) => isWork(labels) && labels.code >= "500"),
    refused: sum(metrics, "http_requests_total", (labels) => isWork(labels) && labels.code >= "400" && labels.code < "500"),
    rows: sum(metrics, "rows_total"),
    waiting: sum(metrics, "queue_items"),
    inflight: sum(metrics, "inflight_requests"),
    buckets, distances,
  };
}

/** Return a quantile of the latencies between two readings, in milliseconds, or null without any. */
function latency(now, then, share) {
  const edges = Object.keys(now.buckets).sort((a, b) => (a === "+Inf" ? Infinity : +a) - (b === "+Inf" ? Infinity : +b));
  const counts = edges.map((edge) => now.buckets[edge] - (then.buckets[edge] || 0));
  const total = counts.at(-1);
  if (!total) return null;
  const place = counts.findIndex((count) => count >= share * total);
  if (edges[place] === "+Inf") return 1000 * +edges[place - 1];
  const [low, before] = place ? [+edges[place - 1], counts[place - 1]] : [0, 0];
  return 1000 * (low + (+edges[place] - low) * (share * total - before) / (counts[place] - before || 1));
}

export function show(content, _, models) {
  const state = h("div");
  const tiles = h("div.tiles");
  const since = h("p.hint", {role: "status"});
  content.append(
    heading("Status", "What the service does now, and did in the minutes since you opened this panel. It reads /metrics every five seconds."),
    state, tiles, since, versions(models), lines({
      curl: `curl -s '${base}/metrics'`,
      python: `import httpx\n\nprint(httpx.get("${base}/metrics").text)`,
      command: `pushforward models --url ${base}`,
    }));
  let timer = 0;
  let isOver = false;

  async function look() {
    try {
      const now = reading(parseMetrics(await (await send("metrics", {accept: "text/plain"})).text()));
      for (const distance of now.distances) distance.most = await ordinaryDistance(distance.model, models);
      history.push(now);
      if (history.length > MOST) history.shift();
      state.replaceChildren();
      paint();
    } catch (error) {
      if (!isOver) state.replaceChildren(failure(error, look));
    }
    clearTimeout(timer);
    if (!isOver) timer = setTimeout(look, EVERY);
  }

  function paint() {
    const now = history.at(-1);
    const pairs = history.slice(1).map((each, place) => [each, history[place]]);
    const perMinute = (name) => pairs.map(([each, before]) => Math.max(0, each[name] - before[name]) / (each.time - before.time) * 60_000);
    const recent = history[Math.max(0, history.length - 13)]; // a minute ago
    const rate = (name) => history.length > 1 ? Math.max(0, now[name] - recent[name]) / (now.time - recent.time) * 60_000 : 0;
    const p50 = latency(now, history.length > 1 ? recent : {buckets: {}}, 0.5);
    const p99 = latency(now, history.length > 1 ? recent : {buckets: {}}, 0.99);
    const over = ({value, most}) => value / (most || 1);
    const [drift] = [...now.distances].sort((a, b) => over(b) - over(a));
    const errors = rate("errors");
    tiles.replaceChildren(
      tile("Requests a minute", number(Math.round(rate("requests"))), "Answers under /v1 and /v2.", perMinute("requests")),
      tile("Errors a minute", number(Math.round(errors)), `Failures of the service (5xx). It refused ${number(Math.round(rate("refused")))} a minute as wrong or too many (4xx).`, perMinute("errors"), errors > 0),
      tile("Rows a minute", number(Math.round(rate("rows"))), "Samples, scores and all other rows that were answered.", perMinute("rows")),
      tile("Latency", p50 === null ? "–" : `${number(p50, 2)} ms`, p50 === null ? "No request was answered in the last minute." : `Half of the requests took less; 99 of 100 took less than ${number(p99, 2)} ms.`, pairs.map(([each, before]) => latency(each, before, 0.5) ?? 0)),
      tile("Rows waiting", number(now.waiting), now.inflight > 1 ? `Requests in progress: ${number(now.inflight - 1)}.` : "They wait for a batch; 0 means that the service keeps up.", history.map((each) => each.waiting)),
      tile("Drift of p-values", drift ? number(drift.value, 2) : "–", drift ? `${drift.model}: how far the last 1,000 p-values are from uniform. ${drift.most ? `Those of ordinary items stay below ${number(drift.most, 2)} nearly always, by the number of its calibration items; more means that the data have changed.` : ""}` : "Too few items were scored to say. It compares their p-values with those of ordinary items.", null, drift?.most && drift.value > drift.most));
    since.textContent = history.length > 1 ? `Curves over the last ${Math.max(1, Math.round((now.time - history[0].time) / 60_000))} min; numbers over the last minute.` : "The first curve needs two readings, ten seconds.";
  }

  look();
  return () => { isOver = true; clearTimeout(timer); };
}

function tile(title, value, note, values, isBad = false) {
  return h("section.tile", {"aria-label": title}, h("h2", title), h(`p.big${isBad ? ".bad" : ""}`, value), values ? spark(values, title) : null, h("p.hint", note));
}

function spark(values, title) {
  const [width, height] = [300, 54];
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, values.length - 1);
  const line = values.map((value, place) => `${place ? "L" : "M"}${(place * step).toFixed(1)} ${(height - 2 - value / most * (height - 6)).toFixed(1)}`).join("");
  return svg("svg.spark", {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} over the last minutes, at most ${number(most)}`},
    svg("line", {x1: 0, x2: width, y1: height - 1, y2: height - 1}),
    values.length > 1 ? svg("path.area", {d: `${line}L${width} ${height}L0 ${height}Z`}) : null,
    values.length > 1 ? svg("path", {d: line}) : null);
}

function versions(models) {
  const rows = models.map((model) => h("tr", h("th", {scope: "row"}, model.name), h("td", String(model.version)),
    h("td", model.state, model.reason ? h("small", model.reason) : null), h("td", model.provider || "–"),
    h("td", Object.entries(model.aliases).map(([alias, version]) => `${alias} → ${version}`).join(", ") || "–")));
  return h("section", h("h2", "Versions"), table("Versions", ["Model", "Version", "State", "Provider", "Aliases"], rows));
}
