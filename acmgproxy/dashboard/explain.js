// SPDX-License-Identifier: Apache-2.0
// What /explain answers, as elements: first what becomes of the request, then the way there, step by step.

import { h, percent } from "./parts.js";

const named = (origin) => `${origin.kind} ${origin.namespace}/${origin.name}${origin.field ? ` ${origin.field}` : ""}`;
const pill = (text, kind = "") => h("span", { class: `pill ${kind}` }, text);

export function explanationView({ explanation, version }) {
  const { request, caller, listener, virtual_host: host, candidates, route, forward, answer, near, notes } = explanation;
  return h("section", { class: "explanation", "aria-labelledby": "verdict" },
    verdict(request, forward, answer),
    notes.map((note) => h("p", { class: "note" }, note)),
    near.length > 0 && h("p", {}, "Did you mean ", near.map((name, index) => [index > 0 && ", ", h("code", {}, name)]), "?"),
    h("ol", { class: "steps" },
      step("Caller", caller.known ? [caller.workload || caller.address, caller.namespace && ` in namespace ${caller.namespace}`, caller.locality && `, ${caller.locality}`] : "unknown: conditions on the caller never hold"),
      step("Listener", [h("code", {}, listener.name), listener.is_there ? (listener.binds.length > 0 && ` at ${listener.binds.map(([address, port]) => `${address}:${port}`).join(", ")}`) : " is not there"]),
      step("Host", host ? [h("code", {}, `${host.name}:${host.port}`), ` by ${{ host: "the request's Host", "short name": "a short name of the caller's namespace", listener: "the listener" }[host.chosen_by]}`] : "none of that name"),
      candidates.map(candidate),
      route && step("Rule", [h("strong", {}, route.name || (route.is_default ? "default route" : "unnamed")), route.origin && h("span", { class: "muted" }, ` ${named(route.origin)}`)]),
      forward && forward.destinations.map(destination)),
    h("p", { class: "muted" }, `By configuration ${version}.`));
}

function step(title, ...content) {
  return h("li", {}, h("span", { class: "step-title muted" }, title), h("div", {}, content));
}

function verdict(request, forward, answer) {
  const asked = h("code", {}, `${request.method} ${request.host}${request.path}${request.query ? `?${request.query}` : ""}`);
  if (answer) return h("h2", { id: "verdict" }, asked, " is answered with ", pill(`${answer.status}${answer.flag === "-" ? "" : ` ${answer.flag}`}`, answer.status >= 400 ? "bad" : ""), h("p", {}, answer.reason));
  if (!forward) return h("h2", { id: "verdict" }, asked);
  const isOne = new Set(forward.destinations.map((one) => one.service)).size === 1;
  const target = (one) => [isOne ? one.subset : `${one.service || one.cluster} ${one.subset}`, forward.destinations.length > 1 && percent(one.share)].filter(Boolean).join(" ");
  const targets = forward.destinations.map(target).filter(Boolean).join(", ");
  return h("h2", { id: "verdict" }, asked, " goes to ", isOne ? [forward.destinations[0].service || forward.destinations[0].cluster, targets && `: ${targets}`] : targets);
}

function candidate(one) {
  const kind = { owner: "ok", invisible: "", "other callers": "", outranked: "" }[one.verdict];
  return step("Rules", one.objects.length ? one.objects.map(named).join(", ") : one.rule_set, " ", pill(one.verdict, kind), h("p", { class: "muted" }, one.reason),
    h("ul", { class: "verdicts" }, one.rules.map(rule), one.left_out.map((left) => h("li", {}, h("span", { class: "muted" }, `${named(left.origin)}: ${left.reason}`)))));
}

function rule(one) {
  const failed = one.entries.flatMap((entry) => entry.checks.filter((check) => !check.holds));
  return h("li", {}, h("strong", {}, one.name || `rule ${one.number + 1}`), " ", pill({ taken: "taken", "too late": "comes too late", failed: "does not match" }[one.verdict], one.verdict === "taken" ? "ok" : ""),
    one.verdict === "failed" && h("ul", {}, failed.map((check) => h("li", {}, h("code", {}, check.field), ` must be ${check.wanted}; the request has ${check.got ?? "none"}`))));
}

function destination(one) {
  return step("Destination", h("code", {}, one.cluster), ` ${percent(one.share)} `, one.flag && pill(one.flag, "bad"), one.reason && h("p", { class: "bad" }, one.reason),
    h("ul", { class: "verdicts" }, one.endpoints.map((endpoint) => h("li", {}, h("code", {}, `${endpoint.address}:${endpoint.port}`), ` ${endpoint.workload} `,
      endpoint.usable ? pill(endpoint.is_chosen ? "chosen" : "may be picked", "ok") : pill(endpoint.why_not || "not used", "warn")))));
}
