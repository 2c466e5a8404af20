// SPDX-License-Identifier: Apache-2.0
// What each view shows: functions from data to elements. They ask nothing and remember nothing.

import { explanationView } from "./explain.js";
import { age, bytes, chart, chartWithTitle, count, figure, h, milliseconds, percent, rate } from "./parts.js";

const SHOWN = 300; // rows of Services; who has more uses the filter

const serviceLink = (name) => `#/service/${encodeURIComponent(name)}`;
const nameOf = (service) => (service.name === "unknown" ? "no known Service" : service.service || service.name);

function errorClass(ratio) {
  return ratio === null || ratio === 0 ? "" : ratio < 0.01 ? "warn" : "bad";
}

function tile(title, text, value, note = "", kind = "") {
  return h("div", { class: "tile" }, h("dt", {}, title), h("dd", { class: kind }, figure(text, value), note && h("small", {}, note)));
}

function tiles(figures) {
  return h("dl", { class: "tiles" },
    tile("Requests per second", rate(figures.rate), figures.rate, `${count(figures.requests)} requests`),
    tile("Errors (5xx)", percent(figures.error_ratio), figures.error_ratio, `${rate(figures.error_rate)} per second`, errorClass(figures.error_ratio)),
    tile("p50", milliseconds(figures.p50_ms), figures.p50_ms, "half are faster"),
    tile("p99", milliseconds(figures.p99_ms), figures.p99_ms, "1 of 100 is slower"));
}

// --- Services --------------------------------------------------------------------------------------------------------------

const COLUMNS = [
  ["name", "Service", (one) => nameOf(one).toLowerCase()],
  ["namespace", "Namespace", (one) => one.namespace],
  ["rate", "Requests/s", (one) => one.rate],
  ["errors", "Errors", (one) => one.error_ratio ?? -1],
  ["p50", "p50", (one) => one.p50_ms ?? -1],
  ["p99", "p99", (one) => one.p99_ms ?? -1],
  ["endpoints", "Endpoints", (one) => one.endpoints],
];
const NUMBERS = new Set(["rate", "errors", "p50", "p99", "endpoints"]);

/** The Services that the filter leaves, in the order asked for. */
export function chosenServices(services, { filter, sort, descending }) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = services.filter((one) => words.every((word) => `${one.namespace}/${one.service} ${one.name}`.toLowerCase().includes(word)));
  const value = COLUMNS.find(([key]) => key === sort)[2];
  const sign = descending ? -1 : 1;
  return chosen.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    return (x < y ? -sign : x > y ? sign : 0) || (a.name < b.name ? -1 : 1);
  });
}

export function servicesView(overview, choice) {
  const chosen = chosenServices([...overview.services], choice);
  const left = chosen.length - SHOWN;
  return h("section", { "aria-labelledby": "title" },
    h("div", { class: "heading" }, h("h1", { id: "title" }, "Services"), h("p", { class: "muted" }, windowWords(overview.window))),
    tiles(overview.total),
    h("div", { class: "tools" },
      h("label", { class: "field", for: "filter" }, "Filter"),
      h("input", { id: "filter", type: "search", placeholder: "name or namespace", autocomplete: "off", spellcheck: "false", "data-key": "filter" }),
      h("span", { class: "muted", id: "chosen" }, choice.filter ? `${chosen.length} of ${servicesWords(overview.services.length)}` : servicesWords(overview.services.length)),
      sortChoice(choice)),
    chosen.length === 0
      ? h("p", { class: "empty" }, overview.services.length ? "No Service matches the filter." : "This gateway serves no Service yet.")
      : servicesTable(chosen.slice(0, SHOWN), choice),
    left > 0 && h("p", { class: "muted" }, `${count(left)} more; the filter finds them.`),
    overview.services_left_out > 0 && h("p", { class: "muted" }, `${count(overview.services_left_out)} more Services had traffic and are only in the sum.`));
}

function servicesWords(number) {
  return number === 1 ? "1 Service" : `${count(number)} Services`;
}

/** On a phone there are no column titles to press. */
function sortChoice({ sort, descending }) {
  const options = COLUMNS.map(([key, title]) => h("option", { value: key, selected: key === sort }, title));
  return h("span", { class: "narrow sorting" },
    h("label", { for: "sort" }, "Sort by"), h("select", { id: "sort", "data-key": "sort" }, options),
    h("button", { type: "button", "data-action": "turn", "aria-label": descending ? "descending; turn round" : "ascending; turn round" }, descending ? "↓" : "↑"));
}

