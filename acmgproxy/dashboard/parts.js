// SPDX-License-Identifier: Apache-2.0
// Small parts of the page: making elements, bringing what is shown up to date, figures in words, charts.
//
// Views are functions from data to fresh elements; `morph` changes what is shown to be equal, touching only what differs. So a
// refresh moves nothing that has not changed: focus, selection and scrolling stay. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "line"]);

/** Make an element. Attributes that are null, undefined or false are left out; children may be nested lists, text or nothing. */
export function h(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "width%") element.style.width = `${value}%`; // by call: the policy forbids style attributes in markup
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** Make `shown` equal to `wanted`, keeping every element that can stay. */
export function morph(shown, wanted) {
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== wanted.data) shown.data = wanted.data;
    return;
  }
  for (const { name, value } of [...wanted.attributes]) {
    if (name === "open" && shown.dataset.key) continue; // the reader's own doing
    if (shown.getAttribute(name) !== value) {
      if (name === "style") shown.style.width = wanted.style.width;
      else shown.setAttribute(name, value);
    }
  }
  for (const { name } of [...shown.attributes]) {
    if (!wanted.hasAttribute(name) && name !== "open") shown.removeAttribute(name);
  }
  if (shown instanceof HTMLInputElement || shown instanceof HTMLTextAreaElement || shown instanceof HTMLSelectElement) return;
  morphChildren(shown, wanted);
}

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.dataset.key : undefined);

/** Make the children of `shown` equal to those of `wanted`; children with a data-key are the same wherever they are. */
export function morphChildren(shown, wanted) {
  const keyed = new Map();
  for (const child of shown.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
  let at = shown.firstChild;
  for (const fresh of [...wanted.childNodes]) {
    const key = keyOf(fresh);
    const same = key ? keyed.get(key) : at && !keyOf(at) ? at : null;
    if (same && same.nodeName === fresh.nodeName) {
      if (same === at) at = at.nextSibling;
      else shown.insertBefore(same, at);
      morph(same, fresh);
    } else {
      shown.insertBefore(fresh, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// --- figures in words ------------------------------------------------------------------------------------------------------

const NONE = "–";

export function count(value) {
  return value.toLocaleString("en", { maximumFractionDigits: 0 });
}

export function rate(value) {
  const digits = value === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function percent(ratio) {
  if (ratio === null) return NONE;
  const value = ratio * 100;
  if (value === 0 || value === 100) return `${value} %`;
  if (value < 0.01) return "< 0.01 %";
  const digits = value < 1 ? 2 : value < 99 ? 1 : 2;
  return `${Math.min(value, 99.99).toFixed(digits)} %`;
}

export function milliseconds(value) {
  if (value === null) return NONE;
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ms`;
}

export function age(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

export function bytes(value) {
  return `${(value / 1024 / 1024).toFixed(0)} MiB`;
}

/** A figure: what is read, and the exact value for who looks closer. */
export function figure(text, value) {
  return h("data", { value: value ?? "", title: value === null || text === String(value) ? null : value }, text);
}

// --- charts ----------------------------------------------------------------------------------------------------------------

const STEPS = 60;

/** The curve of a series as an SVG path; the newest value is at the right, gaps stay gaps. */
function line(values, top, width, height) {
  let path = "";
  let isOpen = false;
  values.forEach((value, index) => {
    if (value === null) {
      isOpen = false;
      return;
    }
    const x = width - ((values.length - 1 - index) * width) / (STEPS - 1);
    const y = height - 1 - (Math.min(value, top) / top) * (height - 3);
    path += `${isOpen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    if (!isOpen && (index + 1 === values.length || values[index + 1] === null)) path += "h0.1"; // a lone value is a dot
    isOpen = true;
  });
  return path;
}

/** A small chart of some series: [class, values]. Charts only repeat what figures say, so they are silent for screen readers. */
export function chart(series, { width = 120, height = 30, kind = "spark", top = 0 } = {}) {
  const highest = Math.max(top, ...series.flatMap(([, values]) => values.map((value) => value ?? 0)));
  const parts = series.map(([name, values]) => {
    const recent = values.slice(-STEPS);
    const path = highest > 0 ? line(recent, highest, width, height) : "";
    const start = width - ((recent.length - 1) * width) / (STEPS - 1);
    const area = name === "line-rate" && path ? `${path}L${width} ${height}L${start.toFixed(1)} ${height}Z` : "";
    return [area && h("path", { class: "area", d: area }), path && h("path", { class: name, d: path })];
  });
  const options = { class: kind, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return h("svg", options, h("line", { class: "ground", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }), parts);
}

/** A chart with its name, its highest value, and what the ends of its time are. */
export function chartWithTitle(title, series, top) {
  return h("figure", { class: "chart" },
    h("figcaption", {}, title, h("span", { class: "muted" }, top)),
    chart(series, { width: 300, height: 80, kind: "curve" }),
    h("div", { class: "ends muted", "aria-hidden": "true" }, h("span", {}, "5 min ago"), h("span", {}, "now")));
}
