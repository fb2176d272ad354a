// Small helpers that make and fill elements.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: h("button.primary", {onclick, "aria-label": "Go"}, "text", child). */
export function h(name, ...rest) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElement(tag || "div"), classes, rest);
}

/** Make an SVG element as `h` makes one of HTML. */
export function svg(name, ...rest) {
  const [tag, ...classes] = name.split(".");
  return fill(document.createElementNS(SVG, tag), classes, rest);
}

function fill(element, classes, rest) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  const first = rest[0];
  const isOptions = first && first.constructor === Object;
  for (const [key, value] of Object.entries(isOptions ? first : {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value" || key === "checked" || key === "disabled") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...rest.slice(isOptions ? 1 : 0).flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let ids = 0;
const freshId = () => `e${++ids}`;

/** A labelled control; the note stands below it. */
export function field(label, control, note) {
  control.id ||= freshId();
  const hint = note ? h("small.hint", {id: freshId()}, note) : null;
  if (hint) control.setAttribute("aria-describedby", hint.id);
  return h("div.field", h("label", {for: control.id}, label), control, hint);
}

/** A select of [value, text] pairs. */
export function select(options, value, onchange) {
  const element = h("select", {onchange: () => onchange(element.value)},
    options.map(([key, text]) => h("option", {value: key}, text)));
  element.value = value;
  return element;
}

/** A slider whose value stands beside its label; `oninput` gets the number. */
export function slider(label, {min, max, step, value, text = String, note, oninput}) {
  const output = h("output", text(value));
  const input = h("input", {type: "range", min, max, step, "aria-valuetext": text(value)});
  input.value = value;
  const show = () => {
    output.textContent = text(+input.value);
    input.setAttribute("aria-valuetext", text(+input.value));
  };
  input.addEventListener("input", () => { show(); oninput(+input.value); });
  const element = field(label, input, note);
  element.classList.add("sliding");
  element.querySelector("label").append(output);
  element.set = (number) => { input.value = number; show(); };
  return element;
}

/** A few exclusive buttons. */
export function choice(label, options, value, onchange) {
  const buttons = options.map(([key, text]) => h("button", {
    type: "button", "aria-pressed": String(key === value),
    onclick: () => {
      for (const [each, button] of buttons) button.setAttribute("aria-pressed", String(each === key));
      onchange(key);
    },
  }, text)).map((button, place) => [options[place][0], button]);
  return h("div.choice", {role: "group", "aria-label": label}, buttons.map(([, button]) => button));
}

/** A table that scrolls by itself, of rows below the headings of its columns, if it has some. */
export const table = (label, headings, rows) => h("div.scroll", {tabindex: 0, role: "region", "aria-label": label},
  h("table", headings && h("thead", h("tr", headings.map((text) => h("th", {scope: "col"}, text)))), h("tbody", rows)));

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Return a colour of the style sheet, as the theme has it now. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Return a number in four significant digits, without noise. */
export function number(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(2).replace("e+", "e");
  return Number(value.toPrecision(digits)).toLocaleString("en", {maximumSignificantDigits: digits});
}

/** Call `work` for the latest arguments once nothing has come for so many milliseconds, unless it is cancelled. */
export function settled(milliseconds, work) {
  let timer = 0;
  const call = (...values) => { clearTimeout(timer); timer = setTimeout(() => work(...values), milliseconds); };
  call.cancel = () => clearTimeout(timer);
  return call;
}

/** Give `take` the files that are dropped on an element, which shows that it takes them. */
export function takeDrops(element, take) {
  for (const name of ["dragenter", "dragover"]) element.addEventListener(name, (event) => { event.preventDefault(); element.classList.add("over"); });
  for (const name of ["dragleave", "drop"]) element.addEventListener(name, () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => { event.preventDefault(); take([...event.dataTransfer.files]); });
}

/** Offer bytes as a download. */
export function download(name, blob) {
  const link = h("a", {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Say something to screen readers. */
export function say(text) {
  const place = document.getElementById("said") || document.body.appendChild(h("p.unseen", {id: "said", role: "status"}));
  place.textContent = text;
}