function servicesTable(services, { sort, descending }) {
  const titles = COLUMNS.map(([key, title]) =>
    h("th", { scope: "col", class: NUMBERS.has(key) ? "number" : null, "aria-sort": key === sort ? (descending ? "descending" : "ascending") : null },
      h("button", { type: "button", "data-action": "sort", "data-sort": key }, title, h("span", { class: "arrow", "aria-hidden": "true" }, key === sort ? (descending ? " ↓" : " ↑") : ""))));
  return h("table", { class: "rows services" },
    h("caption", { class: "unseen" }, "Services with their traffic; column titles sort"),
    h("thead", {}, h("tr", {}, titles, h("th", { scope: "col" }, "Requests and errors, 5 min"), h("th", { scope: "col" }, "p99, 5 min"))),
    h("tbody", {}, services.map(serviceRow)));
}

function serviceRow(one) {
  return h("tr", { "data-key": one.name },
    h("th", { scope: "row", "data-label": "Service" }, h("a", { href: serviceLink(one.name) }, nameOf(one))),
    h("td", { "data-label": "Namespace" }, one.name === "unknown" ? "–" : one.namespace),
    h("td", { "data-label": "Requests/s", class: "number" }, figure(rate(one.rate), one.rate)),
    h("td", { "data-label": "Errors", class: `number ${errorClass(one.error_ratio)}` }, figure(percent(one.error_ratio), one.error_ratio)),
    h("td", { "data-label": "p50", class: "number" }, figure(milliseconds(one.p50_ms), one.p50_ms)),
    h("td", { "data-label": "p99", class: "number" }, figure(milliseconds(one.p99_ms), one.p99_ms)),
    h("td", { "data-label": "Endpoints", class: "number" }, one.endpoints, one.ejected > 0 && h("span", { class: "pill bad" }, `${one.ejected} ejected`)),
    h("td", { class: "trend" }, one.curve && chart(trafficOf(one.curve))),
    h("td", { class: "trend" }, one.curve && chart([["line-p99", one.curve.p99_ms]])));
}

/** The curves of requests and, if there are any, errors. */
function trafficOf(curve) {
  return [["line-rate", curve.rate], ...(curve.error_rate.some((value) => value > 0) ? [["line-errors", curve.error_rate]] : [])];
}

function windowWords(window) {
  return `Figures of the last ${age(window.seconds)}`;
}

// --- one Service -----------------------------------------------------------------------------------------------------------

export function serviceView(service) {
  const highest = (values) => Math.max(0, ...values.map((value) => value ?? 0));
  return h("section", { "aria-labelledby": "title", class: "detail" },
    h("p", { class: "back" }, h("a", { href: "#/services" }, "← All Services")),
    h("div", { class: "heading" }, h("h1", { id: "title" }, nameOf(service)),
      h("p", { class: "muted" }, service.name === "unknown" ? "requests without a route, refused ones, and those for a destination that is not there" : `${service.namespace} · ${service.name}`, ` · ${windowWords(service.window).toLowerCase()}`)),
    tiles(service),
    h("div", { class: "charts" },
      chartWithTitle("Requests and errors per second", trafficOf(service.curve), `up to ${rate(highest(service.curve.rate))}`),
      chartWithTitle("p99 and p50", [["line-p99", service.curve.p99_ms], ["line-p50", service.curve.p50_ms]], `up to ${milliseconds(highest(service.curve.p99_ms))}`)),
    h("h2", {}, "Routes"),
    service.routes.some((route) => route.destinations.length > 1) && h("p", { class: "muted legend" }, h("span", { class: "key live" }), "live share ", h("span", { class: "key weight" }), "configured weight"),
    service.routes.length ? routes(service.routes) : h("p", { class: "empty" }, "The configuration has no route for it."),
    h("h2", {}, `Endpoints (${count(service.endpoints.length + service.endpoints_left_out)})`),
    service.endpoints.length ? endpointsTable(service.endpoints) : h("p", { class: "empty" }, "There is none: requests are answered with 503 (UH)."),
    service.endpoints_left_out > 0 && h("p", { class: "muted" }, `${count(service.endpoints_left_out)} more are not shown; those in trouble are the first.`),
    h("div", { class: "columns" },
      splitTable("By workload", ["Workload", "Version"], service.destinations, (part) => [part.workload, part.version]),
      splitTable("By answer", ["Code", "Flags"], service.answers, (part) => [part.code || "client left", part.flags])));
}

