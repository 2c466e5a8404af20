// SPDX-License-Identifier: Apache-2.0
// Asks the gateway every few seconds, shows the view that the address names, and reacts to the reader.

import { age, count, h, morphChildren } from "./parts.js";
import { gatewayView, problemsView, routeView, serviceView, servicesView } from "./views.js";

const EVERY_MS = 5000;
const PATIENCE_MS = 4000;

const element = (id) => document.getElementById(id);
const choice = { filter: "", sort: "rate", descending: true };
let overview = null;
let service = null;
let result = null;
let awaySince = null;
let asking = null;
let timer = 0;
let view = null;

// --- asking ----------------------------------------------------------------------------------------------------------------

/** Where the address leads: the view, and the Service if it is about one. */
function place() {
  const [, name = "services", rest = ""] = location.hash.split("/");
  try {
    return { name: ["services", "service", "gateway", "problems", "route"].includes(name) ? name : "services", rest: decodeURIComponent(rest) };
  } catch {
    return { name: "services", rest: "" };
  }
}

async function ask(path, signal) {
  const answer = await fetch(path, { signal, headers: { Accept: "application/json" } });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${answer.status} ${(await answer.text()).trim()}`);
  return answer.json();
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const patience = setTimeout(() => mine.abort(), PATIENCE_MS);
  const { name, rest } = place();
  const seconds = encodeURIComponent(element("window").value);
  try {
    const asked = [ask(`overview?window=${seconds}`, mine.signal)];
    if (name === "service") asked.push(ask(`overview/service?window=${seconds}&name=${encodeURIComponent(rest)}`, mine.signal));
    const [all, one = null] = await Promise.all(asked);
    if (asking !== mine) return;
    overview = all;
    service = name === "service" ? { asked: rest, data: one } : null;
    back();
  } catch {
    if (asking !== mine) return; // a newer question has taken its place
    away();
  } finally {
    clearTimeout(patience);
  }
  show();
  timer = setTimeout(refresh, EVERY_MS);
}

function away() {
  if (awaySince) return;
  awaySince = new Date();
  element("away").textContent =
    `The gateway does not answer since ${awaySince.toLocaleTimeString("en-GB")}. ${overview ? "What is shown is of then" : "Nothing is known yet"}; it is asked again every 5 seconds.`;
  document.body.classList.add("is-away");
}

function back() {
  if (!awaySince) return;
  awaySince = null;
  element("away").textContent = "";
  element("said").textContent = "The gateway answers again.";
  document.body.classList.remove("is-away");
}

// --- showing ---------------------------------------------------------------------------------------------------------------

function content(name, rest) {
  if (name === "route") return routeView(result);
  if (!overview) return awaySince ? null : h("p", { class: "empty" }, "Asking the gateway…");
  if (name === "gateway") return gatewayView(overview);
  if (name === "problems") return problemsView(overview);
  if (name === "services") return servicesView(overview, choice);
  if (service?.asked !== rest) return h("p", { class: "empty" }, "Asking the gateway…");
  if (service.data) return serviceView(service.data);
  return h("section", {}, h("p", { class: "back" }, h("a", { href: "#/services" }, "← All Services")), h("h1", { id: "title" }, rest), h("p", { class: "empty" }, "This gateway knows no such Service."));
}

function show() {
  const { name, rest } = place();
  const main = element("main");
  const key = `${name} ${rest}`;
  const focused = document.activeElement;
  if (view !== key) main.replaceChildren();
  const wanted = h("main", {}, content(name, rest));
  morphChildren(main, wanted);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true }); // its row has moved
  if (view !== null && view !== key) arrive(main);
  view = key;
  for (const link of document.querySelectorAll("#nav a")) {
    const isHere = link.dataset.view === (name === "service" ? "services" : name);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${name === "service" ? rest.split(".")[0] : { services: "Services", gateway: "Gateway", problems: "Problems", route: "Route tester" }[name]} – acmgproxy`;
  if (overview) showState(overview.gateway, overview.problems_count + overview.diagnostics.filter((one) => one.severity !== "info").length);
}

/** A reader who came by keyboard goes on from the top of the new view. */
function arrive(main) {
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function showState(gateway, problems) {
  const config = gateway.config_age_s === null ? "no configuration yet" : `configuration ${gateway.config_version}, ${age(gateway.config_age_s)} old`;
  morphChildren(element("state"), h("div", {},
    awaySince ? h("span", { class: "pill bad" }, "away") : gateway.ready ? h("span", { class: "pill ok" }, "ready") : h("span", { class: "pill bad" }, `not ready: ${gateway.not_ready_because}`),
    h("span", { class: "muted" }, `${gateway.release} · ${config}`)));
  const badge = element("problem-count");
  badge.hidden = problems === 0;
  if (badge.textContent !== count(problems)) badge.textContent = count(problems);
}

// --- the reader ------------------------------------------------------------------------------------------------------------

/** What an answer says is wrong: JSON with an error, or text. */
async function reason(answer) {
  const text = (await answer.text()).trim();
  try {
    return JSON.parse(text).error;
  } catch {
    return text || `The gateway answers ${answer.status}.`;
  }
}

async function explain(form) {
  const query = new URLSearchParams({ method: form.querySelector("#method").value, url: form.querySelector("#url").value.trim() });
  for (const line of form.querySelector("#headers").value.split("\n")) if (line.trim()) query.append("header", line.trim());
  const from = form.querySelector("#from").value.trim();
  if (from) query.set("from", from);
  try {
    const answer = await fetch(`explain?${query}`);
    if (answer.ok) result = { answer: await answer.json() };
    else if (answer.status === 404) result = { error: "This gateway cannot explain routes: it has no resource /explain. A newer release has it." };
    else result = { error: await reason(answer) };
  } catch {
    result = { error: "The gateway does not answer. Try again once it is back." };
  }
  show();
}

function sortBy(key) {
  if (choice.sort === key) choice.descending = !choice.descending;
  else Object.assign(choice, { sort: key, descending: !["name", "namespace"].includes(key) });
  show();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button?.dataset.action === "sort") sortBy(button.dataset.sort);
  if (button?.dataset.action === "turn") sortBy(choice.sort);
});
document.addEventListener("input", (event) => {
  if (event.target.id !== "filter") return;
  choice.filter = event.target.value;
  show();
});
document.addEventListener("change", (event) => {
  if (event.target.id === "filter" && overview) element("said").textContent = element("chosen").textContent; // told once, when done
  if (event.target.id === "sort") {
    Object.assign(choice, { sort: event.target.value, descending: !["name", "namespace"].includes(event.target.value) });
    show();
  }
  if (event.target.id === "window") refresh();
  if (event.target.id === "theme") {
    const theme = event.target.value;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    try { localStorage.setItem("theme", theme); } catch { /* then it is for this time only */ }
  }
});
document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.id === "tester") explain(event.target);
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "/" && !typing && element("filter")) {
    event.preventDefault();
    element("filter").focus();
  }
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else refresh();
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address says which view is shown
  element("main").focus();
});
window.addEventListener("hashchange", () => {
  show();
  refresh();
});

element("theme").value = document.documentElement.dataset.theme ?? "";
show();
refresh();