function routes(list) {
  let last = null;
  return h("ol", { class: "routes" }, list.map((route, number) => {
    const ports = list.some((other) => other.port !== route.port);
    const isNew = route.port !== last;
    last = route.port;
    return [ports && isNew && h("li", { class: "port" }, `Port ${route.port}`), routeItem(route, number)];
  }));
}

function routeItem(route, number) {
  const shared = route.destinations.some((destination) => destination.is_shared);
  return h("li", { class: "route", "data-key": `route-${number}` },
    h("div", { class: "route-title" }, h("strong", {}, route.rule), route.object && h("span", { class: "muted" }, route.object), route.action !== "forward" && h("span", { class: "pill" }, route.action)),
    h("div", { class: "conditions muted" }, route.conditions.length ? route.conditions.map((text, index) => [index ? " or " : "if ", h("code", {}, text)]) : route.rule === "default route" ? "what no rule takes" : "every request"),
    route.destinations.map((destination) => splitBar(destination, route.destinations.length)),
    shared && h("p", { class: "note muted" }, "* gets requests of other rules as well; they are counted together."));
}

function splitBar(destination, parts) {
  const live = destination.share === null ? NaN : destination.share * 100;
  const weight = destination.weight_share * 100;
  const target = destination.subset || (destination.is_known ? `port ${destination.port}` : destination.cluster);
  const words = Number.isNaN(live) ? "none yet" : percent(destination.share);
  return h("div", { class: "split" },
    h("span", { class: "split-name" }, target, destination.is_shared && "*", !destination.is_known && h("span", { class: "pill bad" }, "unknown")),
    h("span", { class: "bar", "aria-hidden": "true" },
      h("span", { class: "live", "width%": Number.isNaN(live) ? 0 : live.toFixed(2) }),
      parts > 1 && h("span", { class: "weight", "width%": weight.toFixed(2) })),
    h("span", { class: "split-figures" }, h("data", { value: destination.share ?? "" }, words),
      h("span", { class: "muted" }, parts > 1 && `weight ${percent(destination.weight_share)} · `, `${count(destination.requests)} requests`)));
}

function endpointState(one) {
  if (one.ejected) {
    const title = `by ${one.ejected_by.length} of ${one.workers} workers${one.ejected_from.some(Boolean) ? `, from ${one.ejected_from.map((subset) => subset || "the whole").join(", ")}` : ""}`;
    return [h("span", { class: "pill bad" }, "ejected"), h("small", { class: "muted" }, title)];
  }
  if (one.draining) return h("span", { class: "pill warn" }, "draining");
  return h("span", { class: "pill ok" }, "in use");
}

function endpointsTable(endpoints) {
  return h("table", { class: "rows endpoints" },
    h("caption", { class: "unseen" }, "Endpoints: state, load and failures, over all workers"),
    h("thead", {}, h("tr", {}, ["Address", "State", "Workload", "Zone"].map((title) => h("th", { scope: "col" }, title)),
      ["In flight", "Connections", "Tries", "Failed"].map((title) => h("th", { scope: "col", class: "number" }, title)))),
    h("tbody", {}, endpoints.map((one) => h("tr", { "data-key": `${one.address}:${one.port}` },
      h("th", { scope: "row", "data-label": "Address" }, one.address.includes(":") ? `[${one.address}]:${one.port}` : `${one.address}:${one.port}`),
      h("td", { "data-label": "State" }, endpointState(one)),
      h("td", { "data-label": "Workload" }, `${one.workload} ${one.version === "unknown" ? "" : one.version}`),
      h("td", { "data-label": "Zone" }, one.locality.replace(/^\/+/, "") || "–"),
      h("td", { "data-label": "In flight", class: "number" }, figure(count(one.active), one.active)),
      h("td", { "data-label": "Connections", class: "number" }, count(one.connections)),
      h("td", { "data-label": "Tries", class: "number" }, figure(count(one.requests), one.requests)),
      h("td", { "data-label": "Failed", class: `number ${one.failures ? "warn" : ""}` }, figure(count(one.failures), one.failures))))));
}

function splitTable(title, titles, parts, cells) {
  return h("div", {}, h("h2", {}, title),
    parts.length === 0 ? h("p", { class: "empty" }, "No requests.") : h("table", { class: "rows" },
      h("caption", { class: "unseen" }, title),
      h("thead", {}, h("tr", {}, titles.map((one) => h("th", { scope: "col" }, one)), ["Requests", "Share", "Errors"].map((one) => h("th", { scope: "col", class: "number" }, one)))),
      h("tbody", {}, parts.map((part) => h("tr", { "data-key": cells(part).join(" ") },
        cells(part).map((text, index) => h(index ? "td" : "th", { scope: index ? null : "row", "data-label": titles[index] }, text)),
        h("td", { "data-label": "Requests", class: "number" }, figure(count(part.requests), part.requests)),
        h("td", { "data-label": "Share", class: "number" }, figure(percent(part.share), part.share)),
        h("td", { "data-label": "Errors", class: `number ${errorClass(part.error_ratio)}` }, figure(percent(part.error_ratio), part.error_ratio)))))));
}

// --- gateway ---------------------------------------------------------------------------------------------------------------

export function gatewayView(overview) {
  const gateway = overview.gateway;
  const fact = (title, text, kind = "") => h("div", { class: "tile" }, h("dt", {}, title), h("dd", { class: `small ${kind}` }, text));
  return h("section", { "aria-labelledby": "title" },
    h("h1", { id: "title" }, "Gateway"),
    h("dl", { class: "tiles" },
      fact("State", gateway.ready ? "ready" : `not ready: ${gateway.not_ready_because}`, gateway.ready ? "ok" : "bad"),
      fact("Release", gateway.release),
      fact("Configuration", gateway.config_age_s === null ? "none yet" : `${gateway.config_version} (${age(gateway.config_age_s)} old)`),
      fact("Listeners", `${gateway.listeners_bound} of ${gateway.listeners}`, gateway.listeners_bound < gateway.listeners ? "bad" : ""),
      fact("Client connections", count(gateway.downstream_connections)),
      fact("Connections to endpoints", count(gateway.upstream_connections)),
      fact("Requests in flight", count(gateway.active_requests))),
    h("h2", {}, "Workers"),
    h("table", { class: "rows" },
      h("caption", { class: "unseen" }, "Workers"),
      h("thead", {}, h("tr", {}, ["Worker", "State"].map((one) => h("th", { scope: "col" }, one)),
        ["Configuration", "In flight", "CPU time", "Memory", "Loop lag", "Restarts"].map((one) => h("th", { scope: "col", class: "number" }, one)))),
      h("tbody", {}, overview.workers.map((worker) => workerRow(worker, gateway.config_version)))),
    gateway.listeners_failed.length > 0 && [h("h2", {}, "Addresses that cannot be listened on"),
      h("ul", { class: "findings" }, gateway.listeners_failed.map((one) => h("li", { class: "finding error" }, h("strong", {}, `${one.listener} at ${one.address}:${one.port}`), h("p", {}, one.error))))],
    gateway.watches.length > 0 && [h("h2", {}, "Kubernetes"), watchesTable(gateway.watches)]);
}

function workerRow(worker, version) {
  const late = worker.version !== version;
  const state = !worker.is_up ? h("span", { class: "pill bad" }, "down") : worker.silent_s > 5 ? h("span", { class: "pill warn" }, `silent for ${age(worker.silent_s)}`)
    : worker.overload_level > 0 ? h("span", { class: "pill warn" }, `overload, level ${worker.overload_level}`) : h("span", { class: "pill ok" }, "up");
  return h("tr", { "data-key": `worker-${worker.number}` },
    h("th", { scope: "row", "data-label": "Worker" }, worker.number, h("small", { class: "muted" }, ` pid ${worker.pid}`)),
    h("td", { "data-label": "State" }, state, worker.refused && h("p", { class: "bad" }, `refuses the newest configuration: ${worker.refused}`)),
    h("td", { "data-label": "Configuration", class: `number ${late ? "warn" : ""}` }, worker.version),
    h("td", { "data-label": "In flight", class: "number" }, count(worker.active_requests)),
    h("td", { "data-label": "CPU time", class: "number" }, `${worker.cpu_s.toFixed(1)} s`),
    h("td", { "data-label": "Memory", class: "number" }, bytes(worker.rss_bytes)),
    h("td", { "data-label": "Loop lag", class: "number" }, milliseconds(worker.loop_lag_s * 1000)),
    h("td", { "data-label": "Restarts", class: `number ${worker.restarts ? "warn" : ""}` }, worker.restarts));
}

function watchesTable(watches) {
  const state = (watch) => watch.absent ? h("span", { class: "pill" }, "not in this cluster") : !watch.synced ? h("span", { class: "pill bad" }, "not read yet")
    : watch.stale_s === null || watch.stale_s > 90 ? h("span", { class: "pill warn" }, "stale") : h("span", { class: "pill ok" }, "fresh");
  return h("table", { class: "rows" },
    h("caption", { class: "unseen" }, "Watches on the Kubernetes API"),
    h("thead", {}, h("tr", {}, ["Kind", "State"].map((one) => h("th", { scope: "col" }, one)), ["Objects", "Heard of"].map((one) => h("th", { scope: "col", class: "number" }, one)))),
    h("tbody", {}, watches.map((watch) => h("tr", { "data-key": watch.kind },
      h("th", { scope: "row", "data-label": "Kind" }, watch.kind),
      h("td", { "data-label": "State" }, state(watch), watch.last_error && watch.stale_s > 5 && h("small", { class: "muted" }, watch.last_error)),
      h("td", { "data-label": "Objects", class: "number" }, count(watch.objects)),
      h("td", { "data-label": "Heard of", class: "number" }, watch.stale_s === null ? "never" : `${age(watch.stale_s)} ago`)))));
}

// --- problems --------------------------------------------------------------------------------------------------------------

export function problemsView(overview) {
  const nothing = overview.problems.length + overview.diagnostics.length === 0;
  const hidden = overview.problems_count + overview.diagnostics_count - overview.problems.length - overview.diagnostics.length;
  const object = (one) => [one.kind, [one.namespace, one.name].filter(Boolean).join("/")].filter(Boolean).join(" ");
  return h("section", { "aria-labelledby": "title" },
    h("h1", { id: "title" }, "Problems of the configuration"),
    nothing && h("p", { class: "empty" }, "None. Every object is in force as it was written."),
    overview.problems.length > 0 && [h("h2", {}, "Refused"), h("ul", { class: "findings" }, overview.problems.map((one) =>
      h("li", { class: "finding error", "data-key": `${one.origin} ${object(one)} ${one.field} ${one.reason}` },
        h("div", { class: "finding-title" }, h("span", { class: "pill bad" }, "refused"), h("strong", {}, object(one) || one.origin), one.field && h("code", {}, one.field)),
        h("p", {}, one.reason),
        h("p", { class: "remedy" }, `Correct it${one.origin && object(one) ? ` in ${one.origin}` : ""}; until then its last good version stays in force.`))))],
    overview.diagnostics.length > 0 && [h("h2", {}, "Found"), h("ul", { class: "findings" }, overview.diagnostics.map((one) =>
      h("li", { class: `finding ${one.severity}`, "data-key": `${one.code} ${object(one)} ${one.field} ${one.message}` },
        h("div", { class: "finding-title" }, h("span", { class: `pill ${{ error: "bad", warning: "warn", info: "" }[one.severity]}` }, one.severity), h("strong", {}, object(one)), one.field && h("code", {}, one.field), h("span", { class: "muted" }, one.code)),
        h("p", {}, one.message),
        h("p", { class: "remedy" }, one.remedy))))],
    hidden > 0 && h("p", { class: "muted" }, `${count(hidden)} more are in /config and in the log.`));
}

// --- route tester ----------------------------------------------------------------------------------------------------------

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

export function routeView(result) {
  return h("section", { "aria-labelledby": "title" },
    h("h1", { id: "title" }, "Route tester"),
    h("p", { class: "muted" }, "Where would a request go, and why? Nothing is sent: the gateway's own rules are asked."),
    h("form", { id: "tester", class: "tester", "data-key": "tester" },
      h("label", { for: "method" }, "Method"), h("select", { id: "method" }, METHODS.map((one) => h("option", {}, one))),
      h("label", { for: "url" }, "URL"), h("input", { id: "url", type: "text", required: true, placeholder: "http://reviews.default:9080/reviews/1", autocomplete: "off", spellcheck: "false" }),
      h("label", { for: "headers" }, "Headers"), h("textarea", { id: "headers", rows: 3, placeholder: "end-user: jason", spellcheck: "false", "aria-describedby": "headers-help" }),
      h("small", { id: "headers-help", class: "muted help" }, "One on each line, name: value"),
      h("label", { for: "from" }, "Caller"), h("input", { id: "from", type: "text", placeholder: "namespace/pod, if it matters", autocomplete: "off", spellcheck: "false" }),
      h("div", { class: "send" }, h("button", { type: "submit", class: "main" }, "Explain"))),
    h("div", { id: "result", "aria-live": "polite" }, result && outcome(result)));
}

function outcome({ error, answer }) {
  return error ? h("p", { class: "finding error" }, error) : explanationView(answer);
}
